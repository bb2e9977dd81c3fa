"""Runs the demo: see `scripts/demo --help`."""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import brokers
from commands import DemoFailed, Names, end
from ledger import Ledger
from progress import Progress
from rolling import Rolling, Verdict

ABOUT = """\
Three workers take messages from a real RabbitMQ and POST each to a service that works on it and writes
down what it did. Each worker is restarted under full load, one after the other, and in the end every
message is accounted for. Exits with 0 only if nothing was lost, repeated or interrupted.

The broker is, in this order: the one that AMQP_URL names; Docker's, with the workers as containers from
the Dockerfile; a private rabbitmq-server, whose Debian package is installed if it is missing and that is
possible. Everything is taken down again at the end, also on Ctrl-C; a built image or program stays.
"""


class Stopped(BaseException):
    """A signal asked the demo to stop."""

    def __init__(self, number: int):
        self.number = number


def stop(number, _frame) -> None:
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda *_: print("cleaning up", flush=True))
    raise Stopped(number)


def at_least(least: int):
    def parse(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError("must be %d or more" % least)
        return value

    return parse


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/demo", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=at_least(1), default=20_000, metavar="N", help="how many to publish at least (20000)")
    parser.add_argument("--replicas", type=at_least(1), default=3, metavar="N", help="how many workers (3)")
    parser.add_argument("--restarts", type=at_least(1), default=2, metavar="N", help="how often each is restarted (2)")
    parser.add_argument("--broker", choices=["auto", "url", "docker", "private"], default="auto", help="where the broker comes from (auto)")
    parser.add_argument("--keep", action="store_true", help="keep the ledger and the logs, and say where")
    return parser.parse_args()


def start_service(ledger: Path, hosts: list, stack: ExitStack) -> int:
    """Starts the service on the first of `hosts` that this machine has; returns its port."""
    service = Path(__file__).with_name("service.py")
    for host in hosts:
        with open(ledger.with_name("service.log"), "ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-B", str(service), str(ledger), host], stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )
        stack.callback(end, process, 5)
        port = process.stdout.readline().strip()
        if port:
            return int(port)
    raise DemoFailed("the service could not take a port on %s" % " or ".join(hosts))


def demo(chosen: argparse.Namespace, directory: Path, stack: ExitStack) -> bool:
    names = Names.of(secrets.token_hex(4))
    progress = Progress(chosen.replicas * chosen.restarts)
    stack.callback(progress.clear)
    ground = brokers.find(chosen.broker, names, directory, stack)
    book = directory / "ledger.jsonl"
    book.touch()
    port = start_service(book, ground.service_hosts, stack)
    rolling = Rolling(ground, names, Ledger(str(book)), directory, progress)
    replicas = ground.replicas(chosen.replicas, names, port)
    for replica in replicas:
        stack.callback(replica.clean_up)
    stack.callback(rolling.abandon)
    ground.start(replicas)
    rolling.await_ready(replicas)
    progress.say("%d workers are ready" % len(replicas))
    broker = brokers.reach(ground.url)
    stack.callback(broker.close)

    begun = time.monotonic()
    rolling.publish(chosen.messages)
    rolling.restart_all(replicas, chosen.restarts, broker)
    rolling.await_end()
    seconds = time.monotonic() - begun
    last = [replica.stop() for replica in replicas]
    rolling.ledger.read()
    # With every worker gone, what was not settled is back in the queue.
    verdict = Verdict(rolling, broker.depth(names.queue), last, seconds)
    progress.say(verdict.table())
    for fault in verdict.faults:
        progress.say("WRONG: " + fault)
    if not verdict.faults:
        progress.say("Nothing was lost, nothing repeated, nothing interrupted.")
    return not verdict.faults


def main() -> int:
    chosen = arguments()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, stop)
    directory = Path(tempfile.mkdtemp(prefix="tidegate-demo-"))
    try:
        with ExitStack() as stack:
            try:
                return 0 if demo(chosen, directory, stack) else 1
            except DemoFailed as why:
                print("\nthe demo failed: %s" % why, file=sys.stderr, flush=True)
                return 1
            except Stopped as stopped:
                print("\nstopped; cleaning up", flush=True)
                return 128 + stopped.number
    finally:
        if chosen.keep:
            print("kept: %s" % directory, flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
