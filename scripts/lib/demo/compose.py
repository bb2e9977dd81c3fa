"""Replicas that are containers: `docker compose up` with the broker and the workers.

The service stays on this machine, on the address of Docker's bridge: the worker's image holds the worker
and nothing else.
"""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
import time
from pathlib import Path

from commands import ROOT, DemoFailed, Drain, Names, clean_environment, logged, need, run, works

IMAGES = ["rabbitmq:4-management", "rust:1-slim-trixie", "debian:trixie-slim"]
PULL_LIMIT = 600
BUILD_LIMIT = 3600
COMMAND_LIMIT = 120


def engine() -> bool:
    """Does a Docker engine answer?"""
    return shutil.which("docker") is not None and works(["docker", "info"], 20)


def composer() -> list:
    """`docker compose`, or the older `docker-compose`."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if works([*command, "version"], 20):
            return command
    raise DemoFailed("neither docker compose nor docker-compose is installed")


def unavailable_images() -> list:
    """The images that are neither here nor to be had."""
    return [
        image for image in IMAGES
        if not works(["docker", "image", "inspect", image], 20) and not works(["docker", "pull", image], PULL_LIMIT)
    ]


def bridge_addresses() -> list:
    """What `host-gateway` means to a container: this machine's address on Docker's default bridge."""
    bridge = json.loads(need(["docker", "network", "inspect", "bridge"], COMMAND_LIMIT))[0]
    subnets = [config for config in bridge["IPAM"]["Config"] if ":" not in config["Subnet"]]
    # Not every engine names the gateway; it is the network's first address then.
    return [its.get("Gateway") or str(next(ipaddress.ip_network(its["Subnet"]).hosts())) for its in subnets[:1]]


class Container:
    def __init__(self, container: str):
        self.container = container
        about = json.loads(need(["docker", "inspect", container], COMMAND_LIMIT))[0]
        self.name = about["Name"].lstrip("/")
        self.label = self.address(about)

    @staticmethod
    def address(about: dict) -> str:
        return next(iter(about["NetworkSettings"]["Networks"].values()))["IPAddress"]

    def state(self) -> dict:
        return json.loads(need(["docker", "inspect", self.container], COMMAND_LIMIT))[0]

    def ready(self) -> bool:
        about = self.state()
        if about["State"]["Status"] == "exited":
            raise DemoFailed("%s ended before it was ready\n%s" % (self.name, self.tail()))
        self.label = self.address(about)
        return about["State"].get("Health", {}).get("Status") == "healthy"

    def start(self) -> None:
        need(["docker", "start", self.container], COMMAND_LIMIT)

    def stop(self) -> Drain:
        """`docker stop`: SIGTERM, and SIGKILL (exit code 137) when stop_grace_period is over."""
        begun = time.monotonic()
        need(["docker", "stop", self.container], COMMAND_LIMIT)
        took = time.monotonic() - begun
        lines = need(["docker", "logs", "--tail", "50", self.container], COMMAND_LIMIT).splitlines()
        return Drain(self.state()["State"]["ExitCode"], took, logged(lines, "drain finished"))

    def tail(self) -> str:
        return run(["docker", "logs", "--tail", "20", self.container], COMMAND_LIMIT).stdout

    def clean_up(self) -> None:
        """`docker compose down` takes them all."""


class Compose:
    ready_limit = 180  # seconds from start to ready; the broker may be starting too

    def __init__(self, project: str):
        self.project = project
        self.command = [
            *composer(), "--project-name", project, "-f", "docker-compose.yml", "-f", "config/demo.compose.yml",
        ]
        self.environment = clean_environment(TIDEGATE_AMQP_PORT="0", TIDEGATE_MANAGEMENT_PORT="0")
        self.url = ""
        # Where Docker runs in a machine of its own (a desktop's), the bridge is not ours: loopback is then forwarded.
        self.service_hosts = [*bridge_addresses(), "127.0.0.1"]

    def build(self) -> None:
        print("building the worker's image (minutes the first time)", flush=True)
        need([*self.command, "build", "worker"], BUILD_LIMIT, env=self.environment)

    def replicas(self, count: int, names: Names, port: int) -> list:
        self.environment.update(
            TIDEGATE_REPLICAS=str(count),
            TIDEGATE_DEMO_QUEUE=names.queue,
            TIDEGATE_DEMO_SERVICE="http://host.docker.internal:%d/" % port,
        )
        need([*self.command, "up", "--detach", "--no-build"], COMMAND_LIMIT + Compose.ready_limit, env=self.environment)
        port_line = need([*self.command, "port", "rabbitmq", "5672"], COMMAND_LIMIT, env=self.environment)
        self.url = "amqp://guest:guest@127.0.0.1:%s/%%2f" % port_line.strip().rpartition(":")[2]
        found = need(["docker", "ps", "--quiet", *self.filters("worker")], COMMAND_LIMIT).split()
        if len(found) != count:
            raise DemoFailed("%d workers were asked for, and %d run" % (count, len(found)))
        service = self.environment["TIDEGATE_DEMO_SERVICE"]
        try:
            need(["docker", "exec", found[0], "tidegate", "health", service], COMMAND_LIMIT)
        except DemoFailed as why:
            raise DemoFailed("the containers do not reach this machine: is there a firewall in between?\n%s" % why) from None
        return [Container(container) for container in found]

    def start(self, replicas: list) -> None:
        """`docker compose up` has started them."""

    def filters(self, service: str) -> list:
        prefix = "label=com.docker.compose."
        return ["--filter", prefix + "project=" + self.project, "--filter", prefix + "service=" + service]

    def publish(self, queue: str, path: Path) -> subprocess.Popen:
        """Publishes the lines of a file from one more container; the caller waits for it."""
        with open(path, "rb") as lines:
            return subprocess.Popen(
                ["docker", "run", "--interactive", "--rm", "--network", self.project + "_default",
                 "--name", self.project + "-publisher",
                 "--env", "TIDEGATE__BROKER__URL=amqp://guest:guest@rabbitmq:5672/%2f",
                 "tidegate", "publish", queue, "--lines", "-"],
                stdin=lines, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
                cwd=ROOT,
            )

    def down(self) -> None:
        """Containers, network and volumes go; the images stay, so that the next build is quick."""
        run(["docker", "rm", "--force", self.project + "-publisher"], COMMAND_LIMIT)
        run([*self.command, "down", "--volumes", "--remove-orphans"], COMMAND_LIMIT, env=self.environment)
