"""README.md and docs/ say nothing that is not so, and documents that do are found out."""

import unittest

import claims
import documents
import tried


class Shipped(unittest.TestCase):
    """What is there."""

    def test_every_name_is_one_and_every_link_leads_somewhere(self):
        self.assertGreater(len(documents.shipped()), 10)
        for document in documents.shipped():
            for ask in claims.ALL:
                with self.subTest(document=document.path, ask=ask.__name__):
                    self.assertEqual([], ask(document))

    def test_blocks_marked_as_tried_do_what_they_say(self):
        blocks = [(one.path, block) for one in documents.shipped() for block in one.blocks if block.info.startswith("sh tried")]
        self.assertGreater(len(blocks), 2)
        for path, block in blocks:
            with self.subTest(document=path, line=block.line):
                self.assertEqual([], tried.complaints(block))

    def test_every_target_of_the_makefile_is_read_as_one(self):
        self.assertLess({"run", "test", "e2e", "bench-arrive", "manifests"}, claims.targets())


class Spoiled(unittest.TestCase):
    """What is not so, and what is said of it; in each pair the right text comes first."""

    def spoiled(self, ask, right, wrong, said, path="docs/x.md"):
        with self.subTest(wrong=wrong):
            self.assertEqual([], ask(documents.Document(path, right)))
            self.assertIn(said, "\n".join(ask(documents.Document(path, wrong))))

    def test_links(self):
        for right, wrong, said in [
            ("[a](page.md)", "[a](pages.md)", "docs/x.md:1: pages.md: there is no such file"),
            ("[a](../README.md#try-it)", "\n[a](../README.md#tried)", "docs/x.md:2: ../README.md#tried"),
            ("# Über uns!\n[a](#über-uns)", "# Über uns\n[a](#ueber-uns)", "has no such heading"),
            ("# A\n# A\n[a](#a-1)", "# A\n[a](#a-1)", "has no such heading"),
            ("`[a](b.md)`\n```\n[a](c.md)\n```", "`a` [a](b.md)", "b.md: there is no such file"),
            (
                "[the_end_of_time_is_no_panic](../src/clock.rs)",
                "[the_end_of_time_is_a_panic](../src/clock.rs)",
                "the_end_of_time_is_a_panic: there is no such test",
            ),
        ]:
            self.spoiled(claims.links, right, wrong, said)

    def test_files_and_targets(self):
        self.spoiled(claims.paths, "`tests/e2e/outages.rs`", "`tests/e2e/outage.rs`", "there is no such file")
        self.spoiled(claims.paths, "`k8s/overlays/…` `lua/`", "`k8s/overlay`", "there is no such file")
        self.spoiled(claims.make, "`make bench ARGS=1`", "`make benches`", "make benches: the Makefile has no")
        self.spoiled(claims.make, "```\nPORT=1 make run\n```", "```\nPORT=1 make ran\n```", "docs/x.md:2: make ran")

    def test_names_of_the_program(self):
        for ask, right, wrong, said in [
            (claims.metrics, "`anteroom_checks_total`", "`anteroom_check_total`", "there is no such metric"),
            (claims.metrics, "`anteroom_wait_seconds`", "`anteroom_wait_minutes`", "there is no such metric"),
            (claims.metrics, "`anteroom_redis_…`", "`anteroom_radis_…`", "anteroom_radis: there is no such metric"),
            (claims.headers, "`x-anteroom-pass`", "`x-anteroom-passport`", "no header of the program's"),
            (claims.variables, "`ANTEROOM_STORE`", "`ANTEROOM_STOREY`", "no variable of the program's"),
            (claims.mentioned_flags, "`--tick 1s`", "`--tock 1s`", "no flag of the program's"),
        ]:
            self.spoiled(ask, right, wrong, said)

    def test_commands(self):
        for right, wrong, said in [
            ("anteroom serve --tick 1s", "anteroom serve --tock 1s", "anteroom serve has no flag --tock"),
            ("anteroom rooms list", "anteroom rooms lists", "anteroom rooms lists: there is no such subcommand"),
            ("a && anteroom check-config x # --x", "a && anteroom check x", "anteroom check: there is no such"),
            ("anteroom rooms limits s --rate 1/s", "anteroom rooms limits s --speed=1", "has no flag --speed"),
        ]:
            self.spoiled(claims.commands, f"```sh\n{right}\n```", f"```sh\n{wrong}\n```", said)

    def test_configurations(self):
        block = "```yaml\n{}\n```".format
        extensions = "context_extensions: {{ room: shop, {} }}".format
        self.spoiled(
            claims.configurations,
            block("rooms:\n  a: { capacity: 1 }"),
            block("rooms:\n  a: { capacitee: 1 }"),
            "capacitee",
        )
        self.spoiled(
            claims.configurations, block(extensions('rate: 5/s, burst: "2"')), block(extensions("rate: 5")), "rate"
        )

    def test_alerts(self):
        operations = documents.read("docs/operations.md")
        for old, new, said in [
            ("### AnteroomDown", "### Down", "nothing about the alert anteroomdown"),
            ("### AnteroomDown", "### AnteroomUp\n### AnteroomDown", "anteroomup: there is no such alert"),
        ]:
            self.assertIn(old, operations.text)
            self.spoiled(claims.alerts, operations.text, operations.text.replace(old, new, 1), said, operations.path)

    def test_tried_blocks(self):
        for text, said in [
            ("curl -fsS http://127.0.0.1:9102/readyz\n# → ready\n", None),
            ("curl -fsS http://127.0.0.1:9102/readyz\n# → steady\n", "does not show 'steady'"),
            ("echo b; echo a\n# → a\n# → b\n", "does not show 'b'"),
            ("curl -fsS http://127.0.0.1:9102/ready\n", "ended with 22"),
            ("anteroom rooms pause nowhere --token-file admin.token\n", "ended with 1"),
        ]:
            with self.subTest(text=text):
                found = "\n".join(tried.complaints(documents.Block("sh tried", text, 1)))
                self.assertIn(said, found) if said else self.assertEqual("", found)


if __name__ == "__main__":
    unittest.main()
