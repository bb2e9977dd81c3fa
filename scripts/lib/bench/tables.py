"""The figures as Markdown."""

from __future__ import annotations

import matrix
from matrix import MAIN, TIDEGATE, Scenario
from results import Results, Spread

# What is compared, the peer, the field, the goal, and whether more is better.
GOALS = (
    ("messages a second", matrix.C_EACH, "rate", 1.2, True),
    ("messages a second", matrix.LAPIN_EACH, "rate", 2.5, True),
    ("messages a second", matrix.C_MULTIPLE, "rate", 0.8, True),
    ("processor time a message", matrix.LAPIN_MULTIPLE, "cpu_us", 1.4, False),
)
PEERS = tuple(each for each in matrix.CONSUMERS if each is not TIDEGATE)


def section(header: dict, results: Results) -> str:
    """Everything that a run has to say, for docs/performance.md."""
    picture = "![Messages a second and processor time beside other consumers](performance.svg)"
    return "\n".join([about(header, results), "", picture, "", goals(results), "", main(results), "", ratios(results), "", how(results)])


def about(header: dict, results: Results) -> str:
    others = results.others()
    busy = "not known" if others is None else "%.2f (median of all runs; at most %.2f)" % (others.median, others.most)
    rounds = {run["round"] for run in results.runs}
    facts = (
        ("made by", "`scripts/bench %s`, commit %s, %s" % (header["arguments"], header["commit"], header["day"])),
        ("machine", "%d cores, %s, Linux %s" % (header["cores"], header["processor"], header["kernel"])),
        ("broker", "RabbitMQ %s, on the same cores as the consumer" % header["broker"]),
        ("peers", ", ".join("%s %s" % pair for pair in header["peers"].items())),
        ("runs", "%d in up to %d rounds" % (len(results.runs), len(rounds))),
        ("cores that worked for neither broker nor consumer", busy),
    )
    return "\n".join(["| | |", "| --- | --- |", *("| %s | %s |" % fact for fact in facts)])


def goals(results: Results) -> str:
    lines = [
        "256 B bodies, classic queue, prefetch 200; Tidegate's value divided by the peer's:",
        "",
        "| what | held against | goal | measured: median (least to most) | |",
        "| --- | --- | --- | --- | --- |",
    ]
    for what, peer, field, goal, more in GOALS:
        ratio = results.ratio(MAIN, peer, field)
        if ratio:
            met = ratio.median >= goal if more else ratio.median <= goal
            limit = "%s %.1f ×" % ("at least" if more else "at most", goal)
            verdict = "met" if met else "**missed**"
            lines.append("| %s | %s | %s | %s | %s |" % (what, peer.label, limit, times(ratio), verdict))
    return "\n".join(lines)


def main(results: Results) -> str:
    lines = [
        "The same scenario in absolute figures, which only compare within one run:",
        "",
        "| consumer | messages a second | Tidegate by it | processor µs a message | broker's µs | memory |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for each in sorted(matrix.CONSUMERS, key=lambda each: -median(results.spread(MAIN, each, "rate"))):
        rate = results.spread(MAIN, each, "rate")
        if not rate:
            continue
        cells = (
            each.label,
            "%s (%s to %s)" % tuple(thousands(value) for value in (rate.median, rate.least, rate.most)),
            "" if each is TIDEGATE else times(results.ratio(MAIN, each, "rate")),
            spread(results.spread(MAIN, each, "cpu_us")),
            spread(results.spread(MAIN, each, "broker_us")),
            "%.0f MiB" % (median(results.spread(MAIN, each, "peak_kib")) / 1024),
        )
        lines.append("| %s |" % " | ".join(cells))
    return "\n".join(lines)


def ratios(results: Results) -> str:
    ran = {run["consumer"] for run in results.runs}
    peers = [each for each in PEERS if each.name in ran]
    lines = [
        "All scenarios: Tidegate's messages a second, and that divided by the peer's; in the last column its processor",
        "time a message divided by that of lapin with `multiple`:",
        "",
        "| bodies, queue, prefetch | messages a second | %s | processor |" % " | ".join(each.label for each in peers),
        "| --- | --- |%s --- |" % (" --- |" * len(peers)),
    ]
    for key in sorted(results.keys()):
        rate = results.spread(key, TIDEGATE, "rate")
        if not rate:
            continue
        cells = [str(Scenario(*key, 0, 0)), thousands(rate.median)]
        cells += [times(results.ratio(key, each, "rate")) for each in peers]
        cells.append(times(results.ratio(key, matrix.LAPIN_MULTIPLE, "cpu_us")))
        lines.append("| %s |" % " | ".join(cells))
    return "\n".join(lines)


def how(results: Results) -> str:
    forgotten = sum(1 for run in results.runs if run.get("left"))
    text = """\
How it is measured. Each run starts one consumer on a new queue that was filled with exactly its messages (persistent,
with a message id and a content type, all confirmed) once the broker is at rest. All consumers of a scenario run one after
the other in each round, another one first each time; a ratio is made of two runs of the same round. The clock runs
from the first delivery to the channel's close-ok, by which the broker has handled every acknowledgement; each consumer
notes both itself. Of Tidegate the log gives them: its clock starts when it consumes, and ends with the line
`drain finished`, after the last acknowledgement, the SIGTERM that follows once its metrics count all messages
as done, the whole drain and the confirm of its report; that costs it some milliseconds of each run. Processor time is the
whole process's, user and system, start and drain included; only of pika and Celery the time before the first delivery, when
Python loads them, is left out. Memory is the peak of the resident set (Celery: of its main process). A run whose consumer
leaves a message in the queue, or does not end in order, does not count; except that a quorum queue forgets up to a prefetch
of single acknowledgements when the channel closes right after them (rabbitmq-server#10327), which happened in %s of the
peers' runs and in none of Tidegate's, which has the queue take them first.

Tidegate is the release binary with everything on: status messages, beats, metrics, HTTP; handler `log` with `print = "none"`,
which runs on the thread of its connection as every quick handler does, 8 slots. `multiple` acknowledges every 100th delivery; with prefetch 20 every 5th, a quarter of the prefetch; with prefetch 1
it is one acknowledgement each, so that there is nothing further to measure ("–"). Celery acknowledges late and without delay, drains a
quarter of the messages, and takes part with prefetch 200 only."""
    return text % (forgotten or "none")


def median(spread: Spread | None) -> float:
    return spread.median if spread else 0.0


def times(ratio: Spread | None) -> str:
    if ratio is None:
        return "–"
    if ratio.count == 1:
        return "%s ×" % figure(ratio.median)
    return "%s × (%s to %s)" % (figure(ratio.median), figure(ratio.least), figure(ratio.most))


def spread(of: Spread | None) -> str:
    if of is None or not of.median:
        return "–"
    if of.count == 1:
        return figure(of.median)
    return "%s (%s to %s)" % (figure(of.median), figure(of.least), figure(of.most))


def figure(value: float) -> str:
    return "%.0f" % value if value >= 20 else "%.1f" % value if value >= 3 else "%.2f" % value


def thousands(value: float) -> str:
    return format(round(value, -2 if value >= 1000 else 0), ",.0f")
