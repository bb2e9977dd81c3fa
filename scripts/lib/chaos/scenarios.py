"""What is done to the workers and the broker. Each scenario is given the scene and acts until its time is over."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from typing import Callable

import pika

from broker import docker


@dataclass
class Scenario:
    """`may_repeat`: an attempt may run again elsewhere. `may_interrupt`: a run may be cut off; then its message runs again
    anywhere, and a dead letter whose original was not settled yet is there twice. Nothing may ever be lost."""

    name: str
    act: Callable
    may_repeat: bool = False
    may_interrupt: bool = False
    types: tuple = ("classic", "quorum")
    workers: int = 3
    grace: str = "25s"
    more: str = ""
    seconds: tuple = (0.002, 0.03)
    proxied: bool = False


def rolling(scene):
    """SIGTERM to one worker after the other, each followed by a successor."""
    while scene.time_left():
        worker = scene.pick()
        scene.settle(worker, *worker.drain())
        scene.again(worker)


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
        if worker.process.poll() is None:
            worker.signal(signal.SIGTERM)
        scene.settle(worker, *worker.ended(), codes=(0, 4))
        scene.again(worker)


def deadline(scene):
    """A grace that is shorter than the work."""
    while scene.time_left():
        worker = scene.pick()
        scene.settle(worker, *worker.drain(), codes=(0, 3))
        scene.again(worker)


def pause_and_resume(scene):
    """Commands, back to back."""
    while scene.time_left():
        for word in ("pause", "resume"):
            scene.command(word, scene.pick().name)
        scene.pause(0.05, 0.4)


def stopped(scene):
    """SIGSTOP and SIGCONT."""
    while scene.time_left():
        worker = scene.pick()
        worker.signal(signal.SIGSTOP)
        scene.pause(0.2, 1.5)
        worker.signal(signal.SIGCONT)
        scene.pause(0.1, 0.5)


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
        scene.settle(worker, *worker.ended())
        scene.again(worker)


def broker_killed(scene):
    """SIGKILL of the broker."""
    while scene.time_left():
        scene.pause(1, 3)
        docker("kill", scene.broker.id)
        docker("start", scene.broker.id)
        scene.broker.await_up()
        scene.restarted()


def broker_stopped(scene):
    """The broker is stopped in order."""
    while scene.time_left():
        scene.pause(1, 3)
        docker("stop", "--time", "30", scene.broker.id)
        docker("start", scene.broker.id)
        scene.broker.await_up()
        scene.restarted()


def broker_paused(scene):
    """The broker's process stands still."""
    while scene.time_left():
        docker("pause", scene.broker.id)
        scene.pause(0.5, 3)
        docker("unpause", scene.broker.id)
        scene.pause(0.5, 1)


def alarm(scene):
    """A memory alarm, during rolling restarts."""
    while scene.time_left():
        scene.broker.control("set_vm_memory_high_watermark", "0.000001")
        worker = scene.pick()
        scene.settle(worker, *worker.drain())
        scene.broker.control("set_vm_memory_high_watermark", "0.6")
        scene.again(worker)


def connections_closed(scene):
    """An operator closes all connections."""
    while scene.time_left():
        scene.pause(0.5, 1.5)
        # Those of the publisher too: what it does not know, it says.
        scene.broker.control("close_all_connections", "chaos")


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
        scene.settle(worker, *worker.drain(), expect_report=False)
        reader, writer = os.pipe()
        worker.start(stderr=writer)
        os.close(writer)
        scene.pipes.append(reader)
        worker.await_ready()
        scene.restarts += 1


def poison(scene):
    """Messages that no client library can read: properties that are not UTF-8, headers as deep as they are long."""
    number = 0
    while scene.time_left():
        connection = scene.broker.connect()
        channel = connection.channel()
        for _ in range(3):
            number += 1
            send_raw(channel, connection, "orders", number)
        connection.close()
        scene.poisoned = number
        scene.pause(0.2, 0.6)


def send_raw(channel, connection, queue, number):
    """Publishes with a message id that is not UTF-8, or with a table in a table in a table…"""
    class Raw(pika.BasicProperties):
        def encode(self):
            if number % 2:
                return [b"\x00\x80", b"\x05po\xff\xfe!"]
            inner = b""
            for _ in range(400):
                inner = len(inner).to_bytes(4, "big") + inner
                inner = b"\x01dF" + inner
            return [b"\x20\x00", len(inner).to_bytes(4, "big") + inner]

    channel.basic_publish("", queue, b"poison", Raw())
    connection.process_data_events(0)




ALL = [
    Scenario("rolling SIGTERM", rolling),
    Scenario("second signal", second_signal, may_repeat=True, may_interrupt=True, seconds=(0.3, 0.6)),
    Scenario("deadline passed", deadline, may_repeat=True, may_interrupt=True, grace="1s", seconds=(0.2, 1.6)),
    Scenario("kill -9", killed, may_repeat=True, may_interrupt=True),
    Scenario("pause and resume", pause_and_resume),
    Scenario("SIGSTOP", stopped, may_repeat=True),
    Scenario("SIGHUP", reload),
    Scenario("log stalled", log_stalls),
    Scenario("poison", poison),
    Scenario("single active consumer", rolling, more="single_active_consumer = true", may_repeat=False),
    Scenario("cuts", cuts, proxied=True, workers=1),
    Scenario("cuts, three workers", cuts, proxied=True, may_repeat=True),
    Scenario("cuts in drains", cuts_and_drains, proxied=True, may_repeat=True),
    Scenario("black holes", black_holes, proxied=True, may_repeat=True),
    Scenario("slow link", slow_link, proxied=True),
    Scenario("connections closed", connections_closed, may_repeat=True),
    Scenario("memory alarm", alarm, may_repeat=True),
    Scenario("broker paused", broker_paused, may_repeat=True),
    Scenario("broker stopped", broker_stopped, may_repeat=True),
    Scenario("broker killed", broker_killed, may_repeat=True),
]
