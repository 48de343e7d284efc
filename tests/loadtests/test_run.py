"""One real load test: a server, locust, and the exit status that its thresholds decide."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.bundle import GOLDEN, Bundle
from models.manifest import Manifest
from tests.bundles import CARS, IMAGE, SERIES, make_bundle

ROOT = Path(__file__).resolve().parents[2]
LENIENT = ("--", "--min-requests-per-s", "1", "--max-p99-ms", "60000")


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    for name, task in (("pictures", IMAGE), ("cars", CARS), ("series", SERIES)):
        make_bundle(tmp_path / "bundles", name, task)
    return tmp_path / "bundles"


def load_test(bundles: Path, html: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [
            *(sys.executable, "-m", "loadtests", "--bundles", str(bundles), "--html", str(html)),
            *("--seconds", "2", "--users", "6", *arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


@pytest.mark.parametrize("processes", [1, 2])
def test_right_answers_within_the_limits_exit_0(bundles: Path, tmp_path: Path, processes: int) -> None:
    done = load_test(bundles, tmp_path / "report.html", "--processes", str(processes), *LENIENT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all thresholds are met" in done.stderr
    for name in ("pictures image/png", "pictures application/json", "cars application/json", "series application/json"):
        assert name in done.stdout + done.stderr
    assert (tmp_path / "report.html").stat().st_size > 10_000


def test_a_missed_limit_exits_1_and_is_named(bundles: Path, tmp_path: Path) -> None:
    done = load_test(bundles, tmp_path / "report.html", "--", "--min-requests-per-s", "10000000")
    assert done.returncode == 1
    assert "is below 1e+07" in done.stderr


def test_wrong_answers_exit_1(bundles: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    make_bundle(other, "cars", CARS)
    altered = expect_other_answers(other / "cars-0")
    assert altered.version == Bundle.open(bundles / "cars-0").manifest.version
    arguments = ("--", *LENIENT[1:], "--bundles", str(other), "RecordUser")
    done = load_test(bundles, tmp_path / "report.html", *arguments)
    assert done.returncode == 1
    assert "failure ratio 1.0000 is above 0" in done.stderr
    assert "wrong answer: predictions[0].value" in done.stdout + done.stderr


def expect_other_answers(folder: Path) -> Manifest:
    """The same version with other golden outputs, so that right answers look wrong."""
    bundle = Bundle.open(folder)
    rows, outputs = bundle.golden()
    np.savez(folder / GOLDEN, rows=rows, outputs=outputs + 1)
    old = bundle.manifest
    return Bundle.seal(
        folder,
        name=old.name,
        architecture=old.architecture,
        task=old.task,
        figures=old.figures,
        parameters=old.parameters,
        lineage=old.lineage,
        example=old.example,
        created=old.created,
    ).manifest
