"""What the page on security claims has its test, and its limits are those of the code."""

import ast
import re

from service.settings import Settings
from tests.test_documents import ROOT

PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def test_every_test_that_the_page_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) == PAGE.count(".py::")
    for file, name in named:
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        assert name in {node.name for node in ast.walk(tree) if isinstance(node, functions)}, f"{file}::{name}"


def test_the_page_gives_limits_their_defaults() -> None:
    rows = re.findall(r"^\| `SERVING_(\w+)` \| ([\d.]+) \|", PAGE, re.MULTILINE)
    assert dict(rows) == {name: str(Settings.model_fields[name.lower()].default) for name, _ in rows}
    assert {f"max_{what}" for what in ("body_bytes", "head_bytes", "queue_rows", "request_rows")} <= {
        name.lower() for name, _ in rows
    }
