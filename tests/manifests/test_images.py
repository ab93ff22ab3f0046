"""The image and the compose file are right, and spoiled ones are not."""

import unittest

import images
import rendered


def read(name):
    return (rendered.ROOT / name).read_text(encoding="utf-8")


class Images(unittest.TestCase):
    """Each row of a table: what is replaced by what, and what is then said."""

    def spoiled(self, file, judge, table):
        text = read(file)
        self.assertEqual([], judge(text))
        for old, new, said in table:
            with self.subTest(new=new):
                self.assertIn(old, text)
                self.assertIn(said, "\n".join(judge(text.replace(old, new, 1))))

    def test_the_dockerfile(self):
        self.spoiled(
            "Dockerfile",
            images.dockerfile,
            [
                ("USER 65532:65532", "USER nonroot", "USER should be two numbers"),
                ("USER 65532:65532", "USER 0:0", "USER should be two numbers"),
                ("--release --locked", "--release", "without --locked"),
                ("EXPOSE 50051", "EXPOSE 50050", "EXPOSE should name"),
                ("COPY lua lua", "COPY luas lua", "COPY luas: it is not there"),
                ("COPY lua lua\n", "", "which is not copied"),
                ("COPY fuzz/Cargo.toml fuzz/\n", "", "fuzz/Cargo.toml, a member of the workspace, is not copied"),
                ("COPY src src", "COPY src src\nCOPY docs docs", "COPY docs: it is not there, or left out"),
                ('ENTRYPOINT ["/anteroom"]', 'HEALTHCHECK CMD ["/x"]\nENTRYPOINT ["/anteroom"]', "HEALTHCHECK"),
            ],
        )

    def test_compose(self):
        self.spoiled(
            "compose.yaml",
            images.compose,
            [
                ("stop_grace_period", "stop_grace_perod", "stop_grace_perod"),
                ("depends_on: [anteroom, backend]", "depends_on: [anterom, backend]", "depends on anterom"),
                ("--cookie-secure=false", "--cookie-secur=false", "no flag --cookie-secur"),
                ("--drain=10s", "--drain=10", "--drain"),
                ("redis-cluster://", "redis-clutser://", "ANTEROOM_STORE"),
                ("./compose/envoy.yaml:", "./compose/envoi.yaml:", "mounts ./compose/envoi.yaml"),
                ("  backend:\n", "  back:\n", "backend, which there is not"),
            ],
        )


if __name__ == "__main__":
    unittest.main()
