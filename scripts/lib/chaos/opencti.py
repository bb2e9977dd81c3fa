"""OpenCTI's worker, between a broker and a stand-in for the platform that fails, is slow, or goes."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import checker
import handler_faults
import process_faults
from proxy import Proxy
from publisher import Publisher
from scenario import Scenario
from scene import WORK_LIMIT, Scene
from workers import Worker

ROOT = Path(__file__).resolve().parents[3]
QUEUES = ["push_%d" % number for number in range(4)]
EXCHANGE = "amqp.worker.exchange"
DEAD = "tidegate.opencti.dead"
UNAVAILABLE = b"HTTP/1.1 503 x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Platform:
    """The stand-in, a process that is told the connectors, and says what was imported."""

    def __init__(self, program: str):
        self.process = subprocess.Popen([program, "5"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = urlsplit(self.process.stdout.readline().strip()).port
        self.lock = threading.Lock()

    def counts(self, connectors=None) -> dict:
        with self.lock:
            self.process.stdin.write((json.dumps(connectors) if connectors else "?") + "\n")
            self.process.stdin.flush()
            return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()


class OpenctiWorker(Worker):
    """Configured by its environment alone, as the platform's own worker."""

    def command(self, _file) -> list:
        return [self.program, "--log-format", "json", "worker"]

    def environment(self) -> dict:
        return super().environment() | {
            "OPENCTI_URL": "http://127.0.0.1:%d" % self.values["platform"], "OPENCTI_TOKEN": "token",
            "TIDEGATE__OPENCTI__PYTHON": self.values["python"], "TIDEGATE__WORKER__HTTP": "127.0.0.1:%d" % self.values["http"],
            "TIDEGATE__WORKER__NAME": self.name, "TIDEGATE__OPENCTI__DISCOVERY_INTERVAL": "2s",
            "OPENCTI_EXECUTION_POOL_SIZE": "3", "OPENCTI_REALTIME_EXECUTION_POOL_SIZE": "1",
        }


def program() -> str:
    """The stand-in's program: TIDEGATE_PLATFORM, else one that cargo has built."""
    built = [ROOT / "target" / profile / "examples/platform" for profile in ("release", "quick", "debug")]
    for one in [os.environ.get("TIDEGATE_PLATFORM", ""), *map(str, built)]:
        if one and os.access(one, os.X_OK):
            return one
    raise RuntimeError("there is no stand-in for the platform: cargo build --profile quick -p tidegate-platform-stub --example platform")


class OpenctiScene(Scene):
    """The platform imports what the service would run. It counts imports, so it is not known which worker repeated one."""

    def begin(self):
        self.python = subprocess.run([str(ROOT / "scripts/pycti")], check=True, capture_output=True, text=True).stdout.strip()
        self.platform = Platform(program())
        self.before_platform = Proxy(self.platform.port)
        with self.broker.channel() as channel:
            channel.exchange_declare(EXCHANGE, "direct", durable=True)
            for queue in QUEUES:
                channel.queue_declare(queue, durable=True, arguments={"x-queue-type": self.kind})
        self.connect_queues(QUEUES)
        for number in range(self.scenario.workers):
            values = {"name": "w-%d" % (number + 1), "platform": self.before_platform.port, "python": self.python,
                      "handler": "", "service": 0, "url": "", "broker": "", "grace": "", "queue": "", "kind": "", "more": "", "attempts": 0}
            worker = OpenctiWorker(self.chosen.bin, self.directory, values)
            self.workers.append(worker)
            worker.start()
        for worker in self.workers:
            worker.await_ready()
        self.publisher = Publisher(self.broker.connect, queue_of, self.scenario.rate or self.chosen.rate, bundle)
        self.publisher.start()
        self.end = time.monotonic() + self.chosen.seconds

    def connect_queues(self, queues):
        """What the platform lists from now on."""
        connection = {"host": "127.0.0.1", "vhost": "/", "use_ssl": False, "port": self.broker.port, "user": "guest", "pass": "guest"}
        self.platform.counts([{
            "id": queue, "name": queue, "connector_priority_group": "DEFAULT",
            "config": {"connection": connection, "listen": "listen_" + queue, "listen_exchange": EXCHANGE, "listen_callback_uri": None,
                       "push": queue, "push_exchange": EXCHANGE, "push_routing": queue, "dead_letter_routing": None},
        } for queue in queues])

    def finish(self) -> checker.Verdict:
        self.publisher.stop()
        self.recovered()
        published = len(self.publisher.confirmed)
        end = time.monotonic() + WORK_LIMIT
        while self.platform.counts()["objects"] < published and time.monotonic() < end:
            time.sleep(0.1)
        for worker in self.workers:
            self.settle(worker, worker.drain())
        counts = self.platform.counts()
        dead = self.broker.take_all(DEAD) if self.broker.exists(DEAD) else []
        left = [one for queue in QUEUES for one in self.broker.take_all(queue)]
        missing = max(0, published - counts["objects"] - len(left) - len(dead))
        verdict = checker.Verdict(published=published, done=counts["objects"], dead=len(dead), faults=list(self.faults))
        verdict.lost = ["one object"] * missing
        verdict.left = ["one message"] * (len(left) if counts["objects"] < published else 0)
        verdict.wrongly_dead = ["one letter"] * len(dead)
        verdict.repeated_other = ["one object"] * (counts["imports"] - counts["objects"])
        return self.measured(verdict)

    def close(self):
        super().close()
        for one in (getattr(self, "before_platform", None), getattr(self, "platform", None)):
            if one:
                one.close()


