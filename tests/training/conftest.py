"""What the training tests share; nothing here imports TensorFlow before a test needs it."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

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
def whole_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> WholeRun:
    """Trains an architecture on its made-up data, once for all workers of a test run; read only.

    Returns the folder with `said.json`, what the run told a person, and `home`, which holds all that it wrote.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "trained"

    def run(architecture: str) -> Path:
        folder = shared / architecture
        home, said = folder / "home", folder / "said.json"
        home.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not said.exists():
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
                said.write_text(json.dumps(lines))
        return folder

    return run
