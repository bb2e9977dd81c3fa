#!/usr/bin/env python3
"""A worker in Python that takes part in Tidegate's status protocol (docs/status-protocol.md).

It consumes one queue and POSTs each message to a URL. The fleet sees its states, its beats and how its
drains end; it obeys `drain`, `report`, `cadence` and `ping`. A drain, by SIGTERM or by command, loses nothing and
repeats nothing: what runs finishes and is acknowledged, the rest goes back untouched, and the channel's
close-ok proves that the acknowledgements arrived.

    AMQP_URL=amqp://guest:guest@localhost:5672/%2f examples/python/worker.py --queue orders --url http://localhost:9000/

Needs pika (Debian: python3-pika). A lost status connection is made again; where the connection that consumes
is lost, the worker ends with exit code 1 and whatever runs it starts it again.
"""

import argparse
import collections
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

import pika

from status import Status, fresh_id, one_line

CLOSING_LIMIT = 3.0
"""Seconds after the deadline for closing and reporting."""
RETRY_DELAY = 1.0
"""Seconds before a message that failed goes back."""


def handle(url, properties, body):
    """Works on one message, in a thread of its own; whether it is done. Else it is to be tried again."""
    request = urllib.request.Request(url, data=body, method="POST")
    request.add_header("tidegate-message-id", properties.message_id or "")
    try:
        with urllib.request.urlopen(request) as response:
            return 200 <= response.status < 300
    except (urllib.error.URLError, OSError) as error:
        print(f"retry: {error}", file=sys.stderr, flush=True)
        time.sleep(RETRY_DELAY)
        return False


