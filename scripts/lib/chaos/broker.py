"""A RabbitMQ in a container of its own, and a publisher that knows what the broker has confirmed."""

from __future__ import annotations

import socket
import subprocess
import threading
import time

import pika


def docker(*words, check=True) -> str:
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError("docker %s: %s" % (" ".join(words), done.stderr.strip()))
    return done.stdout.strip()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


class Broker:
    """The container. It keeps its port and its messages over a stop, a kill and a pause."""

    def __init__(self, image: str):
        self.port = free_port()
        self.id = docker("run", "--detach", "--publish", "127.0.0.1:%d:5672" % self.port, "--hostname", "chaos", image)
        self.await_up()

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
            "127.0.0.1", self.port, heartbeat=0, socket_timeout=5, blocked_connection_timeout=30, stack_timeout=15,
        )
        return pika.BlockingConnection(parameters)

    def url(self, port=None) -> str:
        return "amqp://guest:guest@127.0.0.1:%d/%%2f" % (port or self.port)

    def control(self, *words):
        return docker("exec", self.id, "rabbitmqctl", "--quiet", *words)

    def depth(self, queue: str) -> int:
        connection = self.connect()
        try:
            return connection.channel().queue_declare(queue, passive=True).method.message_count
        finally:
            connection.close()

    def take_all(self, queue: str) -> list:
        """The ids of all messages in `queue`, which they leave."""
        connection, found = self.connect(), []
        channel = connection.channel()
        # Not basic.get: a quorum queue with a single active consumer does not have it.
        for method, properties, _ in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
            if method is None:
                break
            found.append(properties.message_id)
        connection.close()
        return found

    def remove(self):
        docker("rm", "--force", "--volumes", self.id, check=False)


class Publisher(threading.Thread):
    """Publishes at a steady rate until it is stopped, whatever becomes of the broker."""

    def __init__(self, broker: Broker, queue: str, rate: float, prefix: str):
        super().__init__(daemon=True)
        self.broker, self.queue, self.rate, self.prefix = broker, queue, rate, prefix
        self.confirmed, self.unsure = [], []
        self.stopping = threading.Event()

    def run(self):
        number = 0
        while not self.stopping.is_set():
            try:
                connection = self.broker.connect()
                channel = connection.channel()
                channel.confirm_delivery()
                while not self.stopping.wait(1 / self.rate):
                    number += 1
                    self.one(channel, "%s-%d" % (self.prefix, number))
                connection.close()
            except (pika.exceptions.AMQPError, OSError):
                self.stopping.wait(0.2)

    def one(self, channel, message):
        # Until it is confirmed, the broker may have it.
        self.unsure.append(message)
        properties = pika.BasicProperties(message_id=message, delivery_mode=2)
        channel.basic_publish("", self.queue, message.encode(), properties, mandatory=True)
        self.unsure.pop()
        self.confirmed.append(message)

    def stop(self):
        self.stopping.set()
        self.join(60)
