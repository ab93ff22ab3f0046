"""What is shipped is right: every overlay, every Envoy configuration, every query."""

import importlib.util
import unittest

import yaml

import kinds
import links
import program
import proxy
import queries
import rendered
import routes


def derive():
    """envoy/derive.py, as a module."""
    spec = importlib.util.spec_from_file_location("derive", rendered.ROOT / "envoy/derive.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def mesh():
    return yaml.safe_load(routes.MESH_CONFIG.read_text(encoding="utf-8"))


class Shipped(unittest.TestCase):
    """One test for each thing that can be asked; a complaint names document, place and remedy."""

    def every_overlay(self, ask):
        for overlay in rendered.OVERLAYS:
            with self.subTest(overlay=overlay):
                documents = rendered.documents(overlay)
                self.assertGreater(len(documents), 10)
                self.assertEqual([], ask(documents))

    def test_every_document_keeps_to_the_schema_of_its_kind(self):
        self.every_overlay(lambda documents: [one for document in documents for one in kinds.complaints(document)])
        self.assertEqual([], [one for document in rendered.secrets() for one in kinds.complaints(document)])

    def test_selectors_ports_names_and_flags_fit_together(self):
        self.every_overlay(links.complaints)

    def test_routes_and_policies_lead_where_something_is(self):
        self.every_overlay(routes.complaints)
        self.assertEqual([], routes.complaints(rendered.documents("istio"), mesh()))

    def test_every_query_names_what_is_measured(self):
        documents = rendered.documents("monitoring")
        self.assertEqual([], queries.complaints(documents))
        groups = rendered.find(documents, "PrometheusRule", "anteroom")["spec"]["groups"]
        self.assertGreater(sum(len(group["rules"]) for group in groups), 20)

    def test_anteroom_understands_every_limit(self):
        for overlay in rendered.OVERLAYS:
            with self.subTest(overlay=overlay):
                documents = rendered.documents(overlay)
                files = {f"{overlay}.yaml": yaml.safe_dump_all(documents)}
                for one in rendered.of_kind(documents, "ConfigMap"):
                    files |= {name: text for name, text in one["data"].items() if name.endswith(".yaml")}
                self.assertIn("rooms.yaml", files)
                self.assertEqual([], program.check_config(files))

    def test_the_examples_of_secrets_cannot_be_used_as_they_are(self):
        keys = (rendered.K8S / "secrets/keys.example.yaml").read_text(encoding="utf-8")
        self.assertIn("keys[0].secret", "".join(program.check_config({"keys.yaml": keys})))
        real = keys.replace('secret: ""', f"secret: {'A' * 43}=")
        self.assertEqual([], program.check_config({"keys.yaml": real}))
        store = (rendered.K8S / "secrets/store.example.env").read_text(encoding="utf-8").strip()
        name, _, value = store.partition("=")
        self.assertEqual([], program.check_config({"keys.yaml": real}, ["--keys", "FOLDER/keys.yaml"], {name: value}))

    def test_envoy_takes_every_configuration(self):
        files = sorted(rendered.ROOT.glob("envoy/*.yaml")) + [rendered.ROOT / file for file in derive().FILES.values()]
        self.assertEqual(4, len(files))
        for file in files:
            with self.subTest(file=file.name):
                text = file.read_text(encoding="utf-8")
                self.assertEqual([], proxy.complaints(str(file), text))
                self.assertEqual([], program.check_config({"envoy.yaml": text}))

    def test_derived_configurations_are_what_derive_makes(self):
        for kind, file in derive().FILES.items():
            made, kept = derive().derive(kind), (rendered.ROOT / file).read_text(encoding="utf-8")
            self.assertEqual(made, kept, f"{file} is out of date: run `python3 envoy/derive.py all`")

    def test_envoy_takes_what_the_envoyfilter_makes(self):
        documents = rendered.documents("istio")
        self.assertEqual([], proxy.filter_complaints(documents))
        text, _ = proxy.patched(documents)
        self.assertEqual([], program.check_config({"gateway.yaml": text}))
        # And the filter it makes is ours, field by field, but for what only istiod can say.
        envoy = yaml.safe_load((rendered.ROOT / "envoy/envoy.yaml").read_text(encoding="utf-8"))
        ours, theirs = ext_authz(envoy), ext_authz(yaml.safe_load(text))
        for field in ("allowed_headers", "decoder_header_mutation_rules", "max_denied_response_body_bytes"):
            self.assertEqual(ours[field], theirs[field], field)


def ext_authz(config):
    manager = config["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    return next(one for one in manager["http_filters"] if one["name"] == "envoy.filters.http.ext_authz")["typed_config"]


if __name__ == "__main__":
    unittest.main()
