"""The event of event.js against a demo that is started for it and stopped after it. `make k6` calls it.

    run.py --anteroom FILE --envoy FILE --k6 FILE --logs DIR

SCALE (default 0.02) scales the event, STAGE (default 10s) is how long each of its five stages lasts. Ports as for the
demo (PORT_OFFSET=…). Exit status: 0 all answers right, 1 something could not start or died, 2 wrong arguments, else k6's.
"""

import argparse
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "envoy" / "demo"))

import cluster  # noqa: E402
import run as demo  # noqa: E402

ADMISSIONS = 1000  # per second, at scale 1
STAGES = [1000, 5000, 10000, 20000, 30000]  # requests per second, at scale 1, as in event.js
INDENT = " " * 24


def limits(scale):
    """The limits of the event's room."""
    per_minute = max(1, round(ADMISSIONS * scale * 60))
    stated = {"room": "shop", "rate": f"{per_minute}/m", "session_ttl": "240s", "claim_ttl": "60s"}
    return "".join(f'{INDENT}{key}: "{value}"\n' for key, value in stated.items())


def envoy_yaml(scale):
    """The demo's configuration with these limits for /shop."""
    text = demo.ENVOY_YAML.read_text(encoding="utf-8")
    text, count = re.subn(r"(context_extensions:\n)\s+room: shop\n(?:.+\n)+", rf"\1{limits(scale)}", text)
    if count != 1:
        raise demo.Failed(f"{demo.ENVOY_YAML} should state the limits of room shop exactly once: found {count}")
    return text


def announce(scale, stage):
    """What is going to happen: k6 itself is silent until its summary."""
    rates = ", ".join(f"{math.ceil(rate * scale):,}" for rate in STAGES)
    print(f"The event × {scale:g}: {rates} requests/s through Envoy, {stage} each; {ADMISSIONS * scale:g} let in per second")
    print("k6 sums up at the end.", flush=True)


def scale_from_environment():
    text = os.environ.get("SCALE") or "0.02"
    try:
        scale = float(text)
    except ValueError:
        scale = 0.0
    if not 0.0 < scale <= 10.0:
        raise demo.Failed(f"SCALE={text!r} is wrong: write a number above 0, at most 10", 2)
    return scale


def run(args):
    scale = scale_from_environment()
    if not os.access(args.k6, os.X_OK):
        raise demo.Failed(f"--k6: there is no program at {args.k6}; `make k6` installs it", 2)
    ports = demo.choose_ports()
    logs = Path(args.logs).resolve() / f"k6-{ports['PORT']}"
    logs.mkdir(parents=True, exist_ok=True)
    parts = demo.Parts(logs)
    with tempfile.TemporaryDirectory(prefix="anteroom-k6-") as directory:
        config = Path(directory) / "event.yaml"
        config.write_text(envoy_yaml(scale), encoding="utf-8")
        demo.ENVOY_YAML = config
        try:
            demo.start_all(parts, args, ports, Path(directory))
            stage = os.environ.get("STAGE") or "10s"
            announce(scale, stage)
            command = [args.k6, "run", "--quiet", "--no-usage-report"]
            command += ["-e", f"AT=http://127.0.0.1:{ports['PORT']}", "-e", f"SCALE={scale}"]
            command += ["-e", f"STAGE={stage}", str(HERE / "event.js")]
            return watch(parts, subprocess.Popen(command))
        finally:
            parts.stop()


def watch(parts, k6):
    """Waits for k6; ends it if a part of the demo dies or a signal comes."""
    try:
        while True:
            try:
                return k6.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                parts.check()
    finally:
        if k6.poll() is None:
            k6.kill()
            k6.wait()


def main():
    parser = argparse.ArgumentParser(description="The event through Envoy, by k6")
    for name in ("anteroom", "envoy", "k6"):
        parser.add_argument(f"--{name}", required=True, metavar="FILE", help=f"the program `{name}`")
    parser.add_argument("--logs", required=True, metavar="DIR", help="where the logs go")
    parser.add_argument("--store", choices=sorted(demo.REPLICAS), default="memory", help="where the rooms live")
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _frame: demo.stopped_by.append(signal.Signals(number).name))
    try:
        return run(parser.parse_args())
    except demo.Stopped as stopped:
        print(f"{stopped}: stopped", file=sys.stderr)
        return 1
    except demo.Failed as failure:
        print(f"k6: {failure}", file=sys.stderr)
        return failure.status
    except cluster.Trouble as trouble:
        print(f"k6: {trouble}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
