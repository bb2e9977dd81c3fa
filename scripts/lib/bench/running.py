"""Runs one consumer on one filled queue, and measures it."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from matrix import QUORUM, SLOTS, Consumer, Scenario, messages
from peak import peak_kib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
LIMIT = 180  # seconds for one run
HERTZ = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    """A run that cannot be counted; the text says why."""


@dataclass(frozen=True)
class Programs:
    tidegate: str
    other: str  # another build of it, or nothing
    lapin: str
    rabbitmq: str
    python: str


@dataclass(frozen=True)
class Figures:
    seconds: float  # from the first delivery to the channel's close-ok
    cpu: float  # seconds of processor time, user and system
    peak_kib: int
    left: int = 0  # acknowledged messages that a quorum queue has back all the same


def command(programs: Programs, consumer: Consumer, scenario: Scenario, url: str, queue: str) -> list[str]:
    count, prefetch = str(messages(scenario, consumer)), str(scenario.prefetch)
    batch = str(scenario.batch if consumer.multiple else 1)
    family = consumer.name.split("-")[0]
    if family == "c":
        return [programs.rabbitmq, "drain", url, queue, count, prefetch, batch]
    if family == "lapin":
        return [programs.lapin, url, queue, count, prefetch, batch]
    if family == "pika":
        return [programs.python, str(HERE / "pika_consumer.py"), url, queue, count, prefetch]
    pool = consumer.name.split("-")[1]
    return [programs.python, str(HERE / "celery_consumer.py"), url, queue, scenario.queue, count, prefetch, pool]


class Process:
    """A started program: what it says on one stream, and what it cost."""

    def __init__(self, arguments: list[str], log: Path, stream: str, on_line=None):
        self.log = open(log, "w")
        other = "stderr" if stream == "stdout" else "stdout"
        pipes = {stream: subprocess.PIPE, other: self.log}
        self.process = subprocess.Popen(arguments, text=True, start_new_session=True, stdin=subprocess.DEVNULL, **pipes)
        self.pid = self.process.pid
        self.lines: list[str] = []
        self.on_line = on_line
        self.reader = threading.Thread(target=self._read, args=(getattr(self.process, stream),), daemon=True)
        self.reader.start()
        self.usage = None

    def _read(self, stream) -> None:
        for line in stream:
            self.lines.append(line)
            if self.on_line:
                self.on_line(line)

    def ended(self, limit: float) -> bool:
        """Waits at most `limit` seconds; once it has ended, `usage` and the exit status are there."""
        deadline = time.monotonic() + limit
        while self.usage is None:
            pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            if pid:
                self.usage = usage
                self.process.returncode = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                return False
            else:
                time.sleep(0.005)
        self.reader.join(5)
        self.log.close()
        return True

    def end(self) -> None:
        """Ends it and what it started, if it is still there."""
        if self.usage is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.ended(10)

    def cpu(self) -> float:
        return self.usage.ru_utime + self.usage.ru_stime


def run(programs: Programs, consumer: Consumer, scenario: Scenario, broker, queue: str, directory: Path) -> Figures:
    """Has the consumer drain the queue, which holds exactly its messages.

    Raises Failed where it does not end in order, or leaves something in the queue. Of a peer that acknowledges one by
    one a quorum queue forgets some acknowledgements when the channel closes (rabbitmq-server#10327): that is counted.
    """
    own = consumer.name.startswith("tidegate")
    if own:
        program = programs.other if consumer.name == "tidegate-other" else programs.tidegate
        figures = run_tidegate(replace(programs, tidegate=program), scenario, broker, queue, directory)
    else:
        figures = run_peer(programs, consumer, scenario, broker, queue, directory)
    left = broker.depth(queue)
    forgiven = scenario.queue == QUORUM and not own and left < scenario.prefetch
    if left and forgiven:
        return replace(figures, left=left)
    if left:
        raise Failed("%s left %d messages in the queue" % (consumer.name, left))
    return figures


def run_peer(programs, consumer, scenario, broker, queue, directory) -> Figures:
    arguments = command(programs, consumer, scenario, broker.url, queue)
    log = directory / "consumer.log"
    process = Process(arguments, log, "stdout")
    try:
        if not process.ended(LIMIT):
            raise Failed("%s did not end within %d s" % (consumer.name, LIMIT))
    finally:
        process.end()
    if process.process.returncode != 0 or not process.lines:
        raise Failed("%s: exit %s: %s" % (consumer.name, process.process.returncode, log.read_text()[-500:]))
    said = json.loads(process.lines[-1])
    if said["messages"] != messages(scenario, consumer):
        raise Failed("%s took %d messages" % (consumer.name, said["messages"]))
    cpu = process.cpu() - said.get("cpu_first", 0)
    return Figures(said["closed"] - said["first"], cpu, said["peak_kib"])


class Log:
    """What Tidegate's log tells: where its metrics are, when it consumed, how its drain ended."""

    def __init__(self):
        self.address = self.consuming = self.drained = None
        self.changed = threading.Condition()

    def take(self, line: str) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            return
        with self.changed:
            if record.get("message") == "http server is listening":
                self.address = record["address"]
            elif record.get("message") == "consuming":
                self.consuming = stamp(record)
            elif record.get("message") == "drain finished":
                self.drained = {**record, "at": stamp(record)}
            self.changed.notify_all()

    def wait(self, predicate, what: str) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: predicate(self), 20):
                raise Failed("tidegate: no word of %s in its log" % what)


