"""The demo's story: publish, restart one replica after the other under load, wait for the end, judge."""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

import amqp
import events
from brokers import reach
from commands import DemoFailed, Names, end
from ledger import Ledger
from progress import Progress

BATCH = 2500  # messages per publishing: small enough to show progress
TOP_UPS = 40  # batches published at most beyond those asked for, when the queue would run empty before the last restart
RESERVE = 500  # messages waiting below which the next batch is published
FULL = 100  # messages waiting at least when a replica is restarted: more than all of them have fetched
WARM = 24  # requests that a replica must have made since its start before it is restarted again
PUBLISH_LIMIT = 300  # seconds for one batch
STALL_LIMIT = 90  # seconds without any message finished
POLL = 0.02
FIELDS = ("finished", "handed_back", "interrupted", "unconfirmed")


class Rolling:
    def __init__(self, ground, names: Names, ledger: Ledger, directory: Path, progress: Progress):
        self.ground = ground
        self.names = names
        self.ledger = ledger
        self.directory = directory
        self.progress = progress
        self.published = []
        self.to_publish = 0
        self.publisher = None
        self.batch = []  # what the publisher under way publishes
        self.deadline = 0.0  # when it must have ended
        self.top_ups = 0
        self.drains = []
        self.running_at_signal = []

    def look(self) -> None:
        """Takes in what has happened, and keeps the publishing going."""
        self.ledger.read()
        self.feed()
        self.progress.published = max(len(self.published), len(self.ledger.finished))  # a batch counts when it is confirmed
        self.progress.processed = len(self.ledger.finished)
        self.progress.draw()

    def feed(self) -> None:
        """One batch after the other, each by a publisher of its own."""
        if self.publisher is not None and self.publisher.poll() is None:
            if time.monotonic() > self.deadline:
                raise DemoFailed("publishing %d messages takes longer than %d s" % (len(self.batch), PUBLISH_LIMIT))
            return
        if self.publisher is not None:
            if self.publisher.returncode != 0:
                raise DemoFailed("publishing ended with %d\n%s" % (self.publisher.returncode, self.publisher.stdout.read()))
            self.publisher.stdout.close()
            self.publisher = None
            self.published += self.batch
        if self.to_publish > 0:
            size = min(self.to_publish, BATCH)
            first = len(self.published)
            path = self.directory / "batch.jsonl"
            self.batch = events.write_lines(str(path), first, first + size)
            self.to_publish -= size
            self.publisher = self.ground.publish(self.names.queue, path)
            self.deadline = time.monotonic() + PUBLISH_LIMIT

    def publishing(self) -> bool:
        return self.publisher is not None or self.to_publish > 0

    def wait(self, condition, limit: float, what: str) -> None:
        deadline = time.monotonic() + limit
        while not condition():
            if time.monotonic() > deadline:
                raise DemoFailed("waited %d s in vain: %s" % (limit, what))
            self.look()
            time.sleep(POLL)

    def publish(self, count: int) -> None:
        """Has `count` more events published, beside all that goes on."""
        self.to_publish += count

    def restart_all(self, replicas: list, rounds: int, broker: amqp.Client) -> None:
        """Restarts them one after the other, spread evenly over the work that was asked for."""
        step = self.to_publish // (rounds * len(replicas) + 1)
        for number in range(rounds * len(replicas)):
            self.restart(replicas[number % len(replicas)], broker, (number + 1) * step)

    def restart(self, replica, broker: amqp.Client, after: int) -> None:
        """Ends one replica while it works and messages wait, looks at how it went, starts it again."""
        self.progress.doing = ""
        warm = self.ledger.started_by[replica.label] + WARM

        def under_load() -> bool:
            waiting = broker.depth(self.names.queue)
            if waiting < RESERVE and not self.publishing():
                self.top_ups += 1
                if self.top_ups > TOP_UPS:
                    raise DemoFailed("the queue runs empty faster than it can be filled")
                self.publish(BATCH)
            if len(self.ledger.finished) < after or self.ledger.started_by[replica.label] < warm:
                return False
            self.ledger.read()
            return waiting >= FULL and self.ledger.running_at(replica.label) > 0

        try:
            self.wait_while_moving(under_load, "%s to work under load" % replica.name)
        except DemoFailed as why:
            raise DemoFailed("%s\n%s" % (why, replica.tail())) from None
        self.running_at_signal.append(self.ledger.running_at(replica.label))
        self.progress.doing = "restarting " + replica.name
        drain = replica.stop()
        self.drains.append(drain)
        if not drain.report:
            raise DemoFailed("%s left no drain report (exit code %d)\n%s" % (replica.name, drain.exit_code, replica.tail()))
        replica.start()
        self.await_ready([replica])
        self.progress.restarts += 1

    def await_ready(self, replicas: list) -> None:
        for replica in replicas:
            self.wait(replica.ready, self.ground.ready_limit, "%s to be ready" % replica.name)

    def await_end(self) -> None:
        """Until everything published is finished; gives up when nothing moves any more."""
        self.progress.doing = ""
        try:
            self.wait_while_moving(
                lambda: not self.publishing() and not self.ledger.lost(self.published), "the last messages"
            )
        except DemoFailed as why:
            self.progress.say(str(why))

    def wait_while_moving(self, condition, what: str) -> None:
        """Waits as long as messages are finished at all."""
        finished, since = -1, time.monotonic()
        while not condition():
            self.look()
            if len(self.ledger.finished) != finished:
                finished, since = len(self.ledger.finished), time.monotonic()
            elif time.monotonic() - since > STALL_LIMIT:
                raise DemoFailed("no message was finished for %d s: waited for %s" % (STALL_LIMIT, what))
            time.sleep(POLL)

    def abandon(self) -> None:
        """Ends what may be under way when the demo is broken off."""
        if self.publisher and self.publisher.poll() is None:
            end(self.publisher, 10)


