"""The program itself: its flags, its metrics, its admin paths, and what it says of a configuration."""

import contextlib
import functools
import os
import re
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import rendered

READY_WITHIN = 20.0  # seconds
FLAG = re.compile(r"^\s+(--[a-z-]+)(?: <[A-Z:_]+>.*\[env: (ANTEROOM_[A-Z_]+))?", re.MULTILINE)
SAMPLE = re.compile(r"^([a-z_][a-z0-9_]*)(?:\{(.*)\})? ", re.MULTILINE)
LABEL = re.compile(r'([a-z_]+)="([^"]*)"')
# A fixed key for checks: it signs nothing.
KEYS = "keys:\n- kid: test\n  alg: HS256\n  secret: " + "A" * 43 + "=\n"


@functools.cache
def anteroom():
    return rendered.program("ANTEROOM_BIN", "anteroom", "`make test` builds it")


def environment(**variables):
    """This process' environment without what would configure Anteroom."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ANTEROOM_")} | variables


@functools.cache
def flags(*role):
    """The flags of a subcommand, each with its variable; None: there is no such subcommand."""
    status, help_text = rendered.run([anteroom(), *role, "--help"], env=environment())
    if status:
        return None
    # An explanation may come on lines of its own; then so does the variable.
    return {flag: f"ANTEROOM_{flag[2:].replace('-', '_').upper()}" for flag, _ in FLAG.findall(help_text)}


def check_config(files, arguments=(), variables=None):
    """What `anteroom check-config` finds: a list of complaints. `files` are texts by name, of which those in YAML are
    checked themselves; `arguments` may name them as FOLDER/name."""
    return list(checked(tuple(files.items()), tuple(arguments), tuple((variables or {}).items())))


@functools.cache
def checked(files, arguments, variables):
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for name, content in files:
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(content, encoding="utf-8")
            paths += [str(path)] if name.endswith(".yaml") else []
        arguments = [argument.replace("FOLDER", folder) for argument in arguments]
        command = [anteroom(), "check-config", *arguments, *paths]
        status, out = rendered.run(command, env=environment(**dict(variables)))
        lines = [line.replace(folder + "/", "") for line in out.strip().splitlines()]
        return [line for line in lines if not re.search(r": fine|^\d+ mistakes?$", line)] if status else []


class Running:
    """`anteroom serve` on ports of its own, until the end of the `with`. Operators show what is in `token`."""

    def __init__(self, token=None):
        self.process = None
        self.token = token
        self.folder = tempfile.TemporaryDirectory()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(4)]
            for each in sockets:
                each.bind(("127.0.0.1", 0))
            ports = [each.getsockname()[1] for each in sockets]
        names = ("authz", "grpc", "http", "admin")
        where = [word for name, port in zip(names, ports) for word in (f"--{name}-listen", f"127.0.0.1:{port}")]
        rooms = Path(self.folder.name) / "rooms.yaml"
        rooms.write_text("rooms: {shop: {capacity: 1, rate: 5/s}}\n", encoding="utf-8")
        if self.token:
            file = Path(self.folder.name) / "admin.token"
            file.touch(mode=0o600)
            file.write_text(self.token, encoding="utf-8")
            where += ["--admin-token-file", str(file)]
        self.log = Path(self.folder.name) / "log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [anteroom(), "serve", "--rooms", str(rooms), *where], stdout=log, stderr=log, env=environment()
            )
        self.client, self.admin = (f"http://127.0.0.1:{port}" for port in ports[2:])
        try:
            self.wait_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()

    def wait_ready(self):
        deadline = time.monotonic() + READY_WITHIN
        while self.ask(self.admin + "/readyz")[0] != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"anteroom was not ready: {self.log.read_text(encoding='utf-8')}")
            time.sleep(0.05)

    def ask(self, url, method="GET"):
        """Status and body; status 0: no answer."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(urllib.request.Request(url, method=method), timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""


@functools.cache
def seen():
    """What a running program shows: its series, `name → label → values`, and the statuses of its admin paths."""
    with Running() as service:
        room = f"{service.client}/anteroom/v1/rooms/shop"
        joined = [service.ask(room + "/join", "POST")[0] for _ in range(3)]
        assert joined == [201] * 3, joined
        series = {}
        for name, labels in SAMPLE.findall(service.ask(service.admin + "/metrics")[1]):
            known = series.setdefault(name, {})
            for label, value in LABEL.findall(labels):
                known.setdefault(label, set()).add(value)
        assert "anteroom_waiting" in series, sorted(series)
        paths = {path: service.ask(service.admin + path)[0] for path in ("/livez", "/readyz", "/metrics")}
        return series, paths
