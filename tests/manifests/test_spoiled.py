"""Spoiled manifests are refused, each with a message that says what is wrong."""

import copy
import unittest

import yaml

import kinds
import links
import program
import proxy
import queries
import rendered
import routes
from test_shipped import mesh

POD = "spec.template.spec"
GONE = object()


def schema(documents):
    return [one for document in documents for one in kinds.complaints(document)]


def limits(documents):
    return program.check_config({"overlay.yaml": yaml.safe_dump_all(documents)})


def istio(documents):
    return routes.complaints(documents, mesh())


def set_at(place, path, value):
    """Sets what stands at a dotted path, numbers being places in a list; GONE takes it away."""
    *way, last = path.split(".")
    # A dot of a name is written `~`.
    for step in way:
        place = place[int(step)] if step.isdigit() else place[step.replace("~", ".")]
    last = int(last) if last.isdigit() and isinstance(place, list) else last.replace("~", ".")
    if value is GONE:
        del place[last]
    else:
        place[last] = value


# Overlay, kind, name, where, what is put there, who judges, what is said.
MANIFESTS = [
    # Fields and types.
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.imagePullPolice",
        "Always", schema, "imagePullPolice",
    ),
    ("base", "Deployment", "anteroom-authz", f"{POD}.terminationGracePeriodSeconds", "30", schema, "is not of type"),
    ("base", "HorizontalPodAutoscaler", "anteroom-authz", "spec.minReplica", 3, schema, "minReplica"),
    ("base", "NetworkPolicy", "anteroom", "spec.egres", [], schema, "egres"),
    ("base", "PodDisruptionBudget", "anteroom-stream", "apiVersion", "policy/v1beta1", schema, "PodDisruptionBudget"),
    ("envoy-gateway", "SecurityPolicy", "shop", "spec.extAuth.contextExtentions", [], schema, "contextExtentions"),
    ("envoy-gateway", "SecurityPolicy", "shop", "spec.extAuth.statusOnError", 599, schema, "599 is not one of"),
    ("envoy-gateway", "HTTPRoute", "shop", "spec.rules.0.timeout", {}, schema, "timeout"),
    (
        "envoy-gateway", "BackendTrafficPolicy", "anteroom-streams", "spec.timeout.http.requestTimeout",
        "0", schema, "does not match",
    ),
    ("istio", "AuthorizationPolicy", "anteroom", "spec.action", "CUSTM", schema, "CUSTM"),
    ("istio", "DestinationRule", "anteroom-authz", "spec.trafficPolicy.conectionPool", {}, schema, "conectionPool"),
    ("istio", "EnvoyFilter", "anteroom", "spec.configPatches.0.applyTo", "HTTP_ROUT", schema, "HTTP_ROUT"),
    ("istio", "EnvoyFilter", "anteroom", "kind", "EnvoyFliter", schema, "has no schema for"),
    ("monitoring", "ServiceMonitor", "anteroom", "spec.endpoints.0.intervall", "15s", schema, "intervall"),
    ("monitoring", "PrometheusRule", "anteroom", "spec.groups.0.rules.0.exp", "1", schema, "exp"),
    # What one document says of another.
    (
        "base", "Service", "anteroom-authz", "spec.ports.0.targetPort",
        50053, links.complaints, "no container of anteroom-authz has the port 50053",
    ),
    (
        "base", "Service", "anteroom-client", "spec.selector.app~kubernetes~io/component",
        "steam", links.complaints, "its selector matches no pod",
    ),
    (
        "base", "Deployment", "anteroom-stream", "spec.selector.matchLabels.app~kubernetes~io/component",
        "authz", links.complaints, "does not match its own pods",
    ),
    (
        "base", "HorizontalPodAutoscaler", "anteroom-stream", "spec.scaleTargetRef.name",
        "stream", links.complaints, "there is no Deployment stream",
    ),
    (
        "base", "PodDisruptionBudget", "anteroom-authz", "spec.selector.matchLabels.app~kubernetes~io/name",
        "ante", links.complaints, "its selector matches no pod",
    ),
    (
        "base", "NetworkPolicy", "anteroom-authz", "spec.ingress.0.ports.0.port",
        50052, links.complaints, "no NetworkPolicy lets anybody in to port 50051",
    ),
    (
        "base", "NetworkPolicy", "anteroom-stream", "spec.podSelector.matchLabels.app~kubernetes~io/component",
        "x", links.complaints, "its podSelector matches no pod",
    ),
    (
        "sidecar", "NetworkPolicy", "anteroom-stream", "spec.ingress.0.from.0.podSelector.matchLabels.app~kubernetes~io/component",
        "edge", links.complaints, "no pod here is one that it lets in",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.volumes.1.secret.secretName",
        "anteroom-key", links.complaints, "there is no Secret anteroom-key",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.env.0.valueFrom.secretKeyRef.key",
        "STORE", links.complaints, "there is no STORE in a Secret",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.args.3",
        "--rooms=/etc/anteroom/rooms.yaml", links.complaints, "no volume of anteroom has /etc/anteroom/rooms.yaml",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.args.1",
        "--authz-listn=0.0.0.0:50051", links.complaints, "no flag --authz-listn",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.args.1",
        "--authz-listen=0.0.0.0:50052", links.complaints, "anteroom listens at",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.args.0",
        "auth", links.complaints, "no subcommand auth",
    ),
    (
        "base", "Deployment", "anteroom-stream", f"{POD}.containers.0.args.6",
        "--threads=0", links.complaints, "--threads",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.env.0.name",
        "ANTEROOM_STOR", links.complaints, "no variable ANTEROOM_STOR",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.readinessProbe.httpGet.path",
        "/ready", links.complaints, "it should ask /readyz",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.livenessProbe.httpGet.port",
        "admn", links.complaints, "livenessProbe asks port admn",
    ),
    (
        "base", "Deployment", "anteroom-stream", f"{POD}.terminationGracePeriodSeconds",
        30, links.complaints, "terminationGracePeriodSeconds 30 should be at least",
    ),
    (
        "base", "Deployment", "anteroom-authz", f"{POD}.containers.0.securityContext.readOnlyRootFilesystem",
        False, links.complaints, "readOnlyRootFilesystem",
    ),
    (
        "sidecar", "Deployment", "anteroom-authz", f"{POD}.containers.1.resources.limits",
        {}, links.complaints, "limit memory",
    ),
    (
        "monitoring", "ServiceMonitor", "anteroom", "spec.endpoints.0.port",
        "metrics", links.complaints, "has no port named metrics",
    ),
    (
        "monitoring", "ServiceMonitor", "anteroom", "spec.endpoints.0.path",
        "/metric", links.complaints, "there is nothing at /metric",
    ),
    (
        "monitoring", "ServiceMonitor", "anteroom", "spec.namespaceSelector.matchNames",
        ["default"], links.complaints, "it selects no Service",
    ),
    # Gateways and meshes.
    (
        "envoy-gateway", "SecurityPolicy", "shop", "spec.targetRefs.0.name",
        "shops", routes.complaints, "there is no HTTPRoute shops",
    ),
    (
        "envoy-gateway", "SecurityPolicy", "shop", "spec.targetRefs.0.name",
        "anteroom-client", routes.complaints, "no SecurityPolicy may aim at it",
    ),
    (
        "envoy-gateway", "SecurityPolicy", "shop", "spec.extAuth.grpc.backendRefs.0.port",
        50052, routes.complaints, "no Service anteroom-authz with port 50052",
    ),
    (
        "envoy-gateway", "SecurityPolicy", "shop", "spec.extAuth.timeout",
        GONE, routes.complaints, "should be 100 ms, not None",
    ),
    (
        "envoy-gateway", "HTTPRoute", "anteroom-streams", "spec.rules.0.timeouts.request",
        "15s", routes.complaints, "should be 0s",
    ),
    (
        "envoy-gateway", "HTTPRoute", "shop", "spec.parentRefs.0.sectionName",
        "http", routes.complaints, "no Gateway public with listener http",
    ),
    (
        "envoy-gateway", "Gateway", "public", "spec.gatewayClassName",
        "envoy", routes.complaints, "no GatewayClass envoy",
    ),
    ("istio", "AuthorizationPolicy", "anteroom", "spec.provider.name", "antechamber", istio, "no provider antechamber"),
    (
        "istio", "AuthorizationPolicy", "anteroom", "spec.rules.0.to.0.operation.notPaths",
        ["/healthz"], istio, "/anteroom/ must never wait",
    ),
    (
        "istio", "VirtualService", "shop", "spec.http.1.route.0.destination.port.number",
        8080, istio, "no Service anteroom-client with port 8080",
    ),
    ("istio", "VirtualService", "shop", "spec.http.1.timeout", "15s", istio, "is a stream"),
    ("istio", "VirtualService", "shop", "spec.http.4.name", "shops", istio, "no VirtualService has a route shop"),
    (
        "istio", "DestinationRule", "anteroom-client", "spec.host",
        "anteroom-http.anteroom.svc.cluster.local", istio, "there is no Service for",
    ),
    (
        "istio", "Service", "anteroom-authz", "spec.ports.0.port",
        50050, istio, "mesh-config.yaml: anteroom: there is no Service",
    ),
    # Limits.
    (
        "envoy-gateway", "SecurityPolicy", "shop", "spec.extAuth.contextExtensions.1.name",
        "capacty", limits, "did you mean capacity",
    ),
    ("envoy-gateway", "SecurityPolicy", "shop", "spec.extAuth.contextExtensions.2.value", "50", limits, "like 10/s"),
    (
        "istio", "EnvoyFilter", "anteroom", "spec.configPatches.0.patch.value.typed_per_filter_config.envoy~filters~http~ext_authz.check_settings.context_extensions.capacity",
        500, limits, "is a number",
    ),
    # What Envoy would be given.
    (
        "istio", "EnvoyFilter", "anteroom", "spec.configPatches.1.patch.value.route.idle_timout",
        "75s", proxy.filter_complaints, "idle_timout",
    ),
    (
        "istio", "EnvoyFilter", "anteroom", "spec.configPatches.4.patch.value.typed_config.validate_mutation",
        True, proxy.filter_complaints, "validate_mutation",
    ),
    (
        "istio", "EnvoyFilter", "anteroom", "spec.configPatches.4.match.listener.filterChain.filter.subFilter.name",
        "ext_authz", proxy.filter_complaints, "meets nothing: ext_authz",
    ),
]

