"""`retrain`: the recorded recipe on the data as they are now, and an exit status for cron."""

import fcntl
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.store import Store
from tests.bundles import CARS, make_bundle
from tests.keras_serving.conftest import Cli
from tests.keras_serving.training_cli import alias_of, bundle
from tests.training.own.made_up import customers
from training import pipeline

PRETRAINED = Path(__file__).parent.parent.parent / "models" / "pretrained"


def new_customers(folder: Path, *, young: bool = False) -> pd.DataFrame:
    """As many again; the young ones came in the last two years, and leave for the same reasons."""
    table = customers(folder / "more.csv", rows=2000)[1000:]
    if young:
        table["months"] = table["months"] // 3 + 1
        table["price"] = 100_000 + 3_000 * table["months"]
        table["churn"] = np.where((table["contract"] == "monthly") & (table["months"] < 40), "yes", "no")
    (folder / "more.csv").unlink()
    return table


def grow(home: Path, file: str = "customers.csv", *, young: bool = False) -> None:
    """Add the new customers to the data, those of before in between."""
    folder = home.parent
    table = pd.concat([new_customers(folder, young=young), pd.read_csv(folder / "customers.csv")])
    (folder / file).parent.mkdir(exist_ok=True)
    table.to_csv(folder / file, index=False)


def test_unchanged_data_are_nothing_to_do(user_cli: Cli, user_home: Path) -> None:
    status, out, _ = user_cli("retrain", "churn", "--when", "drift")
    assert status == 4
    assert "nothing to do: the data are unchanged" in out
    assert len(Store(user_home).versions("churn")) == 1


def test_more_rows_of_the_same_kind_are_nothing_to_do_when_drift_is_asked_for(user_cli: Cli, user_home: Path) -> None:
    grow(user_home)
    status, out, _ = user_cli("retrain", "churn", "--when", "drift")
    assert status == 4
    assert "nothing to do: the new rows are distributed as before" in out
    assert "months" in out
    assert "moved" not in out
    assert len(Store(user_home).versions("churn")) == 1


def test_fewer_rows_are_nothing_to_do_when_drift_is_asked_for(user_cli: Cli, user_home: Path) -> None:
    path = user_home.parent / "customers.csv"
    pd.read_csv(path)[:-200].to_csv(path, index=False)
    status, out, _ = user_cli("retrain", "churn", "--when", "drift")
    assert status == 4
    assert "no row to train on is new" in out


def test_drifted_data_are_trained_on_and_the_better_version_goes_live(user_cli: Cli, user_home: Path) -> None:
    before = bundle(user_home)
    grow(user_home, young=True)
    status, out, err = user_cli("retrain", "churn", "--when", "drift")
    assert status == 0, out + err
    moved = [line.split()[0] for line in out.splitlines() if line.endswith(" moved")]
    assert {"months", "price"} <= set(moved)
    after = bundle(user_home).manifest
    assert after.version != before.manifest.version
    assert after.lineage.parent == f"churn:{before.manifest.version}"
    assert after.lineage.data_sha256 != before.manifest.lineage.data_sha256
    assert sum(after.lineage.rows.values()) == 2000
    # What was recorded once is recorded again, so that the next call does the same.
    for member in ("dataset", "data_location", "config", "seed", "command"):
        assert getattr(after.lineage, member) == getattr(before.manifest.lineage, member), member
    assert after.gate is not None
    assert after.gate.passed
    # Test rows are chosen by themselves: those of before and as many new ones, none of them ever trained on.
    assert after.gate.rows > 1.6 * before.manifest.lineage.rows["test"]
    assert user_cli("retrain", "churn", "--when", "drift")[0] == 4