def stamp(record) -> float:
    return datetime.fromisoformat(record["timestamp"].replace("Z", "+00:00")).timestamp()


def run_tidegate(programs, scenario, broker, queue, directory, handler=None, slots=None) -> Figures:
    config = directory / "worker.json"
    slots = slots or min(SLOTS, scenario.prefetch)
    node = {
        "queue": queue,
        "type": scenario.queue,
        "concurrency": slots,
        "prefetch": scenario.prefetch,
        "handler": handler or {"log": {"print": "none"}},
    }
    status = {"exchange": broker.status_exchange, "control": broker.control_exchange}
    worker = {"name": "bench", "http": "127.0.0.1:0"}
    config.write_text(json.dumps({"broker": {"url": broker.url}, "worker": worker, "status": status, "node": [node]}))
    log = Log()
    arguments = [programs.tidegate, "--log-format", "json", "worker", "-c", str(config)]
    process = Process(arguments, directory / "consumer.log", "stderr", log.take)
    try:
        log.wait(lambda log: log.consuming and log.address, "a consumer")
        await_done(process, log.address, scenario.messages, broker, queue)
        peak = peak_kib(str(process.pid))
        process.process.send_signal(signal.SIGTERM)
        if not process.ended(30):
            raise Failed("tidegate did not end within 30 s of SIGTERM")
    finally:
        process.end()
    drained = log.drained or {}
    if process.process.returncode != 0 or drained.get("unconfirmed", 1) != 0:
        raise Failed("tidegate: exit %s: %s" % (process.process.returncode, "".join(process.lines)[-800:]))
    return Figures(drained["at"] - log.consuming, process.cpu(), peak)


def await_done(process: Process, address: str, count: int, broker, queue: str) -> None:
    """Until the handler has said done `count` times.

    Asking costs the worker something, so its metrics are asked only once the queue is empty, and the queue ever
    more often as it becomes so.
    """
    begun = time.monotonic()
    deadline = begun + LIMIT
    ready = count
    while ready > 0:
        pace = (time.monotonic() - begun) / max(1, count - ready)
        time.sleep(min(0.25, max(0.005, pace * ready / 2)))
        ready = broker.depth(queue)
        check_alive(process, deadline)
    connection = http.client.HTTPConnection(address, timeout=10)
    sample = 'tidegate_deliveries_total{queue="%s",outcome="done"} ' % queue
    while True:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        done = next((line for line in text.splitlines() if line.startswith(sample)), sample + "0")
        if int(done[len(sample):]) >= count:
            break
        check_alive(process, deadline)
        time.sleep(0.002)
    connection.close()


def check_alive(process: Process, deadline: float) -> None:
    if process.ended(0):
        raise Failed("tidegate ended: %s" % "".join(process.lines)[-800:])
    if time.monotonic() > deadline:
        raise Failed("tidegate did not empty the queue within %d s" % LIMIT)
