"""What became of each message, in the manner of Jepsen's total-queue. Pure: it is told what happened, and judges."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field


@dataclass
class Run:
    """One run of the handler."""

    message: str
    attempt: int
    worker: str
    ended: str = ""  # "done", "retry", "dead"; empty: it has not answered, or nobody was there to hear it
    at: float = 0.0  # when it ended, or when its worker left it (Unix time)
    damaged: bool = False  # its body was not what was published


@dataclass
class Verdict:
    """What a scenario came to."""

    published: int = 0
    done: int = 0
    dead: int = 0
    lost: list = field(default_factory=list)
    doubled: list = field(default_factory=list)  # dead letters that are there twice
    wrongly_dead: list = field(default_factory=list)
    repeated_same: list = field(default_factory=list)  # an attempt that ran twice on one worker
    repeated_other: list = field(default_factory=list)  # an attempt that ran again on another worker
    interrupted: list = field(default_factory=list)  # runs without an answer
    left: list = field(default_factory=list)
    restarts: int = 0
    slowest_exit: float = 0.0  # seconds from SIGTERM to the end of the process
    recovery: float = 0.0  # seconds from the end of the last fault until every worker is ready
    processor: float = 0.0  # seconds, all workers and their children
    peak: int = 0  # KiB, the largest worker
    log: int = 0  # bytes, all workers
    drains: int = 0  # reports that were compared with what the checker saw
    faults: list = field(default_factory=list)  # sentences


def judge(confirmed, unsure, runs, dead, left, doomed=()) -> Verdict:
    """`confirmed`: ids that the broker has; `unsure`: ids that it may have. `dead`: ids in the dead-letter queue, as often
    as they are there. `left`: ids that are still in the queue; one that is done already is a repetition to come.
    `doomed`: ids that have to be dead without a run."""
    verdict = Verdict(published=len(confirmed), dead=len(dead))
    done = {run.message for run in runs if run.ended == "done"}
    ended_dead = {run.message for run in runs if run.ended == "dead"}
    verdict.done = len(done)
    verdict.left = sorted(set(left) - done - set(dead))
    verdict.lost = sorted(set(confirmed) - done - set(dead) - set(left))
    verdict.doubled = sorted(one for one, count in Counter(dead).items() if count > 1)
    verdict.wrongly_dead = sorted(set(dead) - ended_dead - set(doomed))
    verdict.faults += ["%s ran, and should have been dead at once" % one for one in sorted(set(doomed) & (done | ended_dead))[:5]]
    verdict.faults += ["%s ran with a damaged body" % run.message for run in runs if run.damaged][:5]
    verdict.interrupted = [run for run in runs if not run.ended]
    attempts = defaultdict(list)
    for run in runs:
        attempts[run.message, run.attempt].append(run.worker)
    for (message, attempt), workers in sorted(list(attempts.items())):
        if len(workers) == 1:
            continue
        # Where an earlier run was repeated elsewhere, each of the two has made a copy, and one worker may be given both.
        inherited = any(len(attempts[message, earlier]) > 1 for earlier in range(1, attempt))
        here = len(set(workers)) < len(workers) and not inherited
        kind = verdict.repeated_same if here else verdict.repeated_other
        kind.append("%s (run %d on %s)" % (message, attempt, ", ".join(workers)))
    known = set(confirmed) | set(unsure)
    strangers = sorted({run.message for run in runs} - known)
    if strangers:
        verdict.faults.append("ran, and were never published: %s" % ", ".join(strangers[:5]))
    return verdict


MARGIN = 0.3  # seconds that an answer may take from the service to the worker's decision
STARTS = 0.1  # seconds from the drain's first log line until a node of a worker on a busy machine drains


def compare_drain(report, begun, ended, runs) -> list:
    """Holds the counts of a drain's report against the runs of that worker, as sentences. `begun`, `ended`: Unix times of the
    drain's first log line and of the end of the process. An answer on its way at one of the two may count or not."""
    answered = [run.at for run in runs if run.ended]
    left = [run.at for run in runs if not run.ended and (not run.at or run.at > begun - MARGIN)]
    cut_short = report["outcome"] in ("interrupted", "aborted", "failed")
    late = sum(at > ended - MARGIN for at in answered) if cut_short else 0
    sure = max(0, sum(at > begun + STARTS for at in answered) - late)
    most = sum(at > begun - MARGIN for at in answered)
    found = []
    if not sure <= report["finished"] <= most:
        found.append("the report says %d finished; the service answered %d to %d" % (report["finished"], sure, most))
    if not len(left) <= report["interrupted"] <= len(left) + late:
        found.append("the report says %d interrupted; the service saw %d to %d" % (report["interrupted"], len(left), len(left) + late))
    return found
