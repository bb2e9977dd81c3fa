"""Runs the chaos suite: see `scripts/chaos --help`."""

from __future__ import annotations

import argparse
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import broker
import checker
import peers
import pika
import soak
from scenarios import ALL
from scene import Scene, broken

ROOT = Path(__file__).resolve().parents[3]
ABOUT = """\
Puts workers and their broker through faults, and accounts for every message: lost, run twice on one worker, run again on
another, interrupted, wrongly dead. Each scenario has a RabbitMQ of its own, real workers, a service that they post to,
and a publisher that knows what the broker has confirmed. The seed replays the order of events. Exits with 1 if a promise
was broken.
"""
COLUMNS = [
    "scenario", "queue", "seed", "messages", "restarts", "lost", "repeated here", "elsewhere", "interrupted", "dead", "drains compared",
    "slowest exit", "recovery", "processor per message", "memory", "log", "promises",
]
SECONDS, SHORT_SECONDS = 20.0, 4.0
# The long form ends a scenario's faults after 30 restarts, or after two minutes.
LONG_SECONDS, LONG_RESTARTS = 120.0, 30


def cells(scenario, kind, seed, verdict, faults) -> list:
    return [
        scenario.name, kind, seed, verdict.published, verdict.restarts, len(verdict.lost), len(verdict.repeated_same),
        len(verdict.repeated_other), len(verdict.interrupted), verdict.dead, verdict.drains, "%.2f s" % verdict.slowest_exit,
        "%.1f s" % verdict.recovery, "%.1f ms" % (1000 * verdict.processor / max(1, verdict.published)),
        "%.0f MB" % (verdict.peak / 1024), "%.0f kB" % (verdict.log / 1000), "broken" if faults else "held",
    ]


def run(chosen, scenario, kind, seed, shared=None, number=0) -> bool:
    directory = Path(tempfile.mkdtemp(prefix="tidegate-chaos-"))
    scene, verdict = None, checker.Verdict()
    try:
        kind_of_scene = peers.PeerScene if chosen.peer else scenario.scene or Scene
        scene = kind_of_scene(chosen, scenario, kind, seed, directory, shared, number)
        scene.begin()
        scenario.act(scene)
        verdict = scene.finish()
        faults = broken(scenario, verdict)
    except (RuntimeError, OSError, subprocess.SubprocessError, pika.exceptions.AMQPError) as error:
        faults = ["the scenario failed: %s %s" % (type(error).__name__, error)] + (scene.faults if scene else [])
    finally:
        if scene:
            scene.close()
    print("| %s |" % " | ".join(map(str, cells(scenario, kind, seed, verdict, faults))), flush=True)
    if scene and scene.note:
        print("  %s" % scene.note, flush=True)
    for fault in faults:
        print("  WRONG: %s" % fault, flush=True)
    if chosen.keep:
        print("  logs: %s" % directory, flush=True)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return not faults


def short_form(chosen, picked, seed) -> bool:
    """One scenario for each kind of fault, on one broker."""
    begun, held = time.monotonic(), True
    shared = broker.begin(chosen.image, chosen.private)
    try:
        for number, scenario in enumerate(picked):
            held &= run(chosen, scenario, scenario.short, seed, shared, number)
    finally:
        shared.remove()
    print("%d scenarios in %.0f s: %s" % (len(picked), time.monotonic() - begun, "held" if held else "BROKEN"), flush=True)
    return held


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("scripts/chaos", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="parts of names; all without any")
    default = os.environ.get("TIDEGATE_BIN", str(ROOT / "target/release/tidegate"))
    parser.add_argument("--bin", default=default, help="the program (TIDEGATE_BIN, else target/release/tidegate)")
    parser.add_argument("--image", default="rabbitmq:4-management", help="the broker's image")
    parser.add_argument("--private", action="store_true", help="a private broker even if there is a container engine")
    parser.add_argument("--seconds", type=float, help="of faults in each scenario (20; 4 in the short form)")
    parser.add_argument("--rate", type=float, default=150, help="messages a second (150)")
    parser.add_argument("--seed", type=int, help="replays a run")
    parser.add_argument("--types", default="classic,quorum", help="types of queues (classic,quorum)")
    parser.add_argument("--short", action="store_true", help="the short form: each kind of fault once, on one broker")
    parser.add_argument("--long", action="store_true", help="30 restarts or 120 s of faults in each scenario, whichever comes first")
    parser.add_argument("--soak", type=float, metavar="MINUTES", help="steady load with faults, and a worker that is watched")
    parser.add_argument("--graph", metavar="FILE", help="where the soak's graph goes (SVG)")
    parser.add_argument("--peer", choices=sorted(peers.PEERS), help="another consumer under the same faults, in the scenarios that fit")
    parser.add_argument("--keep", action="store_true", help="keep the logs, and say where")
    parser.add_argument("--list", action="store_true", help="say which scenarios there are")
    return parser.parse_args()


def main() -> int:
    chosen = arguments()
    picked = [one for one in ALL if not chosen.scenarios or any(part in one.name for part in chosen.scenarios)]
    if chosen.peer:
        picked = [one for one in picked if one.name in peers.SCENARIOS]
    if chosen.short:
        picked = [one for one in picked if one.short]
    if chosen.list:
        for one in picked:
            print("%-24s %s" % (one.name, one.act.__doc__))
        return 0
    if not picked:
        sys.exit("chaos: there is no such scenario: %s (see --list)" % ", ".join(chosen.scenarios))
    # An end by a signal cleans up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if not os.access(chosen.bin, os.X_OK):
        sys.exit("chaos: there is no program %s: cargo build --release -p tidegate-cli" % chosen.bin)
    chosen.bin = str(Path(chosen.bin).absolute())
    chosen.restarts = LONG_RESTARTS if chosen.long else math.inf
    chosen.seconds = chosen.seconds or (LONG_SECONDS if chosen.long else SHORT_SECONDS if chosen.short else SECONDS)
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    print("seed %d" % seed)
    if chosen.soak:
        return 0 if soak.run(chosen, seed) else 1
    print("| %s |" % " | ".join(COLUMNS))
    print("|" + " --- |" * len(COLUMNS), flush=True)
    if chosen.short:
        return 0 if short_form(chosen, picked, seed) else 1
    held = True
    for scenario in picked:
        for kind in scenario.types:
            if kind in chosen.types.split(","):
                held &= run(chosen, scenario, kind, seed)
    # What others do is measured, not judged.
    return 0 if held or chosen.peer else 1


if __name__ == "__main__":
    sys.exit(main())
