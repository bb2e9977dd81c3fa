"""What is done to the workers' processes, and to their logs."""

from __future__ import annotations

import os
import signal
import time


def rolling(scene):
    """SIGTERM to one worker after the other, each followed by a successor."""
    while scene.time_left():
        worker = scene.pick()
        scene.settle(worker, worker.drain())
        scene.again(worker)


def exact_drains(scene):
    """SIGTERM while every slot is busy: readiness, and the report's exact numbers."""
    while scene.time_left():
        worker = scene.pick()
        scene.service.hold(worker.label)
        if not within(10, lambda: scene.service.running_of(worker.label) == 8):
            scene.faults.append("%s: not every slot is busy" % worker.label)
        worker.signal(signal.SIGTERM)
        if not within(10, lambda: worker.line('"drain begins"')):
            scene.faults.append("%s does not drain" % worker.label)
        pages = (worker.get("/readyz"), worker.get("/livez"))
        if pages != (503, 200):
            scene.faults.append("%s drains, and its pages answer %d and %d" % (worker.label, *pages))
        scene.service.release(worker.label)
        end = worker.ended()
        scene.settle(worker, end)
        if end.report and (end.report["finished"], end.report["interrupted"], end.report["unconfirmed"]) != (8, 0, 0):
            scene.faults.append("%s: 8 runs ended in the drain; the report says %s" % (end.worker, end.report))
        scene.again(worker)


def within(seconds, holds) -> bool:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def killed(scene):
    """kill -9."""
    while scene.time_left():
        worker = scene.pick()
        worker.signal(signal.SIGKILL)
        worker.ended()
        scene.again(worker)
        scene.pause(0.3, 1.5)


def second_signal(scene):
    """SIGTERM, and another one while it drains."""
    while scene.time_left():
        worker = scene.pick()
        worker.signal(signal.SIGTERM)
        scene.pause(0.12, 0.2)
        worker.signal(signal.SIGTERM)
        scene.settle(worker, worker.ended(), codes=(0, 4))
        scene.again(worker)


def deadline(scene):
    """A grace that is shorter than the work."""
    while scene.time_left():
        worker = scene.pick()
        scene.settle(worker, worker.drain(), codes=(0, 3))
        scene.again(worker)


def pause_and_resume(scene):
    """Commands, back to back."""
    while scene.time_left():
        for word in ("pause", "resume"):
            scene.command(word, scene.pick().name)
        scene.pause(0.05, 0.4)
    # The last commands may have gone to two workers.
    for worker in scene.workers:
        scene.command("resume", worker.name)


def stopped(scene):
    """SIGSTOP and SIGCONT."""
    while scene.time_left():
        worker = scene.pick()
        worker.signal(signal.SIGSTOP)
        scene.pause(0.2, 1.5)
        worker.signal(signal.SIGCONT)
        scene.pause(0.1, 0.5)


def reload(scene):
    """SIGHUP with other slots."""
    while scene.time_left():
        worker = scene.pick()
        file = worker.directory / (worker.name + ".toml")
        text = file.read_text()
        now, then = ("concurrency = 8", "concurrency = 2") if "concurrency = 8" in text else ("concurrency = 2", "concurrency = 8")
        file.write_text(text.replace(now, then))
        worker.signal(signal.SIGHUP)
        scene.pause(0.05, 0.3)


def log_stalls(scene):
    """Nobody reads the log, during rolling restarts."""
    while scene.time_left():
        worker = scene.pick()
        scene.settle(worker, worker.drain(), expect_report=False)
        reader, writer = os.pipe()
        worker.start(stderr=writer)
        os.close(writer)
        scene.pipes.append(reader)
        worker.await_ready()
        scene.restarts += 1


def log_goes(scene):
    """The log's reader goes, or its disk is full, during rolling restarts."""
    full = True
    while scene.time_left():
        worker = scene.pick()
        scene.settle(worker, worker.drain(), expect_report=False)
        full = not full
        if full:
            writer = os.open("/dev/full", os.O_WRONLY)
        else:
            reader, writer = os.pipe()
            scene.pipes.append(os.dup(writer))  # so that the end is known to have no report
        worker.start(stderr=writer)
        os.close(writer)
        worker.await_ready()
        if not full:
            os.close(reader)
        scene.restarts += 1
