"""What each handler costs beside the no-op path, and beside peers: scripts/bench --handlers [--tidegate FILE] [--broker URL].

Prints a table. Every figure of a round comes from one broker and one stretch of time; only ratios mean anything.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

sys.dont_write_bytecode = True
import broker as brokers
from matrix import CLASSIC, SMALL, Consumer, Scenario
from running import ROOT, Failed, Figures, Process, Programs, run_peer, run_tidegate

ROUNDS = 3
PREFETCH = 128
# It reads its input: amqp-consume dies of a SIGPIPE if its program does not.
READER = ["dd", "of=/dev/null", "status=none"]
CHILD = "import sys\nsys.path.insert(0, %r)\nfrom tidegate_worker import handler, run\n@handler\ndef nothing(_): pass\nrun()\n"


class Server(asyncio.Protocol):
    """Answers every request with 200 at once."""

    def connection_made(self, transport):
        self.transport, self.rest = transport, b""

    def data_received(self, data):
        self.rest += data
        while True:
            head, end, rest = self.rest.partition(b"\r\n\r\n")
            if not end:
                return
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
            if len(rest) < length:
                return
            self.rest = rest[length:]
            self.transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


def serve(listener: socket.socket) -> None:
    async def main():
        server = await asyncio.get_running_loop().create_server(Server, sock=listener)
        await server.serve_forever()

    asyncio.run(main())


def start_server(stack: ExitStack) -> str:
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    process = multiprocessing.get_context("fork").Process(target=serve, args=(listener,), daemon=True)
    process.start()
    stack.callback(process.terminate)
    return "http://127.0.0.1:%d/" % listener.getsockname()[1]


def run_amqp_consume(programs, scenario, broker, queue, directory) -> Figures:
    command = ["amqp-consume", "-u", broker.url, "-q", queue, "-c", str(scenario.messages), "-p", "1", *READER]
    began = time.monotonic()
    process = Process(command, directory / "consumer.log", "stdout")
    try:
        if not process.ended(180) or process.process.returncode:
            raise Failed("amqp-consume: exit %s" % process.process.returncode)
    finally:
        process.end()
    return Figures(time.monotonic() - began, process.cpu(), 0)


def tidegate(handler: dict, slots: int):
    return lambda *run: run_tidegate(*run, handler=handler, slots=slots)


def celery(programs, scenario, broker, queue, directory) -> Figures:
    os.environ["BENCH_PROCESSES"] = "4"
    consumer = Consumer("celery-prefork", "", celery=True)
    whole = Scenario(scenario.body, scenario.queue, scenario.prefetch, scenario.messages * 4, 1)
    return run_peer(programs, consumer, whole, broker, queue, directory)


def cases(url: str, python: str) -> list[tuple[str, int, int, str, object]]:
    """Name, messages, body, kind of messages, and how to run it."""
    child = {"command": [python, "-c", CHILD % str(ROOT / "python/src")], "size": 4, "warm": True, "channel": "fd"}
    listed = [
        ("no-op, 64 slots", 20_000, SMALL, "plain", tidegate({"log": {"print": "none"}}, 64)),
        ("http, 64 slots", 10_000, SMALL, "plain", tidegate({"http": {"url": url}}, 64)),
        ("exec dd, 1 slot", 1_500, SMALL, "plain", tidegate({"exec": {"command": READER}}, 1)),
        ("pool, 4 children in Python", 10_000, SMALL, "plain", tidegate({"pool": child}, 4)),
        ("exec, Python, 4 slots", 150, SMALL, "plain", tidegate({"exec": {"command": [python, "-c", "pass"]}}, 4)),
        ("Celery prefork, 4 processes", 3_000, SMALL, "celery", celery),
    ]
    if shutil.which("amqp-consume"):
        listed.append(("amqp-consume dd", 1_500, SMALL, "plain", run_amqp_consume))
    return listed


def main() -> int:
    parser = argparse.ArgumentParser("scripts/bench --handlers", description=__doc__)
    parser.add_argument("--handlers", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--tidegate", default=os.environ.get("BENCH_TIDEGATE") or os.environ.get("BENCH_BUILT_TIDEGATE"))
    parser.add_argument("--broker", metavar="URL", help="a broker on loopback, or \"private\"")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    python = os.environ["BENCH_PYTHON"]
    programs = Programs(asked.tidegate, "", os.environ.get("BENCH_LAPIN", ""), os.environ["BENCH_RABBITMQ"], python)
    results: dict[str, list[tuple[float, float]]] = {}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-bench-")))
        url = start_server(stack)
        broker = brokers.start(asked.broker, directory, programs.rabbitmq, stack)
        for number in range(asked.rounds):
            for name, count, body, kind, run in cases(url, python):
                queue = broker.fill(CLASSIC, count, body, kind)
                try:
                    scenario = Scenario(body, CLASSIC, PREFETCH, count, 1)
                    figures = run(programs, scenario, broker, queue, directory)
                    figure = (count / figures.seconds, figures.cpu / count * 1e6)
                    results.setdefault(name, []).append(figure)
                    print("round %d  %-30s %8.0f/s %9.1f µs" % (number + 1, name, *figure), file=sys.stderr, flush=True)
                except Failed as why:
                    print("round %d  %s failed: %s" % (number + 1, name, why), file=sys.stderr)
                finally:
                    broker.delete(queue)
    print("| handler | messages/s | processor µs per message |\n| --- | --- | --- |")
    for name, figures in results.items():
        rate, cpu = (statistics.median(each) for each in zip(*figures))
        print("| %s | %s | %s |" % (name, format(round(rate), ","), format(round(cpu), ",")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
