"""Measures Tidegate beside other consumers: see `scripts/bench --help`."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.dont_write_bytecode = True
import broker as brokers
import chart
import matrix
import tables
from results import Raw, Results
from running import ROOT, Failed, Programs, run

OUTPUT = ROOT / "target/bench"
RAW = OUTPUT / "runs.jsonl"
DOCUMENT, CHART = ROOT / "docs/performance.md", ROOT / "docs/performance.svg"
BEGIN, END = "<!-- scripts/bench writes from here -->", "<!-- to here -->"
TRIES = 2  # of a run that fails
MINUTES = {"quick": 5, "full": 18}

ABOUT = """\
Drains queues with Tidegate's whole runtime and with other consumers, side by side on one broker: a plain lapin loop and C
librabbitmq, each acknowledging one by one and with `multiple`; pika; Celery. Prints ratios with medians and spread as Markdown,
keeps every run in target/bench/runs.jsonl, and draws target/bench/performance.svg. With --full it also writes both into docs/.
Everything is built, and what is missing is installed where that is possible. The broker is a container of rabbitmq:4-management
(BENCH_IMAGE names another), or a private one if there is no such image; it is stopped at the end.
Interrupted or out of time, it reports what it has; --resume goes on from there. --handlers measures what each handler costs.
"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/bench", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", dest="mode", action="store_const", const="quick", default="quick", help="two scenarios, about 3 minutes (the default)")
    size.add_argument("--full", dest="mode", action="store_const", const="full", help="all scenarios, about 20 minutes, into docs/")
    parser.add_argument("--resume", action="store_true", help="go on with the runs that the last time has not come to")
    parser.add_argument("--report", action="store_true", help="measure nothing, report the runs that there are")
    parser.add_argument("--broker", metavar="URL", help="a broker on loopback, or \"private\" for the one of scripts/private-broker")
    parser.add_argument("--only", metavar="NAMES", help="some of: %s" % ", ".join(each.name for each in matrix.CONSUMERS))
    parser.add_argument("--minutes", type=float, metavar="M", help="begin no run after so long (quick: 5, full: 18)")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/ as it is")
    parser.add_argument("--tidegate", metavar="FILE", default=os.environ.get("BENCH_TIDEGATE"), help="this program instead of the one built")
    parser.add_argument("--beside", metavar="FILE", default="", help="another build of Tidegate, measured side by side")
    return parser.parse_args()


class Stopped(BaseException):
    """A signal asked the benchmark to stop."""


def stop(*_) -> None:
    raise Stopped


def header(asked: argparse.Namespace, broker: brokers.Broker) -> dict:
    def said(*command: str) -> str:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip()

    with open("/proc/cpuinfo") as cpuinfo:
        models = [line.split(":", 1)[1].strip() for line in cpuinfo if line.startswith("model name")]
    commit = said("git", "rev-parse", "--short", "HEAD") or "unknown"
    return {
        "machine": platform.machine(),
        "mode": asked.mode,
        "arguments": "--" + asked.mode + (" --broker %s" % ("private" if asked.broker == "private" else "URL") if asked.broker else ""),
        "commit": commit + (" with changes" if said("git", "status", "--porcelain", "--untracked-files=no", "src", "Cargo.lock") else ""),
        "day": time.strftime("%Y-%m-%d"),
        "cores": len(os.sched_getaffinity(0)),
        "processor": models[0] if models else platform.machine(),
        "kernel": platform.release().split("-")[0],
        "broker": broker.version,
        "peers": dict(pair.split("=", 1) for pair in os.environ["BENCH_VERSIONS"].split(",")),
    }


