"""Records in, class probabilities out; values that may be missing."""

import json
import math
from typing import Any

import numpy as np
import pytest

from models.errors import InputError
from models.task import Category, Number, TabularClassification
from tests.bundles import CARS, CHURN

RECORD = {"months": 3, "charges": 70.5, "contract": "yearly"}


def test_the_answer_has_a_probability_for_each_of_two_labels() -> None:
    answer = CHURN.answer(np.array([0.25, 0.75], np.float32))
    assert answer == {"label": "yes", "class_id": 1, "confidence": 0.75, "probabilities": {"no": 0.25, "yes": 0.75}}


@pytest.mark.parametrize(
    "instance",
    [
        {"months": 3, "charges": None, "contract": None},
        {"months": 3},
        {"months": 3, "contract": None},
        [3, None, None],
    ],
)
def test_null_and_an_absent_member_are_missing_values(instance: Any) -> None:
    row = CHURN.parse([instance])[0]
    assert row[0] == 3
    assert np.isnan(row[1:]).all()


def test_nan_in_an_array_is_a_missing_value() -> None:
    assert np.isnan(CHURN.accept(np.array([[3, math.nan, math.nan]]))[0, 1:]).all()


@pytest.mark.parametrize("instance", [{**RECORD, "months": None}, {"charges": 1}, [None, 1, "yearly"]])
def test_a_value_that_training_never_saw_missing_is_required(instance: Any) -> None:
    with pytest.raises(InputError) as caught:
        CHURN.parse([instance])
    assert caught.value.field in ("instances[0].months", "instances[0][0]")


def test_nan_where_nothing_may_be_missing_is_refused() -> None:
    with pytest.raises(InputError, match="months"):
        CHURN.accept(np.array([[math.nan, 1, 1]]))


@pytest.mark.parametrize("bad", [math.nan, "", "70", -1, True])
def test_what_is_neither_a_value_nor_null_is_refused(bad: Any) -> None:
    with pytest.raises(InputError, match="or null"):
        CHURN.parse([{**RECORD, "charges": bad}])


@pytest.mark.parametrize("bad", ["weekly", "", 0, False])
def test_a_category_is_one_of_the_values_or_null(bad: Any) -> None:
    with pytest.raises(InputError, match='"monthly", "yearly" or null'):
        CHURN.parse([{**RECORD, "contract": bad}])


def test_a_bad_number_beside_missing_ones_is_refused_with_its_place() -> None:
    with pytest.raises(InputError) as caught:
        CHURN.accept(np.array([[3, math.nan, 0], [3, 501, 0]]))
    assert caught.value.field == "array[1][1]"


def test_an_unknown_member_is_refused_though_others_may_be_missing() -> None:
    with pytest.raises(InputError, match='Did you mean "charges"'):
        CHURN.parse([{"months": 3, "charge": 70}])


def test_a_row_with_missing_values_told_as_a_record_parses_back() -> None:
    row = np.array([3, math.nan, math.nan], np.float32)
    assert CHURN.record(row) == {"months": 3, "charges": None, "contract": None}
    np.testing.assert_array_equal(CHURN.parse([CHURN.record(row)])[0], row)


def test_a_task_survives_its_own_json() -> None:
    assert TabularClassification.model_validate_json(CHURN.model_dump_json()) == CHURN


def test_only_a_field_that_may_be_missing_says_so_in_the_manifest() -> None:
    # Manifests written before the member existed must keep their digest.
    fields = json.loads(CHURN.model_dump_json())["fields"]
    assert ["missing" in field for field in fields] == [False, True, True]
    assert not any("missing" in field for field in CARS.model_dump(mode="json")["fields"])


def test_two_labels_are_the_least() -> None:
    with pytest.raises(ValueError, match="labels"):
        TabularClassification(fields=(Number(name="x", low=0, high=1),), target="y", labels=("one",))


def test_without_a_missing_value_rows_are_as_of_any_table() -> None:
    strict = TabularClassification(
        fields=(Number(name="x", low=0, high=1), Category(name="c", values=("a", "b"))), target="y", labels=("n", "y")
    )
    assert strict.parse([{"c": "b", "x": 0.5}]).tolist() == [[0.5, 1]]
