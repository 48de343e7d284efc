"""What Perf Analyzer is told to send."""

from pathlib import Path
from typing import Any

from benchmarks.perf_analyzer import inputs_of
from models.task import Task
from tests.bundles import CARS, IMAGE, make_bundle


def sent(folder: Path, name: str, task: Task) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = inputs_of(make_bundle(folder, name, task), rows=2)["data"]
    return rows


def test_it_sends_golden_rows_a_record_as_floats_and_texts_by_column(tmp_path: Path) -> None:
    rows = sent(tmp_path, "cars", CARS)
    assert [list(row) for row in rows] == [["weight", "horsepower", "origin"]] * 2
    assert [[type(value) for (value,) in row.values()] for row in rows] == [[float, float, str]] * 2


def test_it_sends_pictures_flat_with_their_shape(tmp_path: Path) -> None:
    (picture, _) = sent(tmp_path, "clothes", IMAGE)
    assert picture["input"]["shape"] == [28, 28, 1]
    assert len(picture["input"]["content"]) == 784
