"""Handlers in Python for Tidegate's ``pool`` handler.

    from tidegate_worker import handler, run

    @handler
    def order(delivery):
        print(delivery.json())

    run()
"""

from ._delivery import Delivery
from ._outcome import Dead, HandBack, Hold, Outcome, Retry
from ._run import handler, run

__all__ = ["Dead", "Delivery", "HandBack", "Hold", "Outcome", "Retry", "handler", "run"]
