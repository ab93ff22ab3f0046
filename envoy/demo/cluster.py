"""The demo's Redis: a cluster of six servers, or a single one, on free ports of loopback, with its data in a temporary
directory. run.py starts and stops the servers like its other parts."""

import re
import socket
import subprocess
import time

NODES = {"redis": 1, "cluster": 6}
NEEDED = 7  # BITPOS and BITCOUNT by bits came with Redis 7.0
READY_WITHIN = 30.0  # seconds, for all servers together
ROOM = "shop"
# Longer than a failover takes, or an emptied master would come back before its replica has taken over.
RESTART_AFTER = 15.0
OPTIONS = """
bind 127.0.0.1
daemonize no
save ""
appendonly no
repl-diskless-sync-delay 0
"""
CLUSTER_OPTIONS = """
cluster-enabled yes
cluster-config-file nodes.conf
cluster-node-timeout 2000
# A shard that is out takes no other along.
cluster-require-full-coverage no
"""


class Trouble(Exception):
    """Redis cannot be used; the message says why and what to do."""


def free_ports(count, taken):
    """Ports that nobody listens on now, none of them in `taken`."""
    sockets, ports = [], []
    try:
        while len(ports) < count:
            probe = socket.socket()
            sockets.append(probe)  # kept open, so that none is given twice
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
            if port not in taken:
                ports.append(port)
    finally:
        for probe in sockets:
            probe.close()
    return ports


def check_version():
    try:
        said = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise Trouble(f"redis-server cannot be run ({error}): install it, or use STORE=memory") from None
    version = re.search(r"v=(\d+)\.(\S+)", said)
    if version is None or int(version[1]) < NEEDED:
        found = version[0][2:] if version else said.strip()
        raise Trouble(f"redis-server is {found}; Anteroom needs {NEEDED}.0 or newer")


def ask(port, *words):
    """What a server answers to a command, as text; OSError if it does not."""
    request = b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(request)
        answer = connection.makefile("rb")
        first = answer.readline().decode().rstrip()
        if first.startswith("$"):
            return answer.read(int(first[1:])).decode()
        if not first or first[0] not in "+:":
            raise OSError(f"{' '.join(words)}: {first or 'no answer'}")
        return first[1:]


