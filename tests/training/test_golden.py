"""Golden rows hold the extremes, and nothing that a licence keeps back."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from models.task import TabularRegression
from tests.training.made_up import MADE_UP, tiny
from training.datasets import data_set
from training.golden import ROWS, example, golden_rows
from training.split import Part

SETS = ("auto-mpg", "etth1", "fashion-mnist")


def held_out(name: str) -> Part:
    known = data_set(name)
    architecture = {"auto-mpg": "regressor", "etth1": "lstm", "fashion-mnist": "cnn"}[name]
    return known.split(known.engineer(MADE_UP[name]()), tiny(architecture)).validation


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("synthetic", [True, False])
def test_golden_rows_are_rows_that_the_service_accepts(name: str, synthetic: bool) -> None:
    task = data_set(name).task
    rows = golden_rows(task, held_out(name), synthetic=synthetic, seed=1)
    assert len(rows) >= ROWS
    np.testing.assert_array_equal(task.accept(rows), rows)
    np.testing.assert_array_equal(rows, golden_rows(task, held_out(name), synthetic=synthetic, seed=1))


def test_pictures_go_from_all_black_to_all_white() -> None:
    rows = golden_rows(data_set("fashion-mnist").task, held_out("fashion-mnist"), synthetic=False, seed=1)
    sums = rows.reshape(len(rows), -1).sum(axis=1, dtype=np.int64)
    assert sums.min() == 0
    assert sums.max() == 28 * 28 * 255


def test_records_reach_both_ends_of_every_field() -> None:
    task = data_set("auto-mpg").task
    assert isinstance(task, TabularRegression)
    rows = golden_rows(task, held_out("auto-mpg"), synthetic=False, seed=1)
    for column, field in enumerate(task.fields):
        ends = (0, len(field.values) - 1) if field.kind == "category" else (field.low, field.high)
        assert (rows[:, column].min(), rows[:, column].max()) == ends


def test_sequences_are_made_up_whatever_the_data() -> None:
    """ETTh1's licence allows no derivatives."""
    task = data_set("etth1").task
    part = held_out("etth1")
    other = Part(part.rows + 1, part.values)
    np.testing.assert_array_equal(
        golden_rows(task, part, synthetic=False, seed=1), golden_rows(task, other, synthetic=False, seed=1)
    )
    assert example(task, part, synthetic=True) == example(task, other, synthetic=True)


@pytest.mark.parametrize("name", SETS)
def test_an_example_is_json_that_the_task_parses(name: str) -> None:
    task = data_set(name).task
    for synthetic in (True, False):
        instance = json.loads(json.dumps(example(task, held_out(name), synthetic=synthetic)))
        if name == "fashion-mnist":
            picture = Image.open(io.BytesIO(base64.b64decode(instance["b64"])))
            assert (picture.size, picture.mode) == ((28, 28), "L")
        else:
            assert task.parse([instance]).shape == (1, *task.input_shape)
