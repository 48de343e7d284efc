"""The OpenAPI document: valid, whole, and true."""

import json
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from models.errors import InputError
from models.task import ImageClassification, Number, SequenceForecast, Task
from service.admin import ORDERS
from service.openapi import openapi_document
from service.openinference_routes import openinference_routes
from service.protocols import openinference, tfserving
from service.runtime import Runtime
from service.tfserving_routes import tfserving_routes
from tests.bundles import CARS, CHURN, IMAGE, SERIES, STATE, example_of, rows_of
from tests.conftest import MakeBundle
from tests.service.asgi import Client

TASKS: dict[str, Task] = {"cars": CARS, "clothes": IMAGE, "heat": SERIES}
JSON = {"content-type": "application/json"}
COLOUR = ImageClassification(height=2, width=2, channels=3, preparation="stretch_v1", labels=("bag", "boot"))
TWO = SequenceForecast(
    channels=(Number(name="OT", low=-60, high=120), Number(name="load", low=0, high=10)),
    target="OT",
    lookback=2,
    horizon=1,
    unit="°C",
    step="PT1H",
)


@pytest.fixture
def document(bundle_of: MakeBundle) -> dict[str, Any]:
    return openapi_document(
        [bundle_of(task, name).manifest for name, task in (("cars", CARS), ("clothes", IMAGE), ("heat", SERIES))]
    )


def request_schema(document: dict[str, Any], model: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][f"/predict/{model}"]["post"]["requestBody"]["content"][
        "application/json"
    ]["schema"]
    return found


