"""One live line on a terminal; a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time

PLAIN_EVERY = 5  # seconds between lines where there is no terminal
LIVE_EVERY = 0.1


class Progress:
    def __init__(self, restarts: int):
        self.live = sys.stdout.isatty()
        self.drawn = False
        self.next = 0.0
        self.restarts_planned = restarts
        self.published = self.processed = self.restarts = 0
        self.doing = ""

    def say(self, text: str) -> None:
        """A line that stays."""
        self.clear()
        print(text, flush=True)

    def draw(self) -> None:
        """Shows where things are; does nothing when called too often."""
        now = time.monotonic()
        if now < self.next or not self.published:
            return
        self.next = now + (LIVE_EVERY if self.live else PLAIN_EVERY)
        line = "published %s · processed %s · restarts %d of %d%s" % (
            format(self.published, ","), format(self.processed, ","), self.restarts, self.restarts_planned,
            " · " + self.doing if self.doing else "",
        )
        if self.live:
            sys.stdout.write("\r\x1b[K" + line)
            sys.stdout.flush()
            self.drawn = True
        else:
            print(line, flush=True)

    def clear(self) -> None:
        if self.drawn:
            sys.stdout.write("\r\x1b[K")
            sys.stdout.flush()
            self.drawn = False
