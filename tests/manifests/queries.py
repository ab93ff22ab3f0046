"""PromQL in rules and dashboards: syntax, and that every metric, label and value in it is one that the program has."""

import functools
import json
import re

import promql_parser as promql

import program
from rendered import name_of, of_kind

# What Prometheus adds to every series by where it was scraped.
TARGET = {"job", "instance", "namespace", "pod", "service", "container", "endpoint"}
# Of other programs: Prometheus itself and kube-state-metrics.
FOREIGN = {
    "up": set(),
    "kube_deployment_status_replicas_ready": {"deployment"},
    "kube_horizontalpodautoscaler_status_desired_replicas": {"horizontalpodautoscaler"},
    "kube_horizontalpodautoscaler_spec_max_replicas": {"horizontalpodautoscaler"},
}
# Labels whose values are a closed set in the program.
CLOSED = {"verdict", "op", "kind", "reason", "listener", "result", "why", "event", "answer", "le"}
VARIABLES = {"$__rate_interval": "5m", "$namespace": "anteroom", "$room": "shop"}
SET_OPERATORS = promql.VectorMatchCardinality.ManyToMany


class Reader:
    """Reads expressions; `records` are the labels of the series that recording rules make."""

    def __init__(self, records=None):
        self.records = dict(records or {})
        self.found = []

    def read(self, text):
        """The labels that the result carries, or None where it cannot be read. Complaints go to `found`."""
        try:
            return self.labels(promql.parse(text))
        except ValueError as error:
            self.found.append(f"is no PromQL: {error}: {text}")
            return None

    def labels(self, expr):
        kind = type(expr).__name__
        if kind == "VectorSelector":
            return self.selector(expr)
        if kind == "MatrixSelector":
            return self.selector(expr.vector_selector)
        if kind in ("NumberLiteral", "StringLiteral"):
            return None
        if kind == "AggregateExpr":
            return self.aggregate(expr)
        if kind == "Call":
            return self.call(expr)
        if kind == "BinaryExpr":
            return self.binary(expr)
        return self.labels(expr.expr)  # parentheses, minus, subqueries

    def selector(self, expr):
        name = expr.name
        series, _ = program.seen()
        if name in self.records:
            known, values = self.records[name], {}
        elif name in FOREIGN:
            known, values = FOREIGN[name] | TARGET, {}
        elif name in series:
            known, values = set(series[name]) | TARGET, series[name]
        else:
            self.found.append(f"{name} is no metric of Anteroom's")
            return set()
        for matcher in expr.matchers.matchers:
            if matcher.name not in known:
                self.found.append(f"{name} has no label {matcher.name}, only {', '.join(sorted(known))}")
            elif matcher.name in CLOSED and matcher.name in values:
                self.values(name, matcher, values[matcher.name])
        return set(known)

    def values(self, name, matcher, values):
        exact = matcher.op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual)
        for wanted in [matcher.value] if exact else matcher.value.split("|"):
            if not (wanted in values if exact else any(re.fullmatch(wanted, value) for value in values)):
                self.found.append(f"{name}: {matcher.name} is never {wanted!r}, but {', '.join(sorted(values))}")

    def aggregate(self, expr):
        inner = self.labels(expr.expr) or set()
        if expr.modifier is None:
            return set()
        wanted = set(expr.modifier.labels)
        for label in sorted(wanted - inner):
            self.found.append(f"nothing has the label {label} that is asked for by/without: {expr.prettify()}")
        return wanted if expr.modifier.type == promql.AggModifierType.By else inner - wanted

    def call(self, expr):
        given = [self.labels(argument) for argument in expr.args]
        name = expr.func.name
        if name in ("time", "scalar"):
            return None
        if name in ("absent", "vector"):
            return set()
        result = set().union(*(labels for labels in given if labels))
        if name == "histogram_quantile":
            if "le" not in result:
                self.found.append(f"a quantile needs the label le: {expr.prettify()}")
            result.discard("le")
        return result

    def binary(self, expr):
        left, right = self.labels(expr.lhs), self.labels(expr.rhs)
        if left is None or right is None:
            return left if right is None else right
        modifier = expr.modifier
        matching = modifier.matching if modifier else None
        if matching is None:
            # `or` brings series together; the others need the same labels on both sides, or nothing ever matches.
            if left != right and not (modifier and modifier.card == SET_OPERATORS and not right):
                self.found.append(f"the sides carry other labels ({sorted(left)}, {sorted(right)}): {expr.prettify()}")
            return left
        for label in matching.labels:
            if label not in left or label not in right:
                self.found.append(f"not both sides have the label {label}: {expr.prettify()}")
        if modifier.card != promql.VectorMatchCardinality.OneToOne:
            return left
        return set(matching.labels)


