"""What a card shows beside the headline: classes, parts, layers and plots."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from models.bundle import CARD, MANIFEST, REFERENCE, TRAINED_ROWS, Bundle
from models.manifest import FileEntry
from tests.training.conftest import WholeRun
from tests.training.made_up import load, tiny
from training.metrics import precision_and_recall, reliability
from training.recard import add_reference, add_rows, recard
from training.report import classes_section, parts_section


# In another order than test_pipeline.py: where two workers begin at once, neither waits for the other.
@pytest.fixture(scope="module", params=["regressor", "lstm", "cnn"])
def bundle(request: pytest.FixtureRequest, whole_run: WholeRun, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    trained = whole_run(request.param) / "home" / "bundle"
    return Bundle.open(Path(shutil.copytree(trained, tmp_path_factory.mktemp(request.param) / "bundle")))


PLOTS = {
    "cnn": {"learning_curve", "confusion_matrix", "reliability", "worst_mistakes"},
    "lstm": {"learning_curve", "error_by_step", "forecasts"},
    "regressor": {"learning_curve", "estimates", "residuals"},
}


def test_each_task_has_its_plots_and_they_are_small(bundle: Bundle) -> None:
    plots = {Path(name).stem: file.bytes for name, file in bundle.manifest.files.items() if name.startswith("plots/")}
    assert set(plots) == PLOTS[bundle.manifest.architecture]
    assert max(plots.values()) < 60_000


def test_the_card_shows_every_plot_the_layers_and_what_can_be_taken_apart(bundle: Bundle) -> None:
    text = (bundle.path / CARD).read_text(encoding="utf-8")
    architecture = bundle.manifest.architecture
    assert all(f"(plots/{name}.png)" in text for name in PLOTS[architecture])
    assert "## Layers" in text
    assert f"{bundle.manifest.parameters:,}" in text
    # The last fit of a cross-validated model saw every row.
    assert ("## What each part adds" in text) == (architecture != "regressor")
    assert ("| T-shirt/top |" in text) == (architecture == "cnn")
    # Before anything else: what it is apart from its name.
    first = text.split("## Intended use")[0]
    assert ("A ridge regression with recurrent networks beside it" in first) == (architecture == "lstm")


def test_a_card_written_again_keeps_version_figures_and_learning_curve(bundle: Bundle) -> None:
    before = bundle.manifest
    loaded = load(tiny(before.architecture), None)
    (bundle.path / "plots" / "old.png").write_bytes(b"")
    again = recard(bundle.path, loaded.data, loaded.raw).manifest
    assert (again.version, again.figures) == (before.version, before.figures)
    assert {n: f.sha256 for n, f in again.files.items()} == {n: f.sha256 for n, f in before.files.items()}


def test_a_bundle_without_fingerprints_gets_those_that_training_would_have_written(bundle: Bundle) -> None:
    before = Bundle.open(bundle.path)
    loaded = load(tiny(before.manifest.architecture), None)
    (bundle.path / TRAINED_ROWS).write_bytes(b"other")
    assert add_rows(bundle.path, loaded.data, loaded.raw).manifest == before.manifest


def test_fingerprints_are_not_written_for_other_data(bundle: Bundle) -> None:
    loaded = load(tiny(bundle.manifest.architecture), None)
    fewer = replace(loaded.raw, table=loaded.raw.table[:-10])
    if loaded.raw.pictures is not None:
        fewer = replace(fewer, pictures=loaded.raw.pictures[:-10])
    with pytest.raises(click.ClickException, match="was trained on"):
        add_rows(bundle.path, loaded.data, fewer)


def test_older_reference_statistics_get_what_training_would_write_today(bundle: Bundle) -> None:
    before = Bundle.open(bundle.path)
    loaded = load(tiny(before.manifest.architecture), None)
    document = before.reference()
    document["inputs"] = [{k: v for k, v in e.items() if k not in ("low", "high")} for e in document["inputs"][:1]]
    _reseal(before, document)
    assert add_reference(bundle.path, loaded.data, loaded.raw).manifest == before.manifest


def test_reference_statistics_that_do_not_come_out_again_are_refused(bundle: Bundle) -> None:
    before = Bundle.open(bundle.path)
    loaded = load(tiny(before.manifest.architecture), None)
    document = before.reference()
    document["inputs"][0]["counts"][0] += 1
    _reseal(before, document)
    with pytest.raises(click.ClickException, match="must come out again"):
        add_reference(bundle.path, loaded.data, loaded.raw)
    document["inputs"][0]["counts"][0] -= 1
    _reseal(before, document)


def _reseal(bundle: Bundle, reference: dict[str, Any]) -> None:
    """The bundle with other reference statistics, valid."""
    data = (json.dumps(reference) + "\n").encode()
    (bundle.path / REFERENCE).write_bytes(data)
    files = bundle.manifest.files | {REFERENCE: FileEntry(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))}
    manifest = bundle.manifest.model_copy(update={"files": files}).sealed()
    (bundle.path / MANIFEST).write_bytes(manifest.to_json())


def test_precision_counts_what_was_said_and_recall_what_is_true() -> None:
    said = np.eye(3)[[0, 0, 0, 1]]
    precision, recall, rows = precision_and_recall(said, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(precision, [2 / 3, 1, 0])
    np.testing.assert_allclose(recall, [1, 1 / 2, 0])
    np.testing.assert_array_equal(rows, [2, 2, 0])
    assert "| b | 1.000 | 0.500 | 2 |" in classes_section(("a", "b", "c"), said, np.array([0, 0, 1, 1]))


def test_reliability_leaves_empty_bins_out() -> None:
    confidence, right, counts = reliability(np.array([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6]]), np.array([0, 1, 1]))
    np.testing.assert_allclose(confidence, [0.6, 0.91])
    np.testing.assert_allclose(right, [1.0, 0.5])
    np.testing.assert_array_equal(counts, [1, 2])


def test_parts_are_listed_in_the_given_order() -> None:
    text = parts_section({"as it ships": 1.0, "without a": 2.0}, "error")
    assert text.index("| as it ships | 1.0000 |") < text.index("| without a | 2.0000 |")
