"""What documents say of the program and of the sources, held against both: each function lists what is not so."""

import functools
import os
import re
import shlex

import yaml

import documents
import program
import rendered
from rendered import ROOT

METRIC = re.compile(r"\banteroom_[a-z0-9_]*[a-z0-9](_?…)?")
HEADER = re.compile(r"\bx-anteroom-[a-z][a-z-]*[a-z]")
VARIABLE = re.compile(r"\bANTEROOM_[A-Z0-9_]*[A-Z0-9]")
TEST = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)+")
# The first parts of paths from the root that prose may name.
FOLDERS = "benches caddy compose docs envoy examples fuzz k8s loadtest lua nginx proto src tests traefik web"
PATH = re.compile(rf"(?:{FOLDERS.replace(' ', '|')})/[\w./*{{}},-]*")
# Names that begin like metrics: Envoy's clusters, and the cookies.
NO_METRIC = re.compile(r"anteroom_(authz|http|position|ticket_.*|pass_.*|ticket|pass)")
# Variables that are no flag's: those of Kubernetes, which the program lets pass.
NO_FLAG = {"ANTEROOM_SERVICE_HOST", "ANTEROOM_PORT_8081_TCP"}
ENVOYS_FLAGS = {"--service-node", "--service-cluster", "--concurrency"}
SUBCOMMANDS = ("serve", "authz", "stream", "check-config", "rooms", "deny")


def at(document, line, what):
    return f"{document.path}:{line}: {what}"


def links(document):
    """Links to files or headings that are not there, and links named after a test that is not in the file."""
    found = []
    for line, text, target in document.links:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / document.path).parent / path
        if path and not file.exists():
            found.append(at(document, line, f"{target}: there is no such file"))
        elif anchor and (not path or file.suffix == ".md"):
            other = documents.read(os.path.relpath(file, ROOT)) if path else document
            if anchor not in other.anchors:
                found.append(at(document, line, f"{target}: {other.path} has no such heading"))
        elif file.suffix == ".rs" and TEST.fullmatch(text):
            if not re.search(rf"\bfn {text}\b", file.read_text(encoding="utf-8")):
                found.append(at(document, line, f"{text}: there is no such test in {path}"))
    return found


def paths(document):
    """Paths of files in prose that are not there."""
    return [
        at(document, line, f"{span}: there is no such file")
        for line, span in document.spans
        if PATH.fullmatch(span) and not list(ROOT.glob(re.sub(r"\{[^}]*\}", "*", span.rstrip("/"))))
    ]


@functools.cache
def targets():
    return set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def make(document):
    """Targets that the Makefile does not have."""
    return [
        at(document, line, f"make {target}: the Makefile has no such target")
        for line, code in document.code
        for target in re.findall(r"(?:^|[;&|] *|[A-Z_]+=\S+ )make ([a-z][a-z0-9-]*)\b(?!…)", code)
        if target not in targets()
    ]


def metrics(document):
    """Names of metrics that a running program does not show."""
    series, _ = program.seen()
    known = set(series) | {re.sub(r"_(bucket|count|sum|total)$", "", name) for name in series}
    found = []
    for line, code in document.code:
        for match in METRIC.finditer(code):
            name, prefix = match[0].rstrip("_…"), bool(match[1])
            if NO_METRIC.fullmatch(name) or name in known or (prefix and any(one.startswith(name) for one in known)):
                continue
            found.append(at(document, line, f"{name}: there is no such metric"))
    return found


@functools.cache
def sources():
    return "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "src").rglob("*.rs")))


def headers(document):
    """Names of headers that the program does not know."""
    return [
        at(document, line, f"{name}: no header of the program's")
        for line, code in document.code
        for name in HEADER.findall(code)
        if f'"{name}"' not in sources()
    ]


def variables(document):
    """Variables that the program does not read."""
    known = set(program.flags("serve").values()) | NO_FLAG
    return [
        at(document, line, f"{name}: no variable of the program's")
        for line, code in document.code
        for name in VARIABLE.findall(code)
        if name not in known
    ]


