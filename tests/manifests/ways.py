"""An overlay's routes in a real Envoy: which of them a path takes, however it is written.

The controllers are not here, so their part is written down anew: how Istio and Envoy Gateway translate the few kinds of
matches that the overlays use, in which order, and how they treat paths. Each route answers by itself and says which it is.
"""

import contextlib
import itertools
import re
import socket
import subprocess
import tempfile
import time
import urllib.parse
from pathlib import Path

import yaml

import proxy
from rendered import find, of_kind

READY_WITHIN = 20.0  # seconds
HOST = "shop.example.com"
# What Envoy gives to a backend: the route's name, whether an AuthorizationPolicy would ask, and the path.
TOLD = {
    "x-way": "%ROUTE_NAME%",
    "x-asked": "%DYNAMIC_METADATA(envoy.filters.http.rbac:istio_ext_authz_shadow_effective_policy_id)%",
    "x-path": "%REQ(:PATH)%",
}


def direct(status, text):
    return {"status": status, "body": {"inline_string": text}}


def istio_match(uri):
    """A StringMatch of a VirtualService, as istiod writes it: prefixes of characters, regexes over the whole path."""
    (kind, value), = uri.items()
    return {"exact": {"path": value}, "prefix": {"prefix": value}, "regex": {"safe_regex": {"regex": value}}}[kind]


def istio_routes(documents):
    for http in find(documents, "VirtualService", "shop")["spec"]["http"]:
        answer = http.get("directResponse")
        answer = direct(answer["status"], answer["body"]["string"]) if answer else direct(200, "")
        for match in [istio_match(match["uri"]) for match in http.get("match", [])] or [{"prefix": "/"}]:
            yield {"name": http["name"], "match": match, "direct_response": answer}


def istio_asks(documents):
    """The filter by which an AuthorizationPolicy with a provider chooses what to ask about."""
    (rule,) = find(documents, "AuthorizationPolicy", "anteroom")["spec"]["rules"]
    operation = rule["to"][0]["operation"]

    def either(values, matcher):
        rules = [matcher({"prefix": value[:-1]} if value.endswith("*") else {"exact": value}) for value in values]
        return {"or_rules": {"rules": rules}}

    hosts = either(
        operation["hosts"], lambda text: {"header": {"name": ":authority", "string_match": text | {"ignore_case": True}}}
    )
    left_out = either(operation["notPaths"], lambda text: {"url_path": {"path": text}})
    policy = {"permissions": [{"and_rules": {"rules": [hosts, {"not_rule": left_out}]}}], "principals": [{"any": True}]}
    return {
        "name": "envoy.filters.http.rbac",
        "typed_config": {
            "@type": f"{proxy.TYPES}.http.rbac.v3.RBAC",
            "shadow_rules": {"action": "DENY", "policies": {"istio-ext-authz-anteroom": policy}},
            "shadow_rules_stat_prefix": "istio_ext_authz_",
        },
    }


def gateway_routes(documents):
    """HTTPRoutes as Envoy Gateway sorts them: exact paths, then regexes, then prefixes of segments; longer ones first."""
    made = []
    for route in of_kind(documents, "HTTPRoute"):
        for rule, match in ((rule, match) for rule in route["spec"]["rules"] for match in rule["matches"]):
            kind, value = match["path"]["type"], match["path"]["value"]
            rank = ("Exact", "RegularExpression", "PathPrefix").index(kind)
            way = {
                "Exact": {"path": value},
                "RegularExpression": {"safe_regex": {"regex": value}},
                "PathPrefix": {"prefix": "/"} if value == "/" else {"path_separated_prefix": value.rstrip("/")},
            }[kind]
            name = route["metadata"]["name"]
            made.append(((rank, -len(value)), {"name": name, "match": way, "direct_response": direct(200, "")}))
    return [route for _, route in sorted(made, key=lambda one: one[0])]


def own_routes(envoy):
    """The routes of an Envoy configuration of ours: `shop` is the one that is asked about, the others go by their cluster."""
    manager = envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    for route in (route for host in manager["route_config"]["virtual_hosts"] for route in host["routes"]):
        asked = "check_settings" in route.get("typed_per_filter_config", {}).get("envoy.filters.http.ext_authz", {})
        name = "shop" if asked else route.get("route", {}).get("cluster", "none").replace("_", "-")
        answer = route.get("direct_response", direct(200, ""))
        yield {"name": name, "match": route["match"], "direct_response": answer}


def config(routes, path_options, filters=()):
    """A whole configuration; its ports are Envoy's choice."""
    anywhere = {"socket_address": {"address": "127.0.0.1", "port_value": 0}}
    headers = [{"header": {"key": key, "value": value}} for key, value in TOLD.items()]
    manager = {
        "@type": f"{proxy.TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ways",
        # Each path comes over a connection of its own; Envoy would keep each for a second after its answer.
        "delayed_close_timeout": "0s",
        "normalize_path": True,
        "merge_slashes": True,
        **path_options,
        "http_filters": [*filters, proxy.ROUTER],
        "route_config": {
            "response_headers_to_add": headers,
            "virtual_hosts": [{"name": HOST, "domains": [HOST, f"{HOST}:*"], "routes": list(routes)}],
        },
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "ways", "address": anywhere, "filter_chains": [chain]}
    return yaml.safe_dump({"admin": {"address": anywhere}, "static_resources": {"listeners": [listener]}})


