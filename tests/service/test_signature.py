"""A model's inputs and outputs as named tensors: the same rows as from any other protocol, and clear refusals."""

from typing import Any

import numpy as np
import pytest

from models.errors import InputError
from models.task import Category, Number, TabularRegression, Task
from service.errors import TooLargeError
from service.protocols.signature import (
    Wanted,
    check_wanted,
    inputs_of,
    outputs_of,
    rows_of,
    tensors_of,
)
from service.protocols.tensors import BYTES, Tensor, tensor_from_values
from service.settings import Settings
from tests import bundles
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE
from tests.service.test_native import png

SETTINGS = Settings.load(max_request_rows=4, max_queue_rows=8, max_picture_pixels=10_000)
TASKS = [IMAGE, CARS, CHURN, SERIES, STATE]


def tensor(name: str, values: Any, datatype: str = "FP32") -> Tensor:
    shape = np.shape(values)
    return tensor_from_values(name, datatype, shape, np.ravel(np.array(values, dtype=object)).tolist())


def cars(**changed: Any) -> list[Tensor]:
    columns = {"weight": [[2000.5], [3000]], "horsepower": [[90], [80]], "origin": [["usa"], ["japan"]]} | changed
    return [
        tensor(name, values, BYTES if isinstance(np.ravel(values)[0], str) else "FP32")
        for name, values in columns.items()
        if values
    ]


def rows(task: Task, *tensors: Tensor) -> np.ndarray:
    return rows_of(task, tensors, SETTINGS).rows


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_whole_rows_come_as_one_tensor(task: Task) -> None:
    expected = bundles.rows_of(task, 3)
    datatype = "UINT8" if task.dtype == "uint8" else "FP32"
    found = rows(task, Tensor("input", datatype, expected.shape, expected))
    assert found.dtype == task.dtype
    assert np.array_equal(found, expected)


def test_a_tensor_of_pixels_is_not_copied() -> None:
    pixels = bundles.rows_of(IMAGE, 3)
    assert np.shares_memory(rows(IMAGE, Tensor("input", "UINT8", pixels.shape, pixels)), pixels)


def test_columns_make_the_rows_that_records_make() -> None:
    records = [
        {"weight": 2000.5, "horsepower": 90, "origin": "usa"},
        {"weight": 3000, "horsepower": 80, "origin": "japan"},
    ]
    assert np.array_equal(rows(CARS, *cars()), CARS.parse(records))
    assert np.array_equal(rows(CARS, *reversed(cars())), CARS.parse(records))


def test_columns_may_leave_out_the_axis_of_length_one() -> None:
    flat = cars(weight=[2000.5, 3000], origin=["usa", "japan"])
    assert np.array_equal(rows(CARS, *flat), rows(CARS, *cars()))


@pytest.mark.parametrize("datatype", ["INT16", "INT64", "UINT32", "FP16", "FP64"])
def test_a_number_may_have_any_numeric_type(datatype: str) -> None:
    columns = {one.name: one for one in cars(weight=[[2000], [3000]])}
    columns["weight"] = tensor("weight", [[2000], [3000]], datatype)
    assert rows(CARS, *columns.values())[:, 0].tolist() == [2000, 3000]


def test_what_may_be_missing_is_nan_or_empty_or_left_out() -> None:
    expected = CHURN.parse([{"months": 3}, {"months": 4, "charges": 5, "contract": "yearly"}])
    columns = [
        tensor("months", [[3], [4]], "INT32"),
        tensor("charges", [[None], [5.0]]),
        tensor("contract", [[""], ["yearly"]], BYTES),
    ]
    assert np.array_equal(rows(CHURN, *columns), expected, equal_nan=True)
    assert np.isnan(rows(CHURN, columns[0])[:, 1:]).all()


def test_a_column_called_input_is_a_column() -> None:
    task = TabularRegression(
        fields=(Number(name="input", low=0, high=9), Category(name="kind", values=("a", "b"))), target="y", unit="m"
    )
    assert rows(task, tensor("input", [[3.0]]), tensor("kind", [["b"]], BYTES)).tolist() == [[3, 1]]


def test_encoded_pictures_are_prepared_as_everywhere() -> None:
    pixels = bundles.rows_of(IMAGE, 2)
    files = [png(one[:, :, 0]) for one in pixels]
    for shape in ((2,), (2, 1)):
        decoded = rows_of(IMAGE, [Tensor("input", BYTES, shape, files)], SETTINGS)
        decoded.decode_pictures_at_once()
        assert np.array_equal(decoded.rows, pixels)
        assert decoded.applied == [(), ()]