def test_a_refused_version_is_the_candidate_and_the_exit_status_says_so(user_cli: Cli, user_home: Path) -> None:
    before = bundle(user_home).manifest
    grow(user_home, "elsewhere/customers-of-2027.csv")
    status, out, _ = user_cli("retrain", "churn", "--data", "elsewhere/customers-of-2027.csv", "--margin", "0.0001")
    assert status == 3
    assert alias_of(user_home) == before.version
    candidate = bundle(user_home, "candidate").manifest
    assert f"{candidate.version} is the candidate" in out
    assert candidate.gate is not None
    assert "at a margin of 0.0001 at least" in candidate.gate.refused
    # Another place and name, the same data set.
    assert candidate.lineage.dataset == before.lineage.dataset
    assert candidate.lineage.data_location == "elsewhere/customers-of-2027.csv"
    assert "--data elsewhere/customers-of-2027.csv --target churn" in candidate.lineage.command


def test_an_interrupted_retraining_changes_nothing_and_leaves_nothing(
    user_cli: Cli, user_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Store(user_home).aliases()

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "build_and_fit", interrupted)
    status, _, err = user_cli("retrain", "churn")
    assert (status, err) == (130, "\nkeras-serving: interrupted\n")
    assert Store(user_home).aliases() == before
    assert len(Store(user_home).versions("churn")) == 1


def test_the_location_is_relative_to_here_or_to_the_data_folder(
    user_cli: Cli, user_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    status, _, err = user_cli("retrain", "churn", "--when", "drift")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "the data are not found: customers.csv does not exist" in err
    assert "--data-dir" in err
    assert user_cli("retrain", "churn", "--when", "drift", "--data-dir", str(user_home.parent))[0] == 4
    assert user_cli("retrain", "churn", "--when", "drift", "--data-dir", str(tmp_path / "away"))[0] == 1


def test_data_of_another_schema_are_refused_before_anything_is_trained(user_cli: Cli, user_home: Path) -> None:
    path = user_home.parent / "customers.csv"
    pd.read_csv(path).drop(columns="plan").to_csv(path, index=False)
    status, _, err = user_cli("retrain", "churn")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "is served with another schema" in err
    assert len(Store(user_home).versions("churn")) == 1


def test_one_retraining_of_a_name_at_a_time(user_cli: Cli, user_home: Path) -> None:
    (user_home / "fits").mkdir(exist_ok=True)
    with (user_home / "fits" / ".churn.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        status, _, err = user_cli("retrain", "churn", "--when", "drift")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "Another process is retraining churn" in err
    assert user_cli("retrain", "churn", "--when", "drift")[0] == 4


def test_a_version_that_was_not_trained_here_cannot_be_trained_again(
    user_cli: Cli, user_home: Path, tmp_path: Path
) -> None:
    store = Store(user_home)
    store.set_alias("cars", store.add(make_bundle(tmp_path / "made", "cars", CARS).path).manifest.version)
    status, _, err = user_cli("retrain", "cars")
    assert (status, len(err.splitlines())) == (1, 1)
    assert "was not trained here" in err
    assert "--name cars --promote" in err


@pytest.mark.parametrize(
    ("arguments", "remedy"),
    [
        (("retrain", "nope"), "Known models: churn"),
        (("retrain", "churn", "--when", "sometimes"), "'always', 'drift'"),
        (("retrain", "churn", "--data", "missing.csv"), "does not exist"),
        (("retrain", "churn", "--margin", "2"), "0<x<=1"),
        (("retrain", "churn", "--force", ""), "--force needs the reason"),
        (("retrain",), "Missing argument 'NAME'"),
    ],
)
def test_wrong_use_exits_2_with_one_line(user_cli: Cli, arguments: tuple[str, ...], remedy: str) -> None:
    status, out, err = user_cli(*arguments)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert remedy in err


def test_a_known_data_set_is_found_again_by_its_name(
    user_cli: Cli, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(PRETRAINED / "regressor", tmp_path / "shipped" / "regressor")
    monkeypatch.setenv("SERVING_PRETRAINED", str(tmp_path / "shipped"))
    status, out, _ = user_cli("retrain", "regressor", "--when", "drift", "--data-dir", str(data_dir))
    assert status == 4
    assert "the data are unchanged" in out
    status, _, err = user_cli("retrain", "regressor", "--data", "customers.csv")
    assert status == 2
    assert "is trained on the known data set auto-mpg" in err
