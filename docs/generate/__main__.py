"""Writes docs/reference/ anew; a test compares what lies there with the code."""

from collections.abc import Callable
from pathlib import Path

from docs.generate import command_line, http, manifest, metrics, settings

FOLDER = Path(__file__).resolve().parent.parent / "reference"
PAGES: dict[str, Callable[[], str]] = {
    "http.md": http.page,
    "cli.md": command_line.page,
    "settings.md": settings.page,
    "metrics.md": metrics.page,
    "manifest.md": manifest.page,
}
"""File name -> what makes it."""


def main() -> None:
    """Write every page."""
    FOLDER.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
