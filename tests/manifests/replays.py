"""Alerts against series made up for them, by Prometheus' own promtool: replays.yaml says what fires and what does not."""

import functools
import re
import tempfile
from pathlib import Path

import yaml

import rendered

CASES = Path(__file__).with_name("replays.yaml")


@functools.cache
def promtool():
    return rendered.program("PROMTOOL", "promtool", "`make tools` gets it")


def cases():
    return yaml.safe_load(CASES.read_text(encoding="utf-8"))


def alerts(rule):
    """The alerts of a PrometheusRule, by name."""
    return {one["alert"]: one for group in rule["spec"]["groups"] for one in group["rules"] if "alert" in one}


def said(text, labels, value):
    """An annotation as it arrives; how a value is written out is for the case to say, so that promtool's way is tested."""
    text = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels[match[1]], text)
    return re.sub(r"\{\{ \$value[^}]*\}\}", lambda _: value, text)


def expected(alert, case):
    if "fires" not in case:
        return []
    labels = case.get("labels", {})
    texts = {key: said(text, labels, case["fires"]) for key, text in alert["annotations"].items()}
    return [{"exp_labels": labels | alert["labels"], "exp_annotations": texts}]


def missing(known, given):
    """Which alerts have no case, or not one of each kind; and cases of no alert."""
    for name in sorted(known.keys() | given.keys()):
        if name not in known:
            yield f"replays.yaml: there is no alert {name}"
            continue
        for kind in ("fires", "silent"):
            if not any(kind in case for case in given.get(name, [])):
                yield f"{name}: replays.yaml should say what it {'fires' if kind == 'fires' else 'is silent'} on"


def complaints(rule, given):
    """What is wrong with a PrometheusRule, as its alerts behave."""
    known = alerts(rule)
    found = list(missing(known, given))
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values} for series, values in case["series"].items()],
            "alert_rule_test": [{"eval_time": case["at"], "alertname": name, "exp_alerts": expected(known[name], case)}],
            "name": f"{name} {case.get('silent', 'fires')}",
        }
        for name, of_alert in given.items()
        if name in known
        for case in of_alert
    ]
    with tempfile.TemporaryDirectory() as folder:
        rules, replay = Path(folder) / "rules.yaml", Path(folder) / "replay.yaml"
        rules.write_text(yaml.safe_dump({"groups": rule["spec"]["groups"]}), encoding="utf-8")
        replay.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": tests}), encoding="utf-8")
        for command in (["check", "rules", str(rules)], ["test", "rules", str(replay)]):
            status, out = rendered.run([promtool(), *command])
            found += [f"promtool {command[0]} rules: {out.strip()[:4000]}"] if status else []
    return found
