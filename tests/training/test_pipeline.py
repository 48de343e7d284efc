"""A whole run of each architecture on small made-up data ends in a bundle that both engines serve."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from models import architectures
from models.bundle import Bundle
from models.decision import Decision
from models.engines import check_golden, open_engine
from tests.training.conftest import WholeRun
from tests.training.made_up import MADE_UP, load, tiny
from training import export
from training.config import TrainConfig
from training.datasets import DataError, Raw
from training.export import ExportError
from training.fingerprints import fingerprints
from training.pipeline import Loaded, train
from training.split import Part

STAGES = [
    "load",
    "analyse",
    "engineer features",
    "validate data",
    "split",
    "build and fit",
    "evaluate",
    "publish",
]
# Without folds, what decides about the intervals are validation rows.
SMALL = tiny("regressor", folds=0)


@pytest.fixture(scope="module", params=architectures())
def run(request: pytest.FixtureRequest, whole_run: WholeRun) -> tuple[Bundle, list[str], Path]:
    folder = whole_run(request.param)
    return Bundle.open(folder / "home" / "bundle"), json.loads((folder / "said.json").read_text()), folder / "home"


def test_the_stages_are_named_in_order(run: tuple[Bundle, list[str], Path]) -> None:
    assert [line for line in run[1] if not line.startswith(" ")] == STAGES


def test_the_bundle_verifies_and_its_golden_rows_hold_in_onnxruntime(run: tuple[Bundle, list[str], Path]) -> None:
    bundle = Bundle.open(run[0].path)
    bundle.verify()
    assert len(bundle.golden()[0]) >= 256
    engine = open_engine(bundle, kind="onnx")
    assert check_golden(engine, bundle) <= 1e-4


def test_the_bundle_is_self_describing(run: tuple[Bundle, list[str], Path]) -> None:
    manifest = run[0].manifest
    assert manifest.lineage.config["seed"] == 3
    assert manifest.lineage.config_sha256 == TrainConfig.model_validate(manifest.lineage.config).sha256
    assert manifest.lineage.data_location == "made up"
    assert set(manifest.lineage.rows) == {"train", "validation", "test"}
    assert manifest.figures[0].split == "test"
    assert manifest.figures[0].baselines
    assert {"plots/learning_curve.png", "card.md"} < set(manifest.files)
    reference = run[0].reference()
    assert all(sum(entry["counts"]) > 0 for entry in reference["inputs"] + reference["outputs"])


def test_the_example_is_an_instance_that_the_task_parses(run: tuple[Bundle, list[str], Path]) -> None:
    manifest = run[0].manifest
    if manifest.task.kind == "image_classification":
        assert isinstance(manifest.example, dict)
        assert set(manifest.example) == {"b64"}
    else:
        assert manifest.task.parse([manifest.example]).shape == (1, *manifest.task.input_shape)


def test_outputs_are_probabilities_or_ordered_intervals(run: tuple[Bundle, list[str], Path]) -> None:
    outputs = run[0].golden()[1]
    if run[0].manifest.task.kind == "image_classification":
        np.testing.assert_allclose(outputs.sum(axis=1), 1, atol=1e-5)
    else:
        value, low, high = np.moveaxis(outputs, -1, 0)
        assert (low <= value).all()
        assert (value <= high).all()


def test_the_look_at_the_test_rows_is_in_the_ledger(run: tuple[Bundle, list[str], Path]) -> None:
    manifest = run[0].manifest
    rows = (run[2] / "EVALUATIONS.md").read_text(encoding="utf-8").splitlines()[-1].split(" | ")
    assert rows[1:4] == [manifest.name, manifest.version, manifest.lineage.config_sha256[:12]]
    assert rows[4].startswith(f"{manifest.figures[0].name} {manifest.figures[0].value:.4f}")


def test_a_finished_run_leaves_no_unfinished_fit_and_no_staging(run: tuple[Bundle, list[str], Path]) -> None:
    assert sorted(path.name for path in run[2].iterdir()) in (
        ["EVALUATIONS.md", "bundle"],
        ["EVALUATIONS.md", "bundle", "runs"],
    )
    assert not list(run[2].glob("runs/*"))


def test_the_bundle_knows_the_rows_that_decided_it_and_no_test_row(run: tuple[Bundle, list[str], Path]) -> None:
    config = tiny(run[0].manifest.architecture)
    loaded = load(config, None)
    split = loaded.data.split(loaded.data.engineer(loaded.raw), config)
    known = run[0].trained_rows()
    assert known is not None
    assert np.isin(fingerprints(np.concatenate([split.train.rows, split.validation.rows])), known).all()
    assert not np.isin(fingerprints(split.test.rows), known).any()


@dataclass(frozen=True)
class Judged:
    """What a run was published as, and each bundle that its judge saw, with whether that was published by then."""

    folder: Path
    published: Bundle
    seen: list[tuple[Bundle, bool]]


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("judged")
    seen: list[tuple[Bundle, bool]] = []

    def judge(bundle: Bundle, part: Part, outputs: np.ndarray) -> Decision:
        bundle.verify()
        assert len(part) == len(outputs) == bundle.manifest.lineage.rows["test"]
        seen.append((bundle, (folder / "bundle").exists()))
        return Decision(production="20260101-000000-0123abcd", rows=1, left_out=0, margin=0.1, refused="too few rows")

    published = train(
        SMALL,
        name="tiny",
        publish_to=folder / "bundle",
        load=load,
        parent="tiny:20260101-000000-0123abcd",
        judge=judge,
        ledger=folder / "EVALUATIONS.md",
        runs=folder / "runs",
        progress=lambda _: None,
    )
    return Judged(folder, published, seen)


def test_a_decision_is_sealed_into_the_bundle_before_it_is_published(judged: Judged) -> None:
    assert [there for _, there in judged.seen] == [False]
    opened = Bundle.open(judged.folder / "bundle")
    assert opened.manifest == judged.published.manifest
    assert opened.manifest.gate is not None
    assert opened.manifest.gate.refused == "too few rows"
    assert opened.manifest.lineage.parent == "tiny:20260101-000000-0123abcd"


def train_small(folder: Path) -> Bundle:
    """A bundle in that folder, of the least that is an ensemble."""
    return train(
        SMALL,
        name="tiny",
        publish_to=folder / "bundle",
        load=load,
        ledger=folder / "EVALUATIONS.md",
        runs=folder / "runs",
        progress=lambda _: None,
    )


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return train_small(tmp_path_factory.mktemp("small"))


def test_the_same_seed_gives_the_same_weights(small: Bundle, judged: Judged) -> None:
    np.testing.assert_array_equal(judged.published.golden()[1], small.golden()[1])


def test_a_new_bundle_replaces_the_old_one_only_when_it_is_complete(
    small: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small.path, tmp_path / "bundle")
    monkeypatch.setattr(export, "LIMIT", -1.0)
    with pytest.raises(ExportError, match="ONNX and Keras must agree"):
        train_small(tmp_path)
    assert Bundle.open(tmp_path / "bundle").manifest.version == small.manifest.version
    # The refused run looked at the test rows too.
    assert "not published" in (tmp_path / "EVALUATIONS.md").read_text(encoding="utf-8").splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".")) == []


def test_broken_data_is_refused_before_anything_is_built(tmp_path: Path) -> None:
    def broken(config: TrainConfig, data_dir: Path | None) -> Loaded:
        loaded = load(config, data_dir)
        return replace(loaded, raw=Raw(loaded.raw.table.drop(columns="weight")))

    said: list[str] = []
    with pytest.raises(DataError, match="column weight is missing"):
        train(
            tiny("regressor"),
            name="tiny",
            publish_to=tmp_path / "bundle",
            load=broken,
            ledger=tmp_path / "EVALUATIONS.md",
            progress=said.append,
        )
    assert said[-1] == "validate data"
    assert not list(tmp_path.iterdir())


def test_every_architecture_has_made_up_data() -> None:
    assert {tiny(name).dataset for name in architectures()} == set(MADE_UP)
