"""Answers of the shipped models over HTTP: right, unskewed, each caller's own, and the same by every way in."""

import asyncio
import base64
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from models.bundle import Bundle
from models.task import ImageClassification, SequenceForecast, TabularRegression
from service.settings import PRETRAINED
from tests.e2e.server import Server, running

MODELS = ("cnn", "dnn", "lstm", "regressor")
JSON = {"content-type": "application/json"}


def bundle(name: str) -> Bundle:
    return Bundle.open(PRETRAINED / name)


def instance_of(task: Any, row: NDArray[Any]) -> Any:
    """A row as a client sends it."""
    if isinstance(task, ImageClassification):
        return row[:, :, 0].tolist()
    if isinstance(task, TabularRegression):
        return task.record(row)
    return row[:, 0].astype(float).tolist()


def output_of(task: Any, prediction: dict[str, Any]) -> NDArray[np.float64]:
    """A prediction as an output row."""
    if isinstance(task, ImageClassification):
        return np.array([prediction["probabilities"][label] for label in task.labels])
    if isinstance(task, SequenceForecast):
        return np.array([prediction["forecast"], prediction["low"], prediction["high"]]).T
    return np.array([prediction["value"], prediction["low"], prediction["high"]])


def predict(url: str, name: str, rows: NDArray[Any]) -> NDArray[np.float64]:
    """Outputs for rows, sent as JSON in requests of 50."""
    task = bundle(name).manifest.task
    outputs = []
    with httpx.Client(timeout=30) as client:
        for start in range(0, len(rows), 50):
            body = {"instances": [instance_of(task, row) for row in rows[start : start + 50]]}
            response = client.post(f"{url}/predict/{name}", json=body)
            assert response.status_code == 200, response.text
            outputs += [output_of(task, prediction) for prediction in response.json()["predictions"]]
    return np.array(outputs)


def largest_difference(outputs: NDArray[Any], expected: NDArray[Any]) -> float:
    """Largest difference, relative where a value exceeds 1: float32 has seven digits, not five decimals."""
    outputs, expected = outputs.astype(np.float32), expected.astype(np.float32)
    return float((np.abs(outputs - expected) / np.maximum(1, np.abs(expected))).max())


@cache
def real_test_part(name: str, data_dir: Path | None) -> Any:
    """Test rows of the model's data set as evaluation saw them; some sets take seconds to read."""
    from training.config import TrainConfig
    from training.datasets import DataError, data_set, find

    config = TrainConfig.model_validate(bundle(name).manifest.lineage.config)
    data = data_set(config.dataset)
    try:
        source = find(data, data_dir=data_dir)
    except DataError as error:
        pytest.skip(f"needs the data of {name}: {error}")
    return data.split(data.engineer(data.read(source.paths)), config).test


def keras_outputs(name: str, rows: NDArray[Any]) -> NDArray[np.float32]:
    """What evaluation computes: Keras on the source of truth."""
    import keras

    from training.export import predict as evaluate

    return evaluate(keras.saving.load_model(bundle(name).path / "model.keras", compile=False, safe_mode=True), rows)


@pytest.mark.parametrize("name", MODELS)
def test_golden_rows_over_http_give_what_training_saw(server: Server, name: str) -> None:
    rows, expected = bundle(name).golden()
    assert largest_difference(predict(server.url, name, rows), expected) <= 1e-5


@pytest.mark.data
@pytest.mark.parametrize("name", MODELS)
def test_raw_test_rows_over_http_give_what_evaluation_saw(server: Server, name: str, data_dir: Path | None) -> None:
    part = real_test_part(name, data_dir)
    rows = part.rows[:200]
    assert largest_difference(predict(server.url, name, rows), keras_outputs(name, rows)) <= 1e-5


@pytest.mark.data
@pytest.mark.parametrize("name", ["cnn", "dnn"])
def test_accuracy_of_1000_pictures_over_http_equals_evaluations(
    server: Server, name: str, data_dir: Path | None
) -> None:
    from training.metrics import accuracy

    part = real_test_part(name, data_dir).take(slice(0, 1000))
    task = bundle(name).manifest.task
    assert isinstance(task, ImageClassification)
    right = 0
    with httpx.Client() as client:
        for picture, truth in zip(part.rows, part.values, strict=True):
            content = png(picture[:, :, 0])
            response = client.post(
                f"{server.url}/predict/{name}", content=content, headers={"content-type": "image/png"}
            )
            right += response.json()["predictions"][0]["label"] == task.labels[int(truth)]
    assert right / 1000 == pytest.approx(accuracy(keras_outputs(name, part.rows), part.values), abs=1e-12)
    assert right / 1000 > 0.87


