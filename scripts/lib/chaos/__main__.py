"""Runs the chaos suite: see `scripts/chaos --help`."""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import checker
from broker import Broker, Publisher
from proxy import Proxy
from scenarios import ALL
from service import Service
from workers import Worker

ROOT = Path(__file__).resolve().parents[3]
ABOUT = """\
Puts workers and their broker through faults, and accounts for every message: lost, run twice on one worker, run again on
another, interrupted, wrongly dead. Each scenario has a RabbitMQ in a container, real workers, a service that they post to,
and a publisher that knows what the broker has confirmed. The seed replays the order of events. Exits with 1 if a promise
was broken.
"""
WORK_LIMIT = 120  # seconds for what is left after the faults


class Scene:
    """A scenario under way."""

    def __init__(self, chosen, scenario, kind, seed, directory):
        self.random = random.Random(seed)
        self.scenario, self.kind, self.directory = scenario, kind, directory
        self.broker = Broker(chosen.image)
        self.proxy = Proxy(self.broker.port) if scenario.proxied else None
        self.service = Service(scenario.seconds)
        self.workers, self.pipes, self.faults, self.exits = [], [], [], []
        self.restarts = self.poisoned = 0
        self.program = chosen.bin
        self.publisher = None
        self.chosen = chosen

    def begin(self):
        url = self.broker.url(self.proxy.port if self.proxy else None)
        for number in range(self.scenario.workers):
            values = {
                "url": url, "name": "w-%d" % (number + 1), "queue": "orders", "kind": self.kind,
                "grace": self.scenario.grace, "more": self.scenario.more, "service": self.service.port,
            }
            worker = Worker(self.program, self.directory, values)
            self.workers.append(worker)
            worker.start()
            if not self.scenario.more:
                worker.await_ready()
        self.workers[0].await_ready()
        self.publisher = Publisher(self.broker, "orders", self.chosen.rate, "m")
        self.publisher.start()
        self.end = time.monotonic() + self.chosen.seconds

    def time_left(self) -> bool:
        return time.monotonic() < self.end

    def pause(self, least, most):
        time.sleep(self.random.uniform(least, most))

    def pick(self) -> Worker:
        self.pause(0.02, 0.4)
        return self.random.choice(self.workers)

    def restarted(self):
        self.restarts += 1

    def again(self, worker):
        """The successor of a worker that has ended."""
        self.restarts += 1
        worker.start()
        if not self.scenario.more:
            worker.await_ready()

    def command(self, word, name):
        file = self.directory / (name + ".toml")
        done = subprocess.run([self.program, word, name, "-c", str(file)], capture_output=True, text=True, timeout=60, check=False)
        if done.returncode:
            self.faults.append("%s %s: exit code %d: %s" % (word, name, done.returncode, (done.stderr or done.stdout).strip()[:200]))

    def settle(self, worker, code, report, codes=(0,), expect_report=True):
        """Holds the end of a worker against what it said of it."""
        if code not in codes:
            self.faults.append("%s: exit code %s\n%s" % (worker.name, code, worker.tail()))
        if report is None:
            if expect_report:
                self.faults.append("%s: no drain report" % worker.name)
            return
        self.exits.append(report["duration_ms"] / 1000)
        expected = {"clean": 0, "unconfirmed": 0, "deadline": 3, "interrupted": 3, "aborted": 4}
        if report["outcome"] in expected and expected[report["outcome"]] != code:
            self.faults.append("%s: outcome %s with exit code %s" % (worker.name, report["outcome"], code))
        if report["outcome"] == "clean" and report["interrupted"]:
            self.faults.append("%s: clean with %d interrupted" % (worker.name, report["interrupted"]))

    def finish(self) -> checker.Verdict:
        """What is left is worked off, the workers drain, and all is counted."""
        self.publisher.stop()
        end = time.monotonic() + WORK_LIMIT
        expected = set(self.publisher.confirmed)
        while time.monotonic() < end:
            ended = {run.message for run in list(self.service.runs) if run.ended in ("done", "dead")}
            if expected <= ended and not self.service.running and not self.broker.depth("orders"):
                break
            time.sleep(0.1)
        for worker in self.workers:
            self.settle(worker, *worker.drain(), expect_report=not self.pipes)
        left = self.broker.take_all("orders")
        dead = self.broker.take_all("orders.dead")
        runs = self.service.runs
        poisoned = [one for one in dead if one is None or not one.startswith("m-")]
        verdict = checker.judge(self.publisher.confirmed, self.publisher.unsure, runs, [one for one in dead if one not in poisoned], left)
        verdict.restarts = self.restarts
        verdict.slowest_exit = max(self.exits, default=0.0)
        verdict.faults += self.faults
        if len(poisoned) != self.poisoned:
            verdict.faults.append("%d poisoned messages were set aside, of %d" % (len(poisoned), self.poisoned))
        return verdict

    def close(self):
        for worker in self.workers:
            if worker.process and worker.process.poll() is None:
                worker.process.kill()
                worker.process.wait()
        for pipe in self.pipes:
            os.close(pipe)
        if self.publisher:
            self.publisher.stopping.set()
        self.broker.remove()
        if self.proxy:
            self.proxy.close()
        self.service.close()


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


