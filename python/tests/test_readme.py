"""The programs of the README, as they stand there."""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from child import LIMIT, SOURCE, request, talk

README = SOURCE.parent / "README.md"


def programs():
    """The programs that the README names in their first line."""
    return dict(re.findall(r"^```python\n# (\S+)\n(.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL))


class Readme(unittest.TestCase):
    def test_its_handler_is_tested_without_a_worker(self):
        with tempfile.TemporaryDirectory() as directory:
            for name, text in programs().items():
                Path(directory, name).write_text(text)
            # An input that stays open: whoever reads it waits.
            done = subprocess.Popen([sys.executable, "-m", "unittest", "test_orders"], cwd=directory,
                                    env={**os.environ, "PYTHONPATH": str(SOURCE.resolve())},
                                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            try:
                done.wait(LIMIT)
            finally:
                done.kill()
                said = done.communicate()[0].decode()
        self.assertEqual(done.returncode, 0, said)
        self.assertIn("Ran 2 tests", said)

    def test_its_handler_takes_every_body(self):
        bodies = ['{"number": 1}', '{"number": 13}', "{}", "{", "null", "7", '"order"', "[]", "true", "", b"\xff"]
        answers, printed = talk(programs()["orders.py"], map(request, range(len(bodies)), bodies))
        self.assertEqual([answer["outcome"] for answer in answers[1:]], ["done", "retry"] + ["dead"] * 9)
        self.assertIn("order 1\n", printed)


if __name__ == "__main__":
    unittest.main()
