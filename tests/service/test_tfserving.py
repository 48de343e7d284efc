"""TensorFlow Serving's REST interface: the forms of its document, with our models."""

import gzip
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DecodeError, InputError
from models.task import Number, TabularRegression
from service.errors import TooLargeError
from service.protocols import tfserving
from service.protocols.base import Pin
from service.protocols.tfserving import decode_body
from service.runtime import Runtime
from service.tfserving_routes import tfserving_route
from tests.bundles import CARS, CHURN, IMAGE, SERIES, example_of, rows_of
from tests.service.asgi import Answer, Client, native
from tests.service.test_native import SETTINGS, b64, png

PIXELS = rows_of(IMAGE, 2, seed=3)
RECORDS: list[dict[str, Any]] = [
    {"weight": 2000.5, "horsepower": 90, "origin": "usa"},
    {"weight": 3000, "horsepower": 80, "origin": "japan"},
]
COLUMNS = {"weight": [2000.5, 3000], "horsepower": [90, 80], "origin": ["usa", "japan"]}


async def predict(client: Client, model: str, document: Any, **headers: str) -> Answer:
    return await client("POST", f"/v1/models/{model}:predict", json.dumps(document).encode(), headers=headers)


async def test_one_input_and_one_output_are_bare_values(client: Client) -> None:
    images = PIXELS[..., 0].tolist()
    expected = [list(one["probabilities"].values()) for one in await native(client, "clothes", images)]
    assert (await predict(client, "clothes", {"instances": images})).json == {"predictions": expected}
    assert (await predict(client, "clothes", {"inputs": images})).json == {"outputs": expected}


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 28, 28, 1)])
async def test_the_only_input_may_be_named(client: Client, shape: tuple[int, ...]) -> None:
    images = PIXELS.reshape(shape).tolist()
    plain = (await predict(client, "clothes", {"instances": images})).json["predictions"]
    rows = {"instances": [{"input": image} for image in images]}
    assert (await predict(client, "clothes", rows)).json == {"predictions": plain}
    assert (await predict(client, "clothes", {"inputs": {"input": images}})).json == {"outputs": plain}


async def test_encoded_pictures_are_b64_objects(client: Client) -> None:
    pictures = [b64(png(one[:, :, 0])) for one in PIXELS]
    plain = (await predict(client, "clothes", {"instances": PIXELS[..., 0].tolist()})).json["predictions"]
    for instances in (pictures, [{"input": one} for one in pictures]):
        assert (await predict(client, "clothes", {"instances": instances})).json == {"predictions": plain}
    for inputs in (pictures, {"input": pictures}):
        assert (await predict(client, "clothes", {"inputs": inputs})).json == {"outputs": plain}


async def test_several_inputs_and_outputs_are_objects_in_row_form(client: Client) -> None:
    expected = await native(client, "cars", RECORDS)
    answer = await predict(client, "cars", {"signature_name": "serving_default", "instances": RECORDS})
    assert answer.json == {"predictions": [{key: [one[key]] for key in ("value", "low", "high")} for one in expected]}


async def test_several_inputs_and_outputs_are_an_object_in_columnar_form(client: Client) -> None:
    expected = await native(client, "cars", RECORDS)
    answer = await predict(client, "cars", {"inputs": COLUMNS})
    assert answer.json == {"outputs": {key: [[one[key]] for one in expected] for key in ("value", "low", "high")}}


async def test_a_value_may_have_the_axis_of_length_one_that_the_metadata_show(client: Client) -> None:
    plain = (await predict(client, "cars", {"instances": RECORDS})).json
    nested = [{key: [value] for key, value in record.items()} for record in RECORDS]
    assert (await predict(client, "cars", {"instances": nested})).json == plain
    columns = {key: [[value] for value in values] for key, values in COLUMNS.items()}
    found = (await predict(client, "cars", {"inputs": columns})).json
    assert found == (await predict(client, "cars", {"inputs": COLUMNS})).json


