"""The Open Inference Protocol over HTTP as Triton's own client speaks it, to the shipped models."""

import asyncio
import base64
import gzip
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from tests.bundles import SHIPPED_CAR
from tests.e2e.server import Server, wait_for


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(server.url.removeprefix("http://"), network_timeout=30) as found:
        yield found


@pytest.fixture
async def aio(server: Server) -> AsyncIterator[triton_aio.InferenceServerClient]:
    async with triton_aio.InferenceServerClient(server.url.removeprefix("http://")) as found:
        yield found


@pytest.fixture(scope="module")
def picture(server: Server) -> bytes:
    example = httpx.get(f"{server.url}/models/cnn").json()["example"]
    return base64.b64decode(example["instances"][0]["b64"])


def tensor(name: str, values: Any, dtype: Any, *, binary: bool = True) -> triton.InferInput:
    array = np.array(values, dtype)
    found = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    found.set_data_from_numpy(array, binary_data=binary)
    return found


def car(*, binary: bool = True, **changed: Any) -> list[triton.InferInput]:
    values = SHIPPED_CAR | changed
    return [
        tensor(name, [[value]], object if isinstance(value, str) else np.float32, binary=binary)
        for name, value in values.items()
    ]


def native(server: Server, model: str, instances: list[Any]) -> list[dict[str, Any]]:
    answer = httpx.post(f"{server.url}/predict/{model}", json={"instances": instances}).raise_for_status()
    return answer.json()["predictions"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("model", ["cnn", "dnn"])
@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_pixels_get_the_probabilities_that_our_own_json_gets(
    server: Server, client: triton.InferenceServerClient, model: str, binary: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8)
    wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary)]
    found = client.infer(model, [tensor("input", pixels, np.uint8, binary=binary)], outputs=wanted)
    expected = [list(one["probabilities"].values()) for one in native(server, model, pixels[..., 0].tolist())]
    assert np.array_equal(found.as_numpy("probabilities"), np.array(expected, np.float32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int16, np.int32, np.int64])
def test_pixels_of_any_type_that_holds_them_exactly_are_the_same_picture(
    client: triton.InferenceServerClient, dtype: Any
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 1), np.uint8)
    plain = client.infer("dnn", [tensor("input", pixels, np.uint8)]).as_numpy("probabilities")
    assert np.array_equal(client.infer("dnn", [tensor("input", pixels, dtype)]).as_numpy("probabilities"), plain)


def test_encoded_pictures_come_as_bytes(server: Server, client: triton.InferenceServerClient, picture: bytes) -> None:
    found = client.infer("cnn", [tensor("input", [picture, picture], object)]).as_numpy("probabilities")
    (expected,) = native(server, "cnn", [{"b64": base64.b64encode(picture).decode()}])
    assert found.shape == (2, 10)
    np.testing.assert_allclose(found[1], list(expected["probabilities"].values()), atol=1e-6)


def test_classification_gives_the_most_probable_labels(
    server: Server, client: triton.InferenceServerClient, picture: bytes
) -> None:
    for binary in (True, False):
        wanted = [triton.InferRequestedOutput("probabilities", binary_data=binary, class_count=2)]
        found = client.infer("cnn", [tensor("input", [picture], object)], outputs=wanted).as_numpy("probabilities")
        text = found[0, 0].decode() if binary else found[0, 0]
        probability, index, label = text.split(":")
        (expected,) = native(server, "cnn", [{"b64": base64.b64encode(picture).decode()}])
        assert found.shape == (1, 2)
        assert (label, int(index)) == (expected["label"], expected["class_id"])
        assert float(probability) == pytest.approx(expected["confidence"], abs=1e-6)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_a_record_comes_as_one_tensor_a_column(
    server: Server, client: triton.InferenceServerClient, binary: bool
) -> None:
    found = client.infer("regressor", car(binary=binary))
    (expected,) = native(server, "regressor", [SHIPPED_CAR])
    for name in ("value", "low", "high"):
        assert found.as_numpy(name).shape == (1, 1)
        assert found.as_numpy(name)[0, 0] == np.float32(expected[name])


def test_a_record_may_come_as_one_coded_row(server: Server, client: triton.InferenceServerClient) -> None:
    row = [4, 120, 90, 2400, 15.5, 80, 2]
    found = client.infer("regressor", [tensor("input", [row], np.float32)])
    (expected,) = native(server, "regressor", [SHIPPED_CAR])
    assert found.as_numpy("value")[0, 0] == np.float32(expected["value"])


