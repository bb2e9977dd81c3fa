"""Replicas that are processes of this machine, for a broker that is reached by its URL."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from commands import ROOT, DemoFailed, Drain, Names, clean_environment, end, logged, need

EXIT_LIMIT = 40  # seconds from SIGTERM to exit: more than any drain may take


def binary() -> Path:
    """The worker's program: TIDEGATE_BIN, else the build of the profile `quick`, brought up to date first."""
    chosen = os.environ.get("TIDEGATE_BIN")
    built = Path(chosen).absolute() if chosen else ROOT / "target/quick/tidegate"
    if not chosen and shutil.which("cargo"):
        print("building the worker (cargo build --profile quick: minutes the first time)", flush=True)
        need(["cargo", "build", "--profile", "quick", "--locked", "--bin", "tidegate"], 3600, quiet=False)
    if not os.access(built, os.X_OK):
        raise DemoFailed("there is no program at %s, and no cargo to build it (Rust 1.95 or newer)" % built)
    return built


class Replica:
    def __init__(self, program: Path, name: str, directory: Path, environment: dict):
        self.program = program
        self.name = self.label = name
        self.log = directory / (name + ".log")
        self.environment = environment
        self.process = None
        self.offset = 0

    def start(self) -> None:
        self.offset = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            # A session of its own: a Ctrl-C is for the demo, which then ends its workers in order.
            self.process = subprocess.Popen(
                [str(self.program), "worker", "-c", str(ROOT / "config/demo.toml")],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )

    def ready(self) -> bool:
        if self.process.poll() is not None:
            raise DemoFailed("%s ended with %d before it was ready\n%s" % (self.name, self.process.returncode, self.tail()))
        address = logged(self.lines(), "http server is listening").get("address")
        if not address:
            return False
        try:
            return urllib.request.urlopen("http://%s/readyz" % address, timeout=2).status == 200
        except OSError:
            return False

    def stop(self) -> Drain:
        self.offset = self.log.stat().st_size
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(EXIT_LIMIT)
        except subprocess.TimeoutExpired:
            raise DemoFailed("%s did not exit within %d s\n%s" % (self.name, EXIT_LIMIT, self.tail())) from None
        took = time.monotonic() - begun
        return Drain(code, took, logged(self.lines(), "drain finished"))

    def lines(self) -> list:
        """What it has logged since its last start or signal."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.offset)
            return log.read().splitlines()

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])

    def clean_up(self) -> None:
        if self.process:
            end(self.process, EXIT_LIMIT)


class Local:
    """Replicas as processes; they reach the broker as the demo does."""

    service_hosts = ["127.0.0.1"]
    ready_limit = 60  # seconds from start to ready

    def __init__(self, url: str, directory: Path, program: Path):
        self.url = url
        self.directory = directory
        self.program = program

    def replicas(self, count: int, names: Names, port: int) -> list:
        made = []
        for number in range(1, count + 1):
            name = "replica-%d" % number
            environment = clean_environment(
                TIDEGATE__BROKER__URL=self.url,
                TIDEGATE__WORKER__NAME=name,
                TIDEGATE__WORKER__HTTP="127.0.0.1:0",
                TIDEGATE__NODE__0__HANDLER__HTTP__URL="http://127.0.0.1:%d/%s" % (port, name),
                **names.environment(),
            )
            made.append(Replica(self.program, name, self.directory, environment))
        return made

    def start(self, replicas: list) -> None:
        for replica in replicas:
            replica.start()

    def publish(self, queue: str, path: Path) -> subprocess.Popen:
        """Publishes the lines of a file; the caller waits for it."""
        return subprocess.Popen(
            [str(self.program), "publish", queue, "--lines", str(path)],
            env=clean_environment(TIDEGATE__BROKER__URL=self.url), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )
