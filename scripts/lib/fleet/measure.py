"""What is measured, and how it is written down."""

import os
import random
import signal
import statistics
import sys
import time

from . import page
from .events import Events
from .scene import until

# Without events the goal is 150 s; longer than that, so that a miss is measured and not only noticed.
CHECK_LIMIT = 240
# With them, at once; longer than the goal, so that a miss is measured and not only noticed.
EVENT_LIMIT = 60
# States of a fleet that has just begun, and beats for somebody who has just looked, are in the rates of one minute.
SETTLE = 70
# Rows that a page has on the screen.
ON_SCREEN = 40


def say(text):
    print(f"… {text}", file=sys.stderr, flush=True)


def settled(scene, workers):
    until(
        f"{workers} workers run",
        lambda: scene.summary()["workers"]["running"] >= workers,
        limit=600,
    )


def over(scene, seconds):
    """Processor and memory of the fleet program, and messages, over some seconds."""
    before, since = scene.fleet.processor_seconds(), time.monotonic()
    rates, share = [], []
    for _ in range(max(seconds // 10, 1)):
        time.sleep(10)
        messages = scene.summary()["messages"]
        rates.append(messages["beats_per_second"] + messages["states_per_second"])
        share.append(messages["baseline_per_second"])
    passed = time.monotonic() - since
    resident, most = scene.fleet.memory_mb()
    return {
        "processor_percent": 100 * (scene.fleet.processor_seconds() - before) / passed,
        "resident_mb": resident,
        "most_mb": most,
        "messages_per_second": statistics.mean(rates),
        "ping_per_second": statistics.mean(share),
        "load_average": os.getloadavg()[0],
    }


def ages(scene, wanted):
    """Seconds: the ages of the figures of the simulated workers that `wanted` names, or of all; infinite without any."""
    found = []
    for worker in scene.workers():
        if worker["name"].startswith("sim-") and (wanted is None or worker["id"] in wanted):
            figures = worker["figures"]
            found.append(figures["age_ms"] / 1000 if figures else float("inf"))
    return found


def looked(scene, workers, seconds):
    """How fresh figures are while somebody looks, and how soon they are after nobody has."""
    ids = [worker["id"] for worker in scene.workers() if worker["name"].startswith("sim-")]
    shown = set(random.sample(ids, min(ON_SCREEN, len(ids))))
    begun = time.monotonic()
    watching, first = begun, None
    all_ages, shown_ages, rates = [], [], []
    scene.watch(shown)
    while time.monotonic() - begun < seconds:
        if time.monotonic() - watching >= 10:
            watching = time.monotonic()
            scene.watch(shown)
        found = ages(scene, None)
        took = time.monotonic() - begun
        if first is None and max(found) < took + 1:
            first = took
        if took > seconds / 3:
            all_ages.append(max(found))
            shown_ages.append(max(ages(scene, shown)))
            rates.append(scene.summary()["messages"]["beats_per_second"])
        time.sleep(0.3)
    return {
        "first_s": first,
        "oldest_s": max(all_ages),
        "oldest_on_screen_s": max(shown_ages),
        "beats_per_second": max(rates),
    }


def hangs(scene, events):
    """Seconds from SIGSTOP of a real worker until the client is told that it is lost or silent."""
    worker = scene.worker("hang-1")
    events.until(worker.id, "running", 60)
    stopped = time.monotonic()
    worker.process.send_signal(signal.SIGSTOP)
    try:
        return events.until(worker.id, ("lost", "silent"), 180) - stopped
    finally:
        worker.process.send_signal(signal.SIGCONT)


def updates(scene, events, count):
    """Milliseconds from a worker's answer to the client's event, and of the whole, command and all."""
    chosen = random.sample(events.running("sim-"), count)
    from_answer, from_command = [], []
    for worker in chosen:
        asked = time.monotonic()
        scene.command(worker, "pause")
        answered = time.monotonic()
        told = events.until(worker, "paused", 30)
        from_answer.append(max(told - answered, 0) * 1000)
        from_command.append((told - asked) * 1000)
        scene.command(worker, "resume")
    return {"from_answer_ms": spread(from_answer), "from_command_ms": spread(from_command)}


def spread(values):
    values = sorted(values)
    last = values[min(len(values) - 1, int(len(values) * 0.99))]
    return {"median": statistics.median(values), "p99": last, "max": values[-1], "count": len(values)}


def drawn(scene, events, count, seconds):
    """How long the page takes to draw the fleet, and a change of it; nothing where there is no Chromium."""
    if not page.available():
        say("no chromium or chromedriver: the page is not measured")
        return None
    with page.Page(f"{scene.http}/") as shown:
        first = shown.load()
        from_command = []
        for worker in random.sample(events.running("sim-"), count):
            asked = time.time()
            scene.command(worker, "pause")
            from_command.append((shown.painted(worker) - asked) * 1000)
            scene.command(worker, "resume")
        shown.longest_task()
        time.sleep(seconds)
        return {
            "first_ms": first,
            "from_command_ms": spread(from_command),
            "longest_task_ms": shown.longest_task(),
            "heap_mb": shown.heap_mb(),
        }


def restart(scene, workers):
    """Seconds until a fleet program that starts anew has read the log, and shows the whole fleet."""
    scene.fleet.end()
    begun = time.monotonic()
    scene.start_fleet()
    read = time.monotonic() - begun
    settled(scene, workers)
    return {"read_s": read, "whole_s": time.monotonic() - begun}


def crashes(scene, events, count, limit, one_by_one):
    """Seconds from SIGKILL of real workers to the client's event, and what was left of their leases."""
    workers = [scene.worker(f"crash-{limit}-{number}") for number in range(count)]
    for worker in workers:
        events.until(worker.id, "running", 60)
    if not one_by_one:
        # Their first beats have come: the leases are those of workers that have run for a while.
        time.sleep(5)
    seen, leases, killed = [], [], {}

    def kill(worker):
        leases.append(events.lease_left(worker.id))
        killed[worker.id] = time.monotonic()
        worker.process.send_signal(signal.SIGKILL)
        worker.process.wait()

    if not one_by_one:
        for worker in workers:
            kill(worker)
    for worker in workers:
        if one_by_one:
            kill(worker)
        seen.append(events.until(worker.id, "lost", limit) - killed[worker.id])
    return {"seconds": spread(seen), "lease_left_s": spread(leases)}


def measure(scene, chosen):
    figures = {"workers": chosen.workers, "nodes": chosen.nodes}
    say(f"{chosen.workers} workers start")
    simulation = scene.simulate(0)
    begun = time.monotonic()
    settled(scene, chosen.workers)
    say(f"they run, after {time.monotonic() - begun:.0f} s")
    time.sleep(SETTLE)
    say("idle, nobody looks")
    figures["idle"] = over(scene, chosen.seconds)
    say("idle, a page looks")
    figures["looked"] = looked(scene, chosen.workers, chosen.seconds // 2)
    events = Events(scene.http)
    say("idle, one client of the events")
    figures["watched"] = over(scene, chosen.seconds)
    say("updates")
    figures["updates"] = updates(scene, events, chosen.updates)
    say("the page")
    figures["page_idle"] = drawn(scene, events, chosen.updates // 3, chosen.seconds // 2)
    say("crashes without events")
    figures["crash_without_events"] = crashes(scene, events, chosen.crashes, CHECK_LIMIT, one_by_one=False)
    scene.enable_events()
    say("crashes with events")
    figures["crash_with_events"] = crashes(scene, events, chosen.crashes, EVENT_LIMIT, one_by_one=True)
    say("a hang with events")
    figures["hang_s"] = hangs(scene, events)
    say("the fleet program starts anew")
    figures["restart"] = restart(scene, chosen.workers)
    events = Events(scene.http)
    figures["simulation_idle"] = simulation.finished()
    say(f"load {chosen.load}")
    events.close()
    simulation = scene.simulate(chosen.load)
    settled(scene, chosen.workers)
    # Whoever looked has gone, and what the last look asked for is over.
    time.sleep(2 * SETTLE)
    figures["busy"] = over(scene, chosen.seconds)
    events = Events(scene.http)
    say("the page under load")
    figures["page_busy"] = drawn(scene, events, chosen.updates // 3, chosen.seconds // 2)
    figures["simulation_busy"] = simulation.finished()
    write(figures)
    return figures


def write(figures):
    workers, nodes = figures["workers"], figures["nodes"]
    print(f"\n| {workers:,} workers, {workers * nodes:,} nodes | processor, of one core | memory | at most |")
    print("| --- | --- | --- | --- |")
    for name, key in (("idle, nobody looks at it", "idle"), ("idle, one client of its events", "watched"), ("under load", "busy")):
        found = figures[key]
        print(
            f"| {name} | {found['processor_percent']:.1f} % | {found['resident_mb']:.0f} MB | {found['most_mb']:.0f} MB |"
        )
    print("\n| messages that the broker sees | a second | of one ping per queue per 30 s |")
    print("| --- | --- | --- |")
    for name, key in (("idle", "idle"), ("under load", "busy")):
        found = figures[key]
        ratio = found["ping_per_second"] / max(found["messages_per_second"], 0.001)
        print(f"| {name} | {found['messages_per_second']:.1f} | 1/{ratio:.1f} of {found['ping_per_second']:.0f} |")
    found = figures["looked"]
    print(f"| idle, a page looks | {found['beats_per_second']:.1f} | |")
    celery = workers / 2
    print(f"| Celery's heartbeats, one a worker every 2 s (reckoned) | {celery:.0f} | |")
    found = figures["updates"]
    print("\n| how long it takes to a page | median | p99 |")
    print("| --- | --- | --- |")
    for name, key in (("idle", "page_idle"), ("under load", "page_busy")):
        if found := figures[key]:
            spent = found["from_command_ms"]
            print(f"| from the command until it is painted in Chromium, {name} | {spent['median']:.0f} ms | {spent['p99']:.0f} ms |")
    found = figures["updates"]
    for name, key in (("a worker's change, from its answer", "from_answer_ms"), ("from the command", "from_command_ms")):
        print(f"| {name} | {found[key]['median']:.0f} ms | {found[key]['p99']:.0f} ms |")
    for name, key in (("a crash, event exchange on", "crash_with_events"), ("a crash, event exchange off", "crash_without_events")):
        seconds, lease = figures[key]["seconds"], figures[key]["lease_left_s"]
        left = f" ({lease['median']:.0f} s of the lease were left)" if "without" in key else ""
        print(f"| {name} | {seconds['median']:.2f} s{left} | {seconds['max']:.2f} s |")
    print(f"| a hang (SIGSTOP), event exchange on | {figures['hang_s']:.0f} s | |")
    found = figures["looked"]
    print(f"| figures while a page looks: the oldest of all, the oldest on the screen | {found['oldest_s']:.1f} s | {found['oldest_on_screen_s']:.1f} s |")
    print(f"| all figures after nobody had looked | {found['first_s']:.1f} s | |" if found["first_s"] else "| all figures after nobody had looked | not within the measurement | |")
    found = figures["restart"]
    print(f"| a fleet program that starts anew: the log is read; the whole fleet is shown | {found['read_s']:.1f} s | {found['whole_s']:.1f} s |")
    print("\n| the page in Chromium | idle | under load |")
    print("| --- | --- | --- |")
    for name, key in (
        ("from the request to the drawn list, ms", "first_ms"),
        ("busy at a stretch, at most, ms", "longest_task_ms"),
        ("its heap, MB", "heap_mb"),
    ):
        cells = [f"{figures[part][key]:.0f}" if figures[part] else "not measured" for part in ("page_idle", "page_busy")]
        print(f"| {name} | {' | '.join(cells)} |")
