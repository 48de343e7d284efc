"""The documents' site: what is in it, and what its hooks make of links. `make docs` builds it, strictly."""

import re
from types import SimpleNamespace

import pytest

from docs.site_hooks import fetched, on_page_markdown
from tests.docs.pages import ROOT

DOCS = ROOT / "docs"


def shown(markdown: str, page: str = "guides/gpu.md") -> str:
    """What a page shows of ``markdown``, where every file of docs/ that ends with .md or .png is of the site."""

    def known(path: str) -> bool:
        return path.endswith((".md", ".png")) and (DOCS / path).exists()

    files = SimpleNamespace(get_file_from_path=known)
    place = SimpleNamespace(file=SimpleNamespace(src_uri=page))
    return on_page_markdown(markdown, page=place, config={"docs_dir": str(DOCS)}, files=files)


def test_the_navigation_leads_to_every_page() -> None:
    named = re.findall(r"(?::|-) ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    lying = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert len(named) == len(set(named))
    assert set(named) - {"index.md"} == lying - {"performance/notes.md"}


@pytest.mark.parametrize(
    "link",
    [
        "[a](../drift.md)",
        "[a](alerts.md)",
        "[a](https://example.com/x.py)",
        "[a](#here)",
        "![a](../drift.png)",
        "[![a](../drift.png)](../drift.md)",
    ],
)
def test_a_link_to_a_page_or_another_site_stays(link: str) -> None:
    assert shown(link) == link


@pytest.mark.parametrize(
    ("link", "text", "page"),
    [
        ("[the rules](../../deploy/prometheus)", "the rules (`deploy/prometheus`)", "guides/gpu.md"),
        ("[alerts.yml](../../deploy/prometheus/alerts.yml)", "`deploy/prometheus/alerts.yml`", "guides/gpu.md"),
        ("[`service/app.py`](../service/app.py)", "`service/app.py`", "drift.md"),
        ("[changes](CHANGELOG.md)", "changes (`CHANGELOG.md`)", "index.md"),
    ],
)
def test_a_link_to_code_becomes_its_path_in_the_repository(link: str, text: str, page: str) -> None:
    assert shown(link, page) == text


@pytest.mark.parametrize(
    "html",
    [
        '<script src="https://example.com/x.js">',
        "<img alt=x src=//example.com/x.png>",
        '<link rel="stylesheet" href="https://fonts.example.com/css">',
    ],
)
def test_what_a_browser_would_fetch_from_another_host_is_found(html: str) -> None:
    assert fetched(f"<p>{html}</p>")


@pytest.mark.parametrize(
    "html", ['<a href="https://example.com">', '<script src="assets/x.js">', '<link rel="canonical" href="https://x">']
)
def test_a_link_to_follow_and_an_own_file_are_not(html: str) -> None:
    assert not fetched(html)
