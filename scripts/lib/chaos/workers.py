"""Workers as processes: started, ready, ended in any way, with what they said at their end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from pathlib import Path

from broker import free_port

CONFIGURATION = """\
[broker]
url = "{url}"
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
retry = {{ max_attempts = 3, min = "100ms", max = "200ms" }}
handler = {{ http = {{ url = "http://127.0.0.1:{service}/{name}.{life}" }} }}
"""


class Worker:
    """One worker; a successor takes its name."""

    def __init__(self, program: str, directory: Path, values: dict):
        self.program, self.directory, self.values = program, directory, values
        self.name = values["name"]
        self.log = directory / (self.name + ".log")
        self.process = None
        self.lives = 0

    def start(self, stderr=None):
        self.lives += 1
        self.values.update(http=free_port(), life=self.lives)
        file = self.directory / (self.name + ".toml")
        file.write_text(CONFIGURATION.format(**self.values))
        self.offset = self.log.stat().st_size if self.log.exists() else 0
        command = [self.program, "--log-format", "json", "worker", "-c", str(file)]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TIDEGATE_")}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=stderr or log, env=environment, start_new_session=True,
            )

    def ready(self) -> bool:
        try:
            return urllib.request.urlopen("http://127.0.0.1:%d/readyz" % self.values["http"], timeout=2).status == 200
        except OSError:
            return False

    def await_ready(self, limit=60):
        end = time.monotonic() + limit
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("%s is not ready (exit code %s)\n%s" % (self.name, self.process.poll(), self.tail()))
            time.sleep(0.02)

    def signal(self, number):
        self.process.send_signal(number)

    def ended(self, limit=60):
        """The exit code, and the drain's report where there is one; the code is None if it did not end in time."""
        try:
            code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            code = None
        return code, self.report()

    def drain(self, limit=60):
        self.signal(signal.SIGTERM)
        return self.ended(limit)

    def report(self):
        if not self.log.exists():
            return None
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.offset)
            for line in log:
                if '"drain finished"' in line:
                    return json.loads(line)
        return None

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
