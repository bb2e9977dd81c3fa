"""What is measured: scenarios, consumers, and how many messages each drains."""

from __future__ import annotations

from dataclasses import dataclass

CLASSIC, QUORUM = "classic", "quorum"
SMALL, LARGE = 256, 16 * 1024
SLOTS = 8  # of the Tidegate node, its default; with a smaller prefetch, that many
MULTIPLE = 100  # deliveries for each acknowledgement with `multiple`, where the prefetch leaves room


@dataclass(frozen=True)
class Scenario:
    body: int
    queue: str
    prefetch: int
    messages: int
    rounds: int

    @property
    def key(self) -> tuple[int, str, int]:
        return (self.body, self.queue, self.prefetch)

    @property
    def batch(self) -> int:
        """Deliveries for each `multiple`: with a small prefetch a quarter of it, for with more the broker would
        wait for the consumer while the consumer waits for the broker."""
        return MULTIPLE if self.prefetch >= 2 * MULTIPLE else -(-self.prefetch // 4)

    def __str__(self) -> str:
        return "%s, %s, prefetch %s" % (size(self.body), self.queue, format(self.prefetch, ","))


@dataclass(frozen=True)
class Consumer:
    name: str
    label: str
    multiple: bool = False
    celery: bool = False


TIDEGATE = Consumer("tidegate", "Tidegate, whole runtime")
C_EACH = Consumer("c-each", "C librabbitmq, ack each")
C_MULTIPLE = Consumer("c-multiple", "C librabbitmq, `multiple` per 100", multiple=True)
LAPIN_EACH = Consumer("lapin-each", "lapin, awaited ack each")
LAPIN_MULTIPLE = Consumer("lapin-multiple", "lapin, `multiple` per 100", multiple=True)
PIKA = Consumer("pika", "pika, ack each")
CELERY_SOLO = Consumer("celery-solo", "Celery, solo", celery=True)
CELERY_PREFORK = Consumer("celery-prefork", "Celery, 2 processes", celery=True)
OTHER = Consumer("tidegate-other", "Tidegate, another build")  # with --beside alone
CONSUMERS = (TIDEGATE, OTHER, C_MULTIPLE, LAPIN_MULTIPLE, C_EACH, PIKA, LAPIN_EACH, CELERY_SOLO, CELERY_PREFORK)

MAIN = (SMALL, CLASSIC, 200)  # the one that the goals are about
CELERY_SHARE = 4  # Celery drains a quarter of the messages, and only with this prefetch
CELERY_PREFETCH = 200


def size(size: int) -> str:
    return "%d KiB" % (size // 1024) if size >= 1024 else "%d B" % size


def consumers(scenario: Scenario) -> list[Consumer]:
    """Those that take part. With prefetch 1 `multiple` is one acknowledgement each, and measured as that."""
    return [
        each
        for each in CONSUMERS
        if not (each.multiple and scenario.batch == 1) and (not each.celery or scenario.prefetch == CELERY_PREFETCH)
    ]


def messages(scenario: Scenario, consumer: Consumer) -> int:
    return scenario.messages // CELERY_SHARE if consumer.celery else scenario.messages


def matrix(mode: str) -> list[Scenario]:
    """The main scenario comes first; the others in the order of the table."""
    if mode == "quick":
        return [Scenario(*MAIN, 20_000, 3), Scenario(LARGE, QUORUM, 200, 4_000, 1)]
    scenarios = [Scenario(*MAIN, 60_000, 7)]
    for body in (SMALL, LARGE):
        for queue in (CLASSIC, QUORUM):
            for prefetch in (1, 20, 200, 1000):
                if (body, queue, prefetch) != MAIN:
                    count = {SMALL: 24_000, LARGE: 8_000}[body] // (4 if prefetch == 1 else 1)
                    scenarios.append(Scenario(body, queue, prefetch, count, 3))
    return scenarios


def schedule(scenarios: list[Scenario]) -> list[tuple[int, Scenario, Consumer]]:
    """Every run in its order: round by round, so that a run that is cut short has something of everything;
    within a round the consumers of a scenario side by side, another one first in each round."""
    runs = []
    for number in range(1, 1 + max(scenario.rounds for scenario in scenarios)):
        for scenario in scenarios:
            if number <= scenario.rounds:
                taking_part = consumers(scenario)
                turn = (number - 1) * 3 % len(taking_part)
                runs += [(number, scenario, each) for each in taking_part[turn:] + taking_part[:turn]]
    return runs