def test_a_forecast_has_one_value_a_step(server: Server, client: triton.InferenceServerClient) -> None:
    example = httpx.get(f"{server.url}/models/lstm").json()["example"]["instances"][0]
    series = np.array(example[-96:], np.float32).reshape(1, 96, -1)
    found = client.infer("lstm", [tensor("input", series, np.float32)])
    (expected,) = native(server, "lstm", [example])
    assert np.array_equal(found.as_numpy("forecast")[0], np.array(expected["forecast"], np.float32))


def test_only_the_outputs_asked_for_come_back(client: triton.InferenceServerClient) -> None:
    wanted = [triton.InferRequestedOutput("high"), triton.InferRequestedOutput("low", binary_data=False)]
    response = client.infer("regressor", car(), outputs=wanted, request_id="7").get_response()
    assert [output["name"] for output in response["outputs"]] == ["high", "low"]
    assert ["data" in output for output in response["outputs"]] == [False, True]
    assert response["id"] == "7"


@pytest.mark.parametrize("compression", ["gzip", "deflate"])
def test_compressed_requests_are_read(client: triton.InferenceServerClient, compression: str) -> None:
    plain = client.infer("regressor", car()).as_numpy("value")
    found = client.infer(
        "regressor",
        car(),
        request_compression_algorithm=compression,
        response_compression_algorithm=compression,
    )
    assert found.as_numpy("value") == plain


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        (car(weight=1e6), "weight[0]: must be a number from"),
        (car(origin="jpan"), 'must be one of "usa", "europe", "japan"'),
        (car()[1:], "cylinders: is required"),
        ([*car(), tensor("colour", [[1]], np.float32)], "colour: inputs are cylinders"),
        ([tensor("input", [[1, 2]], np.float32)], "input: shape must be (7)"),
        ([tensor("input", [[True] * 7], np.bool_)], "input: dtype must be numeric"),
        ([tensor("weight", [[2400, 1]], np.float32), *car()[:3], *car()[4:]], "weight: shape must be [n, 1] or [n]"),
    ],
    ids=["range", "category", "missing", "unknown", "shape", "datatype", "column"],
)
def test_a_wrong_input_is_named(client: triton.InferenceServerClient, inputs: Any, text: str) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer("regressor", inputs)
    assert caught.value.status() == "400"
    assert text in caught.value.message()


def test_an_unknown_model_or_version_is_not_found(client: triton.InferenceServerClient) -> None:
    for model, version in (("nope", ""), ("regressor", "20200101-000000-00000000")):
        with pytest.raises(InferenceServerException) as caught:
            client.infer(model, car(), model_version=version)
        assert caught.value.status() == "404"
        assert not client.is_model_ready(model, version)


def test_a_version_is_asked_by_its_name_or_by_a_label(client: triton.InferenceServerClient) -> None:
    (version,) = client.get_model_metadata("regressor")["versions"]
    for wanted in ("", version, "production"):
        response = client.infer("regressor", car(), model_version=wanted).get_response()
        assert response["model_version"] == version
        assert client.is_model_ready("regressor", wanted)
        assert client.get_model_metadata("regressor", wanted)["name"] == "regressor"


def test_what_the_metadata_list_is_what_infer_takes_and_gives(client: triton.InferenceServerClient) -> None:
    metadata = client.get_model_metadata("regressor")
    config = client.get_model_config("regressor")
    assert [(one["name"], one["datatype"]) for one in metadata["inputs"]] == [
        (one.name(), one.datatype()) for one in car()
    ]
    response = client.infer("regressor", car()).get_response()
    assert [one["name"] for one in metadata["outputs"]] == [one["name"] for one in response["outputs"]]
    assert [one["name"] for one in config["input"]] == [one["name"] for one in metadata["inputs"]]
    assert config["max_batch_size"] >= 1


