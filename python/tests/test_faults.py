"""Whatever goes wrong in a handler has an answer, and the child goes on."""

import math
import sys
import unittest

from child import SOURCE, Child, request, talk

sys.path.insert(0, str(SOURCE))

from tidegate_worker import Dead, Hold, Outcome, Retry  # noqa: E402

PROGRAM = """
import asyncio, os, sys
from tidegate_worker import Dead, HandBack, Hold, Outcome, Retry, handler, run

class Silent(Exception):
    def __str__(self):
        raise ValueError("no text")

class Panic(BaseException):
    pass

def late(delay):
    retry = Retry("late")
    retry.delay = delay
    return retry

def fail(error):
    raise error

CASES = {
    "fine": lambda: None,
    "dead surrogate": lambda: fail(Dead("no file " + os.fsdecode(b"\\xff.txt"))),
    "hold surrogate": lambda: Hold(1, os.fsdecode(b"\\xff")),
    "error surrogate": lambda: open(os.fsdecode(b"/nowhere/\\xff")),
    "text": lambda: Dead("gr\\u00fcn \\U0001f600 \\0 \\u2028"),
    "inf": lambda: Retry("x", delay=float("inf")),
    "nan": lambda: Retry("x", delay=float("nan")),
    "negative": lambda: Hold(-1),
    "huge": lambda: Retry("x", delay=1e300),
    "huger": lambda: Retry("x", delay=10**400),
    "late inf": lambda: late(float("inf")),
    "late text": lambda: late("soon"),
    "silent": lambda: fail(Silent()),
    "dead silent": lambda: Dead(Silent()),
    "dead object": lambda: Dead({"a": 1}),
    "empty": lambda: fail(KeyError()),
    "cancelled": lambda: fail(asyncio.CancelledError()),
    "panic": lambda: fail(Panic("in Rust")),
    "outcome": lambda: Outcome("x"),
    "class": lambda: fail(Dead),
    "close stdout": lambda: sys.stdout.close(),
    "close stderr": lambda: sys.stderr.close() or fail(KeyError(1)),
    "exit": lambda: sys.exit(3),
    "interrupt": lambda: fail(KeyboardInterrupt()),
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

    def test_a_delay_that_cannot_be_is_an_error_of_the_handler(self):
        for word, delay in (("inf", "inf"), ("nan", "nan"), ("negative", "-1")):
            reason = f"ValueError: delay must be finite and not negative, and is {delay}"
            self.assertEqual(self.answers(word), [{"outcome": "retry", "reason": reason}])

    def test_a_delay_is_a_day_at_most(self):
        day = {"outcome": "retry", "reason": "x", "delay_ms": 86_400_000}
        self.assertEqual(self.answers("huge", "huger"), [day, day])

    def test_an_outcome_that_was_spoilt_afterwards_is_a_retry(self):
        for answer, error in zip(self.answers("late inf", "late text"), ("ValueError: ", "TypeError: ")):
            self.assertEqual(answer["outcome"], "retry")
            self.assertTrue(answer["reason"].startswith(error), answer)

    def test_an_exception_without_text_gives_its_type(self):
        self.assertEqual(
            self.answers("silent", "dead silent", "dead object", "empty"),
            [
                {"outcome": "retry", "reason": "Silent"},
                {"outcome": "dead", "reason": "Silent"},
                {"outcome": "dead", "reason": "{'a': 1}"},
                {"outcome": "retry", "reason": "KeyError"},
            ],
        )

    def test_an_exception_that_is_no_wish_to_end_is_a_retry(self):
        self.assertEqual(
            self.answers("cancelled", "panic", "outcome"),
            [
                {"outcome": "retry", "reason": "CancelledError"},
                {"outcome": "retry", "reason": "Panic: in Rust"},
                {"outcome": "retry", "reason": "the handler returned Outcome, and must return None or an outcome"},
            ],
        )

    def test_an_outcome_that_lacks_its_arguments_is_a_retry(self):
        (answer,) = self.answers("class")
        self.assertEqual(answer["outcome"], "retry")
        self.assertIn("TypeError: ", answer["reason"])

    def test_a_handler_may_close_its_streams(self):
        self.assertEqual(
            self.answers("close stdout", "close stderr"),
            [{"outcome": "done"}, {"outcome": "retry", "reason": "KeyError: 1"}],
        )

    def test_a_wish_to_end_ends_the_child_without_an_answer(self):
        for word, code in (("exit", 3), ("interrupt", -2)):
            with Child(PROGRAM) as child:
                child.ask()
                with self.assertRaises(ValueError):
                    child.ask(request(1, word))
                self.assertEqual(child.end()[0], code)


class Delays(unittest.TestCase):
    def test_a_delay_is_finite_and_not_negative(self):
        for delay in (-1, -0.1, -math.inf, math.inf, math.nan):
            self.assertRaises(ValueError, Retry, delay=delay)
            self.assertRaises(ValueError, Hold, delay)
            self.assertRaises(ValueError, Outcome, delay=delay)
        self.assertEqual(Retry(delay=0.25).answer(), {"outcome": "retry", "delay_ms": 250})
        self.assertEqual(Dead("no").answer(), {"outcome": "dead", "reason": "no"})


if __name__ == "__main__":
    unittest.main()
