"""A child of the handler pool: posts each delivery to the service. Usage: child.py URL [leak].

With `leak` each delivery leaves memory and a descriptor behind."""

import base64
import http.client
import json
import os
import sys
from urllib.parse import urlsplit

OUTCOMES = {200: "done", 503: "retry", 400: "dead"}


def main(url: str, leaking: bool) -> None:
    target = urlsplit(url)
    connection = http.client.HTTPConnection(target.hostname, target.port)
    leaks = []
    for line in sys.stdin:
        request = json.loads(line)
        headers = {"tidegate-message-id": request["properties"]["message_id"], "tidegate-attempt": str(request["attempt"])}
        connection.request("POST", target.path, base64.b64decode(request["body_base64"]), headers)
        answer = connection.getresponse()
        answer.read()
        if leaking:
            leaks.append((bytearray(os.urandom(1024) * 2048), os.dup(0)))
        print(json.dumps({"id": request["id"], "outcome": OUTCOMES[answer.status]}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], "leak" in sys.argv[2:])
