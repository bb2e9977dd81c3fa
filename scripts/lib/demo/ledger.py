"""Reads the service's ledger while it grows, and says what became of each message."""

from __future__ import annotations

import json
from collections import Counter


class Ledger:
    """What the service has written so far; `read` takes in what is new."""

    def __init__(self, path: str):
        self.file = open(path, "rb")
        self.rest = b""
        self.runs = Counter()  # event -> how many times it was started
        self.finished = Counter()  # event -> how many times it was finished
        self.running = {}  # request -> (event, replica)
        self.broken = []  # events whose client went away before the answer
        self.refused = []  # reasons
        self.started_by = Counter()  # replica -> requests

    def read(self) -> None:
        data = self.rest + self.file.read()
        *lines, self.rest = data.split(b"\n")
        for line in lines:
            self.take(json.loads(line))

    def take(self, line: dict) -> None:
        what, request = line["what"], line["request"]
        if what == "started":
            self.runs[line["id"]] += 1
            self.running[request] = (line["id"], line["replica"])
            self.started_by[line["replica"]] += 1
        elif what == "finished":
            event, _ = self.running.pop(request)
            self.finished[event] += 1
        elif what == "broken":
            event, _ = self.running.pop(request)
            self.broken.append(event)
        else:
            self.refused.append(line["why"])

    def running_at(self, replica: str) -> int:
        """How many requests of `replica` are being worked on."""
        return sum(1 for _, its in self.running.values() if its == replica)

    def lost(self, published: list) -> list:
        """Published, and never finished."""
        return [event for event in published if event not in self.finished]

    def repeated(self) -> list:
        """Started more than once."""
        return [event for event, count in self.runs.items() if count > 1]

    def interrupted(self) -> list:
        """Started, and not finished by the same request: cut off, or still running now."""
        return self.broken + [event for event, _ in self.running.values()]

    def unknown(self, published: list) -> list:
        """Processed, and never published: not to be explained."""
        return list(set(self.runs) - set(published))
