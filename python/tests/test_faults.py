"""What a handler says arrives as an answer."""

import unittest

from child import request, talk


PROGRAM = """
import os
from tidegate_worker import Dead, HandBack, Hold, Outcome, Retry, handler, run

def fail(error):
    raise error

CASES = {
    "fine": lambda: None,
    "dead surrogate": lambda: fail(Dead("no file " + os.fsdecode(b"\\xff.txt"))),
    "hold surrogate": lambda: Hold(1, os.fsdecode(b"\\xff")),
    "error surrogate": lambda: open(os.fsdecode(b"/nowhere/\\xff")),
    "text": lambda: Dead("gr\\u00fcn \\U0001f600 \\0 \\u2028"),
}

@handler
def anything(delivery):
    return CASES[delivery.text()]()

run()
"""


class Faults(unittest.TestCase):
    def answers(self, *words):
        """The answers to the words and to one more that is fine; from the child's first to its last."""
        answers, _ = talk(PROGRAM, map(request, range(len(words) + 1), [*words, "fine"]))
        self.assertEqual(answers.pop(), {"id": str(len(words)), "outcome": "done"})
        return [{key: value for key, value in answer.items() if key != "id"} for answer in answers[1:]]

    def test_text_that_is_no_utf_8_changes_no_outcome(self):
        self.assertEqual(
            self.answers("dead surrogate", "hold surrogate", "error surrogate", "text"),
            [
                {"outcome": "dead", "reason": "no file ?.txt"},
                {"outcome": "hold", "delay_ms": 1000, "reason": "?"},
                {"outcome": "retry",
                 "reason": "FileNotFoundError: [Errno 2] No such file or directory: '/nowhere/\\udcff'"},
                {"outcome": "dead", "reason": "grün 😀 \0 \u2028"},
            ],
        )


if __name__ == "__main__":
    unittest.main()