class Worker:
    """The consumer. Everything of it runs on the main thread, but `handle`."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.parameters = pika.URLParameters(os.environ["AMQP_URL"])
        self.phase = "starting"
        self.reason = None
        self.deadline = None
        self.waiting = collections.deque()
        self.running = {}
        self.counts = collections.Counter()
        self.signals = 0
        self.connection = None
        self.channel = None
        self.status = Status(
            url=os.environ["AMQP_URL"],
            worker=fresh_id(arguments.name),
            name=arguments.name,
            interval=arguments.beat,
            snapshot=self.snapshot,
            figures=self.figures,
            drain=lambda reason: self.begin_drain(f"command: {reason}" if reason else "command"),
        )

    # What the status thread asks for: copies of plain values.

    def snapshot(self):
        """The part of a `state` that is this worker's own."""
        state = {"phase": self.phase}
        if self.reason is not None:
            state["reason"] = self.reason
        if self.deadline is not None:
            state["deadline_ms"] = max(0, int((self.deadline - time.monotonic()) * 1000))
        state["nodes"] = [
            {
                "queue": self.arguments.queue,
                "handler": "python",
                "slots": self.arguments.slots,
                "prefetch": 2 * self.arguments.slots,
                "phase": self.phase,
            }
        ]
        return state

    def figures(self):
        """The part of a beat that is this worker's own: load, and the nodes in full."""
        running = dict(self.running)
        oldest = min(running.values(), default=None)
        node = {
            "queue": self.arguments.queue,
            "in_flight": len(running),
            "oldest_ms": int((time.monotonic() - oldest) * 1000) if oldest is not None else 0,
        }
        for name in ("done", "retried", "dead", "handed_back", "interrupted"):
            node[name] = self.counts[name]
        load = min(1.0, len(running) / self.arguments.slots)
        return {"load": round(load, 3), "full": True, "nodes": [node]}

    # The life of a message.

    def on_message(self, _channel, method, properties, body):
        self.waiting.append((method.delivery_tag, properties, body))
        self.start_ready()

    def start_ready(self):
        while self.phase == "running" and self.waiting and len(self.running) < self.arguments.slots:
            tag, properties, body = self.waiting.popleft()
            self.running[tag] = time.monotonic()
            # A daemon: at the deadline the process ends without it.
            threading.Thread(target=self.run, args=(tag, properties, body), daemon=True).start()

    def run(self, tag, properties, body):
        done = handle(self.arguments.url, properties, body)
        try:
            self.connection.add_callback_threadsafe(lambda: self.finished(tag, done))
        except pika.exceptions.AMQPError:
            pass  # The connection is gone, and the broker has the message back.

    def finished(self, tag, done):
        if self.running.pop(tag, None) is None:
            return  # It was interrupted, and handed back then.
        if done:
            self.channel.basic_ack(tag)
            self.counts["done"] += 1
        else:
            self.channel.basic_nack(tag, requeue=True)
            self.counts["retried"] += 1
        if self.phase == "draining":
            self.counts["finished"] += 1
        self.start_ready()

    # The life of the worker.

    def begin_drain(self, reason):
        """Begins the drain, once: nothing starts any more, nothing beats any more. The main loop does the rest.

        Called from a signal handler or the status thread, so that it only assigns.
        """
        if self.reason is None:
            # The state's lease, which reaches past the deadline, covers the silence.
            self.deadline = time.monotonic() + self.arguments.grace
            self.phase = "draining"
            self.reason = reason

    def on_signal(self, number, _frame):
        # Where a command has begun the drain, the first signal changes nothing: platforms send one anyway.
        self.signals += 1
        self.begin_drain(signal.Signals(number).name)

    def work(self):
        """Consumes until a drain is wanted, drains, and gives the exit code."""
        self.status.start()
        self.connection = pika.BlockingConnection(self.parameters)
        self.channel = self.connection.channel()
        self.channel.basic_qos(prefetch_count=2 * self.arguments.slots)
        consumer = self.channel.basic_consume(self.arguments.queue, self.on_message)
        if self.reason is None:
            self.phase = "running"
        self.status.changed()
        while self.reason is None:
            self.connection.process_data_events(time_limit=0.2)
        return self.drain(consumer)

    def drain(self, consumer):
        """Stops in order. Step 1, the deadline, has been taken when the drain began."""
        begun = time.monotonic()
        self.status.changed()
        steps = {}
        lap = begun

        def took(step):
            nonlocal lap
            now = time.monotonic()
            steps[step] = int((now - lap) * 1000)
            lap = now

        # 2. No more messages. What has arrived is in `waiting` after this; the few that come before cancel-ok are
        # handed back by pika itself, with basic.reject (which a quorum queue counts, other than basic.nack).
        self.connection.process_data_events(time_limit=0)
        self.channel.basic_cancel(consumer)
        took("cancel_ms")
        # 3. What has not started goes back, untouched.
        while self.waiting:
            self.channel.basic_nack(self.waiting.popleft()[0], requeue=True)
            self.counts["handed_back"] += 1
        took("hand_back_ms")
        # 4. What runs finishes.
        while self.running and self.signals < 2 and time.monotonic() < self.deadline:
            left = self.deadline - time.monotonic()
            self.connection.process_data_events(time_limit=min(0.2, max(0, left)))
        took("finish_ms")
        # 5. What still runs is handed back.
        interrupted = sorted(self.running)
        for tag in interrupted:
            del self.running[tag]
            self.channel.basic_nack(tag, requeue=True)
            self.counts["interrupted"] += 1
        took("interrupt_ms")
        # 6. The close-ok proves that everything settled before it has arrived.
        unconfirmed = 0
        try:
            self.channel.close()
        except pika.exceptions.AMQPError:
            unconfirmed = self.counts["finished"]
        took("settle_ms")
        outcome = "clean"
        if interrupted:
            outcome = "aborted" if self.signals > 1 else "interrupted"
        # 7 and 8. There is nothing to release; the report comes last of all messages.
        self.status.report(
            {
                "reason": self.reason,
                "outcome": outcome,
                "duration_ms": int((time.monotonic() - begun) * 1000),
                "steps": {**steps, "release_ms": 0},
                "finished": self.counts["finished"],
                "handed_back": self.counts["handed_back"],
                "interrupted": len(interrupted),
                "unconfirmed": unconfirmed,
                "interrupted_ids": [f"{self.arguments.queue}#{tag}" for tag in interrupted[:100]],
            },
            limit=CLOSING_LIMIT,
        )
        # 9.
        try:
            self.connection.close()
        except pika.exceptions.AMQPError:
            pass
        return {"clean": 0, "interrupted": 3, "aborted": 4}[outcome]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queue", required=True, help="the queue; it has to exist")
    parser.add_argument("--url", required=True, help="where messages are POSTed to")
    parser.add_argument("--name", default=one_line(socket.gethostname(), 100).replace(".", "-"))
    parser.add_argument("--slots", type=int, default=4, help="messages worked on at once")
    parser.add_argument("--grace", type=float, default=25.0, help="seconds from the beginning of a drain to its deadline")
    parser.add_argument("--beat", type=float, default=300.0, help="seconds between beats while nobody asks for more")
    worker = Worker(parser.parse_args())
    signal.signal(signal.SIGTERM, worker.on_signal)
    signal.signal(signal.SIGINT, worker.on_signal)
    try:
        code = worker.work()
    except pika.exceptions.AMQPError as error:
        print(f"the broker is lost: {error!r}", file=sys.stderr, flush=True)
        code = 1
    # Handlers that ignore the deadline do not keep the process.
    sys.stdout.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
