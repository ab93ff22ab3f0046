"""The image and the laptop's compose file, as far as they can be judged without Docker."""

import fnmatch
import re
import shutil
import tempfile
import tomllib
from pathlib import Path

import compose_spec
import yaml
from dockerfile_parse import DockerfileParser

import program
import rendered

ROOT = rendered.ROOT
# Where listeners stand unless told otherwise; EXPOSE names them.
DEFAULT = re.compile(r"--(?:authz|grpc|http|admin)-listen .*?\[default: 127\.0\.0\.1:(\d+)\]", re.DOTALL)


def instructions(text):
    with tempfile.TemporaryDirectory() as folder:
        parser = DockerfileParser(path=f"{folder}/Dockerfile")
        parser.content = text
        return [(one["instruction"], one["value"]) for one in parser.structure]


def ignored(path):
    """Whether .dockerignore keeps a path out of the build: the last pattern that fits decides."""
    out = False
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        pattern = line.strip().removeprefix("!")
        if line.startswith("#") or not pattern:
            continue
        if fnmatch.fnmatch(path, pattern) or path.startswith(pattern + "/"):
            out = not line.startswith("!")
    return out


def context(text, folder):
    """Copies what the first stage would be given; complaints for what is not there."""
    found = []
    for instruction, value in instructions(text):
        if instruction != "COPY" or "--from=" in value:
            continue
        *sources, target = value.split()
        for source in sources:
            into = folder / target / (Path(source).name if target.endswith("/") else "")
            if ignored(source) or not (ROOT / source).exists():
                found.append(f"Dockerfile: COPY {source}: it is not there, or left out by .dockerignore")
            elif (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, into)
            else:
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, into)
    return found


def members(folder):
    """Members of the workspace that cargo would not find: it reads all of them, whatever is built."""
    workspace = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))["workspace"]
    for member in workspace.get("members", []):
        if not (folder / member / "Cargo.toml").exists():
            yield f"Dockerfile: {member}/Cargo.toml, a member of the workspace, is not copied"


def included(folder):
    """Files that the sources take in when they are compiled, and that the build would not find."""
    for source in sorted((folder / "src").rglob("*.rs")):
        text = source.read_text(encoding="utf-8")
        # What only tests take in is not built.
        if source.name == "tests.rs" or source.parent.name == "tests":
            continue
        text = text.partition("#[cfg(test)]\nmod tests {")[0]
        for path in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', text):
            if not (source.parent / path).exists():
                yield f"Dockerfile: {source.relative_to(folder)} takes in {path}, which is not copied"


def dockerfile(text):
    """What is wrong with the Dockerfile."""
    with tempfile.TemporaryDirectory() as folder:
        found = context(text, Path(folder))
        found += [*members(Path(folder)), *included(Path(folder))] if not found else []
    lines = instructions(text)
    last = max(place for place, (instruction, _) in enumerate(lines) if instruction == "FROM")
    image = dict(lines[last:])
    if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", image.get("USER", "")):
        found.append(f"Dockerfile: USER should be two numbers, none of them 0, not {image.get('USER')}")
    if "HEALTHCHECK" in dict(lines):
        found.append("Dockerfile: HEALTHCHECK is the orchestrator's")
    if image.get("ENTRYPOINT") != '["/anteroom"]':
        found.append("Dockerfile: ENTRYPOINT should be the program alone")
    _, help_text = rendered.run([program.anteroom(), "serve", "--help"], env=program.environment())
    ports = sorted(DEFAULT.findall(help_text))
    if sorted(image.get("EXPOSE", "").split()) != ports:
        found.append(f"Dockerfile: EXPOSE should name {' '.join(ports)}")
    builds = [value for instruction, value in lines if instruction == "RUN" and "cargo build" in value]
    for word in ("--locked", "--release", "--remap-path-prefix", "SOURCE_DATE_EPOCH"):
        if not any(word in build for build in builds):
            found.append(f"Dockerfile: cargo build without {word} cannot be repeated")
    if not any(value.startswith("rust:${RUST_VERSION}") for instruction, value in lines if instruction == "FROM"):
        found.append("Dockerfile: the first stage should be rust:${RUST_VERSION}")
    return found


def compose(text):
    """What is wrong with compose.yaml."""
    # Aliases and merges written out: the checker takes `<<` for a field.
    spec = yaml.safe_load(text)
    try:
        compose_spec.PyCompose.from_yaml(yaml.safe_dump(spec)).validate()
    except ValueError as error:
        return [f"compose.yaml: {error}"]
    found, services = [], spec["services"]
    for name, service in services.items():
        for needed in service.get("depends_on", []):
            if needed not in services:
                found.append(f"compose.yaml: {name} depends on {needed}, which there is not")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            there = (ROOT / source).exists() if source.startswith(".") else source in spec["volumes"]
            if not there:
                found.append(f"compose.yaml: {name} mounts {source}, which there is not")
    anteroom = services["anteroom"]
    role, *arguments = anteroom["command"]
    known = program.flags(role) or {}
    for flag in (argument.partition("=")[0] for argument in arguments):
        if flag not in known:
            found.append(f"compose.yaml: anteroom {role} has no flag {flag}")
    if not found:
        arguments = [one.replace("/keys/keys.yaml", "FOLDER/keys.yaml") for one in arguments]
        complaints = program.check_config({"keys.yaml": program.KEYS}, arguments, anteroom["environment"])
        found += [f"compose.yaml: {line}" for line in complaints]
    envoy = yaml.safe_load((ROOT / "compose/envoy.yaml").read_text(encoding="utf-8"))
    for cluster in envoy["static_resources"]["clusters"]:
        for group in cluster["load_assignment"]["endpoints"]:
            for endpoint in group["lb_endpoints"]:
                host = endpoint["endpoint"]["address"]["socket_address"]["address"]
                if host not in services:
                    found.append(f"compose.yaml: compose/envoy.yaml asks {host}, which there is not")
    return found
