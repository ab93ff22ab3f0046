"""What the kinds of Gateway API, Envoy Gateway and Istio say of each other and of our Services."""

import re

import rendered
from rendered import name_of, of_kind

MESH_CONFIG = rendered.K8S / "overlays/istio/mesh-config.yaml"
# Istio's MeshConfig is no Kubernetes kind and has no schema here: these are its fields that a provider may have.
PROVIDER_FIELDS = {"service", "port", "timeout", "failOpen", "statusOnError", "clearRouteCache"}
IN_CLUSTER = re.compile(r"([a-z0-9-]+)\.anteroom\.svc\.cluster\.local")


def ours(documents):
    """Our Services' ports, by name."""
    return {
        service["metadata"]["name"]: {port["port"]: port for port in service["spec"]["ports"]}
        for service in of_kind(documents, "Service")
    }


def reaches(documents, who, name, port):
    """Whether a Service of ours has this port; other people's Services are theirs."""
    if name.startswith("anteroom") and port not in ours(documents).get(name, {}):
        yield f"{who}: there is no Service {name} with port {port}"


def gateway_api(documents):
    gateways = {
        one["metadata"]["name"]: {listener["name"] for listener in one["spec"]["listeners"]}
        for one in of_kind(documents, "Gateway")
        if one["apiVersion"].startswith("gateway.networking.k8s.io/")
    }
    classes = {one["metadata"]["name"] for one in of_kind(documents, "GatewayClass")}
    for gateway in of_kind(documents, "Gateway"):
        wanted = gateway["spec"].get("gatewayClassName")
        if wanted and wanted not in classes:
            yield f"{name_of(gateway)}: there is no GatewayClass {wanted}"
    protected = {
        target["name"] for one in of_kind(documents, "SecurityPolicy") for target in one["spec"]["targetRefs"]
    }
    for route in of_kind(documents, "HTTPRoute"):
        for parent in route["spec"]["parentRefs"]:
            if parent.get("sectionName") not in gateways.get(parent["name"], set()):
                yield f"{name_of(route)}: there is no Gateway {parent['name']} with listener {parent.get('sectionName')}"
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                yield from reaches(documents, name_of(route), backend["name"], backend["port"])
            to_us = any(backend["name"].startswith("anteroom") for backend in rule["backendRefs"])
            paths = [match["path"]["value"] for match in rule["matches"]]
            if to_us and route["metadata"]["name"] in protected:
                yield f"{name_of(route)}: it leads to Anteroom, so no SecurityPolicy may aim at it"
            if any(path.endswith("/stream") or "WaitingRoom" in path for path in paths):
                if rule.get("timeouts", {}).get("request") != "0s":
                    yield f"{name_of(route)}: {paths[0]} is a stream, so its request timeout should be 0s"


def envoy_gateway(documents):
    routes = {one["metadata"]["name"] for one in of_kind(documents, "HTTPRoute")}
    gateways = {one["metadata"]["name"] for one in of_kind(documents, "Gateway")}
    for policy in of_kind(documents, "SecurityPolicy", "BackendTrafficPolicy", "ClientTrafficPolicy"):
        for target in policy["spec"]["targetRefs"]:
            if target["name"] not in {"HTTPRoute": routes, "Gateway": gateways}.get(target["kind"], set()):
                yield f"{name_of(policy)}: there is no {target['kind']} {target['name']}"
    for policy in of_kind(documents, "SecurityPolicy"):
        asked = policy["spec"]["extAuth"]
        for backend in asked["grpc"]["backendRefs"]:
            yield from reaches(documents, name_of(policy), backend["name"], backend["port"])
        yield from soon(name_of(policy), asked.get("timeout"))
        if asked.get("statusOnError") != 503:
            yield f"{name_of(policy)}: statusOnError should be 503, not {asked.get('statusOnError')}"


def soon(who, timeout):
    """Envoy's own time for a Check must be stated, above Anteroom's 60 ms and below what a visitor notices."""
    milliseconds = {"100ms": 100, "0.1s": 100}.get(timeout)
    if milliseconds is None:
        yield f"{who}: the timeout of a Check should be 100 ms, not {timeout}"


def istio(documents):
    routes = {}
    for service in of_kind(documents, "VirtualService"):
        for route in service["spec"]["http"]:
            routes[route["name"]] = route
            for destination in (part["destination"] for part in route.get("route", [])):
                our = IN_CLUSTER.fullmatch(destination["host"])
                if our:
                    yield from reaches(documents, name_of(service), our[1], destination["port"]["number"])
            uris = [value for match in route.get("match", []) for value in match["uri"].values()]
            if any(uri.endswith("/stream") or "WaitingRoom" in uri for uri in uris) and route.get("timeout") != "0s":
                yield f"{name_of(service)}: route {route['name']} is a stream, so its timeout should be 0s"
        gateways = {one["metadata"]["name"] for one in of_kind(documents, "Gateway")}
        for gateway in service["spec"]["gateways"]:
            if gateway not in gateways:
                yield f"{name_of(service)}: there is no Gateway {gateway}"
    for rule in of_kind(documents, "DestinationRule"):
        our = IN_CLUSTER.fullmatch(rule["spec"]["host"])
        if not our or our[1] not in ours(documents):
            yield f"{name_of(rule)}: there is no Service for {rule['spec']['host']}"
    for patch in of_kind(documents, "EnvoyFilter"):
        for one in patch["spec"]["configPatches"]:
            name = one["match"].get("routeConfiguration", {}).get("vhost", {}).get("route", {}).get("name")
            if one["applyTo"] == "HTTP_ROUTE" and name not in routes:
                yield f"{name_of(patch)}: no VirtualService has a route {name}"


def authorization(documents, mesh):
    """The AuthorizationPolicy, and the provider that istiod's values name."""
    providers = {one["name"]: one for one in mesh["meshConfig"]["extensionProviders"]}
    for name, provider in providers.items():
        grpc = provider["envoyExtAuthzGrpc"]
        for field in sorted(grpc.keys() - PROVIDER_FIELDS):
            yield f"mesh-config.yaml: a provider has no field {field}"
        our = IN_CLUSTER.fullmatch(grpc["service"])
        yield from reaches(documents, f"mesh-config.yaml: {name}", our[1] if our else "anteroom?", grpc["port"])
        yield from soon(f"mesh-config.yaml: {name}", grpc.get("timeout"))
    for policy in of_kind(documents, "AuthorizationPolicy"):
        spec = policy["spec"]
        if spec["provider"]["name"] not in providers:
            yield f"{name_of(policy)}: mesh-config.yaml names no provider {spec['provider']['name']}"
        for rule in spec["rules"]:
            for to in rule["to"]:
                left_out = {path.rstrip("*") for path in to["operation"].get("notPaths", [])}
                for path in ("/healthz", "/anteroom/", "/anteroom.v1.WaitingRoom/"):
                    if path not in left_out:
                        yield f"{name_of(policy)}: {path} must never wait, so notPaths should have it"


def complaints(documents, mesh=None):
    """Everything of this page; `mesh`: the content of mesh-config.yaml, where it belongs to the overlay."""
    found = [problem for check in (gateway_api, envoy_gateway, istio) for problem in check(documents)]
    return found + list(authorization(documents, mesh) if mesh else [])
