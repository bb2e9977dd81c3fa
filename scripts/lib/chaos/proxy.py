"""A proxy before the broker that cuts, swallows and slows what passes."""

from __future__ import annotations

import asyncio

from loop import Loop


class Proxy(Loop):
    """Serves in a thread of its own until it is closed."""

    def __init__(self, port: int):
        self.target = port
        self.swallow = False
        self.slow = 0.0  # seconds of delay for each piece
        self.pairs: set = set()
        super().__init__(lambda _loop: asyncio.start_server(self._client, "127.0.0.1", 0))

    def close(self):
        self.cut()
        super().close()

    def cut(self):
        """Ends every connection, in the middle of a frame as often as not."""
        self.loop.call_soon_threadsafe(lambda: [writer.transport.abort() for pair in list(self.pairs) for writer in pair])

    async def _client(self, reader, writer):
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, to_broker)
        self.pairs.add(pair)
        try:
            ways = [self._pass(reader, to_broker), self._pass(from_broker, writer)]
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.pairs.discard(pair)
            for each in pair:
                each.transport.abort()

    async def _pass(self, reader, writer):
        try:
            # Small pieces: a cut leaves half a frame.
            while data := await reader.read(1000):
                while self.swallow:
                    await asyncio.sleep(0.02)
                if self.slow:
                    await asyncio.sleep(self.slow)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
