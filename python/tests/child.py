"""A child of the package, talked to as the worker does."""

import base64
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, Iterable, List, Tuple, Union

SOURCE = Path(__file__).parent.parent / "src"

#: How long a child may take for one answer, in seconds; then it is killed.
LIMIT = 20


def request(number: int, body: Union[str, bytes], **more: Any) -> str:
    """A line of the worker."""
    line: Dict[str, Any] = {"id": str(number), "queue": "orders", "attempt": 1, "redelivered": False}
    if isinstance(body, bytes):
        line["body_base64"] = base64.b64encode(body).decode()
    else:
        line["body"] = body
    return json.dumps({**line, **more}) + "\n"


class Child:
    """A child that runs ``program``: on stdin and stdout, or on descriptors of their own as with ``channel = "fd"``."""

    def __init__(self, program: str, own_descriptors: bool = False) -> None:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONDONTWRITEBYTECODE": "1"}
        environment.pop("PYTHONUNBUFFERED", None)
        command = [sys.executable, "-c", program]
        (in_read, in_write), (out_read, out_write) = os.pipe(), os.pipe()
        if own_descriptors:
            environment["TIDEGATE_POOL_FDS"] = f"{in_read},{out_write}"
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL,
                                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                            pass_fds=(in_read, out_write))
            prints = self.process.stdout
        else:
            self.process = subprocess.Popen(command, env=environment, stdin=in_read, stdout=out_write,
                                            stderr=subprocess.PIPE)
            prints = self.process.stderr
        assert prints is not None
        os.close(in_read)
        os.close(out_write)
        self._requests = os.fdopen(in_write, "wb")
        self._answers = os.fdopen(out_read, "rb")
        self._prints = prints
        self._printed: List[bytes] = []
        self._reader = threading.Thread(target=lambda: self._printed.extend(prints), daemon=True)
        self._reader.start()

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_exception: object) -> None:
        self.end()

    def ask(self, *lines: str) -> Dict[str, Any]:
        """Sends lines, if any, and gives the next answer. One that is no JSON is an error, and so is none."""
        killer = threading.Timer(LIMIT, self.process.kill)
        killer.start()
        try:
            self._requests.write("".join(lines).encode())
            self._requests.flush()
            answer: Dict[str, Any] = strict(self._answers.readline())
            return answer
        finally:
            killer.cancel()

    def end(self) -> Tuple[int, str]:
        """Ends its input; gives its exit code, and all that it printed. Again, it gives the same."""
        try:
            self._requests.close()
        except BrokenPipeError:
            pass
        killer = threading.Timer(LIMIT, self.process.kill)
        killer.start()
        code = self.process.wait()
        self._reader.join()
        killer.cancel()
        self._answers.close()
        self._prints.close()
        return code, b"".join(self._printed).decode()


def strict(line: bytes) -> Any:
    """A line as the worker reads it: text with a lone surrogate is no JSON to it."""
    value = json.loads(line)
    json.dumps(value, ensure_ascii=False).encode()
    return value


def talk(program: str, requests: Iterable[str], own_descriptors: bool = False) -> Tuple[List[Dict[str, Any]], str]:
    """Runs the program on the requests; gives its answers, and all that it printed."""
    with Child(program, own_descriptors) as child:
        answers = [child.ask(), *map(child.ask, requests)]
        code, printed = child.end()
    assert code == 0, printed
    return answers, printed
