"""Publishes at a steady rate, and knows what the broker has confirmed."""

from __future__ import annotations

import threading

import pika


class Publisher(threading.Thread):
    """Publishes until it is stopped, whatever becomes of the broker. `queue`: a name, or a function from a message to one."""

    def __init__(self, connect, queue, rate: float, body=None, first=0, prefix="m"):
        super().__init__(daemon=True)
        self.connect, self.queue, self.rate, self.prefix = connect, queue, rate, prefix
        self.body = body or (lambda message: ({}, message.encode()))
        self.number = first
        self.confirmed, self.unsure = [], []
        self.stopping = threading.Event()
        self.resting = threading.Event()
        self.idle = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            try:
                connection = self.connect()
                channel = connection.channel()
                channel.confirm_delivery()
                while not self.stopping.wait(1 / self.rate):
                    if self.resting.is_set():
                        self.idle.set()
                        continue
                    self.number += 1
                    self.one(channel, "%s-%d" % (self.prefix, self.number))
                connection.close()
            except (pika.exceptions.AMQPError, OSError):
                self.idle.set()
                self.stopping.wait(0.2)
        self.idle.set()

    def one(self, channel, message):
        # Until it is confirmed, the broker may have it.
        self.unsure.append(message)
        properties, body = self.body(message)
        properties = pika.BasicProperties(**{"message_id": message, "delivery_mode": 2, **properties})
        queue = self.queue(message) if callable(self.queue) else self.queue
        channel.basic_publish("", queue, body, properties, mandatory=True)
        self.unsure.pop()
        self.confirmed.append(message)

    def rest(self):
        """Returns once nothing is published any more, until `go_on`."""
        self.idle.clear()
        self.resting.set()
        self.idle.wait(60)

    def go_on(self):
        self.resting.clear()

    def stop(self):
        self.stopping.set()
        self.join(60)
