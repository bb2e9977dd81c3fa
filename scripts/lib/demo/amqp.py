"""As much of AMQP 0-9-1 as it takes to ask for a queue's length and to delete what the demo declared."""

from __future__ import annotations

import socket
import ssl
import struct
from urllib.parse import unquote, urlsplit

TIMEOUT = 20  # seconds for any one answer
METHOD, FRAME_END = 1, 0xCE


class Refused(Exception):
    """The broker closed the channel or the connection; the text is its own."""


def _short(text: str) -> bytes:
    data = text.encode()
    return struct.pack(">B", len(data)) + data


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _text_of(name: bytes, table: bytes) -> str:
    """A text in a field table, wherever in it; empty where there is none."""
    _, found, rest = table.partition(bytes([len(name)]) + name + b"S")
    return rest[4:4 + struct.unpack(">I", rest[:4])[0]].decode() if found else ""


# Has the broker say why it refuses a login; without it, it just hangs up.
CAPABILITIES = _short("capabilities") + b"F" + _long(_short("authentication_failure_close") + b"t\x01")


class Client:
    """One connection with one channel. Not for use by several threads."""

    def __init__(self, url: str):
        parts = urlsplit(url)
        secure = parts.scheme == "amqps"
        self.socket = socket.create_connection((parts.hostname, parts.port or (5671 if secure else 5672)), TIMEOUT)
        if secure:
            self.socket = ssl.create_default_context().wrap_socket(self.socket, server_hostname=parts.hostname)
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        vhost = unquote(parts.path[1:]) or "/"
        self.socket.sendall(b"AMQP\x00\x00\x09\x01")
        self.version = _text_of(b"version", self._expect(10, 10))
        login = b"\0" + user.encode() + b"\0" + password.encode()
        self._send(0, 10, 11, _long(CAPABILITIES) + _short("PLAIN") + _long(login) + _short("en_US"))
        tune = self._expect(10, 30)
        channels, frame, _ = struct.unpack(">HIH", tune[:8])
        self._send(0, 10, 31, struct.pack(">HIH", channels, frame, 0))  # no heartbeats
        self._send(0, 10, 40, _short(vhost) + _short("") + b"\0")
        self._expect(10, 41)
        self._open_channel()

    def depth(self, queue: str) -> int:
        """How many messages are ready in `queue`."""
        self._send(1, 50, 10, b"\0\0" + _short(queue) + b"\x01" + _long(b""))  # declare, passive
        answer = self._expect(50, 11)
        return struct.unpack(">I", answer[1 + answer[0]:][:4])[0]

    def delete_queue(self, queue: str) -> None:
        self._send(1, 50, 40, b"\0\0" + _short(queue) + b"\0")
        self._expect(50, 41)

    def delete_exchange(self, exchange: str) -> None:
        self._send(1, 40, 20, b"\0\0" + _short(exchange) + b"\0")
        self._expect(40, 21)

    def close(self) -> None:
        try:
            self._send(0, 10, 50, struct.pack(">H", 200) + _short("") + b"\0\0\0\0")
            self._expect(10, 51)
        except (OSError, Refused):
            pass
        self.socket.close()

    def _open_channel(self) -> None:
        self._send(1, 20, 10, _short(""))
        self._expect(20, 11)

    def _send(self, channel: int, class_id: int, method_id: int, arguments: bytes) -> None:
        payload = struct.pack(">HH", class_id, method_id) + arguments
        self.socket.sendall(struct.pack(">BHI", METHOD, channel, len(payload)) + payload + bytes([FRAME_END]))

    def _receive(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise Refused("the broker closed the connection")
            data += more
        return data

    def _expect(self, class_id: int, method_id: int) -> bytes:
        """The arguments of the next method, which must be the one expected."""
        while True:
            kind, channel, size = struct.unpack(">BHI", self._receive(7))
            payload = self._receive(size + 1)[:-1]
            if kind != METHOD:
                continue
            got = struct.unpack(">HH", payload[:4])
            if got == (class_id, method_id):
                return payload[4:]
            if got in ((10, 50), (20, 40)):  # connection.close, channel.close
                code = struct.unpack(">H", payload[4:6])[0]
                text = payload[7:7 + payload[6]].decode("utf-8", "replace")
                if got == (20, 40):
                    self._send(channel, 20, 41, b"")
                    self._open_channel()
                raise Refused("%d %s" % (code, text))
