"""Runs the blocks of documents marked `sh tried` against a service that is started for them, and those marked
`sh tried in the demo` against what `make run` starts."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import program
import proxy
from rendered import ROOT

# What a block may take, and the demo's start and end, in seconds.
WITHIN = 60
# What listens where in the documents, and the demo's variable for it.
PORTS = {8080: "PORT", 8081: "HTTP_PORT", 9102: "ADMIN_PORT"}
OTHERS = ("BACKEND_PORT", "AUTHZ_PORT", "GRPC_PORT", "ENVOY_ADMIN_PORT")
# `anteroom` in a block: its client asks that service unless told otherwise.
ANTEROOM = """#!/bin/sh
case "$*" in rooms*--admin\\ *|deny*--admin\\ *) ;; rooms*|deny*) set -- "$@" --admin {admin} ;; esac
exec {program} "$@"
"""
SHOWN = re.compile(r"^# → (.*)$", re.MULTILINE)


@contextlib.contextmanager
def service(folder):
    """`anteroom serve` and its addresses by port; the operators' token is in `admin.token`."""
    token = "0" * 64
    (folder / "admin.token").write_text(token, encoding="utf-8")
    with program.Running(token=token) as running:
        yield {8081: running.client, 9102: running.admin}


@contextlib.contextmanager
def demo(folder):
    """What `make run` starts, on free ports, and its addresses by port."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in [*PORTS, *OTHERS]]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        free = [each.getsockname()[1] for each in sockets]
    ports = dict(zip([*PORTS.values(), *OTHERS], map(str, free)))
    command = [sys.executable, "envoy/demo/run.py", "--anteroom", program.anteroom(), "--envoy", proxy.envoy()]
    log = folder / "demo.log"
    with open(log, "wb") as output, subprocess.Popen(
        [*command, "--logs", str(folder)], cwd=ROOT, env=program.environment(**ports), stdout=output, stderr=output
    ) as process:
        try:
            until(lambda: "stops everything" in log.read_text(encoding="utf-8"), process, log)
            yield {port: f"http://127.0.0.1:{ports[name]}" for port, name in PORTS.items()}
        finally:
            # It ends its parts by itself, and those that do not end by SIGKILL.
            process.terminate()
            process.wait(WITHIN)


def until(ready, process, log):
    deadline = time.monotonic() + WITHIN
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the demo did not come up: {log.read_text(encoding='utf-8')}")
        time.sleep(0.05)


def run(script, folder, variables):
    """Exit status and output; whatever the script has started ends with it."""
    with subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, _ = process.communicate(timeout=WITHIN)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output


def complaints(block):
    """What does not go as the block says: a command that fails, or words behind `# →` that the output does not have,
    in this order."""
    if not block.info.endswith("in the demo"):
        return tried(block, service)
    # Envoy has the timeouts of production there, and gives up Checks on a machine that is busy with other work.
    for _ in range(3):
        if not (found := tried(block, demo)):
            break
    return found


def tried(block, start):
    """What does not go as the block says where this is started for it."""
    with tempfile.TemporaryDirectory() as name, start(Path(name)) as addresses:
        folder = Path(name)
        command = folder / "bin/anteroom"
        command.parent.mkdir()
        command.touch(mode=0o700)
        text = ANTEROOM.format(program=Path(program.anteroom()).resolve(), admin=addresses[9102])
        command.write_text(text, encoding="utf-8")
        variables = program.environment(
            PATH=f"{command.parent}:{os.environ['PATH']}", TMPDIR=str(folder), no_proxy="127.0.0.1"
        )
        script = block.text
        for port, address in addresses.items():
            script = script.replace(f"http://127.0.0.1:{port}", address)
        status, rest = run(script, folder, variables)
    if status:
        return [f"the block at line {block.line} ended with {status}: {rest}"]
    found = []
    for wanted in SHOWN.findall(block.text):
        if wanted not in rest:
            found.append(f"the block at line {block.line} does not show {wanted!r}, but {rest!r}")
            continue
        rest = rest.split(wanted, 1)[1]
    return found