def run(chosen, scenario, kind, seed) -> bool:
    directory = Path(tempfile.mkdtemp(prefix="tidegate-chaos-"))
    scene = None
    try:
        scene = Scene(chosen, scenario, kind, seed, directory)
        scene.begin()
        scenario.act(scene)
        verdict = scene.finish()
        faults = broken(scenario, verdict)
    except (RuntimeError, OSError) as error:
        verdict, faults = checker.Verdict(), ["the scenario failed: %s" % error]
    finally:
        if scene:
            scene.close()
    counts = [
        verdict.published, verdict.restarts, len(verdict.lost), len(verdict.repeated_same), len(verdict.repeated_other),
        len(verdict.interrupted), verdict.dead, "%.2f s" % verdict.slowest_exit, "broken" if faults else "held",
    ]
    print("| %s | %s | %d | %s |" % (scenario.name, kind, seed, " | ".join(map(str, counts))), flush=True)
    for fault in faults:
        print("  WRONG: %s" % fault, flush=True)
    if faults and chosen.keep:
        print("  logs: %s" % directory, flush=True)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return not faults


def main() -> int:
    parser = argparse.ArgumentParser("scripts/chaos", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="parts of names; all without any")
    parser.add_argument("--bin", default=str(ROOT / "target/release/tidegate"), help="the program (target/release/tidegate)")
    parser.add_argument("--image", default="rabbitmq:4-management", help="the broker's image")
    parser.add_argument("--seconds", type=float, default=20, help="of faults in each scenario (20)")
    parser.add_argument("--rate", type=float, default=150, help="messages a second (150)")
    parser.add_argument("--seed", type=int, help="replays a run")
    parser.add_argument("--types", default="classic,quorum", help="types of queues (classic,quorum)")
    parser.add_argument("--keep", action="store_true", help="keep the logs of what failed")
    parser.add_argument("--list", action="store_true", help="say which scenarios there are")
    chosen = parser.parse_args()
    picked = [one for one in ALL if not chosen.scenarios or any(part in one.name for part in chosen.scenarios)]
    if chosen.list:
        for one in picked:
            print("%-24s %s" % (one.name, one.act.__doc__))
        return 0
    # An end by a signal cleans up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not os.access(chosen.bin, os.X_OK):
        sys.exit("chaos: there is no program %s: cargo build --release -p tidegate-cli" % chosen.bin)
    chosen.bin = str(Path(chosen.bin).absolute())
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    print("seed %d" % seed)
    print("| scenario | queue | seed | messages | restarts | lost | repeated here | elsewhere | interrupted | dead | slowest drain | |")
    print("| --- " * 12 + "|", flush=True)
    held = True
    for scenario in picked:
        for kind in scenario.types:
            if kind in chosen.types.split(","):
                held &= run(chosen, scenario, kind, seed)
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
