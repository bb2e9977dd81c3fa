"""Our worker for OpenCTI beside the platform's own flow, on one broker and one stand-in for the platform."""

from __future__ import annotations

import argparse
import base64
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pika

HERE = Path(__file__).resolve().parent
HERTZ = os.sysconf("SC_CLK_TCK")
EXCHANGE = "amqp.worker.exchange"
LIMIT = 180  # seconds for one run


class Platform:
    """The stand-in."""

    def __init__(self, program: str, latency: int) -> None:
        self.process = subprocess.Popen([program, str(latency)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def counts(self, connectors: object = None) -> dict:
        self.process.stdin.write(json.dumps(connectors) + "\n" if connectors else "?\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


class Scene:
    """Queues with messages, and a platform that lists them."""

    def __init__(self, args: argparse.Namespace, queues: int, objects: int, latency: int) -> None:
        self.args, self.objects = args, objects
        self.queues = [f"push_{number}" for number in range(queues)]
        self.platform = Platform(args.platform, latency)
        self.connection = pika.BlockingConnection(pika.URLParameters(args.broker))
        channel = self.connection.channel()
        channel.exchange_declare(EXCHANGE, "direct", durable=True)
        for queue in self.queues:
            channel.queue_delete(queue)
            channel.queue_declare(queue, durable=True)
        for number in range(objects):
            channel.basic_publish("", self.queues[number % queues], message(number), pika.BasicProperties(delivery_mode=2))
        self.platform.counts([self.connector(queue) for queue in self.queues])

    def connector(self, queue: str) -> dict:
        url = urlsplit(self.args.broker)
        connection = {"host": url.hostname, "vhost": unquote(url.path[1:]) or "/", "use_ssl": False, "port": url.port or 5672,
                      "user": url.username or "guest", "pass": url.password or "guest"}
        return {"id": queue, "name": queue, "connector_priority_group": "DEFAULT",
                "config": {"connection": connection, "listen": f"listen_{queue}", "listen_exchange": EXCHANGE,
                           "listen_callback_uri": None, "push": queue, "push_exchange": EXCHANGE, "push_routing": queue,
                           "dead_letter_routing": None}}

    def start(self, side: str, slots: int | None) -> subprocess.Popen:
        environment = dict(os.environ)
        if side == "theirs":
            command = [self.args.python, str(HERE / "theirs.py"), self.args.broker, self.platform.url, str(slots or 2), *self.queues]
        else:
            command = [self.args.tidegate, "worker"]
            environment |= {"OPENCTI_URL": self.platform.url, "OPENCTI_TOKEN": "token",
                            "TIDEGATE__OPENCTI__PYTHON": self.args.python, "TIDEGATE__WORKER__HTTP": "off"}
            # Theirs has one pool in this flow: the slots of ours are the same in number.
            own = max(1, (slots or 2) - 1)
            environment |= {"OPENCTI_EXECUTION_POOL_SIZE": str(own), "OPENCTI_REALTIME_EXECUTION_POOL_SIZE": "1"}
        log = open(self.args.log, "ab")
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)

    def until(self, reached, what: str) -> float:
        begun = time.monotonic()
        while not reached(self.platform.counts()):
            if time.monotonic() - begun > LIMIT:
                raise SystemExit(f"waited {LIMIT} s until {what}: {self.platform.counts()}")
            time.sleep(0.02)
        return time.monotonic()

    def connections(self) -> int:
        text = subprocess.run(["ss", "-tn", "state", "established"], capture_output=True, text=True, check=True).stdout
        port = f":{urlsplit(self.args.broker).port or 5672}"
        return sum(line.split()[-1].endswith(port) for line in text.splitlines()[1:]) - 1  # our own

    def close(self) -> None:
        channel = self.connection.channel()
        for queue in self.queues:
            channel.queue_delete(queue)
        self.connection.close()
        self.platform.close()


def message(number: int) -> bytes:
    item = {"type": "identity", "spec_version": "2.1", "id": f"identity--00000000-0000-4000-8000-{number:012}",
            "name": f"Identity {number}", "identity_class": "organization"}
    bundle = json.dumps({"type": "bundle", "id": f"bundle--{number}", "objects": [item]}).encode()
    return json.dumps({"type": "bundle", "content": base64.b64encode(bundle).decode(), "work_id": "work"}).encode()


def processor(process: subprocess.Popen) -> float:
    """Seconds of processor time of the process, its session included."""
    ticks = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[3] == str(process.pid):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / HERTZ


def stop(process: subprocess.Popen) -> float:
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.wait(LIMIT)
    return time.monotonic() - begun


def throughput(args: argparse.Namespace, side: str, latency: int, slots: int) -> dict:
    scene = Scene(args, 10, args.objects, latency)
    process = scene.start(side, slots)
    begun = scene.until(lambda counts: counts["objects"] >= args.objects // 10, "it runs")
    before, first = processor(process), scene.platform.counts()["objects"]
    ended = scene.until(lambda counts: counts["objects"] >= args.objects, "all objects are imported")
    done = args.objects - first
    result = {"objects_per_second": round(done / (ended - begun), 1),
              "processor_ms_per_object": round((processor(process) - before) * 1000 / done, 2)}
    stop(process)
    scene.close()
    return result


def stops(args: argparse.Namespace, side: str) -> dict:
    result = {}
    for name, queues, objects, latency in (("idle", 10, 0, 0), ("imports_of_1_s", 2, 20, 1000), ("pool_full_of_5_s", 10, 20, 5000)):
        scene = Scene(args, queues, objects, latency)
        process = scene.start(side, 5)
        scene.until(lambda counts: consumers(scene) == queues, "all queues are consumed")
        if objects:
            # The first ones are done, so nothing is still starting; a moment later the next ones run.
            scene.until(lambda counts: counts["objects"] >= min(queues, 5), "imports run")
            time.sleep(0.1)
        result[f"exit_{name}_s"] = round(stop(process), 2)
        scene.close()
    return result


def consumers(scene: Scene) -> int:
    channel = scene.connection.channel()
    found = sum(channel.queue_declare(queue, passive=True).method.consumer_count > 0 for queue in scene.queues)
    channel.close()
    return found


def idle(args: argparse.Namespace, side: str) -> dict:
    result = {}
    for queues in (10, 30):
        scene = Scene(args, queues, 0, 0)
        process = scene.start(side, 5)
        scene.until(lambda counts: consumers(scene) == queues, "all queues are consumed")
        result[f"connections_{queues}_queues"] = scene.connections()
        if queues == 10:
            before = scene.platform.counts()["calls"]
            time.sleep(args.idle)
            calls = scene.platform.counts()["calls"] - before
            result["platform_calls_per_minute"] = round(calls * 60 / args.idle, 1)
        stop(process)
        scene.close()
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench-opencti", description=__doc__)
    parser.add_argument("--broker", required=True, help="AMQP URL; queues push_0 to push_29 are deleted there")
    parser.add_argument("--objects", type=int, default=2000, help="objects in one run of throughput")
    parser.add_argument("--idle", type=int, default=120, help="seconds to count the platform's calls for")
    for name in ("tidegate", "platform", "python", "log"):
        parser.add_argument(f"--{name}", required=True, help=argparse.SUPPRESS)
    args = parser.parse_args()
    for side in ("ours", "theirs"):
        for latency in (0, 20):
            for slots in (2, 16):
                figures = throughput(args, side, latency, slots)
                print(json.dumps({"side": side, "latency_ms": latency, "slots": slots, **figures}), flush=True)
        print(json.dumps({"side": side, **stops(args, side), **idle(args, side)}), flush=True)


main()