async def test_sequences_are_lists_of_steps(client: Client) -> None:
    steps = example_of(SERIES)
    (expected,) = await native(client, "heat", [steps])
    answer = await predict(client, "heat", {"instances": [[[step] for step in steps]]})
    assert answer.json == {"predictions": [{key: expected[key] for key in ("forecast", "low", "high")}]}


def test_what_may_be_missing_may_be_left_out_or_null() -> None:
    body = json.dumps({"inputs": {"months": [3, 4], "charges": [None, 5]}}).encode()
    expected = CHURN.parse([{"months": 3}, {"months": 4, "charges": 5}])
    assert np.array_equal(decode_body(CHURN, body, SETTINGS).rows, expected, equal_nan=True)


def test_a_column_called_input_is_a_column() -> None:
    task = TabularRegression(fields=(Number(name="input", low=0, high=9),), target="y", unit="m")
    for document in ({"instances": [{"input": 3}]}, {"inputs": {"input": [3]}}):
        assert decode_body(task, json.dumps(document).encode(), SETTINGS).rows.tolist() == [[3]]


async def test_the_content_type_does_not_matter_and_compression_is_undone(client: Client) -> None:
    plain = (await predict(client, "cars", {"instances": RECORDS})).json
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await predict(client, "cars", {"instances": RECORDS}, **form)).json == plain
    body = gzip.compress(json.dumps({"instances": RECORDS}).encode())
    answer = await client("POST", "/v1/models/cars:predict", body, headers={"content-encoding": "gzip"})
    assert answer.json == plain


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "body: must be an object"),
        ({}, 'body: must have either "instances" or "inputs". Received: neither'),
        ({"instances": RECORDS, "inputs": COLUMNS}, "Received: both"),
        ({"instances": []}, "instances: must be a list of at least one value"),
        ({"instances": 3}, "instances: must be a list of at least one value"),
        ({"inputs": 3}, "inputs: must be a list of at least one value"),
        ({"inputs": {}}, "inputs: must be a list of at least one value"),
        ({"inputs": {"weight": 3}}, "inputs.weight: must be a list"),
        ({"inputs": COLUMNS | {"weight": [1]}}, "inputs.horsepower: every input has as many values as the first: 1"),
        ({"inputs": COLUMNS | {"colour": [1, 2]}}, "inputs.colour[0]: fields are weight"),
        ({"inputs": COLUMNS | {"origin": ["usa", "mars"]}}, 'inputs.origin[1]: must be one of "usa"'),
        ({"instances": [RECORDS[0], RECORDS[1] | {"weight": 1}]}, "instances[1].weight: must be a number from"),
        ({"instances": [RECORDS[0] | {"weight": [1, 2]}]}, "instances[0].weight: must be a number"),
        ({"instances": [[2000.5, 90]]}, "instances[0]: must hold 3 values"),
        ({"inputs": [[2000.5, 90]]}, "inputs[0]: must hold 3 values"),
        ({"instances": RECORDS, "signature_name": "other"}, "signature_name: the only signature is serving_default"),
        ({"instances": RECORDS, "signature_name": [1]}, "signature_name: the only signature is serving_default"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(document: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_body(CARS, json.dumps(document).encode(), SETTINGS)
    assert text in str(caught.value)


async def test_what_is_wrong_is_a_message_with_status_400(client: Client) -> None:
    answer = await predict(client, "cars", {"inputs": COLUMNS | {"origin": ["usa", "mars"]}})
    assert answer.status == 400
    assert list(answer.json) == ["error"]
    assert 'inputs.origin[1]: must be one of "usa"' in answer.json["error"]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"inputs": {"image": [1]}}, "inputs: the only input is 'input'"),
        ({"inputs": {"b64": "eA=="}}, "inputs: the only input is 'input'"),
        ({"instances": [{"image": 1}]}, "instances[0]: a picture is an object"),
        ({"instances": [[[True]]]}, "must be a number"),
    ],
)
def test_what_is_wrong_with_a_picture_is_said(document: Any, text: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_body(IMAGE, json.dumps(document).encode(), SETTINGS)
    assert text in str(caught.value)


@pytest.mark.parametrize("columnar", [True, False])
def test_too_many_rows_are_refused_before_they_are_made(columnar: bool) -> None:
    document = {"inputs": {"weight": [2000] * 5}} if columnar else {"instances": [2000] * 5}
    with pytest.raises(TooLargeError, match="at most 4 rows"):
        decode_body(CARS, json.dumps(document).encode(), SETTINGS)


@pytest.mark.parametrize("method", ["classify", "regress", "foo", ""])
async def test_the_methods_for_examples_say_what_to_use_instead(client: Client, method: str) -> None:
    answer = await client("POST", f"/v1/models/cars:{method}", b'{"examples": [{"weight": 1}]}')
    assert answer.status == 400
    assert "Send instances or inputs to /v1/models/cars:predict." in answer.json["error"]


@pytest.mark.parametrize(
    ("path", "model", "pin"),
    [
        ("/v1/models/cars:predict", "cars", None),
        ("/v1/models/cars/versions/20260102:predict", "cars", Pin(version="20260102")),
        ("/v1/models/cars/labels/candidate:predict", "cars", Pin(label="candidate")),
    ],
)
def test_paths_are_understood(path: str, model: str, pin: Pin | None) -> None:
    assert tfserving.matches(path)
    assert tfserving.address(path, b"") == (model, pin, ())


@pytest.mark.parametrize("path", ["/v1/models/:predict", "/v1/models/a/b:predict", "/v1/models/a/labels/:predict"])
async def test_paths_that_lead_nowhere_are_not_found(client: Client, path: str) -> None:
    answer = await client("POST", path, b"{}")
    assert (answer.status, list(answer.json)) == (404, ["error"])


async def test_the_status_is_that_of_the_document(client: Client, runtime: Runtime) -> None:
    version = runtime.loader.served["cars"].manifest.version
    expected = {
        "model_version_status": [
            {"version": version, "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        ]
    }
    for place in ("", f"/versions/{version}", "/labels/production"):
        assert (await client("GET", f"/v1/models/cars{place}")).json == expected
    for path in ("/v1/models/nope", "/v1/models/cars/versions/7", "/v1/models/cars/labels/candidate"):
        answer = await client("GET", path)
        assert (answer.status, list(answer.json)) == (404, ["error"])
    assert version in answer.json["error"]


async def test_the_metadata_are_a_signature(client: Client, runtime: Runtime) -> None:
    version = runtime.loader.served["cars"].manifest.version
    for place in ("", f"/versions/{version}", "/labels/production"):
        found = (await client("GET", f"/v1/models/cars{place}/metadata")).json
        assert found["model_spec"] == {"name": "cars", "signature_name": "", "version": version}
        signature = found["metadata"]["signature_def"]["signature_def"]["serving_default"]
        assert {name: one["dtype"] for name, one in signature["inputs"].items()} == {
            "weight": "DT_FLOAT",
            "horsepower": "DT_FLOAT",
            "origin": "DT_STRING",
        }
        assert signature["outputs"]["value"]["tensor_shape"]["dim"] == [
            {"size": "-1", "name": ""},
            {"size": "1", "name": ""},
        ]
    assert (await client("GET", "/v1/models/nope/metadata")).status == 404


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/models/cars", "/v1/models/{model}"),
        ("/v1/models/cars/versions/1", "/v1/models/{model}"),
        ("/v1/models/cars/labels/x/metadata", "/v1/models/{model}/metadata"),
        ("/v1/models/cars/nothing", None),
        ("/v1/models", None),
    ],
)
def test_a_route_has_a_bounded_name(path: str, route: str | None) -> None:
    assert tfserving_route(path) == route


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["input", "b64", "weight", "horsepower", "origin"]), inner, max_size=4)
    ),
    max_leaves=15,
)


@given(st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name"]), VALUES, max_size=2))
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_body_breaks_it(document: Any) -> None:
    for task in (IMAGE, CARS, SERIES):
        try:
            decoded = decode_body(task, json.dumps(document).encode(), SETTINGS)
            decoded.decode_pictures_at_once()
        except (InputError, DecodeError) as error:
            refusal = str(error)
        else:
            refusal = ""
            assert decoded.rows.shape[1:] == task.input_shape
        assert len(refusal) < 1000
