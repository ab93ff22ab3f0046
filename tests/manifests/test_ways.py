"""No way of writing a path leads around the protected routes, ours, Istio's and Envoy Gateway's: a real Envoy decides."""

import unittest

import yaml

import rendered
import ways
from rendered import find, of_kind
from test_spoiled import set_at

FORWARD = {"path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"}
ASKED = "istio-ext-authz-anteroom"
REDIRECT = {"path_with_escaped_slashes_action": "UNESCAPE_AND_REDIRECT"}


def istio_manager(documents):
    """How the overlay's EnvoyFilter has Istio's gateway treat escaped slashes."""
    patches = [patch for one in of_kind(documents, "EnvoyFilter") for patch in one["spec"]["configPatches"]]
    (value,) = [patch["patch"]["value"] for patch in patches if patch["applyTo"] == "NETWORK_FILTER"]
    action = value["typed_config"]["path_with_escaped_slashes_action"]
    return {"path_with_escaped_slashes_action": action}


def around(text):
    """Ways of writing a path that a backend may take for /shop, and that lead to it elsewhere than over the protected route;
    and how many were tried, and how many came over it."""
    leaks, tried, held = [], 0, 0
    with ways.Running(text) as envoy:
        for path in dict.fromkeys(ways.spellings()):
            status, told = envoy.way(path)
            tried += 1
            if status != 200 or told["x-way"].startswith("anteroom-"):
                continue  # refused, or Anteroom's own
            if told["x-way"] == "shop" and ("shadow_rules:" not in text or told.get("x-asked") == ASKED):
                held += 1
            elif ways.may_be_shop(told["x-path"]):
                leaks.append(f"{path} comes to the backend as {told['x-path']} over {told['x-way']}")
    return leaks, tried, held


class Ways(unittest.TestCase):
    def assert_none_leads_around(self, text):
        leaks, tried, held = around(text)
        self.assertEqual([], leaks[:20], f"{len(leaks)} of {tried}")
        self.assertGreater(tried, 3000)
        self.assertGreater(held, 900, "many are simply /shop")

    def test_our_own_configurations(self):
        for file in ("envoy/envoy.yaml", "k8s/overlays/sidecar/envoy.yaml"):
            with self.subTest(file=file):
                envoy = yaml.safe_load((rendered.ROOT / file).read_text(encoding="utf-8"))
                self.assert_none_leads_around(ways.config(ways.own_routes(envoy), REDIRECT))

    def test_istio(self):
        documents = rendered.documents("istio")
        self.assertEqual(REDIRECT, istio_manager(documents))
        # Without the EnvoyFilter, as docs/kubernetes.md allows, it is what mesh-config.yaml makes istiod write.
        for options in (REDIRECT, FORWARD):
            with self.subTest(options=options):
                self.assert_none_leads_around(ways.istio_config(documents, options))

    def test_envoy_gateway(self):
        documents = rendered.documents("envoy-gateway")
        path = find(documents, "ClientTrafficPolicy", "public")["spec"]["path"]
        self.assertEqual({"escapedSlashesAction": "UnescapeAndRedirect", "disableMergeSlashes": False}, path)
        self.assert_none_leads_around(ways.config(ways.gateway_routes(documents), REDIRECT))
        # Nor where somebody adds a route for all else.
        self.assert_none_leads_around(ways.config(ways.gateway_routes(with_all_else(documents)), REDIRECT))

    def test_routes_as_one_would_write_them_first_leak(self):
        """The test sees what it is for."""
        documents = rendered.documents("istio")
        http = find(documents, "VirtualService", "shop")["spec"]["http"]
        protected = next(place for place, route in enumerate(http) if route["name"] == "shop")
        for spoil, leak in (
            (lambda: set_at(http, f"{protected}.match.0.uri", {"prefix": "/shop"}), "/SHOP comes to the backend as /SHOP over rest"),
            (lambda: http.pop(0), "/open/..%3B/shop comes to the backend as /open/..%3B/shop over rest"),
        ):
            spoil()
            self.assertIn(leak, around(ways.istio_config(documents, REDIRECT))[0])
        documents = with_all_else(rendered.documents("envoy-gateway"))
        matches = find(documents, "HTTPRoute", "shop")["spec"]["rules"][0]["matches"]
        del matches[1:]
        leaks = around(ways.config(ways.gateway_routes(documents), REDIRECT))[0]
        self.assertIn("/shop;x=1 comes to the backend as /shop;x=1 over all-else", leaks)

    def test_what_an_authorization_policy_leaves_out_is_not_asked(self):
        """`asked` means something: it is not said of the routes that never wait."""
        documents = rendered.documents("istio")
        with ways.Running(ways.istio_config(documents, REDIRECT)) as envoy:
            for path, asked in (("/shop", True), ("/other", True), ("/healthz", False), ("/anteroom/v1/x", False)):
                self.assertEqual(ASKED if asked else None, envoy.way(path)[1].get("x-asked"), path)

    def test_readings(self):
        for path in ("/shop", "//SHOP/x", "/a/..;x/shop", "/;/shop", "/%3b/shop", "\\shop", "/a/%2e%2e/shop?x", "/shop%00.png"):
            self.assertTrue(ways.may_be_shop(path), path)
        for path in ("/", "/shopping", "/a/shop", "/a;/shop", "/shop.html", "/?/shop", "/%2573hop"):
            self.assertFalse(ways.may_be_shop(path), path)


def with_all_else(documents):
    """With an unprotected route for everything that no other one takes."""
    other = {"kind": "HTTPRoute", "metadata": {"name": "all-else"}, "spec": {"rules": []}}
    other["spec"]["rules"].append({"matches": [{"path": {"type": "PathPrefix", "value": "/"}}]})
    return [*documents, other]


if __name__ == "__main__":
    unittest.main()
