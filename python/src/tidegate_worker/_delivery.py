"""One message on its way."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any, Dict, Mapping, Optional


@dataclass(frozen=True)
class Delivery:
    """One message, as the worker delivers it."""

    #: The body, unchanged.
    body: bytes
    #: The queue it was consumed from.
    queue: str = ""
    #: The exchange it was published to; empty for the default exchange.
    exchange: str = ""
    #: The routing key it was published with.
    routing_key: str = ""
    #: Which run of the message this is; the first is 1.
    attempt: int = 1
    #: Whether it may have been delivered before.
    redelivered: bool = False
    #: The properties that the message has, under their names in AMQP.
    properties: Mapping[str, Any] = field(default_factory=dict)
    #: The message's headers.
    headers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def message_id(self) -> Optional[str]:
        """The publisher's identifier of the message."""
        return self.properties.get("message_id")

    def text(self, encoding: str = "utf-8") -> str:
        """The body as text. Raises UnicodeDecodeError, a ValueError."""
        return self.body.decode(encoding)

    def json(self) -> Any:
        """The body as JSON. Raises json.JSONDecodeError, a ValueError."""
        return json.loads(self.body)

    @classmethod
    def from_request(cls, request: Dict[str, Any]) -> "Delivery":
        """Reads a line of the worker."""
        if "body" in request:
            body = request["body"].encode()
        else:
            body = base64.b64decode(request["body_base64"])
        return cls(
            body=body,
            queue=request["queue"],
            exchange=request.get("exchange", ""),
            routing_key=request.get("routing_key", ""),
            attempt=request["attempt"],
            redelivered=request["redelivered"],
            properties=request.get("properties", {}),
            headers=request.get("headers", {}),
        )
