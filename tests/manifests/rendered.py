"""What is tested: the overlays as kubectl renders them, and the files that they are made of."""

import copy
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "k8s"
# Monitoring stands next to any of the others; what it names is in the base.
OVERLAYS = {
    "base": [K8S / "base"],
    "sidecar": [K8S / "overlays/sidecar"],
    "istio": [K8S / "overlays/istio"],
    "envoy-gateway": [K8S / "overlays/envoy-gateway"],
    "monitoring": [K8S / "base", K8S / "overlays/monitoring"],
}


def program(variable, name, remedy):
    """The path of a program that the tests run."""
    found = shutil.which(os.environ.get(variable) or name)
    if not found:
        raise SystemExit(f"tests/manifests: there is no {name}: {remedy}, or name one in {variable}")
    return found


def run(command, **options):
    """Exit status and everything that was written."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120, **options)
    return done.returncode, done.stdout


@functools.cache
def kubectl():
    return program("KUBECTL", "kubectl", "install kubectl 1.27 or newer (its `kustomize` renders the overlays)")


@functools.cache
def text(folder):
    """A kustomization as it would be applied."""
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, timeout=120)
    if done.returncode:
        raise AssertionError(f"kubectl kustomize {folder}: {done.stderr.strip()}")
    return done.stdout


@functools.cache
def parsed(overlay):
    parts = (yaml.safe_load_all(text(folder)) for folder in OVERLAYS[overlay])
    return [document for part in parts for document in part if document]


def documents(overlay):
    """The documents of an overlay, anew at each call, so that a test may spoil them."""
    return copy.deepcopy(parsed(overlay))


@functools.cache
def secrets_text():
    """k8s/secrets with the examples filled in; they need not be right, only there."""
    with tempfile.TemporaryDirectory() as folder:
        for source in (K8S / "secrets").iterdir():
            if source.name == "kustomization.yaml" or ".example." in source.name:
                shutil.copy(source, Path(folder) / source.name.replace(".example", ""))
        (Path(folder) / "admin.token").write_text("0" * 64 + "\n", encoding="utf-8")
        return text(folder)


def secrets():
    """The documents of k8s/secrets, made of the examples."""
    return list(yaml.safe_load_all(secrets_text()))


def name_of(document):
    return f"{document['kind']} {document['metadata']['name']}"


def of_kind(documents, *kinds):
    return [document for document in documents if document.get("kind") in kinds]


def find(documents, kind, name):
    """The document of this kind and name, which must be there."""
    return next(one for one in documents if one.get("kind") == kind and one["metadata"]["name"] == name)
