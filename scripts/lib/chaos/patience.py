"""How long to wait. Time in which the whole machine stands still does not count."""

from __future__ import annotations

import time

STEP = 1.0  # seconds that one look may cost at most


class Patience:
    """`left` is true until `limit` seconds are spent."""

    def __init__(self, limit: float):
        self.limit, self.spent, self.now = limit, 0.0, time.monotonic()

    def left(self) -> bool:
        before, self.now = self.now, time.monotonic()
        self.spent += min(self.now - before, STEP)
        return self.spent < self.limit
