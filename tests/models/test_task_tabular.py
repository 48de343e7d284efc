"""Records in, a value with an interval out."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import InputError
from models.task import Category, Number, TabularRegression
from tests.bundles import CARS, rows_of

RECORD = {"weight": 3504, "horsepower": 130.5, "origin": "usa"}


def refused(instances: list[Any]) -> InputError:
    with pytest.raises(InputError) as caught:
        CARS.parse(instances)
    return caught.value


def refused_array(array: np.ndarray) -> InputError:
    with pytest.raises(InputError) as caught:
        CARS.accept(array)
    return caught.value


def test_a_record_becomes_a_row_in_field_order_with_categories_as_their_index() -> None:
    rows = CARS.parse([{"origin": "japan", "weight": 2000, "horsepower": 95}, RECORD])
    assert rows.dtype == np.float32
    assert rows.tolist() == [[2000, 95, 2], [3504, 130.5, 0]]


def test_a_list_in_field_order_is_the_same_record() -> None:
    assert CARS.parse([[3504, 130.5, "usa"]]).tolist() == CARS.parse([RECORD]).tolist()


def test_the_ends_of_a_range_belong_to_it() -> None:
    assert CARS.parse([{**RECORD, "weight": 500}, {**RECORD, "weight": 9000}])[:, 0].tolist() == [500, 9000]


@given(st.integers(0, 10_000))
@examples(max_examples=25, deadline=None)
def test_a_row_told_as_a_record_parses_back_to_the_same_row(seed: int) -> None:
    row = rows_of(CARS, 1, seed)
    np.testing.assert_array_equal(CARS.parse([CARS.record(row[0])]), row)


@pytest.mark.parametrize(
    "bad",
    [499, 9001, -1, math.nan, math.inf, -math.inf, True, None, "3504", [3504], {}, pytest.param(10**400, id="huge")],
)
def test_a_value_outside_its_field_is_refused_with_its_path(bad: Any) -> None:
    error = refused([RECORD, RECORD, RECORD, {**RECORD, "weight": bad}])
    assert error.field == "instances[3].weight"
    assert error.rule == "must be a number from 500 to 9000 lb"


@pytest.mark.parametrize("bad", [True, False])
def test_a_boolean_is_no_number_though_its_value_would_be_in_range(bad: bool) -> None:
    task = TabularRegression(fields=(Number(name="doors", low=0, high=10),), target="mpg", unit="mpg")
    with pytest.raises(InputError) as caught:
        task.parse([{"doors": bad}])
    assert caught.value.field == "instances[0].doors"


def test_in_a_list_the_path_is_the_index() -> None:
    assert refused([[3504, 130, "usa"], [3504, 5, "usa"]]).field == "instances[1][1]"


@pytest.mark.parametrize("bad", ["USA", "", "mars", 0, 1.0, None, True, ["usa"]])
def test_a_value_outside_the_vocabulary_is_refused_with_the_vocabulary(bad: Any) -> None:
    error = refused([{**RECORD, "origin": bad}])
    assert error.field == "instances[0].origin"
    assert error.rule == 'must be one of "usa", "europe", "japan"'


def test_an_unknown_field_is_refused_with_the_one_that_was_meant() -> None:
    record = {"wieght": 3504, "horsepower": 130, "origin": "usa"}
    error = refused([record])
    assert error.field == "instances[0].wieght"
    assert error.remedy == 'Did you mean "weight"?'


def test_an_extra_field_is_refused_even_when_all_others_are_there() -> None:
    error = refused([{**RECORD, "colour": "red"}])
    assert error.field == "instances[0].colour"
    assert error.remedy == "Leave it out."


def test_a_missing_field_is_named() -> None:
    error = refused([RECORD, {"weight": 3504, "origin": "usa"}])
    assert error.field == "instances[1].horsepower"
    assert error.rule == "is required"


@pytest.mark.parametrize("count", [0, 2, 4])
def test_a_list_of_another_length_is_refused_with_the_field_names(count: int) -> None:
    error = refused([[100] * count])
    assert error.field == "instances[0]"
    assert "weight, horsepower, origin" in error.rule


@pytest.mark.parametrize("value", [None, 7, "weight", True])
def test_what_is_no_record_is_refused(value: Any) -> None:
    assert refused([RECORD, value]).field == "instances[1]"


def test_an_error_does_not_echo_a_whole_payload() -> None:
    assert len(str(refused([{**RECORD, "x" * 100_000: 1}]))) < 500
    assert len(str(refused([{**RECORD, "weight": "9" * 100_000}]))) < 500


_VALUE = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers())
_RECORDS = st.dictionaries(st.sampled_from(["weight", "horsepower", "origin", "weigth"]), _VALUE)


@given(st.lists(_RECORDS | st.lists(_VALUE, max_size=4) | _VALUE, min_size=1, max_size=3))
@examples(max_examples=100, deadline=None)
def test_any_json_is_finite_rows_or_an_input_error_that_names_the_instance(instances: list[Any]) -> None:
    try:
        good = np.isfinite(CARS.parse(instances)).all()
    except InputError as error:
        good = error.field.startswith("instances[")
    assert good


def test_an_array_may_lack_the_batch_axis() -> None:
    row = np.array([3504, 130.5, 1])
    assert CARS.accept(row).tolist() == CARS.accept(row[np.newaxis]).tolist() == [[3504, 130.5, 1]]


def test_an_array_of_integers_becomes_float32() -> None:
    assert CARS.accept(np.array([[3504, 130, 1]])).dtype == np.float32


@pytest.mark.parametrize(
    ("column", "bad"), [(0, math.nan), (0, 499.0), (1, math.inf), (2, 3.0), (2, 0.5), (2, -1.0), (2, math.nan)]
)
def test_a_bad_number_in_an_array_is_refused_with_row_column_and_field_name(column: int, bad: float) -> None:
    array = np.array([[3504, 130, 1]] * 3, np.float64)
    array[1, column] = bad
    error = refused_array(array)
    assert error.field == f"array[1][{column}]"
    assert CARS.names[column] in error.rule


@pytest.mark.parametrize("shape", [(), (2,), (0, 3), (3, 4), (1, 1, 3)])
def test_arrays_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    assert refused_array(np.zeros(shape)).field == "array"


@pytest.mark.parametrize("dtype", ["bool", "O", "U3", "complex128"])
def test_arrays_of_no_numbers_are_refused(dtype: str) -> None:
    assert "dtype" in refused_array(np.zeros((1, 3), dtype)).rule


def test_the_answer_has_value_interval_and_unit() -> None:
    answer = CARS.answer(np.array([20.5, 18.0, 23.0], np.float32))
    assert answer == {"value": 20.5, "unit": "mpg", "low": 18.0, "high": 23.0}


@pytest.mark.parametrize(("low", "high"), [(1, 1), (2, 1), (math.nan, 1)])
def test_a_range_without_room_is_refused(low: float, high: float) -> None:
    with pytest.raises(ValidationError):
        Number(name="x", low=low, high=high)


def test_a_vocabulary_is_not_empty() -> None:
    with pytest.raises(ValidationError):
        Category(name="x", values=())


def test_a_task_survives_its_own_json() -> None:
    assert TabularRegression.model_validate_json(CARS.model_dump_json()) == CARS
