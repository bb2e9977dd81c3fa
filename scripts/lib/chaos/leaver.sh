#!/bin/sh
# A command for the handler exec that leaves a process with its pipes behind. Usage: leaver.sh PYTHON URL
cat >/dev/null
sleep 3 &
exec "$1" -I -S -c '
import http.client, os, sys
from urllib.parse import urlsplit
target = urlsplit(sys.argv[1])
connection = http.client.HTTPConnection(target.hostname, target.port)
headers = {"tidegate-message-id": os.environ["TIDEGATE_MESSAGE_ID"], "tidegate-attempt": os.environ["TIDEGATE_ATTEMPT"]}
connection.request("POST", target.path, b"", headers)
sys.exit({200: 0, 503: 75, 400: 1}[connection.getresponse().status])
' "$2"