def istio_config(documents, path_options):
    return config(istio_routes(documents), path_options, [istio_asks(documents)])


class Running:
    """Envoy with a configuration, until the end of the `with`."""

    def __init__(self, text):
        self.text = text
        self.process = None

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        path = Path(self.folder.name)
        (path / "envoy.yaml").write_text(self.text, encoding="utf-8")
        log = path / "log"
        command = [proxy.envoy(), "-c", str(path / "envoy.yaml"), "--disable-hot-restart", "--concurrency", "1"]
        with open(log, "wb") as out:
            self.process = subprocess.Popen([*command, "--log-level", "info"], stdout=out, stderr=out)
        try:
            self.port = self.wait_for_port(log)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def wait_for_port(self, log):
        """The listener's port, once Envoy serves; the admin listener tells it, and the log where that is."""
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline and self.process.poll() is None:
            text = log.read_text(encoding="utf-8", errors="replace")
            admin = re.search(r"admin address: 127\.0\.0\.1:(\d+)", text)
            if admin and "starting main dispatch loop" in text:
                listeners = raw(int(admin[1]), "/listeners", "localhost")[2]
                port = re.search(r"ways::127\.0\.0\.1:(\d+)", listeners)
                if port:
                    return int(port[1])
            time.sleep(0.05)
        raise AssertionError(f"Envoy did not start: {log.read_text(encoding='utf-8', errors='replace')[-2000:]}")

    def way(self, path):
        """Where a path leads in the end: status and what the route tells. Redirects are followed."""
        for _ in range(4):
            status, headers, _ = raw(self.port, path, HOST)
            location = headers.get("location")
            if status not in (301, 302, 307, 308) or not location:
                return status, headers
            parts = urllib.parse.urlsplit(location)
            path = location if not parts.netloc else location.split(parts.netloc, 1)[1]
        raise AssertionError(f"{path} is sent on without end")


def raw(port, path, host):
    """Asks for a path exactly as it is written: status, headers, body."""
    request = f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b"")).decode("latin-1")
    head, _, body = answer.partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split(" ")[1]), headers, body


# What backends do to a path before they look for it, each on its own and in any order.
def without_parameters(path):
    return re.sub(r";[^/\\]*", "", path)


def resolved(path):
    kept = []
    for segment in path.split("/"):
        if segment == "..":
            kept = kept[:-1] or kept
        elif segment != ".":
            kept.append(segment)
    return "/".join(kept)


def cut_at_nul(path):
    return path.split("\0")[0].rstrip(" ")


STEPS = (
    str.lower,
    without_parameters,
    resolved,
    cut_at_nul,
    lambda path: re.sub("//+", "/", path),
    lambda path: path.replace("\\", "/"),
)


def readings(path):
    """Everything that a backend may take a path for. It decodes once: what decodes twice cannot be helped."""
    start = (path.partition("?")[0].partition("#")[0], False)
    seen, left = {start}, [start]
    while left:
        text, decoded = left.pop()
        news = {(step(text), decoded) for step in STEPS}
        if not decoded:
            news.add((urllib.parse.unquote(text, errors="replace"), True))
        left += news - seen
        seen |= news
    return {text for text, _ in seen}


def may_be_shop(path):
    return any(re.fullmatch(r"/shop(/.*)?", reading, re.DOTALL) for reading in readings(path))


def spellings():
    """Those that tests/e2e sends as well, and every way over every open route to the protected one."""
    text = (Path(__file__).resolve().parents[1] / "data/spellings.txt").read_text(encoding="utf-8")
    yield from text.splitlines()
    begins = ("", "/open", "/healthz", "/anteroom", "/anteroom.v1.WaitingRoom", "/.well-known/acme-challenge")
    ups = (
        "", "/", "/.", "/;", "/;x=1", "/%3b", "/.;", "/..", "/..;", "/..;x=1", "/..%3B", "/%2e%2e", "/.%2E;a", "%2f..", "/..%2f",
        "%5c..", "\\..", "/..%5c", "/x/..", "/x/..;/..", ";/..", "/..;%2f", "/%2e;", "/..%00", "/%2e%2e%3bx",
    )
    ends = (
        "/shop", "/SHOP", "//shop", "/%73hop", "/sh%6Fp", "/shop/", "/shop;x=1", "/shop%3bx", "/shop%2f", "/shop/../shop",
        "%2fshop", "/shop%00", "/shop%20", "\\shop", "%5cshop", "/;/shop", "/;shop", "/%53HOP;/a", "/shop?a=/..", "/.;/shop",
    )
    for begin, up, end in itertools.product(begins, ups, ends):
        yield f"{begin}{up * max(1, begin.count('/'))}{end}" or "/"
    # Once more below a path of several segments, where one step up is not enough.
    for up, end in itertools.product(ups, ends):
        yield f"/anteroom/v1/rooms/shop/stream{up * 5}{end}"
