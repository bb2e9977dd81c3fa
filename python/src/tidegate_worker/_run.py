"""Reads requests, calls handlers, writes answers."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from typing import Any, BinaryIO, Callable, Dict, Optional, Tuple, TypeVar, Union, overload

from ._delivery import Delivery
from ._outcome import Outcome, Retry, readable

Function = Callable[[Delivery], Optional[Outcome]]
F = TypeVar("F", bound=Callable[[Delivery], Any])

#: The longest reason that is sent; the worker keeps no more.
REASON_LIMIT = 2_000

_handlers: Dict[Optional[str], Function] = {}


@overload
def handler(function: F) -> F: ...


@overload
def handler(function: str) -> Callable[[F], F]: ...


def handler(function: Union[F, str]) -> Union[F, Callable[[F], F]]:
    """Makes a function the handler: ``@handler`` of every queue, ``@handler("orders")`` of that one."""
    if isinstance(function, str):
        queue = function
        return lambda inner: _register(queue, inner)
    return _register(None, function)


def _register(queue: Optional[str], function: F) -> F:
    if queue in _handlers:
        which = "every queue" if queue is None else f"queue {queue!r}"
        raise ValueError(f"there is a handler of {which} already")
    _handlers[queue] = function
    return function


def run() -> None:
    """Handles deliveries until the worker closes the input. Call it last.

    From here on descriptors 0 and 1 have nothing to do with the protocol: handlers and the programs that they start
    read nothing, and what they print goes to the worker's log.
    """
    if not _handlers:
        raise RuntimeError("no function is a handler: put @handler before one")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    requests, answers = _channel()
    _write(answers, {"hello": {"body": "text", "program": "tidegate_worker", "pid": os.getpid()}})
    for line in requests:
        request = json.loads(line)
        _write(answers, {"id": request["id"], **_handle(request)})


def _channel() -> Tuple[BinaryIO, BinaryIO]:
    """Where requests come from and answers go to: the worker says, or stdin and stdout."""
    numbers = os.environ.get("TIDEGATE_POOL_FDS")
    if numbers:
        reading, writing = (int(number) for number in numbers.split(","))
        # Programs that a handler starts must not hold them open.
        os.set_inheritable(reading, False)
        os.set_inheritable(writing, False)
        return os.fdopen(reading, "rb"), os.fdopen(writing, "wb")
    # Copies that no program inherits. Whoever reads descriptor 0 from now on would take the next request, and whoever
    # writes to 1 would break an answer.
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    # After that, since prints from before this call may still be in the buffer.
    sys.stdout.flush()
    return requests, answers


def _handle(request: Dict[str, Any]) -> Dict[str, Any]:
    """The answer to a request. Whatever goes wrong in a handler is one, too."""
    try:
        return _answer(_decide(Delivery.from_request(request)))
    except (SystemExit, KeyboardInterrupt):
        # Somebody wants this process to end. Without an answer this delivery is charged for it; after one, it could be
        # the next.
        raise
    except BaseException as error:
        # Not only Exception: asyncio's CancelledError, or a panic in an extension module, is no wish to end.
        _print_traceback()
        kind, text = type(error).__name__, readable(error)
        return _answer(Retry(kind if text in ("", kind) else f"{kind}: {text}"))


def _decide(delivery: Delivery) -> object:
    function = _handlers.get(delivery.queue) or _handlers.get(None)
    if function is None:
        return Retry(f"no function is the handler of queue {delivery.queue!r}")
    try:
        return function(delivery)
    except Outcome as outcome:
        return outcome


def _answer(decision: object) -> Dict[str, Any]:
    if decision is None:
        return {"outcome": "done"}
    # Outcome itself has no name.
    if not isinstance(decision, Outcome) or not decision.outcome:
        decision = Retry(f"the handler returned {type(decision).__name__}, and must return None or an outcome")
    answer = decision.answer()
    if "reason" in answer:
        answer["reason"] = answer["reason"][:REASON_LIMIT]
    return answer


def _print_traceback() -> None:
    try:
        traceback.print_exc()
    except Exception:
        # The handler has closed stderr; the reason says what there is to say.
        pass


def _write(answers: BinaryIO, answer: Dict[str, Any]) -> None:
    # Lone surrogates, as in a file's name that is not UTF-8, become question marks: as escapes they are no JSON to the
    # worker.
    answers.write(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
    answers.flush()
    # What was printed for this delivery is in the log before the next begins.
    try:
        sys.stdout.flush()
    except Exception:
        # The handler has closed it, or printed what its encoding lacks. The answer stands.
        pass
