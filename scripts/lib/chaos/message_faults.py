"""Messages that are hard to bear: undecodable, large, forged."""

from __future__ import annotations

import hashlib

import pika

LIMIT = 1 << 20  # the node's max_body
FRAME = 131_072  # RabbitMQ's frame_max
# The lengths of bodies around what a frame carries, and around the limit.
LENGTHS = [0, 1, FRAME - 9, FRAME - 8, FRAME - 7, 2 * (FRAME - 8), LIMIT - 1, LIMIT, LIMIT + 1]
FORGED = {
    "x-tidegate-attempts": 7, "x-tidegate-seal": "0" * 64, "x-tidegate-copy": "forged", "x-tidegate-reason": "handler",
    "x-tidegate-original": {"headers": {}, "expiration": "1"}, "x-death": [{"queue": "orders", "reason": "expired", "count": 9}],
}


def number(message: str) -> int:
    return int(message.split("-")[1])


def body_at_limits(message: str) -> bytes:
    pattern = hashlib.sha256(message.encode()).digest()
    length = LENGTHS[number(message) % len(LENGTHS)]
    return (pattern * (length // len(pattern) + 1))[:length]


def limits(scene):
    """Bodies around the length of a frame and around `max_body`; one byte too many is dead."""
    while scene.time_left():
        scene.pause(0.1, 0.2)
    scene.publisher.stop()
    scene.doomed = [one for one in scene.publisher.confirmed if len(body_at_limits(one)) > LIMIT]


def hard_headers(message: str):
    """Headers that fill a frame, and headers that only a worker sets."""
    turn = number(message) % 8
    if turn == 0:
        return {"headers": {"large": "x" * (FRAME - 200 - number(message) % 64)}}, message.encode()
    if turn == 4:
        return {"headers": dict(FORGED)}, message.encode()
    return {}, message.encode()


def headers(scene):
    """Headers that fill a frame, and forged headers of copies, during rolling restarts."""
    while scene.time_left():
        worker = scene.pick()
        scene.settle(worker, worker.drain())
        scene.again(worker)


def poison(scene):
    """Messages that no client library can read: properties that are not UTF-8, headers as deep as they are long."""
    count = 0
    while scene.time_left():
        connection = scene.broker.connect()
        channel = connection.channel()
        for _ in range(3):
            count += 1
            send_raw(channel, connection, scene.queue, count)
        connection.close()
        scene.poisoned = count
        scene.pause(0.2, 0.6)


def send_raw(channel, connection, queue, turn):
    """Publishes with a message id that is not UTF-8, or with a table in a table in a table…"""
    class Raw(pika.BasicProperties):
        def encode(self):
            if turn % 2:
                return [b"\x00\x80", b"\x05po\xff\xfe!"]
            inner = b""
            for _ in range(400):
                inner = len(inner).to_bytes(4, "big") + inner
                inner = b"\x01dF" + inner
            return [b"\x20\x00", len(inner).to_bytes(4, "big") + inner]

    channel.basic_publish("", queue, b"poison", Raw())
    connection.process_data_events(0)
