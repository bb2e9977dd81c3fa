"""Tidegate's status protocol, from a worker's side: states, beats, the drain report, and commands.

All of it runs on a thread and a connection of its own, so that nothing here is ever in the way of the work.
What cannot be sent now is replaced by what is newer; a lost connection is made again.
"""

import datetime
import json
import os
import queue
import random
import socket
import sys
import threading
import time

import pika

STATUS = "tidegate.status"
CONTROL = "tidegate.control"
COMMAND_TYPE = "tidegate.command.v1"
BODY_LIMIT = 16 * 1024
REASON_LIMIT = 200
COMMANDS = ("drain", "report", "cadence", "ping")
"""What this worker obeys; a worker need not know every command."""


def fresh_id(name):
    """An id as workers have them: the name, and what no other start has (48 bits of time, 80 of chance: a ULID)."""
    alphabet = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    number = int(time.time() * 1000) << 80 | random.SystemRandom().getrandbits(80)
    return f"{name}-" + "".join(alphabet[number >> shift & 31] for shift in range(125, -1, -5))


def one_line(text, limit):
    """`text` in one line of at most `limit` characters, without control characters."""
    plain = "".join(c if c.isprintable() else " " for c in text[:BODY_LIMIT])
    return " ".join(plain.split())[:limit]


def now():
    at = datetime.datetime.now(datetime.timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}Z"


