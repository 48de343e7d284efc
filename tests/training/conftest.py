"""What the training tests share; nothing here imports TensorFlow before a test needs it."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import MadeOnce
from tests.training.made_up import load, tiny
from training.pipeline import train

WholeRun = Callable[[str], Path]


@pytest.fixture(autouse=True, scope="session")
def _quiet_tensorflow() -> Iterator[None]:
    """TensorFlow reads this once, when it is imported."""
    before = os.environ.get("TF_CPP_MIN_LOG_LEVEL")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    yield
    if before is None:
        del os.environ["TF_CPP_MIN_LOG_LEVEL"]
    else:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = before


@pytest.fixture(scope="session")
def whole_run(made_once: MadeOnce) -> WholeRun:
    """Trains an architecture on its made-up data, once for all workers of a test run; read only.

    Returns the folder with `said.json`, what the run told a person, and `home`, which holds all that it wrote.
    """

    def run(architecture: str) -> Path:
        def fill(folder: Path) -> None:
            home = folder / "home"
            home.mkdir()
            lines: list[str] = []
            train(
                tiny(architecture),
                name=f"tiny-{architecture}",
                publish_to=home / "bundle",
                load=load,
                ledger=home / "EVALUATIONS.md",
                runs=home / "runs",
                progress=lines.append,
            )
            (folder / "said.json").write_text(json.dumps(lines))

        return made_once(f"trained-{architecture}", fill)

    return run
