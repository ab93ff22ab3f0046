"""What one document says of another: selectors, ports, names; and what the program has to know of it."""

import re

import program
import rendered
from rendered import name_of, of_kind

# What a pod of ours must say, beyond what the schemas ask for.
POD_RULES = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_RULES = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def matches(selector, labels):
    return all(labels.get(name) == value for name, value in (selector or {}).items())


def pods(documents):
    """Name of the Deployment, and its pods' metadata and spec."""
    for document in of_kind(documents, "Deployment"):
        template = document["spec"]["template"]
        yield document["metadata"]["name"], template["metadata"]["labels"], template["spec"]


def container_ports(spec):
    return {port["containerPort"]: port["name"] for one in spec["containers"] for port in one.get("ports", [])}


def seconds(text):
    """Of a duration as the flags take them; only what is used here."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def services(documents):
    for service in of_kind(documents, "Service"):
        chosen = [pod for pod in pods(documents) if matches(service["spec"]["selector"], pod[1])]
        if not chosen:
            yield f"{name_of(service)}: its selector matches no pod"
        for deployment, _, spec in chosen:
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in container_ports(spec):
                    yield f"{name_of(service)}: no container of {deployment} has the port {port['targetPort']}"


def selectors(documents):
    """Deployments choose their own pods; budgets, autoscalers and policies somebody's."""
    by_name = {name: labels for name, labels, _ in pods(documents)}
    for document in of_kind(documents, "Deployment"):
        name = document["metadata"]["name"]
        if not matches(document["spec"]["selector"]["matchLabels"], by_name[name]):
            yield f"Deployment {name}: its selector does not match its own pods"
        for spread in document["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            if not matches(spread["labelSelector"]["matchLabels"], by_name[name]):
                yield f"Deployment {name}: a topologySpreadConstraint does not match its own pods"
    for document in of_kind(documents, "PodDisruptionBudget"):
        if not any(matches(document["spec"]["selector"]["matchLabels"], labels) for labels in by_name.values()):
            yield f"{name_of(document)}: its selector matches no pod"
    for document in of_kind(documents, "HorizontalPodAutoscaler"):
        target = document["spec"]["scaleTargetRef"]
        if target["kind"] != "Deployment" or target["name"] not in by_name:
            yield f"{name_of(document)}: there is no {target['kind']} {target['name']}"
    scaled = {one["spec"]["scaleTargetRef"]["name"] for one in of_kind(documents, "HorizontalPodAutoscaler")}
    for name in sorted(by_name.keys() - scaled):
        yield f"Deployment {name}: nothing scales it"


def policies(documents):
    """Every port of every pod is let in by a NetworkPolicy, and these name no port that nobody has."""
    let_in = {name: set() for name, _, _ in pods(documents)}
    for policy in of_kind(documents, "NetworkPolicy"):
        spec = policy["spec"]
        chosen = [pod for pod in pods(documents) if matches(spec["podSelector"].get("matchLabels"), pod[1])]
        if not chosen:
            yield f"{name_of(policy)}: its podSelector matches no pod"
        wanted = {port["port"] for rule in spec.get("ingress", []) for port in rule["ports"]}
        for port in sorted(wanted):
            if chosen and not any(port in container_ports(pod[2]) for pod in chosen):
                yield f"{name_of(policy)}: nobody whom it is about has the port {port}"
        for name, _, _ in chosen:
            let_in[name] |= wanted
        for rule in spec.get("ingress", []):
            for peer in rule.get("from", []):
                here = peer.get("podSelector", {}).get("matchLabels") if "namespaceSelector" not in peer else None
                if here is not None and not any(matches(here, pod[1]) for pod in pods(documents)):
                    yield f"{name_of(policy)}: no pod here is one that it lets in: {here}"
    for name, _, spec in pods(documents):
        for port in sorted(container_ports(spec).keys() - let_in[name]):
            yield f"Deployment {name}: no NetworkPolicy lets anybody in to port {port}"


def mounted(documents):
    """ConfigMaps, Secrets, their keys and accounts that pods name."""
    secrets = {one["metadata"]["name"]: one["data"] for one in rendered.secrets()}
    maps = {one["metadata"]["name"]: one["data"] for one in of_kind(documents, "ConfigMap")}
    accounts = {one["metadata"]["name"] for one in of_kind(documents, "ServiceAccount")}
    for name, _, spec in pods(documents):
        volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
        if spec.get("serviceAccountName") not in accounts:
            yield f"Deployment {name}: there is no ServiceAccount {spec.get('serviceAccountName')}"
        held = {}
        for volume in volumes.values():
            for kind, field, known in (("ConfigMap", "name", maps), ("Secret", "secretName", secrets)):
                source = volume.get(kind[0].lower() + kind[1:])
                if source and source[field] not in known:
                    yield f"Deployment {name}: there is no {kind} {source[field]}"
                elif source:
                    held[volume["name"]] = known[source[field]]
        for container in spec["containers"]:
            folders = {}
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"Deployment {name}: there is no volume {mount['name']}"
                folders[mount["mountPath"]] = held.get(mount["name"])
            for path in re.findall(r"/etc/[\w./-]+", " ".join(container.get("args", []))):
                folder, _, file = path.rpartition("/")
                if file not in (folders.get(folder) or {}):
                    yield f"Deployment {name}: no volume of {container['name']} has {path}"
            for variable in container.get("env", []):
                wanted = variable.get("valueFrom", {}).get("secretKeyRef")
                if wanted and wanted["key"] not in secrets.get(wanted["name"], {}):
                    yield f"Deployment {name}: there is no {wanted['key']} in a Secret {wanted['name']}"


def pod_rules(documents):
    """What every pod here must say of itself, and how its end fits together."""
    for name, _, spec in pods(documents):
        for field, value in POD_RULES.items():
            if spec.get("securityContext", {}).get(field) != value:
                yield f"Deployment {name}: securityContext.{field} should be {value}"
        if spec.get("automountServiceAccountToken") is not False:
            yield f"Deployment {name}: automountServiceAccountToken should be false"
        for container in spec["containers"]:
            where = f"Deployment {name}, container {container['name']}"
            for field, value in CONTAINER_RULES.items():
                if container.get("securityContext", {}).get(field) != value:
                    yield f"{where}: securityContext.{field} should be {value}"
            resources = container.get("resources", {})
            if {"cpu", "memory"} - resources.get("requests", {}).keys() or "memory" not in resources.get("limits", {}):
                yield f"{where}: resources should request cpu and memory, and limit memory"
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                asked = container.get(probe, {})
                port = (asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")
                if port not in ports:
                    yield f"{where}: {probe} asks port {port}, which it does not have"
            drain = next((one.split("=")[1] for one in container.get("args", []) if one.startswith("--drain=")), "0s")
            sleep = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
            if spec["terminationGracePeriodSeconds"] < sleep + seconds(drain) + 5:
                yield (
                    f"{where}: terminationGracePeriodSeconds {spec['terminationGracePeriodSeconds']} should be at "
                    f"least preStop {sleep} s + drain {drain} + 5 s"
                )


def commands(documents):
    """Arguments and variables are the program's, listeners stand at the pod's ports, probes ask what is there."""
    for name, _, spec in pods(documents):
        for container in (one for one in spec["containers"] if one["image"].partition(":")[0] == "anteroom"):
            where = f"Deployment {name}"
            role, *arguments = container["args"]
            known = program.flags(role)
            if known is None:
                yield f"{where}: anteroom has no subcommand {role}"
                continue
            given = dict(argument.partition("=")[::2] for argument in arguments)
            wrong = [flag for flag in given if flag not in known]
            variables = {one["name"] for one in container.get("env", []) if one["name"].startswith("ANTEROOM_")}
            yield from (f"{where}: anteroom {role} has no flag {flag}" for flag in wrong)
            for variable in sorted(variables - set(known.values())):
                yield f"{where}: anteroom reads no variable {variable}"
            listens = {flag: value for flag, value in given.items() if flag.endswith("-listen")}
            ports = {int(value.rpartition(":")[2]) for value in listens.values() if not value.startswith("unix:")}
            if ports != set(container_ports({"containers": [container]})):
                yield f"{where}: anteroom listens at {sorted(ports)}, its ports are {sorted(container_ports(spec))}"
            if not wrong:
                yield from values(documents, where, given)
            _, paths = program.seen()
            rights = {"startupProbe": "/livez", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
            for probe, right in rights.items():
                path = container[probe]["httpGet"]["path"]
                if paths.get(path) != 200 or path != right:
                    yield f"{where}: {probe} asks {path}; it should ask {right}"


def values(documents, where, given):
    """What the program itself says of the values, with the files that it would be given."""
    maps = [one["data"] for one in of_kind(documents, "ConfigMap")]
    rooms = next((data["rooms.yaml"] for data in maps if "rooms.yaml" in data), "")
    files = {"rooms.yaml": rooms, "keys.yaml": program.KEYS, "token": "0" * 64 + "\n"}
    named = ("--rooms", "--keys", "--admin-token-file")
    paths = {flag: f"FOLDER/{value.rpartition('/')[2]}" for flag, value in given.items() if flag in named}
    arguments = [f"{flag}={value}" for flag, value in (given | paths).items()]
    store = {"ANTEROOM_STORE": "redis-cluster://redis-0.redis:6379"}
    yield from (f"{where}: {line}" for line in program.check_config(files, arguments, store))


def monitors(documents):
    """A ServiceMonitor meets a Service, and its path is there."""
    for monitor in of_kind(documents, "ServiceMonitor"):
        spec = monitor["spec"]
        chosen = [
            service
            for service in of_kind(documents, "Service")
            if matches(spec["selector"]["matchLabels"], service["metadata"].get("labels", {}))
            and service["metadata"]["namespace"] in spec["namespaceSelector"]["matchNames"]
        ]
        if not chosen:
            yield f"{name_of(monitor)}: it selects no Service"
        for endpoint in spec["endpoints"]:
            for service in chosen:
                if endpoint["port"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"{name_of(monitor)}: {name_of(service)} has no port named {endpoint['port']}"
            if program.seen()[1].get(endpoint["path"]) != 200:
                yield f"{name_of(monitor)}: there is nothing at {endpoint['path']}"


def complaints(documents):
    """Everything of this page, over all documents of an overlay."""
    checks = (services, selectors, policies, mounted, pod_rules, commands, monitors)
    return [problem for check in checks for problem in check(documents)]
