"""What is done to handlers: children that are killed, hang or leak, and a service that does not answer."""

from __future__ import annotations

import os
import signal
from pathlib import Path

POOL = 'handler = { pool = { command = ["PYTHON", "-I", "-S", "HERE/child.py", "SERVICE"%s], size = 4, warm = true%s } }'
LEAVER = 'handler = { exec = { command = ["HERE/leaver.sh", "PYTHON", "SERVICE"] } }'
DESCRIPTORS = 40  # that a worker may have more at the end than at the beginning


def descendants(pid: int) -> list:
    """The process ids of the children of a process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def strike(scene, number):
    """Sends a signal to one child of one worker."""
    found = descendants(scene.pick().process.pid)
    if found:
        try:
            os.kill(scene.random.choice(found), number)
        except ProcessLookupError:
            pass


def children_killed(scene):
    """kill -9 of children of the pool."""
    while scene.time_left():
        strike(scene, signal.SIGKILL)


def children_hang(scene):
    """SIGSTOP of children of the pool; the node's time-out ends them."""
    while scene.time_left():
        strike(scene, signal.SIGSTOP)


def descriptors(worker) -> int:
    return len(os.listdir("/proc/%d/fd" % worker.process.pid))


def leaks(scene):
    """Children that leave memory, descriptors or processes behind. The worker must not grow with them."""
    before = {worker.name: descriptors(worker) for worker in scene.workers}
    while scene.time_left():
        scene.pause(0.2, 0.5)
    scene.publisher.stop()
    scene.until_worked_off()
    for worker in scene.workers:
        now = descriptors(worker)
        if now > before[worker.name] + DESCRIPTORS:
            scene.faults.append("%s has %d descriptors, %d before" % (worker.name, now, before[worker.name]))


def hangs(scene):
    """The service never answers some runs; the node's time-out ends them."""
    while scene.time_left():
        scene.pause(0.2, 0.5)
