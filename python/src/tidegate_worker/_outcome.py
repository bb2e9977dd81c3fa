"""What a handler may decide, beside returning nothing, which is done."""

from __future__ import annotations

import math
from typing import Any, Dict, Optional

#: The longest delay in seconds; the worker waits no longer, whatever a handler asks for.
DELAY_LIMIT = 24 * 3600


class Outcome(Exception):
    """An outcome that is not "done". A handler returns or raises it.

    Raises ValueError if ``delay`` is negative, infinite or not a number.
    """

    outcome: str = ""

    def __init__(self, reason: Optional[str] = None, delay: Optional[float] = None) -> None:
        super().__init__(reason or "")
        if delay is not None:
            _milliseconds(delay)
        self.reason = reason
        self.delay = delay

    def answer(self) -> Dict[str, Any]:
        """The outcome as the worker reads it, without the delivery's id."""
        answer: Dict[str, Any] = {"outcome": self.outcome}
        if self.reason is not None:
            answer["reason"] = readable(self.reason)
        if self.delay is not None:
            answer["delay_ms"] = _milliseconds(self.delay)
        return answer


def _milliseconds(delay: float) -> int:
    if not 0 <= delay < math.inf:
        raise ValueError(f"delay must be finite and not negative, and is {delay}")
    return int(round(min(delay, DELAY_LIMIT) * 1000))


def readable(value: object) -> str:
    """``value`` as text, or its type's name if it cannot be had as text."""
    try:
        return str(value)
    except Exception:
        return type(value).__name__


class Retry(Outcome):
    """Run the message again later: after ``delay`` seconds, or when the node's ``retry`` says."""

    outcome = "retry"


class Dead(Outcome):
    """Trying again cannot help: the message goes to the dead letters."""

    outcome = "dead"

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Hold(Outcome):
    """The message waits in its place for ``delay`` seconds, and comes again."""

    outcome = "hold"

    def __init__(self, delay: float, reason: Optional[str] = None) -> None:
        super().__init__(reason, delay)


class HandBack(Outcome):
    """The message goes back to the queue at once; nothing is counted."""

    outcome = "hand_back"

    def __init__(self) -> None:
        super().__init__()
