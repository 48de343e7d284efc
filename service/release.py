"""Which release of the program this is."""

import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def release() -> str:
    """Version of the installed package, or, in a Bento, where none is installed, what the source beside it says."""
    try:
        return version("keras-serving")
    except PackageNotFoundError:
        project = Path(__file__).resolve().parent.parent / "pyproject.toml"
        found: str = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["version"]
        return found