@pytest.mark.parametrize(
    ("task", "tensors", "field"),
    [
        (IMAGE, [], "inputs"),
        (IMAGE, [tensor("image", [1.0])], "image"),
        (IMAGE, [tensor("input", [1.0]), tensor("input", [1.0])], "inputs"),
        (IMAGE, [tensor("input", [[1.5]])], "input"),
        (SERIES, [tensor("input", [["7"] * 6], BYTES)], "input"),
        (SERIES, [tensor("input", [[1.0, 2, 3, 4, 5, 1e6]])], "input[0][5][0]"),
        (CARS, [], "weight"),
        (CARS, cars(weight=None), "weight"),
        (CARS, [*cars(), cars()[0]], "inputs"),
        (CARS, [*cars(), tensor("wieght", [[1.0], [2.0]])], "wieght"),
        (CARS, cars(weight=[[2000.0, 1.0]]), "weight"),
        (CARS, cars(horsepower=[[90.0]]), "horsepower"),
        (CARS, cars(weight=[[2000.0], [1e9]]), "weight[1]"),
        (CARS, cars(horsepower=[[90.0], [float("nan")]]), "horsepower[1]"),
        (CARS, cars(origin=[["usa"], ["mars"]]), "origin[1]"),
        (CARS, cars(origin=[["usa"], [""]]), "origin[1]"),
        (CARS, cars(origin=[[0.0], [1.0]]), "origin"),
        (CARS, cars(weight=[["2000"], ["3000"]]), "weight"),
        (CARS, [tensor("input", [[2000.0, 90, 7]])], "input[0][2]"),
    ],
)
def test_what_is_wrong_is_named(task: Task, tensors: list[Tensor], field: str) -> None:
    with pytest.raises(InputError) as caught:
        rows_of(task, tensors, SETTINGS)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("task", "tensors"),
    [
        (IMAGE, [Tensor("input", "UINT8", (5, 28, 28, 1), np.zeros((5, 28, 28, 1), np.uint8))]),
        (IMAGE, [Tensor("input", BYTES, (5,), [b""] * 5)]),
        (CARS, [Tensor("weight", "INT8", (10**7,), np.zeros(10**7, np.int8)), *cars()[1:]]),
    ],
)
def test_too_many_rows_are_refused(task: Task, tensors: list[Tensor]) -> None:
    with pytest.raises(TooLargeError, match="at most 4 rows"):
        rows_of(task, tensors, SETTINGS)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.kind)
def test_outputs_have_the_names_and_shapes_of_the_metadata(task: Task) -> None:
    outputs = np.random.default_rng(0).random((3, *task.output_shape)).astype(np.float32)
    found = tensors_of(task, outputs)
    assert [(one.name, one.datatype, one.shape[1:]) for one in found] == [
        (spec.name, spec.datatype, spec.shape[1:]) for spec in outputs_of(task)
    ]
    answer = task.answer(outputs[1])
    for one in found:
        data = np.asarray(one.data)
        assert data.shape == one.shape
        expected = answer[one.name]
        expected = list(expected.values()) if isinstance(expected, dict) else np.ravel(expected)
        assert np.array_equal(data[1], np.array(expected, np.float32))


def test_the_metadata_list_what_a_client_sends() -> None:
    assert [(one.name, one.datatype, one.shape) for one in inputs_of(IMAGE)] == [("input", "UINT8", (-1, 28, 28, 1))]
    assert [(one.name, one.datatype) for one in inputs_of(CARS)] == [
        ("weight", "FP32"),
        ("horsepower", "FP32"),
        ("origin", BYTES),
    ]
    assert [(one.name, one.datatype, one.shape) for one in inputs_of(SERIES)] == [("input", "FP32", (-1, 6, 1))]


def test_chosen_outputs_come_in_the_order_asked_for() -> None:
    outputs = np.array([[1, 2, 3]], np.float32)
    found = tensors_of(CARS, outputs, [Wanted("high"), Wanted("value")])
    assert [(one.name, np.asarray(one.data).tolist()) for one in found] == [("high", [[3]]), ("value", [[1]])]


def test_the_most_probable_classes_come_as_texts() -> None:
    outputs = np.array([[0.25, 0.5, 0.25], [0, 0, 1]], np.float32)
    (found,) = tensors_of(IMAGE, outputs, [Wanted("probabilities", 2)])
    assert (found.datatype, found.shape) == (BYTES, (2, 2))
    assert found.data == [b"0.500000:1:boot", b"0.250000:0:bag", b"1.000000:2:coat", b"0.000000:0:bag"]
    (everything,) = tensors_of(IMAGE, outputs, [Wanted("probabilities", 99)])
    assert everything.shape == (2, 3)


@pytest.mark.parametrize(
    ("task", "wanted", "field"),
    [
        (CARS, [Wanted("mpg")], "outputs[0]"),
        (CARS, [Wanted("low"), Wanted("high"), Wanted("low")], "outputs[2]"),
        (CARS, [Wanted("value", 1)], "outputs[0].classification"),
        (IMAGE, [Wanted("probabilities", -1)], "outputs[0].classification"),
    ],
)
def test_an_output_that_there_is_not_is_refused(task: Task, wanted: list[Wanted], field: str) -> None:
    with pytest.raises(InputError) as caught:
        check_wanted(task, wanted)
    assert caught.value.field == field
