"""Envoy's own opinion: of whole configurations, and of what an EnvoyFilter would make of Istio's."""

import copy
import functools
import tempfile
from pathlib import Path

import yaml

import rendered
from rendered import name_of, of_kind

TYPES = "type.googleapis.com/envoy.extensions.filters"
ROUTER = {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}


@functools.cache
def envoy():
    return rendered.program("ENVOY_BIN", "envoy", "`make tools` installs it")


def complaints(name, text):
    """What Envoy says against a configuration; nothing if it would start."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "envoy.yaml"
        path.write_text(text, encoding="utf-8")
        command = [envoy(), "--mode", "validate", "-c", str(path), "--disable-hot-restart", "--log-level", "warn"]
        # Some name files from the project's root on.
        status, out = rendered.run(command, cwd=rendered.ROOT)
    if status or "Deprecated field" in out:
        return [f"{name}: Envoy refuses it: {out.strip()[:2000]}"]
    return []


def merged(old, new):
    """As Envoy merges messages: fields over fields, lists one after the other."""
    if isinstance(old, dict) and isinstance(new, dict):
        both = {key: merged(old[key], value) if key in old else value for key, value in new.items()}
        return {**old, **both}
    return old + new if isinstance(old, list) and isinstance(new, list) else new


def gateway(routes):
    """What istiod makes for a gateway, as far as the patches meet it: a listener, the ext_authz filter of an
    AuthorizationPolicy, a cluster, and the routes of a VirtualService by name."""
    ext_authz = {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"{TYPES}.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "anteroom"}, "timeout": "0.1s"},
            "filter_enabled_metadata": {
                "filter": "envoy.filters.http.rbac",
                "path": [{"key": "istio_ext_authz_shadow_effective_policy_id"}],
                "value": {"string_match": {"prefix": "istio-ext-authz"}},
            },
        },
    }
    manager = {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "gateway",
            "http_filters": [ext_authz, ROUTER],
            "route_config": {
                "virtual_hosts": [
                    {
                        "name": "shop.example.com:443",
                        "domains": ["*"],
                        "routes": [
                            {"name": name, "match": {"prefix": f"/{name}"}, "route": {"cluster": "anteroom"}}
                            for name in routes
                        ],
                    }
                ]
            },
        },
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "gateway",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 8443}},
                    "filter_chains": [{"filters": [manager]}],
                }
            ],
            "clusters": [{"name": "anteroom", "type": "STATIC", "connect_timeout": "0.25s"}],
        }
    }


def patched(documents):
    """The gateway's configuration with the overlay's EnvoyFilters; patches that meet nothing are complaints."""
    found = []
    routes = [route["name"] for one in of_kind(documents, "VirtualService") for route in one["spec"]["http"]]
    config = gateway(routes)
    filters = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
    manager = filters[0]["typed_config"]
    for document in of_kind(documents, "EnvoyFilter"):
        for patch in document["spec"]["configPatches"]:
            kind, match = patch["applyTo"], patch["match"]
            # Aliases in the YAML are one object: what is merged must be one's own.
            value = copy.deepcopy(patch["patch"]["value"])
            if kind == "HTTP_ROUTE":
                wanted = match["routeConfiguration"]["vhost"]["route"]["name"]
                among = manager["route_config"]["virtual_hosts"][0]["routes"]
            elif kind == "HTTP_FILTER":
                wanted = match["listener"]["filterChain"]["filter"]["subFilter"]["name"]
                among = manager["http_filters"]
            elif kind == "NETWORK_FILTER":
                wanted = match["listener"]["filterChain"]["filter"]["name"]
                among = filters
            else:
                found.append(f"{name_of(document)}: tests/manifests/proxy.py does not know how to apply to {kind}")
                continue
            places = [place for place, one in enumerate(among) if one["name"] == wanted]
            if patch["patch"]["operation"] != "MERGE" or not places:
                found.append(f"{name_of(document)}: a patch of {kind} meets nothing: {wanted}")
            for place in places:
                among[place] = merged(among[place], value)
                if kind == "NETWORK_FILTER":
                    manager = among[place]["typed_config"]
    return yaml.safe_dump(config), found


def filter_complaints(documents):
    """What is wrong with the EnvoyFilters of an overlay."""
    if not of_kind(documents, "EnvoyFilter"):
        return []
    text, found = patched(documents)
    return found or complaints("EnvoyFilter", text)
