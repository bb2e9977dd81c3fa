"""A scenario under way: its broker, workers, service and publisher, and what came of them."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

import broker
import checker
from cluster import Cluster
from patience import Patience
from proxy import Proxy
from publisher import Publisher
from service import Service
from workers import End, Worker

WORK_LIMIT = 120  # seconds for what is left after the faults
COUNTS = ("outcome", "finished", "handed_back", "interrupted", "unconfirmed")
OUTCOMES = {"clean": 0, "unconfirmed": 0, "deadline": 3, "interrupted": 3, "aborted": 4}


class Scene:
    """`shared`: a broker that serves several scenarios; without one, the scenario has its own."""

    def __init__(self, chosen, scenario, kind, seed, directory, shared=None, number=0):
        self.random = random.Random(seed)
        self.scenario, self.kind, self.directory, self.chosen = scenario, kind, directory, chosen
        self.shared = shared is not None
        self.queue = "orders-%d" % number if self.shared else "orders"
        self.workers, self.pipes, self.faults, self.exits = [], [], [], []
        self.restarts = self.drains = 0
        self.reports, self.listening = self.queue + ".reports", False
        self.logged = []  # ids of workers, and the reports that their logs call published
        self.poisoned = 0  # messages without an id that must be set aside
        self.doomed = []  # ids that must be dead without a run
        self.taken = []  # ids of dead letters that the scenario took itself
        self.purged = 0  # messages that the scenario threw away
        self.slowest_recovery = 0.0
        self.note = ""  # a figure that the table has no column for
        self.publisher = self.proxy = self.service = self.broker = None
        self.service = Service(scenario.seconds, scenario.retries, scenario.dead, scenario.hangs, scenario.expected)
        self.broker = shared or (Cluster(chosen.image) if scenario.cluster else broker.begin(chosen.image, chosen.private))
        self.proxy = Proxy(self.broker.port) if scenario.proxied else None

    def begin(self):
        if not self.scenario.cluster:
            self.listen()
        if self.scenario.prepare:
            self.scenario.prepare(self)
        for number in range(self.scenario.workers):
            worker = self.new_worker(number)
            self.workers.append(worker)
            worker.start()
            if self.scenario.all_ready:
                worker.await_ready()
        self.workers[0].await_ready()
        self.publisher = Publisher(
            self.broker.connect, self.queue, self.scenario.rate or self.chosen.rate, self.scenario.body, self.scenario.first,
        )
        self.publisher.start()
        self.end = time.monotonic() + (self.scenario.least and max(self.scenario.least, self.chosen.seconds) or self.chosen.seconds)

    def listen(self):
        """From now on a queue gets the drain reports that workers publish."""
        with self.broker.channel() as channel:
            channel.exchange_declare("tidegate.status", "topic", durable=True)
            channel.queue_declare(self.reports, durable=True)
            channel.queue_bind(self.reports, "tidegate.status", "drain.#")
        self.listening = True

    def compare_published(self):
        """Each report that a worker's log calls published is there, with the same counts."""
        found = {}
        for body in self.broker.take_bodies(self.reports):
            report = json.loads(body)
            found[report["worker"]] = report
        for worker, logged in self.logged:
            published = found.get(worker)
            if published is None:
                self.faults.append("%s: its log says that the drain report was published, and it was not" % worker)
            elif any(published[key] != logged[key] for key in COUNTS):
                self.faults.append("%s: published %s, logged %s" % (worker, *({key: one[key] for key in COUNTS} for one in (published, logged))))

    def new_worker(self, number) -> Worker:
        scenario = self.scenario
        handler = scenario.handler
        for name, value in {"HERE": os.path.dirname(os.path.abspath(__file__)), "PYTHON": sys.executable}.items():
            handler = handler.replace(name, value)
        url = self.broker.url(self.proxy.port if self.proxy else None, scenario.user)
        lines = scenario.broker.replace("DIRECTORY", str(self.directory))
        if scenario.cluster:
            lines += "\n" + self.broker.hosts(scenario.hosts)
        return Worker(self.chosen.bin, self.directory, {
            "url": url, "broker": lines, "name": "w-%d" % (number + 1), "queue": self.queue, "kind": self.kind,
            "grace": scenario.grace, "more": scenario.more, "attempts": scenario.attempts, "handler": handler,
            "service": self.service.port,
        })

    def time_left(self) -> bool:
        return time.monotonic() < self.end and self.restarts < self.chosen.restarts

    def pause(self, least, most):
        time.sleep(self.random.uniform(least, most))

    def pick(self) -> Worker:
        self.pause(0.02, 0.4)
        return self.random.choice(self.workers)

    def again(self, worker):
        """The successor of a worker that has ended."""
        self.restarts += 1
        worker.start()
        if self.scenario.all_ready:
            worker.await_ready()

    def recovered(self, limit=WORK_LIMIT):
        """Waits until every worker is ready, and notes how long that took."""
        patience = Patience(limit)
        waiting = list(self.workers) if self.scenario.all_ready else []
        while waiting and patience.left():
            waiting = [worker for worker in waiting if not worker.ready()]
            if waiting:
                time.sleep(0.02)
        for worker in waiting:
            self.faults.append("%s is not ready again after %d s\n%s" % (worker.name, limit, worker.tail()))
        self.slowest_recovery = max(self.slowest_recovery, patience.spent)

    def until_worked_off(self, limit=WORK_LIMIT) -> bool:
        """Waits until everything that was published is decided."""
        patience = Patience(limit)
        while patience.left():
            decided = {run.message for run in list(self.service.runs) if run.ended in ("done", "dead")}
            decided |= set(self.doomed)
            if set(self.publisher.confirmed) <= decided and not self.service.running and not self.depth():
                return True
            time.sleep(0.1)
        return False

    def depth(self) -> int:
        try:
            return self.broker.depth(self.queue)
        except (OSError, broker.pika.exceptions.AMQPError):
            return -1

    def command(self, word, name):
        file = self.directory / (name + ".toml")
        done = subprocess.run(
            [self.chosen.bin, word, name, "-c", str(file)], capture_output=True, text=True, timeout=60, check=False,
        )
        if done.returncode:
            error = (done.stderr or done.stdout).strip()[:200]
            self.faults.append("%s %s: exit code %d: %s" % (word, name, done.returncode, error))

    def settle(self, worker, end: End, codes=(0,), expect_report=True):
        """Holds the end of a worker against what it said of it."""
        if end.code not in codes:
            self.faults.append("%s: exit code %s\n%s" % (end.worker, end.code, worker.tail()))
        if end.code is not None:
            self.exits.append(end.ended - end.asked)
        report = end.report
        if report is None:
            if expect_report:
                self.faults.append("%s: no drain report" % end.worker)
            return
        if report["outcome"] in OUTCOMES and OUTCOMES[report["outcome"]] != end.code:
            self.faults.append("%s: outcome %s with exit code %s" % (end.worker, report["outcome"], end.code))
        if report["outcome"] == "clean" and report["interrupted"]:
            self.faults.append("%s: clean with %d interrupted" % (end.worker, report["interrupted"]))
        started = worker.line('"worker starting"')
        if report.get("published") and started:
            self.logged.append((started["worker"], report))
        begun = worker.line('"drain begins"')
        if self.scenario.exact and begun:
            self.drains += 1
            runs = [run for run in list(self.service.runs) if run.worker == end.worker]
            found = checker.compare_drain(report, timestamp(begun), end.ended, runs)
            self.faults += ["%s: %s" % (end.worker, one) for one in found]

    def finish(self) -> checker.Verdict:
        """What is left is worked off, the workers drain, and all is counted."""
        self.publisher.stop()
        self.recovered()
        self.until_worked_off()
        for worker in self.workers:
            self.settle(worker, worker.drain(), expect_report=not self.pipes)
        if self.listening:
            self.compare_published()
        left = self.broker.take_all(self.queue)
        dead = self.broker.take_letters(self.queue + ".dead") + self.taken
        nameless = [one for one in dead if one is None or not one.startswith("m-")]
        dead = [one for one in dead if one not in nameless]
        verdict = checker.judge(self.publisher.confirmed, self.publisher.unsure, self.service.runs, dead, left, self.doomed)
        if self.purged and len(verdict.lost) <= self.purged:
            verdict.lost = []
        verdict.faults += self.faults
        if len(nameless) != self.poisoned:
            verdict.faults.append("%d poisoned messages were set aside, of %d" % (len(nameless), self.poisoned))
        return self.measured(verdict)

    def measured(self, verdict) -> checker.Verdict:
        verdict.restarts, verdict.drains = self.restarts, self.drains
        verdict.slowest_exit = max(self.exits, default=0.0)
        verdict.recovery = self.slowest_recovery
        verdict.processor = sum(worker.processor for worker in self.workers)
        verdict.peak = max((worker.peak for worker in self.workers), default=0)
        verdict.log = sum(worker.log_size for worker in self.workers)
        return verdict

    def close(self):
        for worker in self.workers:
            worker.kill()
        for pipe in self.pipes:
            os.close(pipe)
        if self.publisher:
            self.publisher.stop()
        if self.proxy:
            self.proxy.close()
        if self.broker and self.shared:
            for name in (self.queue, self.queue + ".dead", self.reports):
                self.broker.delete(name)
        elif self.broker:
            self.broker.remove()
        self.service.close()


