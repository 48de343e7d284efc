"""The recent past of a series in, its next steps out."""

import math
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from models.errors import InputError
from models.task import Number, SequenceForecast
from tests.bundles import SERIES

TWO = SequenceForecast(
    channels=(Number(name="OT", low=-60, high=120), Number(name="load", unit="kW", low=0, high=10)),
    target="OT",
    lookback=3,
    horizon=2,
    unit="°C",
    step="PT1H",
)
PAST = [10.0, 11, 12.5, 13, 14, 15]


def refused(instances: list[Any], task: SequenceForecast = SERIES) -> InputError:
    with pytest.raises(InputError) as caught:
        task.parse(instances)
    return caught.value


def refused_array(array: np.ndarray, task: SequenceForecast = SERIES) -> InputError:
    with pytest.raises(InputError) as caught:
        task.accept(array)
    return caught.value


def test_numbers_become_a_row_of_steps() -> None:
    rows = SERIES.parse([PAST])
    assert rows.dtype == np.float32
    assert rows.shape == (1, 6, 1)
    assert rows[0, :, 0].tolist() == PAST


def test_of_more_steps_the_most_recent_count() -> None:
    np.testing.assert_array_equal(SERIES.parse([[-5, 99, *PAST]]), SERIES.parse([PAST]))


def test_a_step_that_is_too_old_to_count_may_be_anything() -> None:
    np.testing.assert_array_equal(SERIES.parse([[None, 1e9, *PAST]]), SERIES.parse([PAST]))


def test_a_step_may_be_a_list_with_its_one_channel() -> None:
    np.testing.assert_array_equal(SERIES.parse([[[step] for step in PAST]]), SERIES.parse([PAST]))


def test_several_channels_keep_their_order() -> None:
    steps = [[1, 2], [3, 4], [5, 6]]
    assert TWO.parse([steps])[0].tolist() == steps


@given(st.lists(st.floats(-60, 120) | st.integers(-60, 120), min_size=6, max_size=9))
@examples(max_examples=40, deadline=None)
def test_the_fast_path_gives_what_the_careful_path_gives(steps: list[float]) -> None:
    np.testing.assert_array_equal(SERIES.parse([steps]), SERIES.parse([[[step] for step in steps]]))


@given(
    st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.lists(st.floats(), max_size=2), max_size=9)
)
@examples(max_examples=150, deadline=None)
def test_any_json_is_finite_rows_or_an_input_error_that_names_the_instance(steps: list[Any]) -> None:
    try:
        good = np.isfinite(SERIES.parse([steps])).all()
    except InputError as error:
        good = error.field.startswith("instances[0]")
    assert good


@pytest.mark.parametrize(
    "bad", [-61, 121, math.nan, math.inf, -math.inf, True, None, "12", {}, pytest.param(10**400, id="huge")]
)
@pytest.mark.parametrize("at", [0, 3, 5])
def test_a_bad_step_is_refused_at_its_exact_place(bad: Any, at: int) -> None:
    steps: list[Any] = list(PAST)
    steps[at] = bad
    error = refused([PAST, steps])
    assert error.field == f"instances[1][{at}]"
    assert error.rule == "must be a number from -60 to 120 °C"


def test_the_place_counts_from_the_first_step_that_was_sent() -> None:
    assert refused([[0, 0, *PAST[:-1], 1e9]]).field == "instances[0][7]"


def test_a_bad_channel_is_refused_at_its_exact_place() -> None:
    error = refused([[[1, 2], [3, 11], [5, 6]]], TWO)
    assert error.field == "instances[0][1][1]"
    assert error.rule == "must be a number from 0 to 10 kW"


@pytest.mark.parametrize("step", [5, [5], [5, 6, 7], "ab", None])
def test_a_step_without_every_channel_is_refused_with_their_names(step: Any) -> None:
    error = refused([[[1, 2], step, [5, 6]]], TWO)
    assert error.field == "instances[0][1]"
    assert "OT, load" in error.rule


@pytest.mark.parametrize("length", [0, 5])
def test_too_short_a_past_is_refused_with_both_lengths(length: int) -> None:
    error = refused([PAST, PAST[:length]])
    assert error.field == "instances[1]"
    assert "at least 6 steps of PT1H" in error.rule
    assert error.received == f"{length} steps"


@pytest.mark.parametrize("value", [None, 7, "1,2,3", {"OT": PAST}])
def test_what_is_no_list_is_refused(value: Any) -> None:
    assert refused([value]).field == "instances[0]"


def test_arrays_may_lack_the_batch_and_the_channel_axis() -> None:
    array = np.array(PAST)
    for shape in ((6,), (1, 6), (6, 1), (1, 6, 1)):
        np.testing.assert_array_equal(SERIES.accept(array.reshape(shape)), SERIES.parse([PAST]))
    assert SERIES.accept(np.zeros((5, 6))).shape == (5, 6, 1)
    assert TWO.accept(np.ones((3, 2))).shape == (1, 3, 2)


def test_of_a_longer_array_the_most_recent_steps_count() -> None:
    longer = np.array([[99.0, 98.0, *PAST]])
    np.testing.assert_array_equal(SERIES.accept(longer), SERIES.parse([PAST]))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -61.0, 121.0])
def test_a_bad_number_in_an_array_is_refused_at_its_place(bad: float) -> None:
    array = np.full((2, 6, 1), 5.0)
    array[1, 4, 0] = bad
    assert refused_array(array).field == "array[1][4][0]"


def test_in_a_longer_array_the_place_counts_from_the_first_step_that_was_sent() -> None:
    array = np.full((2, 9, 1), 5.0)
    array[1, 7, 0] = 1e9
    assert refused_array(array).field == "array[1][7][0]"


@pytest.mark.parametrize("shape", [(), (5,), (2, 5), (0, 6), (2, 6, 2), (1, 1, 6, 1)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    assert refused_array(np.zeros(shape)).field == "array"


@pytest.mark.parametrize("dtype", ["bool", "O", "U3", "datetime64[s]"])
def test_arrays_of_no_numbers_are_refused(dtype: str) -> None:
    assert "dtype" in refused_array(np.zeros((1, 6), dtype)).rule


def test_the_answer_lists_every_step_and_can_be_written_as_json() -> None:
    answer = SERIES.answer(np.array([[1, 0, 2], [3, 2, 4]], np.float32))
    assert orjson.loads(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)) == {
        "forecast": [1, 3],
        "low": [0, 2],
        "high": [2, 4],
        "unit": "°C",
        "step": "PT1H",
    }
