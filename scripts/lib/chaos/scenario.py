"""What a scenario is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

HTTP = 'handler = { http = { url = "SERVICE" } }'


@dataclass
class Scenario:
    """`may_repeat`: an attempt may run again elsewhere. `may_interrupt`: a run may be cut off; then its message runs again
    anywhere, and a dead letter whose original was not settled yet is there twice. Nothing may ever be lost."""

    name: str
    act: Callable
    may_repeat: bool = False
    may_interrupt: bool = False
    types: tuple = ("classic", "quorum")
    short: str = ""  # the type of queue that it has in the short form, where it is part of that
    workers: int = 3
    all_ready: bool = True  # not so with a single active consumer
    grace: str = "25s"
    more: str = ""  # lines of the node
    broker: str = ""  # lines of [broker]
    user: str = "guest:guest"
    handler: str = HTTP
    attempts: int = 3
    exact: bool = True  # the drain reports are compared with what the service saw
    rate: float = 0.0  # messages a second; 0: as the command line says
    least: float = 0.0  # seconds of faults that it needs at least
    seconds: tuple = (0.002, 0.03)  # of work
    retries: float = 0.05
    dead: float = 0.02
    hangs: float = 0.0  # share of the messages that are never answered at their first run
    body: Callable | None = None  # from a message's id to its properties and its body
    expected: Callable | None = None  # from a message's id to the body that the service must see
    first: int = 0
    proxied: bool = False
    cluster: bool = False
    hosts: int = 3  # nodes of the cluster that the workers know
    prepare: Callable | None = None  # before the workers start
    scene: Callable | None = None  # another kind of scene
