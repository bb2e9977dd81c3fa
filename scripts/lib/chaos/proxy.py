"""A proxy before the broker, or before a service, that cuts, swallows, slows and answers what would pass."""

from __future__ import annotations

import asyncio

from loop import Loop


class Proxy(Loop):
    """Serves in a thread of its own until it is closed."""

    def __init__(self, port: int):
        self.target = port
        self.swallow = False
        self.slow = 0.0  # seconds of delay for each piece
        self.gone = False  # every new connection is reset
        self.answer = b""  # what every request is answered with instead of being passed on
        self.pairs: set = set()
        self.brokers: dict = {}  # from the stream to the target to the one to the client
        super().__init__(lambda _loop: asyncio.start_server(self._client, "127.0.0.1", 0))

    def close(self):
        self.cut()
        super().close()

    def cut(self):
        """Ends every connection, in the middle of a frame as often as not."""
        self.loop.call_soon_threadsafe(lambda: [writer.transport.abort() for pair in list(self.pairs) for writer in pair])

    async def _client(self, reader, writer):
        if self.gone:
            writer.transport.abort()
            return
        try:
            from_broker, to_broker = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, to_broker)
        self.pairs.add(pair)
        self.brokers[to_broker] = writer
        try:
            ways = [self._pass(reader, to_broker), self._pass(from_broker, writer)]
            await asyncio.wait([asyncio.ensure_future(way) for way in ways], return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.pairs.discard(pair)
            del self.brokers[to_broker]
            for each in pair:
                each.transport.abort()

    async def _pass(self, reader, writer):
        try:
            # Small pieces: a cut leaves half a frame.
            while data := await reader.read(1000):
                while self.swallow:
                    await asyncio.sleep(0.02)
                if self.answer and writer in self.brokers:
                    answered = self.brokers[writer]
                    answered.write(self.answer)
                    await answered.drain()
                    answered.close()
                    return
                if self.slow:
                    await asyncio.sleep(self.slow)
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
