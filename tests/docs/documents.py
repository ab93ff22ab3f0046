"""README.md and docs/: their fenced blocks, headings, links and the words that name something of the program."""

import dataclasses
import functools
import re

from rendered import ROOT

FENCE = re.compile(r"^( *)```(.*)$")
HEADING = re.compile(r"^#{1,6} (.+)$")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
SPAN = re.compile(r"`([^`\n]+)`")


@dataclasses.dataclass(frozen=True)
class Block:
    """A fenced block: what stands behind its fence, its text, and the line it begins at."""

    info: str
    text: str
    line: int


@dataclasses.dataclass(frozen=True)
class Document:
    """A document by its path from the root, with its text."""

    path: str
    text: str

    @functools.cached_property
    def parts(self):
        """Its blocks, and its prose with an empty line for each line of a block."""
        blocks, prose, inside = [], [], None
        for number, line in enumerate(self.text.splitlines(), 1):
            fence = FENCE.match(line)
            if inside is None and fence:
                inside = (number, len(fence[1]), fence[2].strip(), [])
            elif inside is None:
                prose.append(line)
                continue
            elif fence and not fence[2].strip():
                start, _, info, lines = inside
                blocks.append(Block(info, "".join(lines), start))
                inside = None
            else:
                inside[3].append(line[inside[1] :] + "\n")
            prose.append("")
        return blocks, prose

    @property
    def blocks(self):
        return self.parts[0]

    @functools.cached_property
    def anchors(self):
        """The anchors of its headings, made as GitHub makes them."""
        found, counts = set(), {}
        for line in self.parts[1]:
            if heading := HEADING.match(line):
                text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).strip().lower()
                slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
                before = counts.get(slug, 0)
                counts[slug] = before + 1
                found.add(f"{slug}-{before}" if before else slug)
        return found

    @property
    def links(self):
        """`(line, text, target)` of each link, pictures included."""
        return [
            (number, text, target)
            for number, line in enumerate(self.parts[1], 1)
            for text, target in LINK.findall(SPAN.sub(hidden, line))
        ]

    @property
    def spans(self):
        """`(line, text)` of what stands in backticks."""
        return [(number, span) for number, line in enumerate(self.parts[1], 1) for span in SPAN.findall(line)]

    @property
    def code(self):
        """`(line, text)` of all code: spans, and the lines of blocks."""
        lines = [
            (block.line + offset, line)
            for block in self.blocks
            for offset, line in enumerate(block.text.splitlines(), 1)
        ]
        return self.spans + lines


def hidden(span):
    """A span of code within a line of links: its brackets are none of a link's."""
    return span[0] if "](" not in span[1] else "`" * len(span[0])


def read(path):
    return Document(path, (ROOT / path).read_text(encoding="utf-8"))


@functools.cache
def shipped():
    """Every document."""
    return [read(path.relative_to(ROOT).as_posix()) for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]]