def words(command):
    """The words of a command line, comments left out; None: they are no command line."""
    try:
        return shlex.split(command, comments=True)
    except ValueError:
        return None


def commands(document):
    """Calls of `anteroom` with a subcommand or flag that it does not have."""
    found = []
    for line, code in document.code:
        for part in re.split(r"[;&|]+", code):
            said = words(part.strip()) or []
            if said[:1] == ["anteroom"] and len(said) > 1:
                found += [at(document, line, one) for one in call(said[1:])]
    return found


def call(said):
    """What is wrong with these words behind `anteroom`."""
    if said[0].startswith(("-", "…")):
        return []
    if said[0] not in SUBCOMMANDS:
        return [f"anteroom {said[0]}: there is no such subcommand"]
    sub = [said[0]]
    if sub in (["rooms"], ["deny"]) and len(said) > 1 and re.fullmatch(r"[a-z]+", said[1]):
        sub.append(said[1])
    known = program.flags(*sub)
    if known is None:
        return [f"anteroom {' '.join(sub)}: there is no such subcommand"]
    given = [word.partition("=")[0] for word in said if word.startswith("--")]
    return [f"anteroom {' '.join(sub)} has no flag {flag}" for flag in given if flag not in known]


def mentioned_flags(document):
    """Flags in spans of their own that no subcommand has. docs/performance.md has those of the harness, too."""
    if document.path == "docs/performance.md":
        return []
    subs = [(sub,) for sub in SUBCOMMANDS] + [("rooms", "limits"), ("rooms", "reset"), ("deny", "add")]
    known = {flag for sub in subs for flag in program.flags(*sub)} | ENVOYS_FLAGS
    return [
        at(document, line, f"{span}: no flag of the program's")
        for line, span in document.spans
        if re.fullmatch(r"--[a-z][a-z-]+(?: \S+)?", span) and span.split()[0] not in known
    ]


def configurations(document):
    """Blocks that are whole rooms or keys files, or limits, and that `check-config` does not take."""
    found = []
    for block in document.blocks:
        if block.info != "yaml" or "…" in block.text or "<base64" in block.text:
            continue
        if re.match(r"(rooms|keys):", block.text):
            found += [at(document, block.line, one) for one in program.check_config({"block.yaml": block.text})]
        found += [at(document, block.line, one) for one in limits(block.text)]
    return found


def limits(text):
    """Limits in the `context_extensions` of a block that cannot be understood."""
    found = []
    for extensions in values(yaml.safe_load(text), "context_extensions"):
        room = dict(extensions)
        name = room.pop("room", "room")
        found += program.check_config({"rooms.yaml": yaml.safe_dump({"rooms": {name: room}})})
    return found


def values(tree, key):
    """Every value of this key, at any depth."""
    if isinstance(tree, list):
        return [one for item in tree for one in values(item, key)]
    if not isinstance(tree, dict):
        return []
    return ([tree[key]] if key in tree else []) + [one for item in tree.values() for one in values(item, key)]


def alerts(document):
    """Alerts without a heading in docs/operations.md, and headings of alerts that are no more."""
    if document.path != "docs/operations.md":
        return []
    rules = yaml.safe_load((rendered.K8S / "overlays/monitoring/alerts.yaml").read_text(encoding="utf-8"))
    names = {rule["alert"].lower() for group in rules["spec"]["groups"] for rule in group["rules"] if "alert" in rule}
    told = {anchor for anchor in document.anchors if anchor.startswith("anteroom")}
    return [at(document, 1, f"nothing about the alert {name}") for name in sorted(names - told)] + [
        at(document, 1, f"{name}: there is no such alert") for name in sorted(told - names)
    ]


ALL = (links, paths, make, metrics, headers, variables, commands, mentioned_flags, configurations, alerts)
