"""The package as the worker uses it: a child that reads lines and answers them."""

import json
import sys
import unittest

from child import SOURCE, request
from child import talk as talk_to

sys.path.insert(0, str(SOURCE))

from tidegate_worker import Dead, Delivery, HandBack, Hold, Retry, handler  # noqa: E402

PROGRAM = """
import logging
from tidegate_worker import Dead, HandBack, Hold, Retry, handler, run

@handler
def anything(delivery):
    print("a print")
    logging.info("a log line")
    word = delivery.text()
    if word == "raise":
        raise Retry("raised", delay=1.5)
    if word == "fail":
        raise KeyError("lost")
    if word == "long":
        raise Dead("x" * 10_000)
    if word == "wrong":
        return 7
    return {"dead": Dead("no"), "hold": Hold(0.25), "back": HandBack(), "retry": Retry()}.get(word)

@handler("special")
def special(delivery):
    return Dead(f"{delivery.attempt} {delivery.message_id} {delivery.headers['tenant']}")

run()
"""


def talk(requests, own_descriptors=False):
    return talk_to(PROGRAM, requests, own_descriptors)


class Conversation(unittest.TestCase):
    def test_each_decision_is_answered(self):
        words = ["fine", "raise", "dead", "hold", "back", "retry", "fail", "wrong"]
        answers, _ = talk(request(number, word) for number, word in enumerate(words))
        self.assertEqual(answers[0]["hello"]["body"], "text")
        self.assertEqual(
            answers[1:],
            [
                {"id": "0", "outcome": "done"},
                {"id": "1", "outcome": "retry", "reason": "raised", "delay_ms": 1500},
                {"id": "2", "outcome": "dead", "reason": "no"},
                {"id": "3", "outcome": "hold", "delay_ms": 250},
                {"id": "4", "outcome": "hand_back"},
                {"id": "5", "outcome": "retry"},
                {"id": "6", "outcome": "retry", "reason": "KeyError: 'lost'"},
                {"id": "7", "outcome": "retry",
                 "reason": "the handler returned int, and must return None or an outcome"},
            ],
        )

    def test_prints_and_logs_stay_out_of_the_protocol(self):
        for own_descriptors in (False, True):
            answers, printed = talk([request(1, "fine"), request(2, "fail")], own_descriptors)
            self.assertEqual([answer.get("outcome") for answer in answers], [None, "done", "retry"])
            for expected in ("a print", "a log line", "Traceback"):
                self.assertIn(expected, printed)

    def test_a_reason_is_bounded(self):
        answers, _ = talk([request(1, "long")])
        self.assertEqual(len(answers[1]["reason"]), 2_000)

    def test_a_queue_may_have_a_handler_of_its_own(self):
        more = {"queue": "special", "attempt": 3, "properties": {"message_id": "m-1"}, "headers": {"tenant": "acme"}}
        answers, _ = talk([request(1, b"\xff", **more)])
        self.assertEqual(answers[1]["reason"], "3 m-1 acme")

    def test_the_end_of_the_input_is_the_end(self):
        answers, _ = talk([])
        self.assertEqual(len(answers), 1)


class Parts(unittest.TestCase):
    def test_a_delivery_is_easily_made_in_a_test(self):
        delivery = Delivery(body=b'{"n": 1}')
        self.assertEqual(delivery.json(), {"n": 1})
        self.assertEqual(delivery.text(), '{"n": 1}')
        self.assertIsNone(delivery.message_id)

    def test_a_body_that_is_not_text_arrives_unchanged(self):
        line = json.loads(request(1, b"\x00\xff"))
        self.assertEqual(Delivery.from_request(line).body, b"\x00\xff")

    def test_a_function_stays_itself(self):
        @handler("a queue")
        def double(delivery):
            return None

        self.assertIsNone(double(Delivery(body=b"")))
        with self.assertRaises(ValueError):
            handler("a queue")(double)

    def test_a_delay_is_not_negative(self):
        for wrong in (lambda: Retry(delay=-1), lambda: Hold(-0.1)):
            self.assertRaises(ValueError, wrong)
        self.assertEqual(Hold(0).answer(), {"outcome": "hold", "delay_ms": 0})
        self.assertEqual(str(Dead("no")), "no")
        self.assertEqual(HandBack().answer(), {"outcome": "hand_back"})


if __name__ == "__main__":
    unittest.main()
