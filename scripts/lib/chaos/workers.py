"""Workers as processes: started, ready, ended in any way, with what they said at their end and what they used."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from broker import free_port

CONFIGURATION = """\
[broker]
url = "{url}"
{broker}
[worker]
name = "{name}"
http = "127.0.0.1:{http}"
[drain]
grace = "{grace}"
[[node]]
queue = "{queue}"
type = "{kind}"
concurrency = 8
{more}
retry = {{ max_attempts = {attempts}, min = "100ms", max = "200ms" }}
{handler}
"""


@dataclass
class End:
    """The end of one life."""

    worker: str  # name and life, as in `Run.worker`
    code: int | None  # None: it did not end in time
    report: dict | None
    asked: float  # time of the last signal
    ended: float


def memory(pid: int, key="VmHWM") -> int:
    """KiB of memory of a process: by default the most that it ever had."""
    try:
        with open("/proc/%d/status" % pid, encoding="ascii", errors="replace") as status:
            for line in status:
                if line.startswith(key):
                    return int(line.split()[1])
    except OSError:
        pass
    return 0


class Worker:
    """One worker; a successor takes its name."""

    def __init__(self, program: str, directory: Path, values: dict):
        self.program, self.directory, self.values = program, directory, values
        self.name = values["name"]
        self.log = directory / (self.name + ".log")
        self.process = None
        self.lives = 0
        self.asked = 0.0
        self.processor = 0.0  # seconds of all lives that have ended, children included
        self.peak = 0  # KiB
        self.log_size = 0

    @property
    def label(self) -> str:
        return "%s.%d" % (self.name, self.lives)

    def command(self, file: Path) -> list:
        return [self.program, "--log-format", "json", "worker", "-c", str(file)]

    def configuration(self) -> str:
        handler = self.values["handler"].replace("SERVICE", "http://127.0.0.1:%d/%s" % (self.values["service"], self.label))
        return CONFIGURATION.format(**{**self.values, "handler": handler})

    def environment(self) -> dict:
        return {key: value for key, value in os.environ.items() if not key.startswith(("TIDEGATE_", "OPENCTI_"))}

    def start(self, stderr=None):
        self.lives += 1
        self.values.update(http=free_port())
        file = self.directory / (self.name + ".toml")
        file.write_text(self.configuration())
        self.offset = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command(file), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr or log,
                env=self.environment(), start_new_session=True,
            )

    def alive(self) -> bool:
        """Takes the end, and what the process has used, when there is one."""
        if self.process is None or self.process.returncode is not None:
            return False
        self.peak = max(self.peak, memory(self.process.pid))
        pid, status, used = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return True
        self.process.returncode = os.waitstatus_to_exitcode(status)
        self.processor += used.ru_utime + used.ru_stime
        if self.log.exists():
            self.log_size += self.log.stat().st_size - self.offset
        return False

    def get(self, path: str) -> int:
        """The status of one of its pages; 0: nobody answers."""
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.values["http"], path), timeout=2).status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    def page(self, path: str) -> str:
        return urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.values["http"], path), timeout=5).read().decode()

    def ready(self) -> bool:
        return self.get("/readyz") == 200

    def await_ready(self, limit=60):
        end = time.monotonic() + limit
        while not self.ready():
            if not self.alive() or time.monotonic() > end:
                raise RuntimeError("%s is not ready (exit code %s)\n%s" % (self.name, self.process.returncode, self.tail()))
            time.sleep(0.02)

    def signal(self, number):
        if self.alive():
            self.asked = time.time()
            self.process.send_signal(number)

    def ended(self, limit=60) -> End:
        end = time.monotonic() + limit
        while self.alive():
            if time.monotonic() > end:
                self.process.kill()
                while self.alive():
                    time.sleep(0.01)
                return End(self.label, None, self.report(), self.asked, time.time())
            time.sleep(0.005)
        return End(self.label, self.process.returncode, self.report(), self.asked, time.time())

    def drain(self, limit=60) -> End:
        self.signal(signal.SIGTERM)
        return self.ended(limit)

    def kill(self):
        if self.alive():
            self.process.kill()
        while self.alive():
            time.sleep(0.01)

    def lines(self, text: str) -> list:
        """The lines of this life's log that have `text` in them."""
        if not self.log.exists():
            return []
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.offset)
            return [json.loads(line) for line in log if text in line and line.endswith("}\n")]

    def line(self, text: str):
        """The first of them."""
        return next(iter(self.lines(text)), None)

    def report(self):
        return self.line('"drain finished"')

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:]) if self.log.exists() else "(no log)"
