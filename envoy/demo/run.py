"""The demo: Anteroom, a small backend and Envoy together, until Ctrl-C. `make run` calls it.

    run.py --anteroom FILE --envoy FILE --logs DIR [--store memory|redis|cluster]

With `redis` the rooms live in one Redis server; with `cluster`, in six, shared by two Anterooms behind one Envoy.

Ports come from the environment (see PORTS); PORT_OFFSET is added to those not given, so that copies run side by side.
Exit status: 0 stopped on request, 1 could not start or a part died, 2 wrong arguments or environment.
"""

import argparse
import base64
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import cluster

HERE = Path(__file__).resolve().parent
ENVOY_YAML = HERE.parent / "envoy.yaml"

# Variable, default, and what listens there. The defaults are the ports that envoy.yaml states.
PORTS = {
    "PORT": (8080, "Envoy"),
    "BACKEND_PORT": (8000, "the backend"),
    "AUTHZ_PORT": (50051, "Anteroom's ext_authz"),
    "GRPC_PORT": (50052, "Anteroom's gRPC positions"),
    "HTTP_PORT": (8081, "Anteroom's HTTP positions"),
    "ADMIN_PORT": (9102, "Anteroom's admin"),
    "ENVOY_ADMIN_PORT": (9901, "Envoy's admin"),
}
# Only Envoy asks there, and they lie where systems take the ports of outgoing connections from: where such a connection
# holds one, any other does as well.
ONLY_FOR_ENVOY = ("AUTHZ_PORT", "GRPC_PORT")
IN_ENVOY_YAML = [name for name in PORTS if name != "ADMIN_PORT"]
# What each replica of Anteroom listens on, by flag. Those of a second one are any that are free.
REPLICA = {
    "--authz-listen": "AUTHZ_PORT",
    "--grpc-listen": "GRPC_PORT",
    "--http-listen": "HTTP_PORT",
    "--admin-listen": "ADMIN_PORT",
}
REPLICAS = {"memory": 1, "redis": 1, "cluster": 2}
READY_WITHIN = 20.0  # seconds, for each part
STOP_WITHIN = 8.0  # seconds for those that end together, before SIGKILL
ANTEROOM_AGAIN_AFTER = 3.0  # seconds until a replica that died is started again, where there are several


class Failed(Exception):
    """The demo cannot go on; the message says why and what to do. `status` is the exit status."""

    def __init__(self, message, status=1):
        super().__init__(message)
        self.status = status


class Stopped(Exception):
    """SIGINT, SIGTERM or SIGHUP came."""


# The signal that came, if any. Its handler raises nothing: an exception between the start of a process and its being
# written down would leave that process behind.
stopped_by = []


def number(name, default, low, high):
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdigit() or not low <= int(text) <= high:
        raise Failed(f"{name}={text!r} is wrong: write a whole number from {low} to {high}", 2)
    return int(text)


def choose_ports():
    """The ports by variable; fails naming variable and port where one is doubled, or taken and not to be replaced."""
    offset = number("PORT_OFFSET", 0, 0, 10000)
    ports = {name: number(name, default + offset, 1, 65535) for name, (default, _) in PORTS.items()}
    seen = {}
    for name, port in ports.items():
        if port in seen:
            raise Failed(f"{name} and {seen[port]} are both {port}: give each its own port", 2)
        seen[port] = name
        taken = why_taken(port)
        if taken and name in ONLY_FOR_ENVOY and not os.environ.get(name):
            ports[name] = cluster.free_ports(1, all_taken(ports, []))[0]
            seen[ports[name]] = name
        elif taken:
            raise Failed(
                f"port {port} ({PORTS[name][1]}) is not free: {taken}; "
                f"set {name} to another one, or PORT_OFFSET=100 to move all"
            )
    return ports


def why_taken(port):
    """Why nothing can listen there; empty: it can."""
    with socket.socket() as probe:
        # As the servers do: a port that is merely in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            return error.strerror
    return ""


def ports_of_replicas(store, ports):
    """The ports of each replica, by variable; the first one's are those chosen."""
    replicas = [{name: ports[name] for name in REPLICA.values()}]
    while len(replicas) < REPLICAS[store]:
        free = cluster.free_ports(len(REPLICA), all_taken(ports, replicas))
        replicas.append(dict(zip(REPLICA.values(), free, strict=True)))
    return replicas


def all_taken(ports, replicas):
    """Ports that this demo uses or that envoy.yaml states."""
    stated = {default for default, _ in PORTS.values()}
    return stated.union(ports.values(), *(replica.values() for replica in replicas))


