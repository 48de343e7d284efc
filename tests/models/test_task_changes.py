"""What the clients of a model would notice of its next version."""

from typing import Any

import pytest

from models.task import Category, Number, Task
from models.task.changes import breaking
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE

WEIGHT, POWER, ORIGIN = CARS.fields


def cars(*fields: Any, **changes: Any) -> Task:
    return CARS.model_copy(update={"fields": fields or CARS.fields, **changes})


@pytest.mark.parametrize(
    "new",
    [
        CARS,
        cars(WEIGHT.model_copy(update={"low": 1.0, "high": 99_999.0}), POWER, ORIGIN),
        cars(WEIGHT.model_copy(update={"missing": True}), POWER, ORIGIN),
        cars(WEIGHT, POWER, Category(name="origin", values=("usa", "europe", "japan", "korea"))),
    ],
)
def test_what_takes_every_old_request_breaks_nothing(new: Task) -> None:
    assert breaking(CARS, new) == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (CARS, CHURN, "tabular_regression became tabular_classification"),
        (CARS, cars(WEIGHT, POWER), "fields"),
        (CARS, cars(POWER, WEIGHT, ORIGIN), "fields"),
        (CARS, cars(WEIGHT, POWER, ORIGIN, Number(name="doors", low=1, high=9)), "fields"),
        (CARS, cars(unit="km/l"), "unit 'mpg' became 'km/l'"),
        (CARS, cars(target="range"), "target"),
        (CARS, cars(WEIGHT.model_copy(update={"high": 5_000.0}), POWER, ORIGIN), "500 to 9000, became 500 to 5000"),
        (CARS, cars(WEIGHT.model_copy(update={"unit": "kg"}), POWER, ORIGIN), "unit of weight"),
        (CARS, cars(WEIGHT, POWER, Category(name="origin", values=("europe", "usa", "japan"))), "values of origin"),
        (CARS, cars(WEIGHT, POWER, Number(name="origin", low=0, high=3)), "a category, became a number"),
        (cars(WEIGHT.model_copy(update={"missing": True}), POWER, ORIGIN), CARS, "may not be missing any more"),
        (CHURN, CHURN.model_copy(update={"labels": ("yes", "no")}), "labels"),
        (IMAGE, IMAGE.model_copy(update={"labels": ("bag", "boot")}), "labels"),
        (IMAGE, IMAGE.model_copy(update={"channels": 3}), "picture"),
        (IMAGE, IMAGE.model_copy(update={"preparation": "stretch_v1"}), "preparation"),
        (SERIES, SERIES.model_copy(update={"lookback": 7}), "lookback 6 became 7"),
        (SERIES, SERIES.model_copy(update={"horizon": 3}), "horizon"),
        (SERIES, SERIES.model_copy(update={"step": "PT1M"}), "step"),
        (STATE, STATE.model_copy(update={"labels": ("sound", "worn")}), "labels"),
        (STATE, STATE.model_copy(update={"lookback": 7}), "lookback 6 became 7"),
        (STATE, STATE.model_copy(update={"channels": (Number(name="heat", low=0, high=9),)}), "fields"),
        (SERIES, STATE, "sequence_forecast became sequence_classification"),
    ],
)
def test_what_a_client_would_notice_is_named(old: Task, new: Task, says: str) -> None:
    assert says in "; ".join(breaking(old, new))


def test_a_shorter_look_back_takes_the_old_requests() -> None:
    assert breaking(SERIES, SERIES.model_copy(update={"lookback": 5})) == []
