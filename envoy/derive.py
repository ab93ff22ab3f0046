"""Makes the Envoy configurations for containers from envoy/envoy.yaml, so that the rules stand in one place.

    derive.py compose|sidecar >FILE        (or `derive.py all`: writes both where they belong)

What differs is where things are, the limits, and nothing else; `make test` fails when a file is not what this makes.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = {"compose": "compose/envoy.yaml", "sidecar": "k8s/overlays/sidecar/envoy.yaml"}
HEADS = {
    "compose": "# Envoy in compose.yaml. Made by envoy/derive.py from envoy/envoy.yaml: change that one.\n",
    "sidecar": "# Envoy with Anteroom beside it. Made by envoy/derive.py from envoy/envoy.yaml: change that one, or take this\n"
    "# file as yours from here on: your routes, your backend, your limits.\n",
}
# DNS answers with every replica, and is asked anew every 5 s (Envoy's default). Listeners in containers stand on IPv4.
DNS = """type: STRICT_DNS
    dns_lookup_family: V4_PREFERRED
    lb_policy: LEAST_REQUEST"""
PIPE = "{ pipe: { path: /run/anteroom/authz.sock } }"


def replace(text, old, new):
    """Like str.replace, but `old` must stand there exactly once: else envoy.yaml has changed and so must this."""
    if text.count(old) != 1:
        sys.exit(f"derive.py: envoy/envoy.yaml should hold exactly once, and holds {text.count(old)} times: {old!r}")
    return text.replace(old, new)


def at(text, port, host):
    """Moves the endpoint at this port to a host."""
    spot = f"address: 127.0.0.1, port_value: {port} "
    return replace(text, spot, spot.replace("127.0.0.1", host))


def dns(text, cluster):
    return replace(text, f"- name: {cluster}\n    type: STATIC", f"- name: {cluster}\n    {DNS}")


def derive(kind):
    text = (ROOT / "envoy" / "envoy.yaml").read_text(encoding="utf-8")
    # The comments before the first section tell of that file and its use here.
    text = HEADS[kind] + "\n" + text[text.index("admin:\n") :]
    text = at(text, 8080, "0.0.0.0")
    hosts = {
        "compose": {name: "anteroom" for name in ("anteroom_authz", "anteroom_http", "anteroom_position")},
        "sidecar": {"anteroom_http": "anteroom-client", "anteroom_position": "anteroom-position"},
    }[kind] | {"backend": "backend"}
    ports = {"anteroom_authz": 50051, "anteroom_http": 8081, "anteroom_position": 50052, "backend": 8000}
    for cluster, host in hosts.items():
        text = dns(at(text, ports[cluster], host), cluster)
    if kind == "sidecar":
        socket = "{ socket_address: { address: 127.0.0.1, port_value: 50051 } }"
        text = replace(text, f"address: {socket}", f"address: {PIPE}")
        # A pipe has no TCP keepalive; the anchor stays for the clusters that follow.
        keepalive = re.search(r" *upstream_connection_options: &keepalive\n *tcp_keepalive: .*\n", text).group()
        text = replace(text, keepalive, "")
        text = text.replace("upstream_connection_options: *keepalive", keepalive.strip(), 1)
        for demo, real in (
            ('capacity: "2"', 'capacity: "500"'),
            ("rate: 5/s", "rate: 50/s"),
            ('burst: "2"', 'burst: "50"'),
            ("session_ttl: 30s", "session_ttl: 4m"),
            ("claim_ttl: 10s", "claim_ttl: 60s"),
        ):
            text = replace(text, demo, real)
    return text


def main():
    kinds = sys.argv[1:]
    if kinds == ["all"]:
        for kind, file in FILES.items():
            (ROOT / file).write_text(derive(kind), encoding="utf-8")
    elif len(kinds) == 1 and kinds[0] in FILES:
        sys.stdout.write(derive(kinds[0]))
    else:
        sys.exit(f"usage: derive.py {'|'.join(FILES)}|all")


if __name__ == "__main__":
    main()