def envoy_config(ports, replicas):
    """envoy.yaml with other ports, and an endpoint for each replica. Each default stands there exactly once, as
    `port_value: N`."""
    # In one pass over the original, so that a port moved to another one's default is not moved again.
    text = ENVOY_YAML.read_text(encoding="utf-8")
    spots = []
    for name in IN_ENVOY_YAML:
        old = f"port_value: {PORTS[name][0]} }}"
        if text.count(old) != 1:
            raise Failed(f"{ENVOY_YAML} should state {old!r} exactly once: {name} cannot be set")
        at = text.index(old)
        begin, end = text.rindex("\n", 0, at) + 1, text.index("\n", at)
        values = [replica[name] for replica in replicas if name in replica] or [ports[name]]
        lines = [text[begin:end].replace(old, f"port_value: {value} }}") for value in values]
        spots.append((begin, end, "\n".join(lines)))
    for begin, end, lines in sorted(spots, reverse=True):
        text = text[:begin] + lines + text[end:]
    return text


class Parts:
    """The running processes, each with its log; stops exactly those, by pid."""

    def __init__(self, logs):
        self.logs = logs
        self.running = {}
        self.again = {}  # name: (seconds, command, environment) of those that may die
        self.due = {}  # name: when a dead one is started again
        self.ready = False  # until then nothing may die
        self.last = set()  # the names of those that others need until their end

    def start(self, name, command, env=None, again_after=None, ends_last=False):
        """Starts a part. With `again_after` it may die, and is started again so many seconds later."""
        if again_after is not None:
            self.again[name] = (again_after, command, env)
        if ends_last:
            self.last.add(name)
        self.launch(name, command, env, "wb")

    def launch(self, name, command, env, mode):
        with open(self.logs / f"{name}.log", mode) as log:
            # A session of its own: Ctrl-C in the terminal reaches only this script, which then stops them in order.
            self.running[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, env=env
            )

    def check(self):
        """Fails if a part has died that must not, with the end of its log; ends if a signal came."""
        if stopped_by:
            raise Stopped(stopped_by[0])
        for name, process in list(self.running.items()):
            status = process.poll()
            if status is None:
                continue
            how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
            if not self.ready or name not in self.again:
                raise Failed(f"{name} {how}; the end of {self.logs / name}.log:\n{self.tail(name)}")
            after, command, env = self.again[name]
            if name not in self.due:
                self.due[name] = time.monotonic() + after
                print(f"{name} {how}; it is started again in {after:.0f} s", flush=True)
            elif time.monotonic() >= self.due[name]:
                del self.due[name]
                self.launch(name, command, env, "ab")
                print(f"{name} is started again, pid {self.pid(name)}", flush=True)

    def pid(self, name):
        return self.running[name].pid

    def tail(self, name, lines=15):
        text = (self.logs / f"{name}.log").read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join("    " + line for line in text[-lines:]) or "    (empty)"

    def wait_ready(self, name, url):
        deadline = time.monotonic() + READY_WITHIN
        # Without the environment's proxies: all of this is on this machine.
        ask = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while True:
            self.check()
            try:
                with ask.open(url, timeout=1) as answer:
                    if answer.status == 200:
                        return
            except OSError as error:
                problem = error
            if time.monotonic() > deadline:
                raise Failed(
                    f"{name} was not ready within {READY_WITHIN:.0f} s ({url}: {problem}); "
                    f"the end of its log:\n{self.tail(name)}"
                )
            time.sleep(0.05)

    def stop(self):
        """Stops all, last started first, and after them those that they need."""
        names = list(reversed(self.running))
        self.end([name for name in names if name not in self.last])
        self.end([name for name in names if name in self.last])

    def end(self, names):
        """SIGTERM to these; SIGKILL to what is left after the deadline."""
        for name in names:
            process = self.running[name]
            if process.poll() is None:
                process.terminate()
                # One that was stopped by hand must wake to hear it.
                process.send_signal(signal.SIGCONT)
        deadline = time.monotonic() + STOP_WITHIN
        for name in names:
            process = self.running[name]
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                print(f"{name} did not stop within {STOP_WITHIN:.0f} s: killed", file=sys.stderr)
                process.kill()
                process.wait()


def write_keys(path):
    """One key for all replicas: a ticket of one must hold at the others."""
    secret = base64.b64encode(os.urandom(32)).decode()
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f'keys:\n  - kid: "demo"\n    alg: HS256\n    secret: {secret}\n')


def start_anteroom(parts, args, name, ports, directory, redis):
    # Only what is stated here: an ANTEROOM_* variable left in the shell must not change the demo.
    env = {name: value for name, value in os.environ.items() if not name.startswith("ANTEROOM_")}
    if redis:
        kept = {"--store": redis.url(), "--keys": str(directory / "keys.yaml")}
    else:
        kept = {"--store": "memory", "--state-dir": str(directory / "state")}
    flags = {
        **{flag: f"127.0.0.1:{ports[variable]}" for flag, variable in REPLICA.items()},
        **kept,
        # The demo is plain http://, where browsers and curl do not send Secure cookies back.
        "--cookie-secure": "false",
        "--tick": "100ms",
        "--drain": "5s",
    }
    again_after = ANTEROOM_AGAIN_AFTER if REPLICAS[args.store] > 1 else None
    command = [args.anteroom, "serve", *(word for flag in flags.items() for word in flag)]
    parts.start(name, command, env, again_after)


