"""Real load tests: a server, locust, and the exit status that its thresholds decide."""

import csv
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from loadtests.served import Served, serving
from models.bundle import GOLDEN, Bundle
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE, make_bundle

ROOT = Path(__file__).resolve().parents[2]
LENIENT = ("--min-requests-per-s", "1", "--max-p99-ms", "60000")
TASKS = {"pictures": IMAGE, "cars": CARS, "churn": CHURN, "series": SERIES, "state": STATE}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for name, task in TASKS.items():
        make_bundle(folder, name, task)
    return folder


@pytest.fixture(scope="module")
def served(bundles: Path) -> Iterator[Served]:
    with serving(bundles, workers=1) as found:
        yield found


def load_test(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run it as a user does, with its reports in ``folder``."""
    reports = ("--html", str(folder / "load.html"), "--csv", str(folder / "load"))
    return subprocess.run(
        [sys.executable, "-m", "loadtests", *reports, *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=180,
        check=False,
    )


def requests_by_name(folder: Path) -> dict[str, int]:
    with (folder / "load_stats.csv").open() as file:
        return {row["Name"]: int(row["Request Count"]) for row in csv.DictReader(file)}


def test_every_user_of_two_processes_gets_right_answers_which_are_counted_together(
    served: Served, bundles: Path, tmp_path: Path
) -> None:
    where = ("--host", served.url, "--grpc", served.grpc, "--bundles", str(bundles))
    done = load_test(tmp_path, *where, "--processes", "2", "--seconds", "5", "--users", "9", "--", *LENIENT)
    assert done.returncode == 0, done.stdout
    assert "all thresholds are met" in done.stdout
    assert "2 workers connected" in done.stdout
    counts = requests_by_name(tmp_path)
    total = counts.pop("Aggregated")
    assert total == sum(counts.values())
    assert {tuple(name.split()[:2]) for name in counts} >= {
        (model, protocol) for model in TASKS for protocol in ("native", "tfserving", "openinference")
    }
    assert any(" grpc " in name for name in counts)
    assert any(name.endswith("32 rows") for name in counts)
    assert (tmp_path / "load.html").stat().st_size > 10_000


def test_wrong_answers_and_a_missed_limit_exit_1_and_are_named(served: Served, bundles: Path, tmp_path: Path) -> None:
    other = expecting_other_answers(bundles / "cars-0", tmp_path / "other")
    where = ("--host", served.url, "--bundles", str(other), "--protocols", "native", "--payloads", "json")
    # Of which a busy machine may need most to begin.
    count = ("--processes", "2", "--seconds", "5", "--users", "2")
    done = load_test(tmp_path, *where, *count, "--", "--min-requests-per-s", "10000000")
    assert done.returncode == 1
    assert "failure ratio 1.0000 is above 0" in done.stdout
    assert "wrong answer: predictions[0].value" in done.stdout
    assert "requests/s is below 1e+07" in done.stdout
    assert {name for name in requests_by_name(tmp_path) if name != "Aggregated"} <= {
        "cars native json",
        "cars native json 32 rows",
    }


def expecting_other_answers(source: Path, folder: Path) -> Path:
    """A folder with the same version, whose golden outputs are others, so that right answers look wrong."""
    old = Bundle.open(source)
    made = make_bundle(folder, "cars", CARS, seed=0)
    rows, outputs = made.golden()
    np.savez(made.path / GOLDEN, rows=rows, outputs=outputs + 1)
    assert old.resealed(made.path).manifest.version == old.manifest.version
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("shape", ["steady", "step", "spike", "soak", "redeploy"])
def test_each_shape_runs_against_a_server_of_its_own(bundles: Path, tmp_path: Path, shape: str) -> None:
    what = ("--bundles", str(bundles), "--shape", shape, "--seconds", "12", "--users", "6")
    done = load_test(tmp_path, *what, "--", *LENIENT)
    assert done.returncode == 0, done.stdout
    if shape == "redeploy":
        assert "switches of version under load: no answer was lost or wrong" in done.stdout
        assert "answered" in done.stdout


@pytest.mark.slow
def test_an_overload_is_refused_politely_and_over_soon(tmp_path: Path) -> None:
    done = load_test(tmp_path, "--shape", "overload", "--seconds", "25", "--", *LENIENT)
    assert done.returncode == 0, done.stdout
    assert " refused, p99" in done.stdout


def test_what_cannot_be_carried_out_exits_3(tmp_path: Path) -> None:
    done = load_test(tmp_path, "--bundles", str(tmp_path / "none"))
    assert done.returncode == 3, done.stdout
    assert "none holds no bundle. Give --bundles a folder with at least one." in done.stdout
