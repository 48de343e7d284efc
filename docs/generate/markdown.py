"""Pieces of Markdown that several pages are made of, and what docstrings say of members."""

import inspect
import re
from collections.abc import Iterable, Sequence

NOTICE = "<!-- Made from the code by `make reference`: edit the code's own descriptions, not this page. -->\n"


def heading(title: str, introduction: str) -> str:
    """The beginning of a page."""
    return f"{NOTICE}\n# {title}\n\n{introduction.strip()}\n"


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what its cells hold stays in its cell."""
    lines = [list(header), ["---"] * len(header), *map(list, rows)]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines) + "\n"


def prose(text: str) -> str:
    """A docstring's text as Markdown: one kind of code quotes, no line breaks of its source."""
    return " ".join(text.replace("``", "`").split())


def summary(thing: object) -> str:
    """First paragraph of a docstring."""
    return prose((inspect.getdoc(thing) or "").split("\n\n")[0])


def attributes(kind: type) -> dict[str, str]:
    """Member -> what the docstrings of a class and its bases say under ``Attributes:``."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = inspect.cleandoc(vars(base).get("__doc__") or "")
        _, _, section = text.partition("Attributes:\n")
        for name, said in re.findall(r"^    (\w+): ((?:.|\n {8})+)", section.split("\n\n")[0], re.MULTILINE):
            found[name] = prose(said)
    return found


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
