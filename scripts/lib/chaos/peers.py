"""Other consumers under the same faults and the same checker: Celery, and a loop over the lapin library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import checker
from scene import Scene
from workers import Worker

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
# The scenarios that need nothing of Tidegate's own.
SCENARIOS = (
    "rolling SIGTERM", "kill -9", "SIGSTOP", "cuts, three workers", "connections closed", "broker paused", "broker stopped", "broker killed",
)
CELERY = "celery==5.7.0"


def celery_python() -> str:
    """The interpreter that has Celery, made once."""
    folder = ROOT / "target/peers"
    python = folder / "bin/python"
    if subprocess.run([str(python), "-c", "import celery"], capture_output=True, check=False).returncode if python.exists() else True:
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CELERY], check=True)
    return str(python)


def lapin_program() -> str:
    """The loop over lapin: TIDEGATE_PEER_LAPIN, else one that cargo has built."""
    built = [ROOT / "target" / profile / "examples/peer-lapin" for profile in ("release", "quick", "debug")]
    for one in [os.environ.get("TIDEGATE_PEER_LAPIN", ""), *map(str, built)]:
        if one and os.access(one, os.X_OK):
            return one
    sys.exit("chaos: there is no peer-lapin: cargo build --release -p tidegate-cli --example peer-lapin")


class Peer(Worker):
    """A worker without pages and without a report. `ready` is in its log."""

    def ready(self) -> bool:
        return bool(self.log.exists() and b"ready" in self.log.read_bytes()[self.offset:])

    def lines(self, _text) -> list:
        return []

    def service(self) -> str:
        return "http://127.0.0.1:%d/%s" % (self.values["service"], self.label)


class Celery(Peer):
    def command(self, _file) -> list:
        url = self.values["url"].replace("%2f", "/")
        return [self.values["python"], str(HERE / "celery_peer.py"), url, self.values["queue"], self.values["kind"], self.service(), self.name]


class Lapin(Peer):
    def command(self, _file) -> list:
        return [self.values["python"], self.values["url"], self.values["queue"], "127.0.0.1:%d" % self.values["service"], self.label]


PEERS = {"celery": (Celery, celery_python), "lapin": (Lapin, lapin_program)}


def task(message: str):
    """A message as Celery publishes it."""
    headers = {"lang": "py", "task": "post", "id": message, "root_id": message, "parent_id": None, "argsrepr": "", "kwargsrepr": "",
               "origin": "chaos", "retries": 0, "eta": None, "expires": None, "timelimit": [None, None], "group": None}
    properties = {"headers": headers, "content_type": "application/json", "content_encoding": "utf-8", "correlation_id": message,
                  "reply_to": str(uuid.uuid4())}
    return properties, json.dumps([[message], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]).encode()


class PeerScene(Scene):
    """Every message is done at its first run: the peers have neither our retries nor our dead letters."""

    def __init__(self, chosen, scenario, *arguments):
        scenario.retries = scenario.dead = 0.0
        scenario.body = task if chosen.peer == "celery" else None
        super().__init__(chosen, scenario, *arguments)
        self.kind_of_worker, find = PEERS[chosen.peer]
        self.python = find()
        for queue in (self.queue, self.queue + ".dead"):
            with self.broker.channel() as channel:
                channel.queue_declare(queue, durable=True, arguments={"x-queue-type": self.kind})

    def new_worker(self, number) -> Worker:
        values = super().new_worker(number).values
        return self.kind_of_worker(self.chosen.bin, self.directory, {**values, "python": self.python})

    def settle(self, worker, end, codes=(0,), expect_report=False):
        super().settle(worker, end, (*codes, end.code) if end.code is not None else codes, expect_report=False)

    def recovered(self, limit=0.0):
        """Their log does not say whether they consume again; what is left shows it."""

    def finish(self) -> checker.Verdict:
        verdict = super().finish()
        verdict.recovery = 0.0
        return verdict
