"""The gate's decision about two versions, on rows that neither was trained on."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.bundle import ONNX, Bundle
from models.task import Task
from tests.bundles import CARS, CHURN, CREATED, IMAGE, SERIES, make_bundle, rows_of, run_offline
from training.fingerprints import fingerprints
from training.gate import decide, independent, lines
from training.split import Part

NOTHING = np.zeros(0, np.uint32)


def bundle(
    folder: Path, task: Task, *, seed: int = 0, day: int = 0, known: NDArray[np.uint32] | None = NOTHING
) -> Bundle:
    created = CREATED + timedelta(days=day)
    return make_bundle(folder / f"{day}-{seed}", "some", task, seed=seed, created=created, trained_rows=known)


def truth_of(found: Bundle, rows: NDArray[Any]) -> NDArray[Any]:
    """Truths that the version is nearly always right about."""
    outputs = run_offline(found, rows)
    noise = np.random.default_rng(1).normal(0, 0.1, outputs[..., 0].shape)
    return outputs.argmax(axis=1) if found.manifest.task is IMAGE else outputs[..., 0] + noise


@pytest.fixture(params=[IMAGE, CARS, SERIES], ids=lambda task: task.kind)
def task(request: pytest.FixtureRequest) -> Any:
    return request.param


def changed(found: Bundle, **members: Any) -> Bundle:
    return Bundle(found.path, found.manifest.model_copy(update=members))


def judge(production: Bundle, candidate: Bundle, part: Part, **options: Any) -> Any:
    return decide(production, candidate, part, run_offline(candidate, part.rows), **options)


def test_an_equal_version_passes_every_criterion(task: Any, tmp_path: Path) -> None:
    production, candidate = bundle(tmp_path, task), bundle(tmp_path, task, day=1)
    rows = rows_of(task, 400)
    decision = judge(production, candidate, Part(rows, truth_of(production, rows)))
    assert decision.passed, decision.refused or [c.sentence for c in decision.criteria if not c.passed]
    assert decision.production == production.manifest.version
    assert [criterion.name for criterion in decision.criteria][1:2] == ["parity"]
    assert len(decision.criteria) == 5
    assert decision.criteria[0].production == decision.criteria[0].candidate


def test_a_worse_version_is_refused_by_its_quality(task: Any, tmp_path: Path) -> None:
    production, candidate = bundle(tmp_path, task), bundle(tmp_path, task, seed=1, day=1)
    rows = rows_of(task, 400)
    decision = judge(production, candidate, Part(rows, truth_of(production, rows)))
    assert not decision.passed
    assert not decision.criteria[0].passed
    assert decision.criteria[1].passed


def test_a_better_version_passes_by_its_quality(task: Any, tmp_path: Path) -> None:
    production, candidate = bundle(tmp_path, task, seed=1), bundle(tmp_path, task, day=1)
    rows = rows_of(task, 400)
    assert judge(production, candidate, Part(rows, truth_of(candidate, rows))).criteria[0].passed


def test_rows_that_either_version_was_trained_on_are_left_out(tmp_path: Path) -> None:
    rows = rows_of(CARS, 400)
    numbers = fingerprints(rows)
    production = bundle(tmp_path, CARS, known=np.sort(numbers[:100]))
    candidate = bundle(tmp_path, CARS, day=1, known=np.sort(numbers[50:150]))
    truth = truth_of(production, rows)
    # On the rows that leaked the truth is what neither says: one of them in the comparison would be seen.
    truth[:150] += 1000
    decision = judge(production, candidate, Part(rows, truth))
    assert (decision.rows, decision.left_out) == (250, 150)
    assert decision.passed
    assert decision.criteria[0].production < 1


def test_a_version_that_learned_the_held_out_rows_by_heart_wins_nothing_by_it(tmp_path: Path) -> None:
    rows = rows_of(IMAGE, 600)
    production = bundle(tmp_path, IMAGE, seed=1)
    candidate = bundle(tmp_path, IMAGE, day=1, known=np.sort(fingerprints(rows[:400])))
    truth = truth_of(production, rows)
    truth[:400] = truth_of(candidate, rows[:400])
    decision = judge(production, candidate, Part(rows, truth))
    assert decision.rows == 200
    assert not decision.passed


def test_windows_that_overlap_a_trained_forecast_are_left_out(tmp_path: Path) -> None:
    task = SERIES.model_copy(update={"horizon": 4})
    rows = rows_of(task, 40)
    production = bundle(tmp_path, task, known=np.sort(fingerprints(rows[20:21])))
    chosen = independent(production, bundle(tmp_path, task, day=1), rows)
    # The first three windows, because of those before them that nobody knows; four from the trained one on.
    assert np.flatnonzero(~chosen).tolist() == [0, 1, 2, 20, 21, 22, 23]


def test_rows_that_productions_schema_refuses_are_left_out(tmp_path: Path) -> None:
    rows = rows_of(CARS, 100)
    rows[7, 0] = 20_000
    wider = CARS.model_copy(update={"fields": (CARS.fields[0].model_copy(update={"high": 30_000}), *CARS.fields[1:])})
    production, candidate = bundle(tmp_path, CARS), bundle(tmp_path, wider, day=1)
    decision = judge(production, candidate, Part(rows, truth_of(production, rows)))
    assert (decision.rows, decision.left_out) == (99, 1)
    assert decision.passed


def test_too_few_rows_decide_nothing_and_say_how_many_are_needed(task: Any, tmp_path: Path) -> None:
    rows = rows_of(task, 20)
    production, candidate = bundle(tmp_path, task), bundle(tmp_path, task, day=1)
    decision = judge(production, candidate, Part(rows, truth_of(production, rows)), margin=0.02)
    needed = {"image_classification": 133, "tabular_regression": 30, "sequence_forecast": 40}[task.kind]
    assert not decision.passed
    assert decision.criteria == ()
    assert f"at least {needed} are needed" in decision.refused
    assert "--force" in decision.refused


@pytest.mark.parametrize(("margin", "passed"), [(0.02, False), (0.5, True)])
def test_the_margin_decides(tmp_path: Path, margin: float, passed: bool) -> None:
    rows = rows_of(IMAGE, 400)
    production, candidate = bundle(tmp_path, IMAGE), bundle(tmp_path, IMAGE, seed=1, day=1)
    truth = truth_of(production, rows)
    truth[:160] = truth_of(candidate, rows[:160])
    decision = judge(production, candidate, Part(rows, truth), margin=margin)
    assert decision.margin == decision.criteria[0].limit == margin
    assert decision.criteria[0].passed is passed


def test_versions_that_cannot_be_compared_are_refused_with_the_remedy(tmp_path: Path) -> None:
    rows = rows_of(CARS, 100)
    production, candidate = bundle(tmp_path, CARS), bundle(tmp_path, CARS, day=1)
    part = Part(rows, truth_of(production, rows))
    renamed = CARS.model_copy(update={"unit": "km/l"})
    elsewhere = production.manifest.lineage.model_copy(update={"dataset": "trucks"})
    silent = bundle(tmp_path, CARS, day=2, known=None)
    for before, after, reason in (
        (production, changed(candidate, task=renamed), "the schema changed (unit 'mpg' became 'km/l')"),
        (changed(production, lineage=elsewhere), candidate, "production was trained on 'trucks'"),
        (silent, candidate, "does not say which rows it was trained on"),
        (production, silent, "does not say which rows it was trained on"),
    ):
        decision = judge(before, after, part)
        assert not decision.passed
        assert decision.rows == 0
        assert reason in decision.refused
        assert "--force REASON" in decision.refused


def test_a_forecast_from_fewer_steps_cannot_be_compared(tmp_path: Path) -> None:
    shorter = SERIES.model_copy(update={"lookback": 4})
    production, candidate = bundle(tmp_path, SERIES), bundle(tmp_path, shorter, day=1)
    rows = rows_of(shorter, 100)
    decision = judge(production, candidate, Part(rows, truth_of(candidate, rows)))
    assert "rows of (6, 1) became (4, 1)" in decision.refused


def test_a_production_version_that_cannot_be_run_is_a_refusal_and_no_error(tmp_path: Path) -> None:
    rows = rows_of(CARS, 100)
    production, candidate = bundle(tmp_path, CARS), bundle(tmp_path, CARS, day=1)
    part = Part(rows, truth_of(production, rows))
    (production.path / ONNX).write_bytes(b"altered")
    decision = judge(production, candidate, part)
    assert not decision.passed
    assert "does not match the manifest's sha256" in decision.refused


def test_an_answer_that_is_no_number_is_a_refusal_and_no_error(tmp_path: Path) -> None:
    rows = rows_of(CHURN, 200)
    rows[5, 1] = np.nan
    production, candidate = bundle(tmp_path, CHURN), bundle(tmp_path, CHURN, day=1)
    decision = judge(production, candidate, Part(rows, np.zeros(200, int)))
    assert f"{production.manifest.version} answers held-out row 5 with no finite number" in decision.refused


def test_a_served_graph_that_differs_from_keras_is_refused(tmp_path: Path) -> None:
    rows = rows_of(CARS, 100)
    production, candidate = bundle(tmp_path, CARS), bundle(tmp_path, CARS, day=1)
    keras = run_offline(candidate, rows)
    keras[50] *= 1.001
    decision = decide(production, candidate, Part(rows, truth_of(production, rows)), keras)
    assert [criterion.name for criterion in decision.criteria if not criterion.passed] == ["parity"]


def test_a_persons_reason_is_recorded_beside_what_was_found(tmp_path: Path) -> None:
    rows = rows_of(CARS, 100)
    production, candidate = bundle(tmp_path, CARS), bundle(tmp_path, CARS, seed=1, day=1)
    decision = judge(production, candidate, Part(rows, truth_of(production, rows)), forced="the old one insults people")
    assert not decision.passed
    assert decision.promotes
    judged = Bundle.open(candidate.path).judged(decision)
    assert Bundle.open(judged.path).manifest.gate == decision
    assert "forced: the old one insults people" in lines(decision)[-1]


def test_the_table_names_every_criterion_with_its_numbers_and_a_sentence(tmp_path: Path) -> None:
    rows = rows_of(CARS, 100)
    production, candidate = bundle(tmp_path, CARS), bundle(tmp_path, CARS, seed=1, day=1)
    decision = judge(production, candidate, Part(rows, truth_of(production, rows)))
    text = "\n".join(lines(decision))
    assert f"beside {production.manifest.version} on 100 rows" in text
    for criterion in decision.criteria:
        assert criterion.sentence in text
        assert f"{criterion.name:20}" in text
    assert lines(decision)[-1] == "refused"
    good = tuple(criterion.model_copy(update={"passed": True}) for criterion in decision.criteria)
    assert lines(decision.model_copy(update={"criteria": good}))[-1] == "passed"