class Redis:
    """The servers of a store: `cluster` or `redis`."""

    def __init__(self, kind, taken):
        check_version()
        self.kind = kind
        ports = free_ports(NODES[kind] * 2, taken)
        self.ports, self.bus = ports[::2], ports[1::2]
        self.names = {port: f"redis-{number}" for number, port in enumerate(self.ports, 1)}

    def url(self):
        """What --store takes. Three servers are enough to find the others."""
        if self.kind == "redis":
            return f"redis://127.0.0.1:{self.ports[0]}"
        return "redis-cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports[:3])

    def start(self, parts, directory):
        """Starts the servers and waits until all are in, replicas with their data."""
        for port, bus in zip(self.ports, self.bus, strict=True):
            home = directory / self.names[port]
            home.mkdir()
            options = f"port {port}\ndir {home}\n{OPTIONS}"
            if self.kind == "cluster":
                options += f"cluster-port {bus}\n{CLUSTER_OPTIONS}"
            (home / "redis.conf").write_text(options, encoding="utf-8")
            command = ["redis-server", str(home / "redis.conf")]
            parts.start(self.names[port], command, again_after=RESTART_AFTER, ends_last=True)
        self.wait(parts, "answers", lambda port: ask(port, "PING") == "PONG")
        if self.kind == "cluster":
            self.join()
            self.wait(parts, "is in the cluster, with its data", self.is_in)

    def join(self):
        nodes = [f"127.0.0.1:{port}@{bus}" for port, bus in zip(self.ports, self.bus, strict=True)]
        command = ["redis-cli", "--cluster", "create", *nodes, "--cluster-replicas", "1", "--cluster-yes"]
        try:
            # A session of its own: Ctrl-C is for the demo, which then ends in order.
            made = subprocess.run(
                command, capture_output=True, text=True, timeout=READY_WITHIN, stdin=subprocess.DEVNULL, start_new_session=True
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Trouble(f"redis-cli could not make the cluster: {error}") from None
        if made.returncode != 0:
            raise Trouble(f"redis-cli could not make the cluster:\n{made.stdout}{made.stderr}")

    def wait(self, parts, what, holds):
        deadline = time.monotonic() + READY_WITHIN
        for port in self.ports:
            while True:
                parts.check()
                try:
                    if holds(port):
                        break
                    problem = "not yet"
                except OSError as error:
                    problem = str(error)
                if time.monotonic() > deadline:
                    raise Trouble(f"not within {READY_WITHIN:.0f} s: {self.names[port]} {what} ({problem})")
                time.sleep(0.05)

    def is_in(self, port):
        """Whether a server takes part, knows all others by their roles, and has a replica or is one with all data."""
        replicas = sum("slave" in line.split()[2] for line in ask(port, "CLUSTER", "NODES").splitlines())
        if replicas != len(self.ports) // 2 or "cluster_state:ok" not in ask(port, "CLUSTER", "INFO"):
            return False
        state = ask(port, "INFO", "replication")
        return ("master_link_status:up" if "role:slave" in state else "connected_slaves:1") in state

    def nodes(self):
        """Role of each server, by port: `master`, `replica of PORT`, or `out`. What the first one that answers says."""
        if self.kind == "redis":
            return {self.ports[0]: "the server"}
        for port in self.ports:
            try:
                lines = [line.split() for line in ask(port, "CLUSTER", "NODES").splitlines()]
            except OSError:
                continue
            at = {words[0]: int(re.search(r":(\d+)@", words[1])[1]) for words in lines}
            roles = {}
            for words in lines:
                flags = words[2].split(",")
                role = "master" if "master" in flags else f"replica of {at.get(words[3], '?')}"
                roles[at[words[0]]] = "out" if "fail" in flags else role
            return roles
        return {}

    def master_of_room(self):
        """The port of the master that has the room's slot; None while there is none."""
        if self.kind == "redis":
            return self.ports[0]
        for port in self.ports:
            try:
                slot = int(ask(port, "CLUSTER", "KEYSLOT", f"anteroom:{{{ROOM}}}"))
                lines = [line.split() for line in ask(port, "CLUSTER", "NODES").splitlines()]
            except OSError:
                continue
            for words in lines:
                ranges = [span.split("-") for span in words[8:] if not span.startswith("[")]
                if "fail" not in words[2].split(",") and any(int(r[0]) <= slot <= int(r[-1]) for r in ranges):
                    return int(re.search(r":(\d+)@", words[1])[1])
        return None

    def describe(self, parts):
        """What runs where, and how to hurt it."""
        roles, master = self.nodes(), self.master_of_room()
        lines = [f"  Redis               {self.url()}"]
        for port in self.ports:
            mark = f", has the room {ROOM}" if port == master else ""
            pid = parts.pid(self.names[port])
            lines.append(f"    {self.names[port]}  127.0.0.1:{port:<5}  pid {pid:<8} {roles.get(port, '?')}{mark}")
        killed = parts.pid(self.names[master]) if master else "PID"
        after = "its replica takes over within seconds" if self.kind == "cluster" else "the line heals from the visitors' tickets"
        lines += [
            "",
            f"  Hurt it: what dies is started again (Redis after {RESTART_AFTER:.0f} s)",
            f"    kill -9 {killed}          the master of the room's shard: {after}",
            f"    kill -STOP {killed}       the same, but hung; kill -CONT {killed} wakes it",
            f"    redis-cli -p {master or self.ports[0]} flushall   all data of one server gone",
        ]
        if self.kind == "cluster":
            lines.append(f"    redis-cli -p {self.ports[-1]} cluster nodes   who is master now")
        return "\n".join(lines)
