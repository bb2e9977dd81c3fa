"""The service that the workers POST each message to, and its ledger.

For each request it checks the event, does a few milliseconds of work, and answers. What it did it writes
down, one JSON object a line: `started` when the request is complete, then `finished` just before the
answer, or `refused` for an event that is not whole, or `broken` when the client went away before.

    python3 service.py LEDGER HOST      prints the port it took, serves until SIGTERM
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time

import events

BODY_LIMIT = 1 << 20
HEADER_LIMIT = 64 << 10
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Ledger:
    """Appends lines; each is in the file when `write` returns, so that a reader sees it at once."""

    def __init__(self, path: str):
        self.file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, what: str, request: int, **more) -> None:
        line = {"at": round(time.time(), 4), "what": what, "request": request, **more}
        os.write(self.file, (json.dumps(line, separators=(",", ":")) + "\n").encode())


def checked(body: bytes) -> dict:
    """The event in `body`, or ValueError where it is not one that was sent."""
    event = json.loads(body)
    if not isinstance(event, dict) or event.get("type") not in events.KINDS:
        raise ValueError("not an event")
    if not TIMESTAMP.fullmatch(event["created"]) or not event["id"].startswith(event["type"] + "--"):
        raise ValueError("malformed event")
    if events.checksum(event) != event[events.EXTENSION]["sha256"]:
        raise ValueError("the checksum does not match")
    return event


def seconds_of_work(digest: str) -> float:
    """5 to 40 ms, the same for the same event."""
    return (5 + int(digest[:8], 16) % 36) / 1000


class Connection(asyncio.Protocol):
    """One client; one request at a time, as HTTP/1.1 without pipelining has it."""

    requests = 0

    def __init__(self, ledger: Ledger):
        self.ledger = ledger
        self.buffer = b""
        self.request = None  # the number of the request that is being worked on
        self.work = None

    def connection_made(self, transport) -> None:
        self.transport = transport
        self.peer = transport.get_extra_info("peername")[0]

    def connection_lost(self, error) -> None:
        if self.request is not None:
            self.ledger.write("broken", self.request)
            self.work.cancel()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.request is None:
            self.take_request()

    def take_request(self) -> None:
        head, blank, rest = self.buffer.partition(b"\r\n\r\n")
        if not blank:
            if len(self.buffer) > HEADER_LIMIT:
                self.transport.close()
            return
        line, *fields = head.decode("latin-1").split("\r\n")
        headers = {}
        for field in fields:
            name, _, value = field.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers.get("content-length", 0))
        if length > BODY_LIMIT or "transfer-encoding" in headers:
            self.answer(413, "a body of known, reasonable length is needed")
            self.transport.close()
            return
        if len(rest) < length:
            return
        body, self.buffer = rest[:length], rest[length:]
        if line.startswith("GET "):
            self.finish(200, "here")
            return
        Connection.requests += 1
        self.request = Connection.requests
        replica = line.split(" ")[1].strip("/") or self.peer
        self.work = asyncio.ensure_future(self.handle(self.request, replica, headers, body))

    async def handle(self, request: int, replica: str, headers: dict, body: bytes) -> None:
        try:
            event = checked(body)
        except (ValueError, KeyError, TypeError) as error:
            self.ledger.write("refused", request, replica=replica, why=str(error))
            self.finish(422, str(error))
            return
        self.ledger.write(
            "started", request, id=event["id"], replica=replica, attempt=headers.get("tidegate-attempt"),
            redelivered=headers.get("tidegate-redelivered"),
        )
        digest = event[events.EXTENSION]["sha256"]
        await asyncio.sleep(seconds_of_work(digest))
        self.ledger.write("finished", request, sha256=digest)
        self.finish(200, digest)

    def finish(self, status: int, text: str) -> None:
        self.request = None
        self.answer(status, text)
        if self.buffer:
            self.take_request()

    def answer(self, status: int, text: str) -> None:
        body = text.encode()
        head = "HTTP/1.1 %d -\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self.transport.write(head.encode() + body)


async def serve(path: str, host: str) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    ledger = Ledger(path)
    server = await loop.create_server(lambda: Connection(ledger), host, 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stop.wait()
    server.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2]))