# Expressions, and what is said of them.
QUERIES = [
    ("rate(anteroom_checks_total[5m]", "is no PromQL"),
    ("sum(rate(anteroom_checks_total))", "is no PromQL"),
    ("rate(anteroom_check_total[5m])", "anteroom_check_total is no metric"),
    ("rate(anteroom_checks[5m])", "anteroom_checks is no metric"),
    ("anteroom_waiting{rom=\"shop\"}", "has no label rom"),
    ("sum by (verdct) (anteroom_checks_total)", "nothing has the label verdct"),
    ("anteroom_checks_total{verdict=\"admitted\"}", "verdict is never 'admitted'"),
    ("rate(anteroom_check_seconds_bucket{le=\"0.15\"}[5m])", "le is never '0.15'"),
    ("anteroom_tokens_refused_total{reason=~\"expired|forged\"}", "reason is never 'forged'"),
    ("histogram_quantile(0.9, sum by (verdict) (rate(anteroom_check_seconds_bucket[5m])))", "needs the label le"),
    ("anteroom_store_up == on (room) anteroom_waiting", "not both sides have the label room"),
    ("max by (room) (anteroom_waiting) unless sum by (kind) (anteroom_streams_open)", "the sides carry other labels"),
    ("anteroom:wait:p95_15min > 1", "anteroom:wait:p95_15min is no metric"),
]


