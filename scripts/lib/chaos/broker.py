"""A RabbitMQ for the suite: in a container, or as a private process. It keeps its port and its messages over every fault."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pika

SCRIPTS = Path(__file__).resolve().parents[2]


def docker(*words, check=True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError("docker %s: %s" % (" ".join(words), done.stderr.strip()))
    return done.stdout.strip()


def has_docker() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


class Node:
    """What every broker offers to clients. `host` and `port` are set by the kind of broker."""

    host, port = "127.0.0.1", 0

    def await_up(self, limit=120):
        end = time.monotonic() + limit
        while True:
            try:
                self.connect().close()
                return
            except (pika.exceptions.AMQPError, OSError):
                if time.monotonic() > end:
                    raise
                time.sleep(0.3)

    def connect(self):
        parameters = pika.ConnectionParameters(
            self.host, self.port, heartbeat=0, socket_timeout=5, blocked_connection_timeout=30, stack_timeout=15,
        )
        return pika.BlockingConnection(parameters)

    def url(self, port=None, user="guest:guest") -> str:
        return "amqp://%s@%s:%d/%%2f" % (user, self.host, port or self.port)

    def control(self, *words) -> str:
        raise NotImplementedError

    def evaluate(self, expression: str):
        """Runs a line of Erlang in the broker."""
        self.control("eval", expression)

    @contextlib.contextmanager
    def channel(self):
        """A channel on a connection of its own."""
        connection = self.connect()
        try:
            yield connection.channel()
        finally:
            if connection.is_open:
                connection.close()

    def exists(self, queue: str) -> bool:
        try:
            self.depth(queue)
            return True
        except pika.exceptions.ChannelClosedByBroker:
            return False

    def depth(self, queue: str) -> int:
        with self.channel() as channel:
            return channel.queue_declare(queue, passive=True).method.message_count

    def take(self, queue: str):
        """The properties and bodies of all messages in `queue`, which they leave."""
        with self.channel() as channel:
            # Not basic.get: a quorum queue with a single active consumer does not have it.
            for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
                if method is None:
                    break
                yield properties, body

    def take_all(self, queue: str) -> list:
        """The ids of all messages in `queue`."""
        return [properties.message_id for properties, _ in self.take(queue)]

    def take_bodies(self, queue: str) -> list:
        return [body for _, body in self.take(queue)]

    def take_letters(self, queue: str) -> list:
        """The ids of all dead letters in `queue`. Two with one copy id are one: the first was not confirmed in time."""
        copies, found = set(), []
        for properties, _ in self.take(queue):
            copy = (properties.headers or {}).get("x-tidegate-copy")
            if copy is None or copy not in copies:
                found.append(properties.message_id)
            copies.add(copy)
        return found

    def delete(self, queue: str):
        with self.channel() as channel:
            channel.queue_delete(queue)


class Container(Node):
    """A broker in a container; `id` is the container's."""

    id = ""

    def control(self, *words) -> str:
        return docker("exec", self.id, "rabbitmqctl", "--quiet", *words)

    def kill(self):
        docker("kill", self.id)

    def start(self):
        docker("start", self.id)
        self.await_up()

    def pause(self):
        docker("pause", self.id)

    def unpause(self):
        docker("unpause", self.id)


class Broker(Container):
    """A broker alone in its container."""

    def __init__(self, image: str):
        self.port = free_port()
        self.id = docker("run", "--detach", "--publish", "127.0.0.1:%d:5672" % self.port, "--hostname", "chaos", image)
        try:
            self.await_up()
        except BaseException:
            self.remove()  # nobody else knows of it yet
            raise

    def stop(self):
        docker("stop", "--time", "30", self.id)

    def remove(self):
        docker("rm", "--force", "--volumes", self.id, check=False)


class PrivateBroker(Node):
    """A process of `scripts/private-broker`, on machines without a container engine."""

    def __init__(self):
        self.directory = tempfile.mkdtemp(prefix="tidegate-chaos-broker-")
        self.start()

    def start(self):
        done = subprocess.run(
            [str(SCRIPTS / "private-broker"), "start", self.directory], stdout=subprocess.PIPE, text=True, check=True,
        )
        settings = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
        self.port = pika.URLParameters(settings["AMQP_URL"]).port
        self.process, self.program = int(settings["PID"]), settings["RABBITMQCTL"]
        self.await_up()

    def control(self, *words) -> str:
        done = subprocess.run([self.program, "--quiet", *words], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError("rabbitmqctl %s: %s" % (" ".join(words), done.stderr.strip()))
        return done.stdout.strip()

    def stop(self):
        subprocess.run([str(SCRIPTS / "private-broker"), "stop", self.directory], stdout=subprocess.DEVNULL, check=True)

    def kill(self):
        os.kill(self.process, signal.SIGKILL)
        # What is left of it goes before it starts again.
        self.stop()

    def pause(self):
        os.kill(self.process, signal.SIGSTOP)

    def unpause(self):
        os.kill(self.process, signal.SIGCONT)

    def remove(self):
        try:
            os.kill(self.process, signal.SIGCONT)
        except ProcessLookupError:
            pass
        subprocess.run([str(SCRIPTS / "private-broker"), "stop", self.directory], stdout=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


def begin(image: str, private=False):
    """A broker of the kind that this machine can run."""
    return PrivateBroker() if private or not has_docker() else Broker(image)
