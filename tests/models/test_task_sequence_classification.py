"""The recent past of a series in, class probabilities out; stretches are taken as forecasts take them."""

import json

import numpy as np
import pytest
from pydantic import TypeAdapter

from models.errors import InputError
from models.task import SequenceClassification, Task
from tests.bundles import STATE


def test_a_stretch_becomes_a_row_and_of_more_steps_the_most_recent_count() -> None:
    rows = STATE.parse([[9, 9, 1, 2, 3, 4, 5, 6]])
    assert rows.shape == (1, 6, 1)
    assert rows[0, :, 0].tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_array_equal(STATE.accept(rows), rows)


def test_the_answer_has_a_probability_for_each_label() -> None:
    answer = STATE.answer(np.array([0.25, 0.75], np.float32))
    assert answer == {
        "label": "sound",
        "class_id": 1,
        "confidence": 0.75,
        "probabilities": {"worn": 0.25, "sound": 0.75},
    }


def test_a_value_out_of_range_is_named_by_its_step() -> None:
    with pytest.raises(InputError, match=r"instances\[0\]\[3\]: must be a number from 0 to 50 mm/s"):
        STATE.parse([[1, 2, 3, 51, 5, 6]])


def test_a_manifest_tells_it_from_the_other_kinds() -> None:
    read: Task = TypeAdapter(Task).validate_python(json.loads(STATE.model_dump_json()))
    assert isinstance(read, SequenceClassification)
    assert read == STATE