def templated(text, labels):
    """Labels that a text names in braces and the result does not carry."""
    named = re.findall(r"\$labels\.([a-z_]+)", text) + re.findall(r"\{\{\s*([a-z_]+)\s*\}\}", text)
    missing = [label for label in named if labels is not None and label not in labels]
    return [f"{{{{{label}}}}} is no label of the result" for label in missing]


def rules(document):
    """What is wrong with a PrometheusRule, and the labels of the series that it records."""
    reader, found = Reader(), []
    for group in document["spec"]["groups"]:
        for rule in group["rules"]:
            name = rule.get("alert") or rule.get("record")
            labels = reader.read(rule["expr"])
            if "record" in rule:
                reader.records[name] = labels or set()
            else:
                # What an expression without labels is about, is known all the same.
                texts = " ".join(rule["annotations"].values())
                reader.found += templated(texts, labels)
                url = rule["annotations"].get("runbook_url")
                if url != f"docs/operations.md#{name.lower()}":
                    reader.found.append(f"runbook_url should be docs/operations.md#{name.lower()}")
            found += [f"{name_of(document)}: {name}: {problem}" for problem in reader.found]
            reader.found = []
    return found, reader.records


def substituted(text):
    return functools.reduce(lambda text, pair: text.replace(*pair), VARIABLES.items(), text)


def dashboard(name, content, records):
    """What is wrong with a Grafana dashboard."""
    board, found = json.loads(content), []
    reader = Reader(records)
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            labels = reader.read(substituted(target["expr"]))
            reader.found += templated(target.get("legendFormat", ""), labels)
            found += [f"{name}: panel {panel['title']}: {problem}" for problem in reader.found]
            reader.found = []
    ids = [panel["id"] for panel in board["panels"]]
    if len(ids) != len(set(ids)):
        found.append(f"{name}: two panels have one id")
    for variable in board["templating"]["list"]:
        # Grafana asks the one and shows the other.
        definition = variable.get("definition", "")
        asked = re.fullmatch(r"label_values\((.+), ([a-z_]+)\)", definition)
        if variable["type"] == "query" and variable["query"]["query"] != definition:
            found.append(f"{name}: variable {variable['name']} is shown as {definition}, which is not what it asks")
        if variable["type"] == "query" and not asked:
            found.append(f"{name}: variable {variable['name']} is no label_values(…)")
        elif asked and asked[2] not in (reader.read(substituted(asked[1])) or set()):
            reader.found.append(f"no such label {asked[2]}")
        found += [f"{name}: variable {variable['name']}: {problem}" for problem in reader.found]
        reader.found = []
    return found


def complaints(documents):
    """What is wrong with all rules and dashboards among these documents."""
    found, records = [], {}
    for document in of_kind(documents, "PrometheusRule"):
        problems, made = rules(document)
        found += problems
        records |= made
    for document in of_kind(documents, "ConfigMap"):
        for name, content in document.get("data", {}).items():
            if name.endswith(".json"):
                found += dashboard(name, content, records)
    return found