class Verdict:
    """What the ledger, the drains and the queue say in the end."""

    def __init__(self, rolling: Rolling, left: int, last: list, seconds: float):
        ledger, drains = rolling.ledger, rolling.drains
        every = drains + last
        self.lost = ledger.lost(rolling.published)
        self.repeated = ledger.repeated()
        self.interrupted = ledger.interrupted()
        reported = {field: sum(drain.report.get(field, 0) for drain in every) for field in FIELDS}
        # The service and the workers count the same thing from two sides; the worse one stands.
        interrupted = max(len(self.interrupted), reported["interrupted"])
        unclean = [drain for drain in every if drain.exit_code != 0]
        unknown = ledger.unknown(rolling.published)
        times = [drain.report["duration_ms"] for drain in drains]
        exits = [1000 * drain.seconds for drain in drains]
        at_signal = rolling.running_at_signal
        self.rows = [
            ("published", number(len(rolling.published))),
            ("processed", number(len(ledger.finished))),
            ("lost", number(len(self.lost))),
            ("repeated", number(len(self.repeated))),
            ("interrupted", number(interrupted)),
            ("restarts under load", "%d, each with %d to %d messages running" % (len(drains), min(at_signal), max(at_signal))),
            ("drain time", "median %.0f ms, longest %.0f ms" % (statistics.median(times), max(times))),
            ("from SIGTERM to exit", "median %.0f ms, longest %.0f ms" % (statistics.median(exits), max(exits))),
            ("finished while draining", number(reported["finished"])),
            ("handed back untouched", number(reported["handed_back"])),
            ("throughput", "%s messages/s" % number(round(len(ledger.finished) / seconds))),
        ]
        self.faults = [text for wrong, text in [
            (self.lost, "lost: %s" % some(self.lost)),
            (self.repeated, "repeated: %s" % some(self.repeated)),
            (interrupted, "interrupted: %s" % (some(self.interrupted) or "by the workers' own count")),
            (unclean, "%d workers did not exit with 0: %s" % (len(unclean), [drain.exit_code for drain in unclean])),
            (left, "%d messages are still in the queue: processed, but their settlements did not arrive" % left),
            (reported["unconfirmed"], "%d settlements are unconfirmed" % reported["unconfirmed"]),
            (ledger.refused, "%d messages did not arrive whole: %s" % (len(ledger.refused), some(ledger.refused))),
            (unknown, "processed, but never published: %s" % some(unknown)),
        ] if wrong]

    def table(self) -> str:
        width = max(len(name) for name, _ in self.rows)
        rule = "─" * (width + 44)
        return "\n".join([rule, *("%s  %s" % (name.ljust(width), value) for name, value in self.rows), rule])


def number(value: int) -> str:
    return format(value, ",")


def some(values: list) -> str:
    return ", ".join(map(str, values[:10])) + (" …" if len(values) > 10 else "")
