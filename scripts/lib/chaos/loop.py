"""An event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import threading


class Loop:
    """Runs the server that `serve` makes, a coroutine, on a free port until it is closed."""

    def __init__(self, serve):
        self.loop = asyncio.new_event_loop()
        started = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(serve, started), daemon=True)
        self.thread.start()
        started.wait()

    def _run(self, serve, started):
        asyncio.set_event_loop(self.loop)
        server = self.loop.run_until_complete(serve(self.loop))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self.loop.run_forever()

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
