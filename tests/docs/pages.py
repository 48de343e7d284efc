"""The blocks of code in the documents, and what a comment before each says of how it is tested.

A block of `bash` is run, and so is one of `python` unless it has a title: then it is the file of that name. A comment
on the line before changes that:

- ``<!-- not run: REASON -->``: only that what it names exists is checked.
- ``<!-- slow -->``: it trains; `make test-docs` runs it, `make test` does not.
- ``<!-- background -->``: one command that goes on beside the following ones: the server.
- ``<!-- fails -->``: it is to fail, as the page says.
- ``<!-- output -->``: what the block before prints, but for numbers, versions and ids; lines may be left out.
"""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKS = {"", "not run", "slow", "background", "fails", "output"}
_BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>[a-z ]+)(?:: (?P<reason>[^\n]*))? -->\n)?"
    r"```(?P<language>\w*)(?: title=\"(?P<title>[\w.]+)\")?\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code.

    Attributes:
        page: Name of its page, relative to the repository.
        line: Where it begins, from 1.
        language: As the page says.
        title: Name of the file that it is, if any.
        text: What is in it.
        mark: One of `MARKS`.
        reason: Why it is not run.
    """

    page: str
    line: int
    language: str
    title: str
    text: str
    mark: str
    reason: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def runs(self) -> bool:
        """Whether a test runs it."""
        return self.language in ("bash", "python") and self.mark not in ("not run", "output")


def blocks(page: Path) -> list[Block]:
    """Every block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        part = {name: value or "" for name, value in match.groupdict().items()}
        line = text.count("\n", 0, match.start("language")) + 1
        found.append(Block(page.relative_to(ROOT).as_posix(), line, **part))
    return found
