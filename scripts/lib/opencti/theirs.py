"""The platform's own flow, written from a description of it: a connection, a thread and a consumer for each queue, jobs on a
shared pool, pycti for the imports."""

from __future__ import annotations

import base64
import concurrent.futures
import functools
import json
import os
import signal
import sys
import threading

import pika
from pycti import OpenCTIApiClient


def imported(api: OpenCTIApiClient, body: bytes) -> None:
    message = json.loads(body)
    bundle = json.loads(base64.b64decode(message["content"]))
    api.set_applicant_id_header(message.get("applicant_id"))
    api.set_work_id(message.get("work_id"))
    api.stix2.import_bundle(bundle, message.get("update", False), None, message.get("work_id"), 0)


def consume(url: str, queue: str, pool: concurrent.futures.Executor, stop: threading.Event, api: OpenCTIApiClient) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=1)

    def handle(channel, method, _properties, body):
        job = pool.submit(imported, api, body)
        while not job.done():
            connection.process_data_events(time_limit=0.01)
        if job.exception():
            print(f"failed: {job.exception()}", file=sys.stderr)
        channel.basic_ack(method.delivery_tag)

    channel.basic_consume(queue, handle)
    while not stop.is_set():
        connection.process_data_events(time_limit=0.2)
    connection.close()


def main() -> None:
    url, platform, slots, *queues = sys.argv[1:]
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    make = functools.partial(OpenCTIApiClient, platform, "token", "error", False, json_logging=True, perform_health_check=False)
    with concurrent.futures.ThreadPoolExecutor(int(slots)) as pool:
        threads = [threading.Thread(target=consume, args=(url, queue, pool, stop, make())) for queue in queues]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        for thread in threads:
            thread.join()
    os._exit(0)


main()
