"""Descriptors 0 and 1 belong to handlers and what they start; the protocol has its own."""

import unittest

from child import Child, request, talk

PROGRAM = """
import os, subprocess, sys
from tidegate_worker import Dead, Retry, handler, run

@handler
def anything(delivery):
    word = delivery.text()
    if word == "read":
        raise Dead(repr((sys.stdin.read(), os.read(0, 100))))
    if word == "input":
        input()
    if word == "cat":
        raise Dead(repr(subprocess.run(["cat"], stdout=subprocess.PIPE).stdout))
    if word == "background":
        subprocess.Popen(["sh", "-c", "cat; echo the background has read it"])
    if word == "prints":
        print("a print")
        os.write(1, b"a raw print\\n")
        subprocess.run(["echo", "a print of a child"])
    if word == "inherited":
        open_ones = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
        raise Dead(repr([number for number in open_ones if is_inheritable(number)]))

def is_inheritable(number):
    try:
        return os.get_inheritable(number)
    except OSError:
        return False

run()
"""


class Descriptors(unittest.TestCase):
    def test_a_handler_reads_nothing_from_stdin(self):
        for own_descriptors in (False, True):
            words = ["read", "input", "cat", "fine"]
            answers, _ = talk(PROGRAM, map(request, range(4), words), own_descriptors)
            self.assertEqual(
                answers[1:],
                [
                    {"id": "0", "outcome": "dead", "reason": "('', b'')"},
                    {"id": "1", "outcome": "retry", "reason": "EOFError: EOF when reading a line"},
                    {"id": "2", "outcome": "dead", "reason": "b''"},
                    {"id": "3", "outcome": "done"},
                ],
            )

    def test_a_program_in_the_background_takes_no_request(self):
        for own_descriptors in (False, True):
            with Child(PROGRAM, own_descriptors) as child:
                child.ask()
                for number in range(20):
                    answer = child.ask(request(number, "background" if number == 0 else "fine"))
                    self.assertEqual(answer, {"id": str(number), "outcome": "done"})
                _, printed = child.end()
            self.assertIn("the background has read it", printed)

    def test_nothing_printed_reaches_the_protocol(self):
        for own_descriptors in (False, True):
            program = "print('a print before the start')\n" + PROGRAM
            answers, printed = talk(program, [request(1, "prints"), request(2, "fine")], own_descriptors)
            self.assertEqual([answer.get("outcome") for answer in answers], [None, "done", "done"])
            for expected in ("a print before the start", "a print", "a raw print", "a print of a child"):
                self.assertIn(f"{expected}\n", printed)

    def test_a_program_that_a_handler_starts_inherits_no_end_of_the_protocol(self):
        for own_descriptors in (False, True):
            answers, _ = talk(PROGRAM, [request(1, "inherited")], own_descriptors)
            self.assertEqual(answers[1]["reason"], "[]")


if __name__ == "__main__":
    unittest.main()
