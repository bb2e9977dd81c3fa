"""Finds a broker, and with it the ground that the demo stands on: processes or containers."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import amqp
import compose
from commands import ROOT, DemoFailed, Names, need, run
from local import Local, binary

BROKER_START_LIMIT = 900  # seconds, with the installation of the package


def find(choice: str, names: Names, directory: Path, stack: ExitStack):
    """AMQP_URL, else Docker, else a private rabbitmq-server; or the one that `choice` names."""
    if choice == "url" or (choice == "auto" and os.environ.get("AMQP_URL")):
        return by_url(names, directory, stack)
    if choice == "docker" or (choice == "auto" and compose.engine()):
        try:
            return by_docker(names, stack)
        except DemoFailed as why:
            if choice == "docker":
                raise
            print("no Docker for this: %s" % why, flush=True)
    return by_private_broker(directory, stack)


def by_url(names: Names, directory: Path, stack: ExitStack) -> Local:
    url = os.environ.get("AMQP_URL")
    if not url:
        raise DemoFailed("AMQP_URL is not set")
    reach(url).close()
    print("broker: the one AMQP_URL names", flush=True)
    stack.callback(delete_all, url, names)
    return Local(url, directory, binary())


def by_private_broker(directory: Path, stack: ExitStack) -> Local:
    print("broker: a private rabbitmq-server", flush=True)
    home = directory / "broker"
    script = ROOT / "scripts/private-broker"
    stack.callback(run, [script, "stop", home], 120)
    with open(directory / "broker-start.log", "w") as log:  # its errors; its standard output is the answer
        output = need([script, "start", home], BROKER_START_LIMIT, stderr=log)
    values = dict(line.split("=", 1) for line in output.splitlines())
    return Local(values["AMQP_URL"], directory, binary())


def by_docker(names: Names, stack: ExitStack) -> compose.Compose:
    if not compose.engine():
        raise DemoFailed("no Docker engine answers")
    missing = compose.unavailable_images()
    if missing:
        raise DemoFailed("images are not to be had: %s" % ", ".join(missing))
    ground = compose.Compose(names.queue)
    print("broker: rabbitmq:4-management in Docker", flush=True)
    ground.build()
    stack.callback(ground.down)
    return ground


def reach(url: str) -> amqp.Client:
    try:
        return amqp.Client(url)
    except (OSError, ValueError) as error:
        raise DemoFailed("the broker cannot be reached: %s" % error) from None
    except amqp.Refused as error:
        raise DemoFailed("the broker refuses: %s" % error) from None


def delete_all(url: str, names: Names) -> None:
    """Leaves a broker that is not ours as it was."""
    try:
        client = reach(url)
        for queue in (names.queue, names.queue + ".dead"):
            client.delete_queue(queue)
        for exchange in (names.status, names.control):
            client.delete_exchange(exchange)
        client.close()
    except (DemoFailed, OSError, amqp.Refused) as error:
        print("not all of %s* could be deleted from the broker: %s" % (names.queue, error), flush=True)