def png(picture: NDArray[np.uint8], kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    """The example picture of the CNN."""
    example = bundle("cnn").manifest.example
    assert isinstance(example, dict)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(str(example["b64"])))))


def test_one_picture_gives_the_same_bits_by_every_way_in(server: Server, picture: NDArray[np.uint8]) -> None:
    content = png(picture)
    array = io.BytesIO()
    np.save(array, picture)
    url = f"{server.url}/predict/cnn"
    responses = [
        httpx.post(url, content=content, headers={"content-type": "image/png"}),
        httpx.post(url, files={"file": ("a.png", content, "image/png")}),
        httpx.post(url, content=array.getvalue(), headers={"content-type": "application/x-npy"}),
        httpx.post(url, json={"instances": [picture.tolist()]}),
        httpx.post(url, json={"instances": [{"b64": base64.b64encode(content).decode()}]}),
        # A browser names the type of a file by its extension; the bytes decide.
        httpx.post(url, content=content, headers={"content-type": "image/jpeg"}),
    ]
    assert [response.status_code for response in responses] == [200] * 6
    answers = [response.json()["predictions"] for response in responses]
    assert all(answer == answers[0] for answer in answers)
    assert "applied" not in answers[0][0]


def test_several_files_in_one_form_are_answered_in_order(server: Server, picture: NDArray[np.uint8]) -> None:
    contents = [png(picture), png(picture[::-1]), png(picture, "JPEG")]
    files = [("file", (f"{i}.png", content, "image/png")) for i, content in enumerate(contents)]
    together = httpx.post(f"{server.url}/predict/cnn", files=files).json()["predictions"]
    alone = [
        httpx.post(f"{server.url}/predict/cnn", content=c, headers={"content-type": "image/png"}).json()
        for c in contents
    ]
    assert together == [answer["predictions"][0] for answer in alone]


def test_a_photograph_is_prepared_and_the_answer_says_how(server: Server, picture: NDArray[np.uint8]) -> None:
    # The example as a shop would photograph it: large, in colour, on white.
    large = Image.fromarray(255 - picture).resize((560, 560)).convert("RGB")
    canvas = Image.new("RGB", (800, 1000), "white")
    canvas.paste(large, (120, 220))
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    response = httpx.post(f"{server.url}/predict/cnn", content=buffer.getvalue(), headers={"content-type": "image/png"})
    answer = response.json()["predictions"][0]
    small = httpx.post(f"{server.url}/predict/cnn", json={"instances": [picture.tolist()]}).json()["predictions"][0]
    assert answer["applied"] == ["grey", "trimmed", "longest edge to 28", "centred", "negated"]
    assert answer["label"] == small["label"]