class Status(threading.Thread):
    """Says what its worker is and does, and takes commands for it.

    `snapshot` and `figures` give the worker's part of a state and of a beat; `drain` is called with the
    reason of a remote drain.
    """

    def __init__(self, url, worker, name, interval, snapshot, figures, drain):
        super().__init__(daemon=True)
        self.parameters = pika.URLParameters(url)
        self.worker, self.name_of_worker = worker, name
        self.interval = interval
        self.snapshot, self.figures, self.on_drain = snapshot, figures, drain
        self.started_at = now()
        self.seq = 0
        self.connection = None
        self.dirty = True
        self.beat_asked = False
        self.next_beat = 0.0
        self.paces = {}
        self.reports = queue.Queue()
        self.reported = threading.Event()

    # From other threads.

    def changed(self):
        """The worker's state is another."""
        self.dirty = True
        self.wake()

    def report(self, report, limit):
        """Publishes the drain report, the last message of all; waits for its confirm for `limit` seconds."""
        self.reports.put(report)
        self.wake()
        if not self.reported.wait(limit):
            print("the drain report could not be published", file=sys.stderr, flush=True)

    def wake(self):
        try:
            self.connection.add_callback_threadsafe(lambda: None)
        except (AttributeError, pika.exceptions.AMQPError):
            pass  # There is no connection; the next one begins by saying everything.

    # On this thread.

    def run(self):
        pause = 0.1
        while not self.reported.is_set():
            begun = time.monotonic()
            try:
                self.speak()
            except (pika.exceptions.AMQPError, OSError) as error:
                print(f"no status for now: {error!r}", file=sys.stderr, flush=True)
            # Longer and longer, at random, but anew after a connection that held.
            pause = 0.1 if time.monotonic() - begun > 60 else min(15.0, pause * 2)
            self.reported.wait(pause * random.uniform(0.5, 1))

    def speak(self):
        """Connects, and says what there is to say until the report is out or the connection is lost."""
        self.connection = pika.BlockingConnection(self.parameters)
        confirmed = self.connection.channel()
        confirmed.confirm_delivery()
        transient = self.connection.channel()
        for exchange in (STATUS, CONTROL):
            confirmed.exchange_declare(exchange, exchange_type="topic", durable=True)
        # Exclusive: it is there exactly as long as this connection, so that others can tell who is gone.
        control = f"{CONTROL}.{self.worker}"
        limits = {"x-max-length": 64, "x-max-length-bytes": 1024 * 1024, "x-overflow": "reject-publish"}
        limits["x-queue-type"] = "classic"
        confirmed.queue_declare(control, exclusive=True, arguments=limits)
        for key in (f"worker.{self.worker}", "all"):
            confirmed.queue_bind(control, CONTROL, key)
        commands = self.connection.channel()
        commands.basic_qos(prefetch_count=8)
        commands.basic_consume(
            control,
            lambda channel, method, properties, body: self.on_command(channel, transient, method, properties, body),
        )
        self.dirty = True
        # Nothing has queued up: a new connection begins with what is true now.
        self.beat_asked = self.seq > 0
        while True:
            if not self.reports.empty():
                self.publish(confirmed, "drain", 0, self.reports.get())
                self.reported.set()
                self.connection.close()
                return
            if self.dirty:
                self.dirty = False
                self.say(confirmed)
            self.beat(transient)
            self.connection.process_data_events(time_limit=0.2)

    def say(self, channel):
        """A state: persistent, confirmed. It counts as a beat."""
        state = self.snapshot()
        lease = self.pace() * 3
        if "deadline_ms" in state:
            # Past the deadline and the closing after it: the silence of a drain is not death.
            lease = state["deadline_ms"] / 1000 + 8
        state |= {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": f"python-{pika.__version__}",
            "started_at": self.started_at,
        }
        self.publish(channel, "state", lease, state)

    def beat(self, channel):
        """A beat if one is due: transient, and gone with its lease. Never in a drain."""
        if "deadline_ms" in self.snapshot():
            return
        if self.beat_asked or time.monotonic() >= self.next_beat:
            self.beat_asked = False
            self.publish(channel, "beat", self.pace() * 3, self.figures())

    def pace(self):
        """Seconds between two beats: the fastest requested pace, or this worker's own."""
        now = time.monotonic()
        self.paces = {by: request for by, request in self.paces.items() if request[1] > now}
        return min((interval for interval, _ in self.paces.values()), default=self.interval)

    def request(self, command):
        """Takes a request for a pace: what is wrong with it, or nothing."""
        limits = {"interval_ms": (1, 3_600_000), "for_ms": (0, 86_400_000)}
        for field, (least, most) in limits.items():
            value = command.get(field)
            if type(value) is not int or not least <= value <= most:
                return f"{field}: must be a whole number from {least} to {most}"
        by = command.get("by")
        if not isinstance(by, (str, type(None))):
            return "by: must be a string"
        by, now = one_line(by or "", 100), time.monotonic()
        if by not in self.paces and len(self.paces) >= 16:
            return "too many others request a pace"
        interval = max(0.5, command["interval_ms"] / 1000)
        self.paces[by] = (interval, now + command["for_ms"] / 1000)
        # At random within its interval: a fleet does not answer at once. What was promised earlier still comes.
        self.next_beat = min(self.next_beat, now + self.pace() * random.random())
        return None

    def publish(self, channel, kind, lease, rest):
        lease_ms = int(lease * 1000)
        self.seq += 1
        head = {"v": 1, "worker": self.worker, "name": self.name_of_worker, "seq": self.seq}
        head |= {"at": now(), "lease_ms": lease_ms}
        transient = kind == "beat"
        properties = pika.BasicProperties(
            content_type="application/json",
            app_id="tidegate",
            type=f"tidegate.{kind}.v1",
            delivery_mode=1 if transient else 2,
            expiration=str(lease_ms) if transient else None,
        )
        channel.basic_publish(STATUS, f"{kind}.{self.worker}", json.dumps(head | rest), properties)
        # Not in step with the rest of the fleet.
        self.next_beat = time.monotonic() + self.pace() * random.uniform(0.9, 1.1)

    # Commands.

    def on_command(self, commands, replies, method, properties, body):
        word, error = self.obey(properties, body)
        commands.basic_ack(method.delivery_tag)
        if error:
            print(f"a command is refused: {error}", file=sys.stderr, flush=True)
        if not properties.reply_to:
            return
        reply = {"v": 1, "worker": self.worker, "command": word, "ok": error is None}
        reply["phase"] = self.snapshot()["phase"]
        if error:
            reply["error"] = error
        answer = pika.BasicProperties(
            content_type="application/json",
            app_id="tidegate",
            type="tidegate.reply.v1",
            correlation_id=properties.correlation_id,
        )
        replies.basic_publish("", properties.reply_to, json.dumps(reply), answer)

    def obey(self, properties, body):
        """Does what a message says: the command's word, and what is wrong with it."""
        if len(body) > BODY_LIMIT:
            return "", f"body = {len(body)} bytes: at most {BODY_LIMIT}"
        if properties.type not in (None, COMMAND_TYPE):
            return "", f"type = {one_line(properties.type, 80)!r}: must be {COMMAND_TYPE!r}, or absent"
        try:
            command = json.loads(body)
        except (ValueError, RecursionError) as error:
            return "", f"body: must be a JSON object: {error}"
        if not isinstance(command, dict):
            return "", "body: must be a JSON object"
        word = command.get("command")
        word = one_line(word, 80) if isinstance(word, str) else ""
        if word not in COMMANDS:
            return word, f"command = {word!r}: this worker obeys {', '.join(COMMANDS)}"
        if word == "drain":
            reason = command.get("reason")
            if not isinstance(reason, (str, type(None))):
                return word, "reason: must be a string"
            self.on_drain(one_line(reason or "", REASON_LIMIT))
        elif word == "cadence":
            return word, self.request(command)
        elif word == "report":
            self.dirty = True
            self.beat_asked = True
        return word, None
