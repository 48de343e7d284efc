"""`train --promote`: what the gate says decides which version is live, and the exit status."""

from pathlib import Path

import pytest

from keras_serving.promotion import Gate
from models.aliases import Traffic
from models.decision import Decision
from models.errors import ConflictError
from models.store import Store
from tests.conftest import MakeBundle
from tests.keras_serving.conftest import Cli
from tests.keras_serving.training_cli import TRAIN, WORSE, alias_of, bundle

Options = tuple[str, ...]


def reasons(user_home: Path) -> list[tuple[str, str, str]]:
    return [(change.action, change.alias, change.reason) for change in Store(user_home).changes("churn")]


def test_the_first_version_of_a_name_has_nothing_to_be_compared_with(user_home: Path) -> None:
    assert bundle(user_home).manifest.gate is None
    assert reasons(user_home)[-1] == ("promote", "production", "the first version")


def test_a_version_that_is_as_good_is_promoted_and_carries_the_decision(user_cli: Cli, user_home: Path) -> None:
    before = alias_of(user_home)
    status, out, _ = user_cli(*TRAIN, "--promote")
    assert status == 0
    assert alias_of(user_home) != before
    found = bundle(user_home)
    found.verify()
    gate = found.manifest.gate
    assert gate is not None
    assert gate.passed
    assert gate.production == before
    assert gate.rows > 150
    for criterion in gate.criteria:
        assert criterion.sentence in out
    assert reasons(user_home)[-1] == ("promote", "production", gate.summary)
    assert f"churn: {before} -> {found.manifest.version} (gate passed: 5 criteria on {gate.rows} rows)" in out
    ledger = (user_home / "EVALUATIONS.md").read_text().splitlines()
    looks = [line for line in ledger if f"| churn | {before} |" in line]
    assert [line.split(" | ")[4].rpartition(" ")[0] for line in looks] == ["accuracy", "gate: accuracy"]


def test_a_version_trained_worse_stays_out_as_the_candidate_with_exit_status_3(user_cli: Cli, user_home: Path) -> None:
    before = alias_of(user_home)
    status, out, _ = user_cli(*TRAIN, *WORSE, "--promote")
    assert status == 3
    assert alias_of(user_home) == before
    found = bundle(user_home, "candidate")
    assert found.manifest.gate is not None
    assert next(c.name for c in found.manifest.gate.criteria if not c.passed) == "accuracy"
    assert f"{before} stays in production (gate refused: accuracy" in out
    assert f"{found.manifest.version} is the candidate: try it with" in out
    assert "FAILS" in out


def test_a_reason_promotes_a_refused_version_and_is_recorded_everywhere(user_cli: Cli, user_home: Path) -> None:
    status, out, _ = user_cli(*TRAIN, *WORSE, "--promote", "--force", "the old one breaks the law")
    assert status == 0
    gate = bundle(user_home).manifest.gate
    assert gate is not None
    assert not gate.passed
    assert gate.forced == "the old one breaks the law"
    assert reasons(user_home)[-1][2].startswith("forced: the old one breaks the law (gate refused: accuracy")
    assert "forced: the old one breaks the law" in out


def test_a_candidate_that_is_being_tried_keeps_its_alias(user_cli: Cli, user_home: Path) -> None:
    store = Store(user_home)
    tried = store.versions("churn")[0]
    store.set_alias("churn", tried, "candidate")
    store.set_traffic("churn", Traffic(shadow=True))
    status, out, _ = user_cli(*TRAIN, *WORSE, "--promote")
    assert status == 3
    assert alias_of(user_home, "candidate") == tried
    assert f"{tried} is being tried as candidate" in out
    assert store.aliases().traffic["churn"].shadow


@pytest.mark.parametrize("compared", [True, False])
def test_a_production_version_that_changed_since_the_comparison_is_a_conflict(
    store: Store, bundle_of: MakeBundle, compared: bool
) -> None:
    made = bundle_of(seed=5)
    decision = Decision(production="20200101-000000-0123abcd", rows=9, left_out=0, margin=0.1, forced="a reason")
    added = store.add((made.judged(decision) if compared else made).path)
    before = store.aliases()
    with pytest.raises(ConflictError, match="not to 20200101-000000-0123abcd" if compared else "was not compared"):
        Gate(store, "cars").conclude(added)
    assert store.aliases() == before


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        (("--margin", "0.1"), "--margin is about the gate: give it with --promote"),
        (("--force", "why not"), "--force is about the gate: give it with --promote"),
        (("--promote", "--force", " "), "--force needs the reason"),
        (("--promote", "--output", "here"), "leave --output out"),
        (("--promote", "--margin", "0"), "0<x<=1"),
    ],
)
def test_options_of_the_gate_that_make_no_sense_are_refused(
    user_cli: Cli, options: tuple[str, ...], remedy: str
) -> None:
    status, out, err = user_cli(*TRAIN, *options)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert remedy in err
