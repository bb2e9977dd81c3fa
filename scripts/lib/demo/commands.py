"""Running other programs: always with a limit, and never left behind."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]


class DemoFailed(Exception):
    """The demo cannot go on; the text says why."""


def run(command: list, limit: float, quiet: bool = True, **options) -> subprocess.CompletedProcess:
    """Runs it to its end. Quiet: its output is kept, not shown."""
    if quiet:
        options.setdefault("stdout", subprocess.PIPE)
        options.setdefault("stderr", subprocess.STDOUT)
    options.setdefault("stdin", subprocess.DEVNULL)
    process = subprocess.Popen([str(part) for part in command], text=True, cwd=ROOT, **options)
    try:
        output, _ = process.communicate(timeout=limit)
    except BaseException:
        end(process, 15)
        raise
    return subprocess.CompletedProcess(command, process.returncode, output)


def need(command: list, limit: float, **options) -> str:
    """The output of a command that must succeed."""
    try:
        done = run(command, limit, **options)
    except FileNotFoundError:
        raise DemoFailed("%s is not installed" % command[0]) from None
    except subprocess.TimeoutExpired:
        raise DemoFailed("%s took longer than %d s" % (" ".join(map(str, command[:3])), limit)) from None
    if done.returncode != 0:
        text = "\n".join((done.stdout or "").strip().splitlines()[-20:])
        raise DemoFailed("%s ended with %d\n%s" % (" ".join(map(str, command[:3])), done.returncode, text))
    return done.stdout or ""


def works(command: list, limit: float) -> bool:
    try:
        return run(command, limit).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def end(process: subprocess.Popen, limit: float) -> None:
    """SIGTERM, and SIGKILL when that does not help within `limit` seconds."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def clean_environment(**more: str) -> dict:
    """This process's environment without what would configure a worker, plus `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEGATE_")}
    return {**kept, **more}


@dataclass
class Names:
    """What the demo declares on the broker; each run has its own."""

    queue: str
    status: str
    control: str

    @classmethod
    def of(cls, run_id: str) -> "Names":
        return cls("tidegate-demo-" + run_id, "tidegate.demo.%s.status" % run_id, "tidegate.demo.%s.control" % run_id)

    def environment(self) -> dict:
        return {
            "TIDEGATE__NODE__0__QUEUE": self.queue,
            "TIDEGATE__STATUS__EXCHANGE": self.status,
            "TIDEGATE__STATUS__CONTROL": self.control,
            "TIDEGATE_LOG_FORMAT": "json",
        }


@dataclass
class Drain:
    """How one worker went out."""

    exit_code: int
    seconds: float  # from the signal to the exit
    report: dict  # the worker's own: outcome, duration_ms, finished, handed_back, interrupted, unconfirmed


def fields(line: str) -> dict:
    """The fields of one of the worker's log lines, its message among them."""
    try:
        entry = json.loads(line)
    except ValueError:
        return {}
    return {**entry, **entry.get("fields", {})} if isinstance(entry, dict) else {}


def logged(lines: list, message: str) -> dict:
    """The last of the worker's log lines that says `message`; empty where none does."""
    for line in reversed(lines):
        entry = fields(line)
        if entry.get("message") == message:
            return entry
    return {}
