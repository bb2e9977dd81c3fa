"""What a worker uses over time, and whether that is flat. Pure."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

WARM_UP = 1 / 6  # of the samples, which are not compared
MEMORY_GROWTH = 5 * 1024  # KiB
LIMITS = {"memory": MEMORY_GROWTH, "descriptors": 8, "threads": 2}


@dataclass
class Sample:
    """What the watched worker uses at one moment."""

    minute: float
    memory: int  # KiB
    descriptors: int
    threads: int


def median(samples, key) -> float:
    return statistics.median(getattr(one, key) for one in samples)


def growth(samples) -> dict:
    """The medians of the first and the last third after the warm-up."""
    kept = samples[int(len(samples) * WARM_UP):]
    third = max(1, len(kept) // 3)
    return {key: (median(kept[:third], key), median(kept[-third:], key)) for key in LIMITS}


def grown(found: dict) -> list:
    """What is not flat, as sentences."""
    return ["%s grew from %d to %d" % (key, *found[key]) for key in LIMITS if found[key][1] - found[key][0] > LIMITS[key]]
