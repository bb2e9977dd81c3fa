"""The service that the workers post to: it works for a while, answers as the message's id says, and notes each run."""

from __future__ import annotations

import asyncio
import hashlib

from checker import Run
from loop import Loop

ANSWERS = {"done": 200, "retry": 503, "dead": 400}


def share(message: str, salt: str) -> float:
    """A number from 0 to 1, the same for the same message."""
    return int.from_bytes(hashlib.sha256((salt + message).encode()).digest()[:4], "big") / 2**32


class Service(Loop):
    """Serves in a thread of its own until it is closed."""

    def __init__(self, seconds=(0.002, 0.03), retries=0.05, dead=0.02):
        self.seconds, self.retries, self.dead = seconds, retries, dead
        self.runs: list[Run] = []
        self.running = 0
        super().__init__(lambda loop: loop.create_server(lambda: Client(self), "127.0.0.1", 0))

    def decide(self, message: str, attempt: int) -> str:
        if share(message, "dead") < self.dead:
            return "dead"
        return "retry" if attempt == 1 and share(message, "retry") < self.retries else "done"


class Client(asyncio.Protocol):
    """One connection of a worker; one request at a time."""

    def __init__(self, service: Service):
        self.service, self.buffer, self.working, self.run = service, b"", None, None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buffer += data
        self._next()

    def connection_lost(self, _error):
        if self.working:
            self.working.cancel()
            self.service.running -= 1

    def _next(self):
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if self.working or not found:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if ": " in line)
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        message = headers.get("tidegate-message-id", "?")
        self.run = Run(message, int(headers.get("tidegate-attempt", 1)), first.split()[1].strip("/"))
        self.service.runs.append(self.run)
        self.service.running += 1
        least, most = self.service.seconds
        self.working = self.service.loop.call_later(least + (most - least) * share(message, "work"), self._answer)

    def _answer(self):
        answer = self.service.decide(self.run.message, self.run.attempt)
        self.transport.write(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % ANSWERS[answer])
        self.run.ended = answer
        self.service.running -= 1
        self.working = None
        self._next()
