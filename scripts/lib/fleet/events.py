"""A client of the fleet program's server-sent events, as a page is one."""

import http.client
import json
import socket
import threading
import time
from urllib.parse import urlsplit


class Events:
    """Follows the events; remembers the state of every worker, and when it was last told."""

    def __init__(self, base):
        self.address = urlsplit(base).netloc
        self.changed = threading.Condition()
        self.states = {}
        self.leases = {}
        self.count = 0
        threading.Thread(target=self._follow, daemon=True).start()
        with self.changed:
            if not self.changed.wait_for(lambda: self.count > 0, 60):
                raise TimeoutError("no event has come")

    def _follow(self):
        self.connection = connection = http.client.HTTPConnection(self.address, timeout=120)
        connection.request("GET", "/api/v1/events", headers={"accept": "text/event-stream"})
        answer = connection.getresponse()
        name, data = "", []
        while True:
            try:
                line = answer.readline()
            except (OSError, ValueError, AttributeError, http.client.HTTPException):
                line = b""
            if not line:
                return
            line = line.decode().rstrip("\r\n")
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].strip())
            elif not line and data:
                self._take(name, json.loads("\n".join(data)))
                name, data = "", []

    def _take(self, name, value):
        now = time.monotonic()
        workers = {"snapshot": lambda: value["workers"], "worker": lambda: [value]}.get(name, list)()
        with self.changed:
            self.count += 1
            for worker in workers:
                self.states[worker["id"]] = (worker["state"], now)
                self.leases[worker["id"]] = (worker["lease"], now)
            self.changed.notify_all()

    def close(self):
        """Looks no more."""
        self.connection.sock.shutdown(socket.SHUT_RDWR)

    def until(self, worker, state, limit):
        """When this client was told that the worker is in this state, or in one of these."""
        wanted = (state,) if isinstance(state, str) else state
        with self.changed:
            told = self.changed.wait_for(lambda: self.states.get(worker, ("",))[0] in wanted, limit)
            if not told:
                raise TimeoutError(f"{worker} was not {state} within {limit} s: {self.states.get(worker)}")
            return self.states[worker][1]

    def running(self, prefix):
        with self.changed:
            found = self.states.items()
            return [worker for worker, (state, _) in found if state == "running" and worker.startswith(prefix)]

    def lease_left(self, worker):
        """Seconds that are left of a worker's lease, as this client was told last."""
        with self.changed:
            lease, at = self.leases[worker]
        return lease["left_ms"] / 1000 - (time.monotonic() - at)
