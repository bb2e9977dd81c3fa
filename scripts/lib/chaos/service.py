"""The service that the workers post to: it works for a while, answers as the message's id says, and notes each run."""

from __future__ import annotations

import asyncio
import hashlib
import time

from checker import Run
from loop import Loop

ANSWERS = {"done": 200, "retry": 503, "dead": 400}


def share(message: str, salt: str) -> float:
    """A number from 0 to 1, the same for the same message."""
    return int.from_bytes(hashlib.sha256((salt + message).encode()).digest()[:4], "big") / 2**32


class Service(Loop):
    """Serves in a thread of its own until it is closed."""

    def __init__(self, seconds=(0.002, 0.03), retries=0.05, dead=0.02, hangs=0.0, expected=None):
        self.seconds, self.retries, self.dead, self.hangs = seconds, retries, dead, hangs
        self.expected = expected  # from a message to its body, where bodies are compared
        self.runs: list[Run] = []
        self.running = 0
        self.held, self.waiting = set(), []  # names of workers that get no answer for now, and what they wait for
        super().__init__(lambda loop: loop.create_server(lambda: Client(self), "127.0.0.1", 0))

    def decide(self, message: str, attempt: int) -> str:
        if share(message, "dead") < self.dead:
            return "dead"
        return "retry" if attempt == 1 and share(message, "retry") < self.retries else "done"

    def hold(self, label: str):
        """Answers this worker nothing until `release`."""
        self.held.add(label)

    def release(self, label: str):
        def answer():
            self.held.discard(label)
            waiting, self.waiting = self.waiting, []
            for client in waiting:
                client.answer()

        self.loop.call_soon_threadsafe(answer)

    def running_of(self, label: str) -> int:
        return sum(run.worker == label and not run.at for run in list(self.runs))


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
            self.working = None
            self.run.at = time.time()
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
        body, self.buffer = rest[:length], rest[length:]
        service = self.service
        message = headers.get("tidegate-message-id", "?")
        self.run = Run(message, int(headers.get("tidegate-attempt", 1)), first.split()[1].strip("/"))
        self.run.damaged = service.expected is not None and body != service.expected(message)
        service.runs.append(self.run)
        service.running += 1
        least, most = service.seconds
        seconds = least + (most - least) * share(message, "work")
        if self.run.attempt == 1 and share(message, "hang") < service.hangs:
            seconds = 3600
        self.working = service.loop.call_later(seconds, self.answer)

    def answer(self):
        service = self.service
        if not self.working:
            return
        if self.run.worker in service.held:
            service.waiting.append(self)
            return
        answer = service.decide(self.run.message, self.run.attempt)
        # Noted first: the worker may have ended before this thread goes on after the write.
        self.run.at = time.time()
        self.run.ended = answer
        self.transport.write(b"HTTP/1.1 %d x\r\ncontent-length: 0\r\n\r\n" % ANSWERS[answer])
        service.running -= 1
        self.working = None
        self._next()
