"""Steady load with faults for a long time: is memory flat, are descriptors, are threads?"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import broker_faults
import checker
import graph
from samples import MEMORY_GROWTH, Sample, growth, grown
from scenario import Scenario
from scene import Scene, broken
from workers import memory

EVERY = 5.0  # seconds between two samples


def sample(worker, begun) -> Sample:
    pid = worker.process.pid
    return Sample(
        (time.monotonic() - begun) / 60, memory(pid, "VmRSS"), len(os.listdir("/proc/%d/fd" % pid)), memory(pid, "Threads"),
    )


def cut(scene) -> str:
    scene.proxy.cut()
    return "cut"


def black_hole(scene) -> str:
    scene.proxy.swallow = True
    scene.pause(1, 4)
    scene.proxy.swallow = False
    return "black hole"


def broker_pauses(scene) -> str:
    scene.broker.pause()
    scene.pause(1, 3)
    scene.broker.unpause()
    return "broker paused"


def alarm(scene) -> str:
    scene.broker.control("set_vm_memory_high_watermark", "0.000001")
    scene.pause(1, 4)
    scene.broker.control("set_vm_memory_high_watermark", "0.6")
    return "alarm"


def closed(scene) -> str:
    scene.broker.control("close_all_connections", "soak")
    return "connections closed"


def broker_killed(scene) -> str:
    scene.broker.kill()
    scene.broker.start()
    return "broker killed"


def restart(scene) -> str:
    # The first worker is the one that is watched.
    worker = scene.workers[1]
    scene.settle(worker, worker.drain())
    scene.again(worker)
    return "worker restarted"


FAULTS = [cut, cut, cut, black_hole, broker_pauses, alarm, closed, broker_killed, restart]
SCENARIO = Scenario("soak", broker_faults.consumer_timeout, may_repeat=True, proxied=True, workers=2)


def run(chosen, seed: int) -> bool:
    with tempfile.TemporaryDirectory(prefix="tidegate-soak-") as directory:
        scene = Scene(chosen, SCENARIO, chosen.types.split(",")[-1], seed, Path(directory))
        try:
            chosen.seconds = chosen.soak * 60
            scene.begin()
            samples, marks = watch(scene)
            scene.proxy.swallow = False
            verdict = scene.finish()
        finally:
            scene.close()
    found = growth(samples)
    faults = broken(SCENARIO, verdict) + grown(found)
    report(chosen, verdict, samples, marks, found, faults)
    return not faults


def watch(scene):
    """Faults until the time is over, and a sample every few seconds."""
    begun, samples, marks = time.monotonic(), [], []
    worker, next_fault = scene.workers[0], time.monotonic() + 30
    while scene.time_left():
        samples.append(sample(worker, begun))
        time.sleep(EVERY)
        if time.monotonic() > next_fault:
            minute = (time.monotonic() - begun) / 60
            marks.append((minute, scene.random.choice(FAULTS)(scene)))
            next_fault = time.monotonic() + scene.random.uniform(8, 20)
    return samples, marks


def report(chosen, verdict: checker.Verdict, samples, marks, found, faults) -> None:
    print("%.0f minutes, %d messages, %d faults, %d samples" % (samples[-1].minute, verdict.published, len(marks), len(samples)))
    print("lost %d, repeated here %d, elsewhere %d, dead %d, processor %.1f ms a message, log %.0f kB" % (
        len(verdict.lost), len(verdict.repeated_same), len(verdict.repeated_other), verdict.dead,
        1000 * verdict.processor / max(1, verdict.published), verdict.log / 1000,
    ))
    for key, (first, last) in found.items():
        print("%s: %d in the first third, %d in the last" % (key, first, last))
    for fault in faults:
        print("  WRONG: %s" % fault)
    if chosen.graph:
        Path(chosen.graph).write_text(graph.draw(samples, marks))
        print("graph: %s" % chosen.graph)


def cut_100_times(scene):
    """100 lost connections. The worker's memory afterwards is that of before."""
    worker = scene.workers[0]
    time.sleep(20)  # of steady load, so that its memory is that of a worker under load
    before = memory(worker.process.pid, "VmRSS")
    for _ in range(100):
        scene.proxy.cut()
        # It is not ready at once after a cut, nor is it seen at once.
        scene.pause(0.05, 0.1)
        scene.recovered()
    time.sleep(20)
    after = memory(worker.process.pid, "VmRSS")
    scene.restarts = 100
    scene.note = "memory %.1f MB before, %.1f MB after 100 reconnects" % (before / 1024, after / 1024)
    if after > before + MEMORY_GROWTH:
        scene.faults.append(scene.note)