def follows(value: Any, schema: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(value)


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    OpenAPIV31SpecValidator(document).validate()


def test_the_administration_is_described_where_there_is_one(document: dict[str, Any]) -> None:
    assert not [path for path in document["paths"] if path.startswith("/admin")]
    with_admin = openapi_document([], admin=ORDERS)
    OpenAPIV31SpecValidator(with_admin).validate()
    described = {path.rpartition("/")[2] for path in with_admin["paths"] if path.startswith("/admin/models/{model}/")}
    assert described == set(ORDERS)


def test_without_a_model_the_document_is_valid_too() -> None:
    OpenAPIV31SpecValidator(openapi_document([])).validate()


def test_the_document_can_be_written_as_json(document: dict[str, Any]) -> None:
    assert json.loads(json.dumps(document)) == document


def test_every_model_has_its_own_path_with_its_example(document: dict[str, Any]) -> None:
    for name, task in TASKS.items():
        content = document["paths"][f"/predict/{name}"]["post"]["requestBody"]["content"]
        assert content["application/json"]["example"] == {"instances": [example_of(task)]}


def test_every_status_of_the_problem_table_is_described(document: dict[str, Any]) -> None:
    from service.errors import STATUS

    described = set(document["paths"]["/predict/cars"]["post"]["responses"])
    only_of_the_administration = {"409"}
    assert described == {str(status) for _, status, _ in STATUS} - only_of_the_administration | {"200"}


async def test_every_route_of_the_service_is_described(client: Client) -> None:
    from service.routes import _BENTOML, _OWNED

    described = set((await client("GET", "/openapi.json")).json["paths"])
    not_for_people = {"/schema.json", "/docs.json", "/static_content"}
    assert (_OWNED | set(_BENTOML) | {"/models/{model}", "/models/{model}/compare"}) - not_for_people <= described
    assert {"/predict/cars", "/predict/clothes", "/predict/heat"} <= described


async def test_every_route_of_the_other_protocols_is_described(runtime: Runtime) -> None:
    described = set(openapi_document([])["paths"])
    routes = {route.path for route in (*openinference_routes(runtime), *tfserving_routes(runtime))} - {"/v2/"}
    assert {openinference.ROUTE, tfserving.ROUTE} | routes <= described


async def test_the_served_document_is_valid_and_its_examples_are_answered_as_it_says(
    client: Client, runtime: Runtime
) -> None:
    document = (await client("GET", "/openapi.json")).json
    OpenAPIV31SpecValidator(document).validate()
    for name in runtime.loader.served:
        operation = document["paths"][f"/predict/{name}"]["post"]
        content = operation["requestBody"]["content"]["application/json"]
        jsonschema.validate(content["example"], content["schema"], jsonschema.Draft202012Validator)
        answer = await client("POST", f"/predict/{name}", json.dumps(content["example"]).encode(), headers=JSON)
        assert answer.status == 200
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
        jsonschema.validate(answer.json, schema, jsonschema.Draft202012Validator)


async def test_a_problem_is_as_the_document_says(client: Client) -> None:
    document = (await client("GET", "/openapi.json")).json
    schema = document["components"]["schemas"]["Problem"]
    for body in (b"{", b'{"instances": [[]]}'):
        answer = await client("POST", "/predict/cars", body, headers=JSON)
        jsonschema.validate(answer.json, schema, jsonschema.Draft202012Validator)


@pytest.mark.parametrize("path", ["/v2/models/{model}/ready", "/v2/models/{model}/versions/{version}/ready"])
async def test_a_model_that_is_not_ready_is_described_as_it_is_answered(client: Client, path: str) -> None:
    document = (await client("GET", "/openapi.json")).json
    answer = await client("GET", path.format(model="trains", version="20260102-030405-0123abcd"))
    schema = document["paths"][path]["get"]["responses"][str(answer.status)]["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json, schema, jsonschema.Draft202012Validator)
    assert answer.status == 404


def test_bentomls_route_may_answer_with_every_status_of_a_prediction() -> None:
    paths = openapi_document([])["paths"]
    assert {"400", "401", "404", "413", "422", "429", "500", "503"} <= set(paths["/predict"]["post"]["responses"])


PIXELS = rows_of(IMAGE, 1)[0, :, :, 0].tolist()


@pytest.mark.parametrize(
    ("task", "instance"),
    [
        (CARS, {"weight": 3504, "horsepower": 130.5, "origin": "usa"}),
        (CARS, [3504, 130.5, "usa"]),
        (CARS, {"weight": 1, "horsepower": 130, "origin": "usa"}),
        (CARS, {"weight": 3504, "horsepower": 130, "origin": "mars"}),
        (CARS, {"weight": 3504, "horsepower": 130}),
        (CARS, {"weight": 3504, "horsepower": 130, "origin": "usa", "colour": "red"}),
        (CARS, [3504, 130]),
        (CARS, 7),
        (IMAGE, PIXELS),
        (IMAGE, PIXELS[:-1]),
        (IMAGE, [[300] * 28] * 28),
        (IMAGE, [[0.5] * 28] * 28),
        (SERIES, [1, 2, 3, 4, 5, 6]),
        (SERIES, [[1], 2, 3, 4, 5, 6, 7.5]),
        (SERIES, [1, 2, 3]),
        (SERIES, [1, 2, 3, 4, 5, 1000]),
        (SERIES, [1, 2, 3, 4, 5, None]),
        (STATE, [1, 2, 3, 4, 5, 6]),
        (STATE, [1, 2, 3, 4, 5, 51]),
        (COLOUR, [[[1, 2, 3], [4, 5, 6]]] * 2),
        (COLOUR, [[1, 2], [3, 4]]),
        (TWO, [[1, 2], [3, 4], [5, 6]]),
        (TWO, [1, 2]),
        (TWO, [[1, 2], [3, 11]]),
    ],
)
def test_the_schema_of_an_instance_accepts_what_the_task_accepts(
    task: Task, instance: Any, bundle_of: MakeBundle
) -> None:

    base = bundle_of().manifest.model_copy(update={"task": task, "name": "some"})
    try:
        task.parse([instance])
        accepted = True
    except InputError:
        accepted = False
    assert follows({"instances": [instance]}, request_schema(openapi_document([base]), "some")) == accepted


@pytest.mark.parametrize(
    ("instance", "good"),
    [
        ({"months": 3, "charges": 7, "contract": "yearly"}, True),
        ({"months": 3, "charges": None, "contract": None}, True),
        ({"months": 3}, True),
        ([3, None, None], True),
        ({"charges": 7, "contract": "yearly"}, False),
        ({"months": None}, False),
        ({"months": 3, "contract": "weekly"}, False),
    ],
)
def test_the_schema_of_a_record_with_missing_values_says_what_the_task_takes(
    bundle_of: MakeBundle, instance: Any, good: bool
) -> None:
    document = openapi_document([bundle_of(CHURN, "churn").manifest])
    OpenAPIV31SpecValidator(document).validate()
    assert follows({"instances": [instance]}, request_schema(document, "churn")) is good
    try:
        CHURN.parse([instance])
    except InputError:
        assert not good
    else:
        assert good


@pytest.mark.parametrize("task", [CHURN, STATE], ids=lambda task: task.kind)
def test_any_classification_may_be_asked_for_its_most_probable_labels(task: Task, bundle_of: MakeBundle) -> None:
    document = openapi_document([bundle_of(task, "some").manifest])
    OpenAPIV31SpecValidator(document).validate()
    assert "top_k" in [p["name"] for p in document["paths"]["/predict/some"]["post"]["parameters"]]
