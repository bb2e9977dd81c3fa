"""What was measured: the raw lines, and the medians and ratios made of them."""

from __future__ import annotations

import json
import statistics
from dataclasses import dataclass
from pathlib import Path

from matrix import TIDEGATE, Consumer, Scenario


class Raw:
    """A file of JSON lines: what was measured with, then one line for each run, kept as it is made."""

    def __init__(self, path: Path):
        self.path = path
        self.header: dict = {}
        self.runs: list[dict] = []

    def load(self) -> bool:
        if not self.path.exists():
            return False
        for line in self.path.read_text().splitlines():
            record = json.loads(line)
            if "machine" in record:
                self.header = record
            else:
                self.runs.append(record)
        return bool(self.header)

    def begin(self, header: dict) -> None:
        """A new file; one that was there stays beside it."""
        if self.path.exists():
            self.path.rename(self.path.with_suffix(".before.jsonl"))
        self.header, self.runs = header, []
        self._append(header)

    def add(self, run: dict) -> None:
        self.runs.append(run)
        self._append(run)

    def has(self, number: int, scenario: Scenario, consumer: Consumer) -> bool:
        wanted = (number, *scenario.key, consumer.name)
        return any((run["round"], *key_of(run), run["consumer"]) == wanted for run in self.runs)

    def _append(self, record: dict) -> None:
        with open(self.path, "a") as file:
            file.write(json.dumps(record) + "\n")


def key_of(run: dict) -> tuple[int, str, int]:
    return (run["body"], run["queue"], run["prefetch"])


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing."""

    median: float
    least: float
    most: float
    count: int

    @staticmethod
    def of(values) -> Spread | None:
        values = list(values)
        return Spread(statistics.median(values), min(values), max(values), len(values)) if values else None


class Results:
    def __init__(self, runs: list[dict]):
        self.runs = runs

    def keys(self) -> list[tuple[int, str, int]]:
        return list(dict.fromkeys(key_of(run) for run in self.runs))

    def spread(self, key, consumer: Consumer, field: str) -> Spread | None:
        return Spread.of(self._by_round(key, consumer, field).values())

    def ratio(self, key, peer: Consumer, field: str) -> Spread | None:
        """Tidegate's value by the peer's, round by round: both were measured within a minute or so."""
        ours, theirs = self._by_round(key, TIDEGATE, field), self._by_round(key, peer, field)
        return Spread.of(ours[number] / theirs[number] for number in ours if number in theirs)

    def others(self) -> Spread | None:
        """How many cores worked for neither consumer nor broker, run by run."""
        return Spread.of(run["others"] for run in self.runs if run["others"] is not None)

    def _by_round(self, key, consumer: Consumer, field: str) -> dict[int, float]:
        return {
            run["round"]: run[field] for run in self.runs if key_of(run) == key and run["consumer"] == consumer.name
        }
