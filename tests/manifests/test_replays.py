"""Each alert fires when it should and only then."""

import unittest

import rendered
import replays


def rule():
    return rendered.find(rendered.documents("monitoring"), "PrometheusRule", "anteroom")


class Replays(unittest.TestCase):
    maxDiff = 4000

    def test_every_alert_fires_and_is_silent_as_it_should(self):
        self.assertGreater(len(replays.alerts(rule())), 20)
        self.assertEqual([], replays.complaints(rule(), replays.cases()))

    def test_an_alert_without_both_kinds_of_cases_is_noticed(self):
        given = replays.cases()
        del given["AnteroomDown"]
        given["AnteroomPaused"] = [case for case in given["AnteroomPaused"] if "fires" in case]
        given["AnteroomElsewhere"] = given["AnteroomChecksShed"]
        self.assertEqual(
            [
                "AnteroomDown: replays.yaml should say what it fires on",
                "AnteroomDown: replays.yaml should say what it is silent on",
                "replays.yaml: there is no alert AnteroomElsewhere",
                "AnteroomPaused: replays.yaml should say what it is silent on",
            ],
            list(replays.missing(replays.alerts(rule()), given)),
        )

    def test_spoiled_alerts_are_noticed(self):
        for name, field, value, said in (
            ("AnteroomOvershoot", "expr", "max by (room) (anteroom_sessions) > max by (room) (anteroom_capacity)", "exp:["),
            ("AnteroomLineStuck", "expr", "max by (room) (anteroom_waiting) > 0", "exp:[]"),
            ("AnteroomPaused", "for", "2h", "got:[]"),
            ("AnteroomEtaOff", "expr", "anteroom:eta_off:share30m > 0.7", "got:[]"),
            ("AnteroomCheckErrors", "annotations", {"description": "{{ $value | humanise }}"}, "humanise"),
        ):
            with self.subTest(name=name):
                spoiled = rule()
                replays.alerts(spoiled)[name][field] = value
                only = {name: replays.cases()[name]}
                found = "\n".join(one for one in replays.complaints(spoiled, only) if one.startswith("promtool"))
                self.assertIn(said, found)


if __name__ == "__main__":
    unittest.main()