def test_top_k_keeps_the_most_probable_classes(server: Server, picture: NDArray[np.uint8]) -> None:
    body = {"instances": [picture.tolist()]}
    every = httpx.post(f"{server.url}/predict/cnn", json=body).json()["predictions"][0]
    top = httpx.post(f"{server.url}/predict/cnn?top_k=3", json=body).json()["predictions"][0]
    ranked = sorted(every["probabilities"].items(), key=lambda item: -item[1])
    assert list(top["probabilities"].items()) == ranked[:3]
    assert sum(every["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert next(iter(top["probabilities"])) == every["label"] == top["label"]


def test_a_record_and_a_sequence_read_like_answers(server: Server) -> None:
    car = httpx.post(f"{server.url}/predict/regressor", json={"instances": [bundle("regressor").manifest.example]})
    value = car.json()["predictions"][0]
    assert set(value) == {"value", "unit", "low", "high"}
    assert value["low"] < value["value"] < value["high"]
    assert 5 < value["value"] < 60
    series = httpx.post(f"{server.url}/predict/lstm", json={"instances": [bundle("lstm").manifest.example]})
    forecast = series.json()["predictions"][0]
    assert set(forecast) == {"forecast", "low", "high", "unit", "step"}
    assert {len(forecast[key]) for key in ("forecast", "low", "high")} == {24}
    assert all(
        low <= value <= high
        for low, value, high in zip(forecast["low"], forecast["forecast"], forecast["high"], strict=True)
    )


def test_of_a_longer_sequence_the_most_recent_steps_count(server: Server) -> None:
    example = bundle("lstm").manifest.example
    assert isinstance(example, list)
    longer = [0.0] * 40 + example
    body = {"instances": [example, longer]}
    answers = httpx.post(f"{server.url}/predict/lstm", json=body).json()["predictions"]
    assert answers[0] == answers[1]


def test_a_mixed_concurrent_load_gives_each_caller_its_own_answer(server: Server) -> None:
    golden = {name: bundle(name).golden() for name in MODELS}
    tasks = {name: bundle(name).manifest.task for name in MODELS}

    async def caller(client: httpx.AsyncClient, number: int) -> list[str]:
        wrong = []
        rng = np.random.default_rng(number)
        for _ in range(25):
            name = MODELS[rng.integers(len(MODELS))]
            rows, expected = golden[name]
            count = int(rng.integers(1, 5))
            chosen = rng.integers(0, len(rows), count)
            instances = [instance_of(tasks[name], rows[i]) for i in chosen]
            # Every tenth request is broken and must hurt nobody else's.
            if rng.random() < 0.1:
                refused = await client.post(f"{server.url}/predict/{name}", json={"instances": [*instances, "broken"]})
                if refused.status_code != 422:
                    wrong.append(refused.text)
                continue
            response = await client.post(f"{server.url}/predict/{name}", json={"instances": instances})
            outputs = [output_of(tasks[name], prediction) for prediction in response.json()["predictions"]]
            if largest_difference(np.array(outputs), expected[chosen]) > 1e-5:
                wrong.append(f"{name} {chosen}")
        return wrong

    async def everyone() -> list[list[str]]:
        async with httpx.AsyncClient(timeout=30) as client:
            return await asyncio.gather(*(caller(client, number) for number in range(40)))

    assert [wrong for one in asyncio.run(everyone()) for wrong in one] == []


_BENTOML_CLIENT = """
import json, sys
import bentoml
url, example = sys.argv[1], json.loads(sys.argv[2])
with bentoml.SyncHTTPClient(url) as client:
    answer = client.predict(model="regressor", instances=[example])
    try:
        client.predict(model="regressor", instances=[example | {"weight": -1}])
    except bentoml.exceptions.BentoMLException as error:
        print(json.dumps([answer, str(error), error.error_code]))
"""


def test_bentomls_own_client_gets_the_same_answer_from_the_same_queue(server: Server) -> None:
    example = bundle("regressor").manifest.example
    direct = httpx.post(f"{server.url}/predict/regressor", json={"instances": [example]}).json()
    # In a process of its own: the client leaves warnings behind that are errors in this one.
    command = [sys.executable, "-c", _BENTOML_CLIENT, server.url, json.dumps(example)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer, refusal, code = json.loads(done.stdout)
    assert (answer["predictions"], answer["version"]) == (direct["predictions"], direct["version"])
    assert "instances[0].weight: must be a number from" in refusal
    assert code == 422
    assert "Traceback" not in server.text


@pytest.mark.parametrize("number", ["-975718076428157492133888", "1e400"])
def test_a_number_that_no_model_takes_is_the_senders_fault_over_bentomls_route_too(server: Server, number: str) -> None:
    body = f'{{"model": "regressor", "instances": [{{"weight": {number}}}]}}'
    answer = httpx.post(f"{server.url}/predict", content=body, headers={"content-type": "application/json"})
    assert 400 <= answer.status_code < 500, answer.text
    assert "instances[0]" in answer.text or "body" in answer.text


@pytest.mark.parametrize("name", MODELS)
def test_the_documented_example_of_each_model_is_accepted(server: Server, name: str) -> None:
    described = httpx.get(f"{server.url}/models/{name}").json()
    assert httpx.post(f"{server.url}{described['predict']}", json=described["example"]).status_code == 200
    document = httpx.get(f"{server.url}/openapi.json").json()
    content = document["paths"][f"/predict/{name}"]["post"]["requestBody"]["content"]
    assert content["application/json"]["example"] == described["example"]
    assert set(content) == set(described["media_types"])


def test_every_get_route_of_the_openapi_document_answers(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    for path, methods in document["paths"].items():
        if "get" in methods:
            response = httpx.get(server.url + path.replace("{model}", "cnn"))
            assert str(response.status_code) in methods["get"]["responses"], path
    assert "swagger-ui" in httpx.get(f"{server.url}/docs").text


@pytest.mark.parametrize(
    ("model", "content", "headers", "status", "says"),
    [
        ("nope", b"{}", JSON, 404, "Known models: cnn, dnn, lstm, regressor"),
        ("cnn", b'{"instances": [', JSON, 400, "not valid JSON"),
        ("cnn", b'{"instances": [NaN]}', JSON, 400, "no NaN"),
        ("cnn", b'{"instances": [[1, 2]]}', JSON, 422, "instances[0]"),
        ("cnn", json.dumps({"instances": [[[0.5] * 28] * 28]}).encode(), JSON, 422, "scaled already"),
        ("cnn", b"\x80\x04.", {"content-type": "application/vnd.bentoml+pickle"}, 415, "image/png"),
        ("cnn", b"%!PS-Adobe", {"content-type": "image/png"}, 400, "PNG or JPEG"),
        ("cnn", b"[" * 100_000, JSON, 400, "not valid JSON"),
        ("regressor", b'{"instances": [{"weight": 3000}]}', JSON, 422, "instances[0].cylinders"),
        ("lstm", b'{"instances": [[1, 2, 3]]}', JSON, 422, "at least 96 steps"),
        ("cnn", b" " * (16 * 1024 * 1024 + 1), JSON, 413, "at most 16777216 bytes"),
    ],
)
def test_bad_input_gets_a_problem_document_that_says_what_is_wrong(
    server: Server, model: str, content: bytes, headers: dict[str, str], status: int, says: str
) -> None:
    response = httpx.post(f"{server.url}/predict/{model}", content=content, headers=headers)
    problem = response.json()
    assert (response.status_code, problem["status"]) == (status, status)
    assert response.headers["content-type"] == "application/problem+json"
    assert says in problem["detail"]
    assert problem["request_id"] == response.headers["x-request-id"]
    assert httpx.get(f"{server.url}/readyz").status_code == 200


def test_an_overload_is_refused_with_429_and_what_is_admitted_is_right(tmp_path: Path) -> None:
    rows, expected = bundle("cnn").golden()
    task = bundle("cnn").manifest.task
    body = json.dumps({"instances": [instance_of(task, row) for row in rows[:64]]}).encode()

    async def flood(url: str) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=40)) as client:
            return await asyncio.gather(
                *(client.post(f"{url}/predict/cnn", content=body, headers=JSON) for _ in range(120))
            )

    limits = {"SERVING_MAX_QUEUE_ROWS": "128", "SERVING_MAX_REQUEST_ROWS": "64"}
    with running(tmp_path / "home", "--models", "cnn", pretrained=PRETRAINED, **limits) as server:
        responses = asyncio.run(flood(server.url))
        assert {response.status_code for response in responses} == {200, 429}
        for response in responses:
            if response.status_code == 429:
                assert int(response.headers["retry-after"]) >= 1
                assert "queue of cnn is full" in response.json()["detail"]
            else:
                outputs = [output_of(task, prediction) for prediction in response.json()["predictions"]]
                assert largest_difference(np.array(outputs), expected[:64]) <= 1e-5
        # And it is over as soon as the flood is.
        assert httpx.post(f"{server.url}/predict/cnn", content=body, headers=JSON).status_code == 200
        assert httpx.get(f"{server.url}/readyz").status_code == 200


@pytest.fixture(scope="module")
def tensorflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("tensorflow") / "home"
    with running(home, "--engine", "tensorflow", pretrained=PRETRAINED) as found:
        yield found


@pytest.mark.parametrize("name", MODELS)
def test_the_tensorflow_engine_agrees_with_onnxruntime_over_http(
    server: Server, tensorflow_server: Server, name: str
) -> None:
    rows, _ = bundle(name).golden()
    onnx, tensorflow = (predict(found.url, name, rows) for found in (server, tensorflow_server))
    assert largest_difference(tensorflow, onnx) <= 1e-5
    running_on = httpx.get(f"{tensorflow_server.url}/models/{name}").json()["running"]
    assert running_on["engine"] == "tensorflow"


def test_the_default_service_never_loads_tensorflow(server: Server, tensorflow_server: Server) -> None:
    def maps(found: Server) -> str:
        return "".join(Path(f"/proc/{pid}/maps").read_text() for pid in found.workers())

    assert "tensorflow" in maps(tensorflow_server)
    assert "tensorflow" not in maps(server)
