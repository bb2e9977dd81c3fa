"""What is done to the connections between the workers and the broker."""

from __future__ import annotations

import signal

from process_faults import rolling


def cuts(scene):
    """Every connection of every worker is cut, in the middle of frames."""
    while scene.time_left():
        scene.pause(0.1, 1.0)
        scene.proxy.cut()


def black_holes(scene):
    """Nothing passes for a while."""
    while scene.time_left():
        scene.proxy.swallow = True
        scene.pause(0.5, 3)
        scene.proxy.swallow = False
        scene.pause(0.5, 1)


def slow_link(scene):
    """Each piece of what passes is late, during rolling restarts."""
    scene.proxy.slow = 0.005
    rolling(scene)
    scene.proxy.slow = 0


def cuts_and_drains(scene):
    """Cuts while workers drain."""
    while scene.time_left():
        worker = scene.pick()
        worker.signal(signal.SIGTERM)
        scene.pause(0, 0.02)
        scene.proxy.cut()
        scene.settle(worker, worker.ended())
        scene.again(worker)
