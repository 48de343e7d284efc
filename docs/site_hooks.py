"""What MkDocs does beyond its own: the README as home page, links to code as its paths, nothing from other hosts.

MkDocs calls these functions; `mkdocs.yml` names this file. MkDocs is in an environment of its own, so that it is
imported where it is needed: the tests have none.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.files import Files

_LINK = re.compile(r"(?<!!)\[([^\]\[]*(?:!\[[^\]]*\]\([^)]*\))?[^\]\[]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")
# What a browser would fetch: sources of scripts, pictures and frames, style sheets, fonts.
_FETCHED = re.compile(
    r"""<(?:script|img|iframe|source)[^>]*\ssrc=["']?(?:https?:)?//[^"'\s>]+"""
    r"""|<link(?![^>]*rel=["']?canonical)[^>]*\shref=["']?(?:https?:)?//[^"'\s>]+"""
)


def on_files(files: Files, *, config: Any) -> Files:
    """Make the home page of the README, which lies above docs/."""
    from mkdocs.structure.files import File

    root = Path(config["config_file_path"]).parent
    text = (root / "README.md").read_text(encoding="utf-8")
    # The README's links and pictures lead into docs/, where the home page lies itself.
    text = re.sub(r"\]\(docs/", "](", text)
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Files) -> str:
    """Show links to files that are no pages, such as code, as the paths that they have in the repository."""
    docs = Path(config["docs_dir"])
    folder = docs / Path(page.file.src_uri).parent if page.file.src_uri != "index.md" else docs

    def shown(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        if "://" in target or target.startswith("mailto:"):
            return link[0]
        path = (folder / target).resolve()
        if path.is_relative_to(docs) and files.get_file_from_path(path.relative_to(docs).as_posix()):
            return link[0]
        # The home page's own links are relative to the repository.
        known = path if path.exists() else (docs.parent / target).resolve()
        name = known.relative_to(docs.parent).as_posix()
        return f"`{name}`" if text.strip("`") in (name, Path(name).name) else f"{text} (`{name}`)"

    return _LINK.sub(shown, markdown)


def on_post_build(*, config: Any) -> None:
    """Refuse a site that makes a browser fetch anything from another host.

    Raises:
        PluginError: Names the page and what it would fetch.
    """
    from mkdocs.exceptions import PluginError

    site = Path(config["site_dir"])
    for path in site.rglob("*.html"):
        found = fetched(path.read_text(encoding="utf-8"))
        if found:
            raise PluginError(f"{path.relative_to(site)} fetches from another host: {found}")


def fetched(html: str) -> str:
    """The first thing that a browser would fetch from another host; empty where there is none."""
    found = _FETCHED.search(html)
    return found[0] if found else ""
