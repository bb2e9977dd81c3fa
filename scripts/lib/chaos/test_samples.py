"""Tests of the samples: python3 -m unittest discover scripts/lib/chaos"""

import unittest
import xml.etree.ElementTree

import graph
from samples import Sample, growth, grown


def run(memory) -> list:
    return [Sample(number / 12, memory(number), 20, 7) for number in range(120)]


class Growth(unittest.TestCase):
    def test_what_rises_in_the_warm_up_alone_is_flat(self):
        self.assertEqual(grown(growth(run(lambda number: 14_000 if number < 15 else 30_000))), [])

    def test_a_steady_rise_is_none(self):
        found = grown(growth(run(lambda number: 14_000 + 100 * number)))
        self.assertEqual(len(found), 1)
        self.assertIn("memory grew", found[0])

    def test_the_graph_has_a_curve_for_each_figure_and_a_line_for_each_fault(self):
        picture = xml.etree.ElementTree.fromstring(graph.draw(run(lambda number: 14_000), [(1.0, "cut"), (2.0, "cut")]))
        kinds = [one.get("class") for one in picture.iter()]
        self.assertEqual((kinds.count("curve"), kinds.count("mark")), (3, 6))


if __name__ == "__main__":
    unittest.main()
