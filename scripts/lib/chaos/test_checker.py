"""Tests of the checker: python3 -m unittest discover scripts/lib/chaos"""

import unittest

from checker import Run, compare_drain, judge


class Judging(unittest.TestCase):
    def test_what_was_done_once_is_well(self):
        verdict = judge(["a", "b"], [], [Run("a", 1, "w", "done"), Run("b", 1, "w", "dead")], ["b"], [])
        self.assertEqual((verdict.done, verdict.dead), (1, 1))
        self.assertFalse(verdict.lost or verdict.repeated_same or verdict.repeated_other or verdict.interrupted or verdict.faults)

    def test_what_is_nowhere_is_lost_and_what_waits_is_not(self):
        verdict = judge(["a", "b", "c"], ["d"], [Run("a", 1, "w", "retry")], [], ["b"])
        self.assertEqual(verdict.lost, ["a", "c"])
        self.assertEqual(verdict.left, ["b"])

    def test_a_run_is_repeated_here_or_elsewhere(self):
        here = judge(["a"], [], [Run("a", 1, "w", "done"), Run("a", 1, "w", "done")], [], [])
        self.assertEqual((len(here.repeated_same), len(here.repeated_other)), (1, 0))
        elsewhere = judge(["a"], [], [Run("a", 1, "w"), Run("a", 1, "v", "done")], [], [])
        self.assertEqual((len(elsewhere.repeated_same), len(elsewhere.repeated_other)), (0, 1))
        self.assertEqual(len(elsewhere.interrupted), 1)

    def test_two_copies_of_what_was_repeated_elsewhere_are_no_repetition_here(self):
        runs = [Run("a", 1, "w", "retry"), Run("a", 1, "v", "retry"), Run("a", 2, "w", "done"), Run("a", 2, "w", "done")]
        verdict = judge(["a"], [], runs, [], [])
        self.assertEqual((len(verdict.repeated_same), len(verdict.repeated_other)), (0, 2))

    def test_a_dead_letter_needs_a_decision_and_is_there_once(self):
        verdict = judge(["a", "b"], [], [Run("a", 1, "w", "dead"), Run("b", 1, "w", "done")], ["a", "a", "b"], [])
        self.assertEqual((verdict.doubled, verdict.wrongly_dead), (["a"], ["b"]))

    def test_a_message_that_nobody_published_is_a_fault(self):
        self.assertTrue(judge([], [], [Run("x", 1, "w", "done")], [], []).faults)
        self.assertFalse(judge([], ["x"], [Run("x", 1, "w", "done")], [], []).faults)

    def test_a_doomed_message_is_dead_without_a_run(self):
        self.assertFalse(judge(["a"], [], [], ["a"], [], doomed=["a"]).wrongly_dead)
        self.assertTrue(judge(["a"], [], [Run("a", 1, "w", "done")], [], [], doomed=["a"]).faults)

    def test_a_damaged_body_is_a_fault(self):
        self.assertTrue(judge(["a"], [], [Run("a", 1, "w", "done", damaged=True)], [], []).faults)


class ReportsOfDrains(unittest.TestCase):
    def compare(self, runs, finished, interrupted=0, outcome="clean"):
        report = {"outcome": outcome, "finished": finished, "interrupted": interrupted}
        return compare_drain(report, 100.0, 110.0, runs)

    def test_what_ended_during_the_drain_is_finished(self):
        runs = [Run("a", 1, "w", "done", 99.0), Run("b", 1, "w", "done", 101.0), Run("c", 1, "w", "retry", 110.0)]
        self.assertEqual(self.compare(runs, 2), [])
        self.assertTrue(self.compare(runs, 1))
        self.assertTrue(self.compare(runs, 3))

    def test_an_answer_on_its_way_counts_or_does_not(self):
        runs = [Run("a", 1, "w", "done", 99.9)]
        self.assertEqual((self.compare(runs, 0), self.compare(runs, 1)), ([], []))

    def test_what_is_cut_off_is_interrupted(self):
        runs = [Run("a", 1, "w", "", 110.0), Run("b", 1, "w", "done", 109.9), Run("c", 1, "w", "", 50.0)]
        self.assertEqual(self.compare(runs, 1, 1, "interrupted"), [])
        self.assertEqual(self.compare(runs, 0, 2, "interrupted"), [])
        self.assertTrue(self.compare(runs, 1, 0, "interrupted"))
        self.assertTrue(self.compare(runs, 0, 3, "interrupted"))


if __name__ == "__main__":
    unittest.main()
