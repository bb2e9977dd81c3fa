"""pika as OpenCTI's worker uses it: a blocking connection, one acknowledgement for each delivery.

pika_consumer.py URL QUEUE COUNT PREFETCH
"""

import json
import sys
import time

import pika
from peak import peak_kib


def main(url: str, queue: str, count: int, prefetch: int) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.basic_qos(prefetch_count=prefetch)
    seen = {"messages": 0, "bytes": 0}

    def take(channel, method, _properties, body):
        if not seen["messages"]:
            seen["first"] = time.time()
            seen["cpu_first"] = time.process_time()
        seen["messages"] += 1
        seen["bytes"] += len(body)
        channel.basic_ack(method.delivery_tag)
        if seen["messages"] == count:
            channel.stop_consuming()

    channel.basic_consume(queue, take)
    channel.start_consuming()
    channel.close()
    seen["closed"] = time.time()
    connection.close()
    print(json.dumps({**seen, "peak_kib": peak_kib()}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
