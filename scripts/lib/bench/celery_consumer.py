"""Celery with a task that does nothing, acknowledged after it ran.

celery_consumer.py URL QUEUE classic|quorum COUNT PREFETCH solo|prefork

Celery shuts down at leisure; the clock stops at its last acknowledgement (prefork) or its channel's close-ok (solo).
"""

import json
import os
import signal
import sys
import time

from celery import Celery
from celery.signals import task_received
from celery.worker.consumer import Consumer
from celery.worker.request import Request
from kombu import Exchange, Queue
from peak import peak_kib

PROCESSES = int(os.environ.get("BENCH_PROCESSES", "2"))  # of the prefork pool


def main(url: str, queue: str, kind: str, count: int, prefetch: int, pool: str) -> None:
    app = Celery("bench", broker=url, set_as_current=True)
    processes = PROCESSES if pool == "prefork" else 1
    # Declared by whoever filled it; Celery has to know its type, for quorum queues have another prefetch.
    there = Queue(queue, Exchange(""), routing_key=queue, no_declare=True, queue_arguments={"x-queue-type": kind})
    app.conf.update(
        task_queues=[there],
        task_default_queue=queue,
        task_acks_late=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=max(1, prefetch // processes),
        worker_enable_remote_control=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=False,
        accept_content=["json"],
    )

    @app.task(name="noop")
    def noop(_argument):
        pass

    seen = {"messages": 0}

    @task_received.connect(weak=False)
    def first(**_):
        task_received.disconnect(first)
        seen["first"] = time.time()
        seen["cpu_first"] = time.process_time()

    acknowledge = Request.acknowledge

    def counted(request):
        acknowledge(request)
        seen["messages"] += 1
        if seen["messages"] == count:
            finish(request.message.channel)

    def finish(channel):
        if pool == "prefork":
            seen["closed"] = time.time()
            os.kill(os.getpid(), signal.SIGTERM)
            return
        channel.close()
        seen["closed"] = time.time()
        told(seen)
        # Without child processes nothing is left to do, and the solo pool would take 10 s for that.
        os._exit(0)

    # Celery leaves acknowledgements for the next turn of its loop, in no order; so that the last one is known, each is
    # made at once.
    Consumer.call_soon_ack = lambda _consumer, call, *arguments, **named: call(*arguments, **named)
    Request.acknowledge = counted
    worker = app.Worker(
        pool=pool,
        concurrency=processes,
        loglevel="ERROR",
        quiet=True,
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
    )
    worker.start()
    told(seen)


def told(seen: dict) -> None:
    print(json.dumps({**seen, "peak_kib": peak_kib()}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
