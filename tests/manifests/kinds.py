"""Every document by the schema of its kind; a field that the schema does not know is a mistake."""

import functools
import json

import jsonschema
import kubernetes_validate

from rendered import ROOT, name_of

# The oldest that the manifests are for (`preStop.sleep`) and the newest.
VERSIONS = ["1.30", "1.37"]
SCHEMAS = ROOT / "tests/manifests/schemas"


def strict(schema):
    """The same schema, refusing fields that are not in it, where it tells which there are."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    # `properties` maps names to schemas; a field may itself be called "properties".
    new = {
        key: {name: strict(part) for name, part in value.items()} if key == "properties" else strict(value)
        for key, value in schema.items()
    }
    open_to_all = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if schema.get("type") == "object" and isinstance(schema.get("properties"), dict) and not open_to_all:
        new["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        new["type"] = ["integer", "string"]
    return new


@functools.cache
def custom(group, version, kind):
    """The strict schema of a kind that Kubernetes itself does not have; None: we have none."""
    file = SCHEMAS / f"{group}_{version}_{kind}.json"
    if not file.exists():
        return None
    schema = strict(json.loads(file.read_text(encoding="utf-8")))
    for always in ("apiVersion", "kind", "metadata"):
        schema["properties"].setdefault(always, {})
    return jsonschema.Draft202012Validator(schema)


def ours(document):
    """Whether the kind comes from outside: its group has a domain that is not k8s.io, or is that of Gateway API."""
    group = document["apiVersion"].rpartition("/")[0]
    return "." in group and (not group.endswith(".k8s.io") or group == "gateway.networking.k8s.io")


def complaints(document):
    """What is wrong with one document by the schema of its kind."""
    name = name_of(document)
    if ours(document):
        group, version = document["apiVersion"].split("/")
        schema = custom(group, version, document["kind"])
        if schema is None:
            return [f"{name}: tests/manifests/schemas has no schema for {document['apiVersion']} {document['kind']}"]
        return [f"{name}: {error.json_path}: {error.message}" for error in schema.iter_errors(document)]
    found = []
    for version in VERSIONS:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except kubernetes_validate.ValidationError as error:
            path = ".".join(str(part) for part in error.path)
            found.append(f"{name}: {path}: {error.message} (Kubernetes {version})")
        except kubernetes_validate.SchemaNotFoundError as error:
            found.append(f"{name}: {error.message} (Kubernetes {version})")
    return found
