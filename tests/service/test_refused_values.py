"""Which feature a refused value belongs to, and how it is counted."""

import json
from typing import Any

import pytest

from models.errors import InputError
from models.task import Category, Number, Task
from service.metrics import Metrics
from service.refused_values import count_refused_value, feature_of
from service.runtime import Runtime
from tests.bundles import CARS, IMAGE, SERIES
from tests.service.asgi import Client


@pytest.mark.parametrize(
    ("task", "path", "feature"),
    [
        (CARS, "instances[3].weight", ("weight", False)),
        (CARS, "instances[3][2]", ("origin", True)),
        (CARS, "array[0][1]", ("horsepower", False)),
        (CARS, "instances[3]", (None, False)),
        (CARS, "instances[3].evil", (None, False)),
        (CARS, "body", (None, False)),
        (CARS, "weight[3]", ("weight", False)),
        (CARS, "inputs.origin[3]", ("origin", True)),
        (CARS, "input[0][1]", ("horsepower", False)),
        (CARS, "evil[1]", (None, False)),
        (CARS, "inputs.weight", (None, False)),
        (SERIES, "instances[0][5]", ("OT", False)),
        (SERIES, "array[0][5][0]", ("OT", False)),
        (IMAGE, "instances[0][1][2]", ("pixel_intensity", False)),
    ],
)
def test_a_refused_value_belongs_to_a_feature_of_the_schema(task: Task, path: str, feature: Any) -> None:
    assert feature_of(task, path) == feature


def test_refused_values_are_counted_by_feature() -> None:
    metrics = Metrics()
    weight, origin = CARS.fields[0], CARS.fields[2]
    assert isinstance(weight, Number)
    assert isinstance(origin, Category)
    for field, value in ((weight, 1e6), (origin, "mars"), (weight, "heavy")):
        with pytest.raises(InputError) as caught:
            field.code(value, f"instances[0].{field.name}")
        count_refused_value(metrics, "cars", CARS, caught.value)
    text = metrics.render()[0].decode()
    assert 'serving_input_out_of_range_total{by="schema",feature="weight",model="cars"} 1.0' in text
    assert 'serving_input_unseen_category_total{by="schema",feature="origin",model="cars"} 1.0' in text


async def test_a_refused_value_is_counted_over_any_protocol_and_a_refused_shape_over_none(
    client: Client, runtime: Runtime
) -> None:
    rows = {"instances": [{"weight": 1e6, "horsepower": 90, "origin": "usa"}]}
    columns = {"inputs": {"weight": [1e6], "horsepower": [90], "origin": ["usa"]}}
    tensors = [
        {"name": name, "shape": [1], "datatype": "BYTES" if name == "origin" else "FP32", "data": values}
        for name, values in columns["inputs"].items()
    ]
    short = {"inputs": {"weight": [2000, 3000], "horsepower": [90], "origin": ["usa", "usa"]}}
    for path, documents in {
        "/predict/cars": [rows],
        "/v1/models/cars:predict": [rows, columns, short],
        "/v2/models/cars/infer": [{"inputs": tensors}],
    }.items():
        for document in documents:
            body = json.dumps(document).encode()
            answer = await client("POST", path, body, headers={"content-type": "application/json"})
            assert answer.status in {400, 422}
    found = [
        line
        for line in runtime.metrics.render()[0].decode().splitlines()
        if line.startswith("serving_input_out_of_range_total{")
    ]
    assert found == ['serving_input_out_of_range_total{by="schema",feature="weight",model="cars"} 4.0']
