"""A Celery worker whose task posts to the service: celery_peer.py URL QUEUE classic|quorum SERVICE_URL NAME.

Late acknowledgement, and what lost its worker is run again: the settings that Celery recommends against loss.
"""

import http.client
import sys
from urllib.parse import urlsplit

from celery import Celery
from kombu import Exchange, Queue

URL, QUEUE, KIND, SERVICE, NAME = sys.argv[1:6]
app = Celery("peer", broker=URL)
app.conf.update(
    task_queues=[Queue(QUEUE, Exchange(""), routing_key=QUEUE, no_declare=True, queue_arguments={"x-queue-type": KIND})],
    task_default_queue=QUEUE,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=2,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
)


@app.task(name="post")
def post(message):
    target = urlsplit(SERVICE)
    connection = http.client.HTTPConnection(target.hostname, target.port)
    connection.request("POST", target.path, b"", {"tidegate-message-id": message, "tidegate-attempt": "1"})
    connection.getresponse().read()


if __name__ == "__main__":
    app.worker_main([
        "worker", "--pool", "prefork", "--concurrency", "8", "--loglevel", "INFO", "--hostname", NAME + "@chaos",
        "--without-gossip", "--without-mingle",
    ])