def queue_of(message: str) -> str:
    return QUEUES[int(message.split("-")[1]) % len(QUEUES)]


def bundle(message: str):
    """A message of the platform, with one object. It has no id, as all of the platform's."""
    number = int(message.split("-")[1])
    item = {"type": "identity", "spec_version": "2.1", "id": "identity--00000000-0000-4000-8000-%012d" % number,
            "name": "Identity %d" % number, "identity_class": "organization"}
    content = json.dumps({"type": "bundle", "id": "bundle--%d" % number, "objects": [item]}).encode()
    body = json.dumps({"type": "bundle", "content": base64.b64encode(content).decode(), "work_id": "work"}).encode()
    return {"message_id": None}, body


def platform_failing(scene):
    """OpenCTI's worker; the platform answers 503 for a while."""
    while scene.time_left():
        scene.before_platform.answer = UNAVAILABLE
        scene.pause(0.5, 3)
        scene.before_platform.answer = b""
        scene.pause(1, 3)


def platform_slow(scene):
    """OpenCTI's worker; each piece of the platform's answers is late, during rolling restarts."""
    scene.before_platform.slow = 0.05
    process_faults.rolling(scene)
    scene.before_platform.slow = 0.0


def platform_gone(scene):
    """OpenCTI's worker; the platform's connections are cut, and new ones reset for a while."""
    while scene.time_left():
        scene.before_platform.gone = True
        scene.before_platform.cut()
        scene.pause(0.5, 3)
        scene.before_platform.gone = False
        scene.pause(1, 3)


def importers_killed(scene):
    """OpenCTI's worker; kill -9 of the Python children."""
    while scene.time_left():
        scene.pause(0.3, 1)
        handler_faults.strike(scene, signal.SIGKILL)


def connectors_change(scene):
    """OpenCTI's worker; queues come and go while messages are held for a platform that fails."""
    while scene.time_left():
        scene.before_platform.answer = UNAVAILABLE
        scene.pause(0.5, 1)
        scene.connect_queues(scene.random.sample(QUEUES, 2))
        scene.pause(0.5, 2)
        scene.before_platform.answer = b""
        scene.pause(2, 3)
        scene.connect_queues(QUEUES)
        scene.pause(1, 3)


OPTIONS = {"scene": OpenctiScene, "exact": False, "workers": 2, "rate": 20}
ALL = [
    Scenario("OpenCTI: rolling SIGTERM", process_faults.rolling, **OPTIONS),
    Scenario("OpenCTI: platform failing", platform_failing, **OPTIONS),
    Scenario("OpenCTI: platform slow", platform_slow, **OPTIONS),
    Scenario("OpenCTI: platform gone", platform_gone, may_repeat=True, **OPTIONS),
    Scenario("OpenCTI: children killed", importers_killed, may_repeat=True, **OPTIONS),
    Scenario("OpenCTI: queues come and go", connectors_change, **OPTIONS),
]