def start_all(parts, args, ports, directory):
    """Starts everything; returns what to say of the replicas and of Redis."""
    at = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
    replicas = ports_of_replicas(args.store, ports)
    names = [f"anteroom-{number}" for number in range(1, len(replicas) + 1)] if len(replicas) > 1 else ["anteroom"]
    config = directory / "envoy.yaml"
    config.write_text(envoy_config(ports, replicas), encoding="utf-8")
    redis = None
    if args.store == "memory":
        (directory / "state").mkdir()
    else:
        write_keys(directory / "keys.yaml")
        redis = cluster.Redis(args.store, all_taken(ports, replicas))
        redis.start(parts, directory)
    for name, replica in zip(names, replicas, strict=True):
        start_anteroom(parts, args, name, replica, directory, redis)
    parts.start("backend", [sys.executable, str(HERE / "backend.py"), str(ports["BACKEND_PORT"])])
    for name, replica in zip(names, replicas, strict=True):
        parts.wait_ready(name, f"http://127.0.0.1:{replica['ADMIN_PORT']}/readyz")
    parts.wait_ready("backend", f"http://{at['BACKEND_PORT']}/healthz")
    # Without hot restart there is no shared memory to clean up and no base id to clash with another Envoy.
    command = [args.envoy, "-c", str(config), "--disable-hot-restart", "--concurrency", "2", "--log-level", "warn"]
    command += ["--file-flush-interval-msec", "200"]  # an access log that can be watched
    parts.start("envoy", command)
    parts.wait_ready("envoy", f"http://{at['ENVOY_ADMIN_PORT']}/ready")
    parts.wait_ready("envoy", f"http://{at['PORT']}/healthz")
    parts.ready = True
    if redis is None:
        return ""
    lines = [
        f"  {name:<19} pid {parts.pid(name):<8} metrics http://127.0.0.1:{replica['ADMIN_PORT']}/metrics"
        for name, replica in zip(names, replicas, strict=True)
    ]
    if len(names) > 1:
        lines.append(f"    one may be killed as well: it is started again after {ANTEROOM_AGAIN_AFTER:.0f} s")
    return "\n".join(["", "What runs where", "", *lines, redis.describe(parts), ""])


def say_what_to_try(ports, logs, where):
    at = f"http://127.0.0.1:{ports['PORT']}"
    room = f"{at}/anteroom/v1/rooms/shop"
    print(
        f"""
Anteroom is running. /shop takes 2 visitors at a time, each for 30 s after their last request.

  In a browser        {at}/shop
                      (for more visitors: private windows, or the ones below)
                      {at}/open/spa, a single-page app

  Two visitors enter, the third waits; each has a cookie jar
    curl -b a.jar -c a.jar {at}/shop
    curl -b b.jar -c b.jar {at}/shop
    curl -b c.jar -c c.jar -i {at}/shop

  The third one's position, once and as a live stream
    curl -b c.jar {room}/position
    curl -b c.jar -N {room}/stream

  The first one leaves, so the third's turn comes
    curl -b a.jar -c a.jar -X DELETE {room}/pass
    curl -b c.jar -c c.jar {at}/shop

  Nobody waits here   curl {at}/open
  Metrics             curl http://127.0.0.1:{ports['ADMIN_PORT']}/metrics
  Envoy's admin       http://127.0.0.1:{ports['ENVOY_ADMIN_PORT']}/
{where}
Logs: {logs}
Ctrl-C stops everything.
""",
        flush=True,
    )


def run(args):
    for name, path in (("--anteroom", args.anteroom), ("--envoy", args.envoy)):
        if not os.access(path, os.X_OK):
            raise Failed(f"{name}: there is no program at {path}; `make run` builds and installs what is needed", 2)
    ports = choose_ports()
    logs = Path(args.logs).resolve() / f"port-{ports['PORT']}"
    logs.mkdir(parents=True, exist_ok=True)
    parts = Parts(logs)
    with tempfile.TemporaryDirectory(prefix="anteroom-demo-") as directory:
        try:
            where = start_all(parts, args, ports, Path(directory))
            say_what_to_try(ports, logs, where)
            while True:
                parts.check()
                time.sleep(0.2)
        except Stopped as signal_name:
            print(f"\n{signal_name}: stopping", flush=True)
        finally:
            parts.stop()
    print("All stopped.", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Anteroom's demo, until Ctrl-C")
    parser.add_argument("--anteroom", required=True, metavar="FILE", help="the program `anteroom`")
    parser.add_argument("--envoy", required=True, metavar="FILE", help="the program `envoy`, 1.40 or newer")
    parser.add_argument("--logs", required=True, metavar="DIR", help="where the logs go")
    parser.add_argument("--store", choices=sorted(REPLICAS), default="memory", help="where the rooms live")
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, lambda number, _frame: stopped_by.append(signal.Signals(number).name))
    try:
        run(parser.parse_args())
    except Failed as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return failure.status
    except cluster.Trouble as trouble:
        print(f"demo: {trouble}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