def measure(asked: argparse.Namespace, raw: Raw, stack: ExitStack) -> None:
    programs = Programs(
        asked.tidegate or os.environ["BENCH_BUILT_TIDEGATE"],
        asked.beside,
        os.environ["BENCH_LAPIN"],
        os.environ["BENCH_RABBITMQ"],
        os.environ["BENCH_PYTHON"],
    )
    directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
    broker = brokers.start(asked.broker, directory, programs.rabbitmq, stack)
    if not (asked.resume and raw.load() and raw.header["mode"] == asked.mode):
        raw.begin(header(asked, broker))
    names = asked.only.split(",") if asked.only else [each.name for each in matrix.CONSUMERS]
    if not asked.beside:
        names = [name for name in names if name != matrix.OTHER.name]
    plan = [
        (number, scenario, each)
        for number, scenario, each in matrix.schedule(matrix.matrix(asked.mode))
        if each.name in names and not raw.has(number, scenario, each)
    ]
    begun = time.monotonic()
    limit = (asked.minutes or MINUTES[asked.mode]) * 60
    for place, (number, scenario, consumer) in enumerate(plan):
        if time.monotonic() - begun > limit:
            say("time is up: %d of %d runs are left for --resume" % (len(plan) - place, len(plan)))
            return
        record = attempt(programs, broker, number, scenario, consumer, directory)
        if record:
            raw.add(record)
            share = "%4d/%d" % (place + 1, len(plan))
            say("%s  %-34s %-15s %8s/s %7.1f µs" % (share, scenario, consumer.name, tables.thousands(record["rate"]), record["cpu_us"]))


def attempt(programs, broker, number, scenario, consumer, directory) -> dict | None:
    """One run, once more where it fails; nothing where it fails for good."""
    count = matrix.messages(scenario, consumer)
    for _ in range(TRIES):
        queue = broker.fill(scenario.queue, count, scenario.body, "celery" if consumer.celery else "plain")
        try:
            began, working, worked = time.monotonic(), brokers.busy(), broker.cpu()
            figures = run(programs, consumer, scenario, broker, queue, directory)
            took, working, worked = time.monotonic() - began, brokers.busy() - working, broker.cpu() - worked
            others = max(0.0, working - worked - figures.cpu) / took if broker.pid else None
            return {
                "round": number,
                "body": scenario.body,
                "queue": scenario.queue,
                "prefetch": scenario.prefetch,
                "consumer": consumer.name,
                "messages": count,
                "seconds": round(figures.seconds, 6),
                "rate": count / figures.seconds,
                "cpu_us": figures.cpu / count * 1e6,
                "broker_us": worked / count * 1e6,
                "peak_kib": figures.peak_kib,
                "left": figures.left,
                "others": others,
            }
        except Failed as why:
            say("a run failed: %s" % why)
        finally:
            broker.delete(queue)
    return None


def report(asked: argparse.Namespace, raw: Raw) -> None:
    if not raw.runs:
        raise Failed("there is no run to report")
    results = Results(raw.runs)
    markdown, picture = tables.section(raw.header, results), chart.draw(results)
    print(markdown)
    (OUTPUT / "performance.md").write_text(markdown + "\n")
    (OUTPUT / "performance.svg").write_text(picture)
    if raw.header["mode"] == "full" and not asked.no_docs:
        document = DOCUMENT.read_text()
        if document.count(BEGIN) != 1 or document.count(END) != 1:
            raise Failed("docs/performance.md has no one place between %r and %r" % (BEGIN, END))
        before, rest = document.split(BEGIN)
        DOCUMENT.write_text("%s%s\n%s\n%s%s" % (before, BEGIN, markdown, END, rest.split(END)[1]))
        CHART.write_text(picture)
        say("written: docs/performance.md, docs/performance.svg")


def say(text: str) -> None:
    print("bench: %s" % text, file=sys.stderr, flush=True)


def main() -> int:
    asked = arguments()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    raw = Raw(RAW)
    code = 0
    try:
        if asked.report:
            raw.load()
        else:
            with ExitStack() as stack:
                measure(asked, raw, stack)
    except Stopped:
        say("stopped; what is measured so far is kept")
        code = 130
    except Failed as why:
        say(str(why))
        code = 1
    try:
        report(asked, raw)
    except Failed as why:
        say(str(why))
        code = code or 1
    return code


if __name__ == "__main__":
    sys.exit(main())