def timestamp(line: dict) -> float:
    """The Unix time of a line of a worker's log."""
    from datetime import datetime

    return datetime.fromisoformat(line["timestamp"].replace("Z", "+00:00")).timestamp()


def broken(scenario, verdict) -> list:
    """The promises that a scenario broke, as sentences."""
    found = list(verdict.faults)
    for what, ids in [
        ("lost", verdict.lost), ("dead twice", verdict.doubled), ("wrongly dead", verdict.wrongly_dead),
        ("run twice on one worker", verdict.repeated_same),
    ]:
        # A dead letter whose original another worker is given before it is settled dies there, too.
        allowed = what == "dead twice" and (scenario.may_repeat or scenario.may_interrupt)
        if ids and not allowed:
            found.append("%d %s: %s" % (len(ids), what, ", ".join(ids[:5])))
    if verdict.repeated_other and not scenario.may_repeat:
        found.append("%d repeated on another worker: %s" % (len(verdict.repeated_other), ", ".join(verdict.repeated_other[:5])))
    if verdict.interrupted and not scenario.may_interrupt:
        found.append("%d interrupted: %s" % (len(verdict.interrupted), verdict.interrupted[:3]))
    if verdict.left:
        found.append("%d left in the queue, and not done: %s" % (len(verdict.left), ", ".join(verdict.left[:5])))
    return found
