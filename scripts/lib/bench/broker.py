"""The broker of the benchmark: its own, or one on loopback; and the queues that it fills there."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

from running import HERTZ, ROOT, Failed

sys.path.append(str(ROOT / "scripts/lib/demo"))
import amqp  # noqa: E402  as much of a client as the demo has

QUIET = 0.1  # of one core: then the broker has done with a queue that was filled
QUIET_LIMIT = 5  # seconds to wait for that
IMAGE = os.environ.get("BENCH_IMAGE", "rabbitmq:4-management")
START_LIMIT = 90  # seconds for a broker in a container
SETTINGS = """\
listeners.tcp.1 = 127.0.0.1:%d
management.tcp.ip = 127.0.0.1
management.tcp.port = %d
prometheus.tcp.ip = 127.0.0.1
prometheus.tcp.port = %d
"""


class Broker:
    def __init__(self, url: str, filler: str, pid: int | None):
        self.url, self.filler, self.pid = url, filler, pid
        self.prefix = "bench-%s" % secrets.token_hex(3)
        self.status_exchange = self.prefix + ".status"
        self.control_exchange = self.prefix + ".control"
        self.client = amqp.Client(url)
        self.version = self.client.version
        self.number = 0

    def fill(self, kind: str, count: int, size: int, messages: str) -> str:
        """A new queue with `count` messages, all confirmed; the broker idles again when this returns."""
        self.number += 1
        queue = "%s.%d" % (self.prefix, self.number)
        arguments = [self.filler, "fill", self.url, queue, kind, str(count), str(size), messages]
        filled = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
        if filled.returncode:
            raise Failed("the queue could not be filled: %s" % filled.stderr.strip())
        self.settle()
        depth = self.depth(queue)
        if depth != count:
            raise Failed("the filled queue holds %d messages instead of %d" % (depth, count))
        return queue

    def settle(self) -> None:
        time.sleep(0.3)
        deadline = time.monotonic() + QUIET_LIMIT
        while self.pid and time.monotonic() < deadline:
            before = self.cpu()
            time.sleep(0.2)
            if self.cpu() - before < QUIET * 0.2:
                return

    def cpu(self) -> float:
        """Seconds of processor time that the broker has used; 0 where its process is not known."""
        return cpu_of(self.pid) if self.pid else 0.0

    def depth(self, queue: str) -> int:
        return self.client.depth(queue)

    def delete(self, queue: str) -> None:
        """The queue, and what a worker may have declared beside it."""
        for name in (queue, queue + ".dead"):
            try:
                self.client.delete_queue(name)
            except amqp.Refused:
                pass  # it is not there

    def close(self) -> None:
        for exchange in (self.status_exchange, self.control_exchange):
            try:
                self.client.delete_exchange(exchange)
            except (amqp.Refused, OSError):
                pass  # it is not there, or the broker has gone
        self.client.close()


def cpu_of(pid: int) -> float:
    fields = Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / HERTZ


def busy() -> float:
    """Seconds that all processors together have worked since the start of the machine."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / HERTZ


def start_private(directory: Path, filler: str, stack) -> Broker:
    script = str(ROOT / "scripts/private-broker")
    home = str(directory / "broker")
    stack.callback(subprocess.run, [script, "stop", home], timeout=120)
    started = subprocess.run([script, "start", home], stdout=subprocess.PIPE, text=True, timeout=900)
    if started.returncode:
        raise Failed("no private broker")
    facts = dict(line.split("=", 1) for line in started.stdout.splitlines())
    broker = Broker(facts["AMQP_URL"], filler, int(facts["PID"]))
    stack.callback(broker.close)
    return broker


def start(asked: str | None, directory: Path, filler: str, stack) -> Broker:
    """The broker that was asked for: its address, "private", or the best that there is."""
    if asked == "private" or (not asked and not has_image()):
        return start_private(directory, filler, stack)
    if not asked:
        return start_container(directory, filler, stack)
    return use(asked, filler, stack)


def has_image() -> bool:
    inspect = ["docker", "image", "inspect", IMAGE]
    try:
        return subprocess.run(inspect, capture_output=True, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def start_container(directory: Path, filler: str, stack) -> Broker:
    """A broker in a container on the host's network: a published port would put the engine's proxy between."""
    amqp_port, management, prometheus, distribution, epmd = free_ports(5)
    settings = directory / "broker.conf"
    settings.write_text(SETTINGS % (amqp_port, management, prometheus))
    settings.chmod(0o644)
    directory.chmod(0o755)
    environment = {
        "RABBITMQ_NODENAME": "bench@localhost",
        "RABBITMQ_DIST_PORT": distribution,
        "ERL_EPMD_PORT": epmd,
    }
    command = ["docker", "run", "--detach", "--rm", "--network", "host"]
    command += [word for pair in environment.items() for word in ("--env", "%s=%s" % pair)]
    command += ["--volume", "%s:/etc/rabbitmq/conf.d/90-bench.conf:ro" % settings, IMAGE]
    started = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if started.returncode:
        raise Failed("no broker in a container: %s" % started.stderr.strip())
    container = started.stdout.strip()
    stack.callback(subprocess.run, ["docker", "stop", "--time", "5", container], capture_output=True, timeout=60)
    deadline = time.monotonic() + START_LIMIT
    while True:
        try:
            broker = Broker("amqp://guest:guest@127.0.0.1:%d/%%2f" % amqp_port, filler, node_of(container))
            break
        except (OSError, amqp.Refused):
            if time.monotonic() > deadline:
                raise Failed("the broker in a container did not come up within %d s" % START_LIMIT) from None
            time.sleep(0.5)
    stack.callback(broker.close)
    broker.settle()
    return broker


def node_of(container: str) -> int | None:
    """The process of the broker's virtual machine."""
    top = subprocess.run(["docker", "top", container, "-eo", "pid,comm"], capture_output=True, text=True, timeout=20)
    found = [line.split() for line in top.stdout.splitlines()]
    return next((int(words[0]) for words in found if words[1:] and words[1].startswith("beam")), None)


def free_ports(count: int) -> list[int]:
    with ExitStack() as sockets:
        listening = [sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in listening]


def use(url: str, filler: str, stack) -> Broker:
    host = urlsplit(url).hostname
    if host not in ("localhost", "127.0.0.1", "::1"):
        raise Failed("--broker: %s is not on loopback; the network would be measured" % host)
    broker = Broker(url, filler, None)
    stack.callback(broker.close)
    return broker
