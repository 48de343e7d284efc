"""The Open Inference Protocol over HTTP: bodies in JSON and binary, and what a broken one gets."""

import base64
import json
import struct
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DecodeError, InputError, ServingError
from models.task import Task
from service.openinference_routes import openinference_route
from service.protocols import openinference
from service.protocols.base import Pin
from service.protocols.openinference_body import read
from service.protocols.signature import check_wanted
from service.protocols.signature import rows_of as rows_of_tensors
from service.runtime import Runtime
from tests.bundles import CARS, IMAGE, LABELS, rows_of
from tests.service.asgi import Answer, Client, native
from tests.service.test_native import SETTINGS, png

PIXELS = rows_of(IMAGE, 2, seed=3)
CAR = {"weight": 2000.5, "horsepower": 90, "origin": "usa"}
ROW = {"name": "input", "shape": [1, 3], "datatype": "FP32", "data": [2000.5, 90, 0]}


def columns(**others: Any) -> dict[str, Any]:
    inputs = [
        {"name": name, "shape": [1, 1], "datatype": "BYTES" if isinstance(value, str) else "FP32", "data": [value]}
        for name, value in CAR.items()
    ]
    return {"inputs": inputs, **others}


def binary(document: Any, *data: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(document).encode()
    return head + b"".join(data), {"inference-header-content-length": str(len(head))}


def pixels_in_binary(**others: Any) -> tuple[bytes, dict[str, str]]:
    parameters = {"binary_data_size": PIXELS.nbytes}
    tensor = {"name": "input", "shape": PIXELS.shape, "datatype": "UINT8", "parameters": parameters}
    return binary({"inputs": [tensor], **others}, PIXELS.tobytes())


async def infer(client: Client, model: str, document: Any, **headers: str) -> Answer:
    return await client("POST", f"/v2/models/{model}/infer", json.dumps(document).encode(), headers=headers)


async def test_json_goes_in_and_comes_out(client: Client, runtime: Runtime) -> None:
    answer = await infer(client, "cars", columns(id="7"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    (expected,) = await native(client, "cars", [CAR])
    assert answer.json == {
        "model_name": "cars",
        "model_version": runtime.loader.served["cars"].manifest.version,
        "id": "7",
        "outputs": [
            {"name": name, "datatype": "FP32", "shape": [1, 1], "data": [expected[name]]}
            for name in ("value", "low", "high")
        ],
    }


async def test_binary_data_go_in_and_come_out(client: Client) -> None:
    body, headers = pixels_in_binary(parameters={"binary_data_output": True})
    answer = await client("POST", "/v2/models/clothes/infer", body, headers=headers)
    assert answer.headers["content-type"] == "application/octet-stream"
    length = int(answer.headers["inference-header-content-length"])
    (output,) = json.loads(answer.body[:length])["outputs"]
    assert output == {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": [2, 3],
        "parameters": {"binary_data_size": 24},
    }
    found = np.frombuffer(answer.body[length:], "<f4").reshape(2, 3)
    expected = await native(client, "clothes", PIXELS[..., 0].tolist())
    assert np.array_equal(found, np.array([list(one["probabilities"].values()) for one in expected], np.float32))


async def test_an_output_says_for_itself_whether_it_is_binary(client: Client) -> None:
    outputs = [{"name": "low", "parameters": {"binary_data": False}}, {"name": "high"}]
    document = columns(outputs=outputs, parameters={"binary_data_output": True})
    answer = await infer(client, "cars", document)
    head = json.loads(answer.body[: int(answer.headers["inference-header-content-length"])])
    assert [sorted(one) for one in head["outputs"]] == [
        ["data", "datatype", "name", "shape"],
        ["datatype", "name", "parameters", "shape"],
    ]


async def test_json_and_binary_inputs_mix(client: Client) -> None:
    document = columns()
    origin = document["inputs"][2]
    del origin["data"]
    origin["parameters"] = {"binary_data_size": 7}
    body, headers = binary(document, struct.pack("<I", 3) + b"usa")
    answer = await client("POST", "/v2/models/cars/infer", body, headers=headers)
    assert answer.json["outputs"] == (await infer(client, "cars", columns())).json["outputs"]


async def test_pictures_come_as_base64_in_json(client: Client) -> None:
    text = base64.b64encode(png(PIXELS[0, :, :, 0])).decode()
    tensor = {"name": "input", "shape": [1], "datatype": "BYTES", "data": [text]}
    found = await infer(client, "clothes", {"inputs": [tensor]})
    pixels = {"name": "input", "shape": [1, 28, 28, 1], "datatype": "UINT8", "data": PIXELS[0].ravel().tolist()}
    assert found.json["outputs"] == (await infer(client, "clothes", {"inputs": [pixels]})).json["outputs"]


async def test_classification_is_a_tensor_of_texts(client: Client) -> None:
    body, headers = pixels_in_binary(outputs=[{"name": "probabilities", "parameters": {"classification": 2}}])
    answer = await client("POST", "/v2/models/clothes/infer", body, headers=headers)
    (output,) = answer.json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [2, 2])
    assert {text.split(":")[2] for text in output["data"]} <= set(LABELS)


async def test_the_id_names_the_request_in_the_log_and_the_header(client: Client) -> None:
    assert (await infer(client, "cars", columns(id="mine-7"))).headers["x-request-id"] == "mine-7"
    answer = await infer(client, "cars", columns(id="two words"))
    assert answer.json["id"] == "two words"
    assert answer.headers["x-request-id"] != "two words"
    assert "id" not in (await infer(client, "cars", columns())).json


async def test_a_timeout_is_a_deadline(client: Client) -> None:
    assert (await infer(client, "cars", columns(parameters={"timeout": 1}))).status == 504
    assert (await infer(client, "cars", columns(parameters={"timeout": 10_000_000}))).status == 200


async def test_a_version_is_pinned_by_the_path(client: Client, runtime: Runtime) -> None:
    version = runtime.loader.served["cars"].manifest.version
    body = json.dumps(columns()).encode()
    for wanted, status in ((version, 200), ("production", 200), ("20200101-000000-00000000", 404), ("1", 404)):
        answer = await client("POST", f"/v2/models/cars/versions/{wanted}/infer", body)
        assert answer.status == status
    assert f"Loaded: {version}" in answer.json["error"]


@pytest.mark.parametrize(
    ("path", "model", "pin"),
    [
        ("/v2/models/cars/infer", "cars", None),
        ("/v2/models/cars/versions/candidate/infer", "cars", Pin(label="candidate")),
        ("/v2/models/c/versions/20260102-030405-3993c873/infer", "c", Pin(version="20260102-030405-3993c873")),
    ],
)
def test_paths_are_understood(path: str, model: str, pin: Pin | None) -> None:
    assert openinference.matches(path)
    assert openinference.address(path, b"") == (model, pin, ())


@pytest.mark.parametrize("path", ["/v2/models//infer", "/v2/models/a/b/infer", "/v2/models/a/versions//infer"])
async def test_paths_that_lead_nowhere_are_not_found(client: Client, path: str) -> None:
    answer = await client("POST", path, b"{}")
    assert answer.status == 404
    assert "No route" in answer.json["error"]


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ([], "body: must be an object"),
        ({}, "inputs: is required"),
        ({"inputs": {}}, "inputs: must be a list"),
        ({"inputs": []}, "inputs: a request has at least one input"),
        ({"inputs": [3]}, "inputs[0]: must be an object"),
        ({"inputs": [{"shape": [1], "datatype": "FP32", "data": [1]}]}, "inputs[0].name: is required"),
        ({"inputs": [ROW | {"shape": "1"}]}, "inputs[0].shape: must be a list"),
        ({"inputs": [ROW | {"data": None}]}, "inputs[0].data: must be a list"),
        ({"inputs": [ROW | {"parameters": {"binary_data_size": 12}}]}, "has data or binary_data_size"),
        ({"inputs": [ROW | {"parameters": {"shared_memory_region": "x"}}]}, "there is no shared memory"),
        ({"inputs": [ROW | {"data": [2000.5, 90, True]}]}, "input[2]: must be a value of FP32"),
        ({"inputs": [ROW], "id": 7}, "id: must be a text"),
        ({"inputs": [ROW], "outputs": [{"name": "mpg"}]}, "outputs[0]: outputs are value, low, high"),
        ({"inputs": [ROW], "outputs": [{"name": "low", "parameters": {"binary_data": 1}}]}, "must be true or false"),
        ({"inputs": [ROW], "outputs": [{"name": "low", "parameters": {"classification": "1"}}]}, "a whole number"),
        ({"inputs": [ROW], "parameters": {"timeout": -1}}, "parameters.timeout: must be a whole number"),
        ({"inputs": [ROW], "parameters": {"timeout": 1.5}}, "parameters.timeout: must be a whole number"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(document: Any, text: str) -> None:
    assert text in refusal_of(CARS, json.dumps(document).encode(), None)


async def test_what_is_wrong_is_a_message_with_status_400(client: Client) -> None:
    answer = await infer(client, "cars", {"inputs": []})
    assert answer.status == 400
    assert answer.json == {
        "error": "inputs: a request has at least one input. Received: none. See the model's metadata."
    }


def texts(name: bytes, count: int) -> tuple[bytes, dict[str, str]]:
    head = b'{"inputs": [{"name": "origin", "datatype": "%b", "shape": [%d], "parameters": {"binary_data_size": %d}}]}'
    head %= (name, count, 4 * count)
    return head + bytes(4 * count), {"inference-header-content-length": str(len(head))}


@pytest.mark.parametrize(
    ("body", "headers", "inline"),
    [
        (*texts(b"BYTES", 10_000), True),
        (*texts(b"BYTES", 20_000), False),
        (*texts(b"\\u0042YTES", 20_000), False),
        (*texts(b"INT32", 20_000), True),
        (*texts(b"INT32", 400_000), False),
        (b" " * 60_000, {}, False),
    ],
    ids=["texts", "many texts", "many texts in disguise", "numbers", "many numbers", "JSON"],
)
async def test_the_loop_reads_only_what_takes_no_time(
    client: Client, body: bytes, headers: dict[str, str], inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def spy(*_: object) -> None:
        threads.append(threading.current_thread())
        raise DecodeError("that is all")

    monkeypatch.setattr(openinference, "read", spy)
    assert (await client("POST", "/v2/models/cars/infer", body, headers=headers)).status == 400
    assert (threads == [threading.current_thread()]) is inline


SIZES = {"name": "input", "shape": [1, 3], "datatype": "FP32"}


@pytest.mark.parametrize(
    ("sizes", "data", "header"),
    [
        ([12], bytes(11), None),
        ([12], bytes(13), None),
        ([2**53 - 1], bytes(12), None),
        ([12, 12], bytes(12), None),
        ([12], bytes(12), "5"),
        ([12], bytes(12), "99999"),
        ([12], bytes(12), "-1"),
        ([12], bytes(12), "12e3"),
        ([12], bytes(12), "9" * 5000),
        ([12], bytes(12), "0"),
    ],
)
async def test_sizes_that_do_not_add_up_are_refused(
    client: Client, sizes: list[int], data: bytes, header: str | None
) -> None:
    inputs = [SIZES | {"parameters": {"binary_data_size": size}} for size in sizes]
    body, headers = binary({"inputs": inputs}, data)
    if header is not None:
        headers["inference-header-content-length"] = header
    answer = await client("POST", "/v2/models/cars/infer", body, headers=headers)
    assert answer.status == 400
    assert len(answer.json["error"]) < 400


async def test_errors_of_the_door_have_the_protocols_form_too(client: Client) -> None:
    answer = await client("GET", "/v2/models/cars/infer")
    assert (answer.status, list(answer.json)) == (405, ["error"])
    assert (await infer(client, "nope", columns())).status == 404
    answer = await client("POST", "/v2/models/cars/infer", b"{}", headers={"content-encoding": "br"})
    assert answer.status == 415
    answer = await client("POST", "/v2/models/cars/infer", length=10**9)
    assert (answer.status, list(answer.json)) == (413, ["error"])


async def test_a_request_is_counted_with_the_status_that_it_got(client: Client, runtime: Runtime) -> None:
    await infer(client, "cars", columns())
    await infer(client, "cars", {"inputs": []})
    text = runtime.metrics.render()[0].decode()
    for code in (200, 400):
        labels = f'alias="production",code="{code}",model="cars",route="/v2/models/{{model}}/infer"'
        assert f"serving_requests_total{{{labels}}} 1.0" in text


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v2", "/v2"),
        ("/v2/", "/v2"),
        ("/v2/models/cars", "/v2/models/{model}"),
        ("/v2/models/cars/versions/1/ready", "/v2/models/{model}/ready"),
        ("/v2/models/cars/versions/1", "/v2/models/{model}"),
        ("/v2/models/cars/stats", "/v2/models/{model}/stats"),
        ("/v2/models/stats", "/v2/models/stats"),
        ("/v2/models/cars/nothing", None),
        ("/v2/models", None),
        ("/v2x", None),
    ],
)
def test_a_route_has_a_bounded_name(path: str, route: str | None) -> None:
    assert openinference_route(path) == route


async def test_what_describes_needs_no_body(client: Client, runtime: Runtime) -> None:
    version = runtime.loader.served["cars"].manifest.version
    assert (await client("GET", "/v2")).json["name"] == "keras-serving"
    assert (await client("GET", "/v2/health/live")).json == {"live": True}
    assert (await client("GET", "/v2/health/ready")).json == {"ready": True}
    metadata = (await client("GET", f"/v2/models/cars/versions/{version}")).json
    assert (metadata["versions"], metadata["inputs"][2]["datatype"]) == ([version], "BYTES")
    assert (await client("GET", "/v2/models/cars/config")).json["input"][0]["dims"] == [1]
    assert (await client("GET", "/v2/models/cars/ready")).status == 200
    assert (await client("GET", "/v2/models/nope/ready")).status == 404
    everything = (await client("GET", "/v2/models/stats")).json["model_stats"]
    assert [one["name"] for one in everything] == ["cars", "clothes", "heat"]
    runtime.draining = True
    assert (await client("GET", "/v2/health/ready")).status == 503
    assert (await client("GET", "/v2/models/cars/ready")).status == 503


async def test_the_index_lists_versions_and_may_leave_out_what_is_not_ready(client: Client) -> None:
    for body in (b"", b"{}", b'{"ready": true}'):
        found = (await client("POST", "/v2/repository/index", body)).json
        assert [(one["name"], one["state"]) for one in found] == [
            ("cars", "READY"),
            ("clothes", "READY"),
            ("heat", "READY"),
        ]
    for body, status in ((b"{", 400), (b'{"ready": 1}', 400), (b"[]", 400), (b" " * 5000, 413)):
        answer = await client("POST", "/v2/repository/index", body)
        assert (answer.status, list(answer.json)) == (status, ["error"])


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(["input", "FP32", "BYTES"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size", "classification"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@given(
    st.dictionaries(st.sampled_from(["id", "inputs", "outputs", "parameters"]), st.lists(VALUES, max_size=3) | VALUES),
    st.binary(max_size=30),
    st.none() | st.integers(0, 400),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_body_breaks_it(document: Any, data: bytes, header: int | None) -> None:
    head = json.dumps(document).encode()
    for task in (IMAGE, CARS):
        refusal = refusal_of(task, head + data, header if header is None else min(header, len(head)))
        assert len(refusal) < 1000


def refusal_of(task: Task, body: bytes, json_bytes: int | None) -> str:
    """What the sender is told, if it is anything but an answer."""
    try:
        request = read(task, body, json_bytes, 1024)
        check_wanted(task, request.wanted)
        rows_of_tensors(task, request.tensors, SETTINGS).decode_pictures_at_once()
    except (InputError, DecodeError) as error:
        return str(error)
    return ""


def test_json_nested_without_end_is_refused() -> None:
    for body in (b"[" * 200_000, b'{"inputs":' * 100_000, b'{"inputs": [{"data": ' + b"[" * 900):
        with pytest.raises(ServingError):
            read(IMAGE, body, None, 1024)
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    document = {"inputs": [{"name": "input", "shape": [1] * 8, "datatype": "FP32", "data": deep}]}
    with pytest.raises(InputError):
        read(IMAGE, json.dumps(document).encode(), None, 1024)