class Spoiled(unittest.TestCase):
    """One mistake at a time in what is shipped."""

    def test_spoiled_manifests_are_refused(self):
        for overlay, kind, name, path, value, judge, said in MANIFESTS:
            with self.subTest(name=name, path=path, value=value):
                documents = rendered.documents(overlay)
                spoiled = rendered.find(documents, kind, name)
                set_at(spoiled, path, value)
                self.assertIn(said, "\n".join(judge([spoiled] if judge is schema else documents)))

    def test_spoiled_queries_are_refused(self):
        for query, said in QUERIES:
            with self.subTest(query=query):
                reader = queries.Reader()
                reader.read(query)
                self.assertIn(said, "\n".join(reader.found))

    def test_spoiled_rules_and_dashboards_are_refused(self):
        documents = rendered.documents("monitoring")
        rule = rendered.find(documents, "PrometheusRule", "anteroom")
        alerts = rule["spec"]["groups"][1]["rules"]
        for field, value, said in (
            ("summary", "{{ $labels.rom }}", "{{rom}} is no label of the result"),
            ("runbook_url", "docs/operations.md#x", "runbook_url should be docs/operations.md#anteroomovershoot"),
        ):
            spoiled = copy.deepcopy(rule)
            spoiled["spec"]["groups"][1]["rules"][0]["annotations"][field] = value
            self.assertIn(said, "\n".join(queries.complaints([spoiled])))
        self.assertEqual("AnteroomOvershoot", alerts[0]["alert"])
        board = rendered.find(documents, "ConfigMap", "anteroom-dashboard")
        for old, new, said in (
            ("by (room) (anteroom_waiting{", "by (room) (anteroom_wating{", "anteroom_wating is no metric"),
            ('"query": "label_values(anteroom_w', '"query": "label_values(anteroom_W', "which is not what it asks"),
            ("{{verdict}}", "{{verdickt}}", "{{verdickt}} is no label of the result"),
            ("label_values(anteroom_build_info", "label_values(anteroom_build", "anteroom_build is no metric"),
        ):
            spoiled = copy.deepcopy(board)
            self.assertIn(old, spoiled["data"]["anteroom.json"])
            spoiled["data"]["anteroom.json"] = spoiled["data"]["anteroom.json"].replace(old, new)
            self.assertIn(said, "\n".join(queries.complaints([rule, spoiled])))

    def test_a_spoiled_provider_is_refused(self):
        for field, value, said in (
            ("timeout", "600s", "should be 100 ms, not 600s"),
            ("timout", "0.1s", "a provider has no field timout"),
            ("port", 9102, "no Service anteroom-authz with port 9102"),
        ):
            config = mesh()
            config["meshConfig"]["extensionProviders"][0]["envoyExtAuthzGrpc"][field] = value
            self.assertIn(said, "\n".join(routes.complaints(rendered.documents("istio"), config)))

    def test_an_overlay_that_does_not_build_says_why(self):
        with self.assertRaisesRegex(AssertionError, "kubectl kustomize .*nowhere"):
            rendered.text(rendered.K8S / "overlays/nowhere")


if __name__ == "__main__":
    unittest.main()