def test_the_server_describes_itself(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    found = {one["name"]: one["state"] for one in client.get_model_repository_index()}
    assert found == dict.fromkeys(("cnn", "dnn", "lstm", "regressor"), "READY")


def test_the_statistics_count_requests_rows_and_batches(client: triton.InferenceServerClient) -> None:
    def counted() -> tuple[int, int, int, int]:
        (found,) = client.get_inference_statistics("dnn")["model_stats"]
        stats = found["inference_stats"]
        return (
            found["inference_count"],
            found["execution_count"],
            stats["success"]["count"],
            stats["fail"]["count"],
        )

    before = counted()
    client.infer("dnn", [tensor("input", np.zeros((3, 28, 28, 1)), np.uint8)])
    with pytest.raises(InferenceServerException):
        client.infer("dnn", [tensor("input", np.zeros((3, 28, 2, 1)), np.uint8)])
    assert [now - then for now, then in zip(counted(), before, strict=True)] == [3, 1, 1, 1]


def test_a_passed_timeout_is_said_so(client: triton.InferenceServerClient) -> None:
    # A microsecond is over before the body is read; half a minute is not.
    with pytest.raises(InferenceServerException) as caught:
        client.infer("regressor", car(), timeout=1)
    assert caught.value.status() == "504"
    assert client.infer("regressor", car(), timeout=30_000_000).as_numpy("value").shape == (1, 1)


async def test_a_call_that_is_cancelled_is_not_computed(server: Server, aio: triton_aio.InferenceServerClient) -> None:
    def settled() -> bool:
        return not server.metric("serving_inflight") and not server.metric("serving_queue_depth", model="cnn")

    async def cancelled_in_the_queue() -> bool:
        """Cancels two calls; whether what was in the queue was not computed, and both were counted."""
        await asyncio.to_thread(wait_for, settled)
        rows, left = (server.metric(name) for name in ("serving_batch_size_sum", "serving_client_disconnects_total"))
        calls = [asyncio.create_task(aio.infer("cnn", pictures)) for _ in range(2)]
        queued = 0.0
        while not queued and not all(call.done() for call in calls):
            queued = await asyncio.to_thread(server.metric, "serving_queue_depth", model="cnn")
        for call in calls:
            call.cancel()
        found = await asyncio.gather(*calls, return_exceptions=True)
        cancelled = sum(isinstance(one, asyncio.CancelledError) for one in found)
        await asyncio.to_thread(wait_for, settled)
        computed = server.metric("serving_batch_size_sum") - rows
        disconnects = server.metric("serving_client_disconnects_total") - left
        return bool(queued and cancelled) and computed < 2 * 1024 and disconnects >= cancelled

    pictures = [tensor("input", np.zeros((1024, 28, 28, 1)), np.uint8)]
    # On a busy machine both may be computed before anybody looks; computed each time, they would never be left out.
    async with asyncio.timeout(90):
        while not await cancelled_in_the_queue():
            pass


async def test_the_asyncio_client_gets_the_same(
    client: triton.InferenceServerClient, aio: triton_aio.InferenceServerClient
) -> None:
    assert await aio.is_server_ready()
    found = await aio.infer("regressor", car(), request_compression_algorithm="gzip")
    assert found.as_numpy("value") == client.infer("regressor", car()).as_numpy("value")
    with pytest.raises(InferenceServerException, match="Unknown model"):
        await aio.infer("nope", car())


def test_a_body_that_inflates_beyond_the_limit_is_refused(server: Server) -> None:
    bomb = gzip.compress(b" " * (17 * 1024 * 1024))
    found = httpx.post(f"{server.url}/v2/models/dnn/infer", content=bomb, headers={"content-encoding": "gzip"})
    assert found.status_code == 413
    assert "uncompressed" in json.loads(found.content)["error"]


def test_damaged_requests_never_get_a_5xx(server: Server) -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1, 28, 28, 1), np.uint8)
    body, length = triton.InferenceServerClient.generate_request_body([tensor("input", pixels, np.uint8)])
    record = json.dumps({"instances": [SHIPPED_CAR]}).encode()
    row = {"inputs": [{"name": "input", "shape": [1, 7], "datatype": "FP32", "data": [4, 120, 90, 2400, 15.5, 80, 2]}]}
    statuses = set()
    with httpx.Client(base_url=server.url) as http:
        for path, whole, headers in (
            ("/v2/models/dnn/infer", body, {"inference-header-content-length": str(length)}),
            ("/v2/models/regressor/infer", json.dumps(row).encode(), {}),
            ("/v1/models/regressor:predict", record, {}),
            ("/v1/models/regressor:predict", gzip.compress(record), {"content-encoding": "gzip"}),
        ):
            for _ in range(60):
                damaged = bytearray(whole)
                for place in rng.integers(0, min(len(whole), 200), rng.integers(1, 4)):
                    damaged[place] = rng.integers(0, 256)
                sent = bytes(damaged[: rng.integers(1, len(whole) + 1)] if rng.random() < 0.3 else damaged)
                statuses.add(http.post(path, content=sent, headers=headers).status_code)
    assert statuses <= {200, 400, 413}
    assert 400 in statuses
