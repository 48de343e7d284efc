"""Rows of many callers in one batch of a real server: what is wrong with one concerns nobody else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.bundle import ONNX, Bundle
from tests.bundles import CARS, CREATED, make_bundle, rows_of
from tests.e2e.server import Server, running
from tests.figures import Figure
from tests.redeploy.offered import resealed, slow

CALLERS = 32
BAD = CARS.record(np.array([3000, 100, 0], np.float32))


def failing(source: Bundle) -> bytes:
    """The graph of ``source``, which ONNX Runtime cannot run on a batch with a weight of 3000 in it."""
    model = onnx.load_from_string(source.read(ONNX))
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["healthy" if name == "outputs" else name for name in node.output]
    constants = {"poison": np.float32(3000), "first": np.array([0]), "table": np.zeros(1, np.float32)}
    graph.initializer.extend(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items())
    graph.node.extend(
        [
            helper.make_node("Gather", ["rows", "first"], ["weight"], axis=1),
            helper.make_node("Equal", ["weight", "poison"], ["is_bad"]),
            # Place 0 of a table of one, or place 1, which there is not.
            helper.make_node("Cast", ["is_bad"], ["place"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "place"], ["zero"]),
            helper.make_node("Add", ["healthy", "zero"], ["outputs"]),
        ]
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """``cars`` takes some 50 ms a batch, so that what arrives meanwhile, slowly too, shares the next one."""
    folder = tmp_path_factory.mktemp("rows")
    whole = make_bundle(folder, "cars", CARS)
    late = resealed(whole, folder / "late", CREATED + timedelta(days=1), slow(whole, side=1600))
    resealed(late, folder / "pre" / "cars", CREATED + timedelta(days=2), failing(late))
    options = {"SERVING_BATCH_ROWS": "32", "SERVING_MAX_QUEUE_S": "600", "SERVING_RESPONSE_DETAILS": "1"}
    with running(folder / "home", pretrained=folder / "pre", **options) as found:
        yield found


def ask(client: httpx.Client, instance: Any) -> httpx.Response:
    return client.post("/predict/cars", json={"instances": [instance]})


def at_once(client: httpx.Client, instances: list[Any]) -> list[httpx.Response]:
    """Each by a caller of its own, all at the same moment."""
    start = Barrier(len(instances))

    def call(instance: Any) -> httpx.Response:
        start.wait()
        return ask(client, instance)

    with ThreadPoolExecutor(len(instances)) as pool:
        return list(pool.map(call, instances))


@pytest.mark.reliability(23, "One bad row fails alone, and batched answers equal unbatched ones bit for bit")
def test_of_requests_in_one_batch_only_the_bad_one_fails_and_the_others_are_answered_as_when_alone(
    server: Server, figure: Figure
) -> None:
    instances = [CARS.record(row) for row in rows_of(CARS, CALLERS)]
    with httpx.Client(base_url=server.url, timeout=60, limits=httpx.Limits(max_connections=CALLERS)) as client:
        alone = [ask(client, instance) for instance in instances]
        assert {(answer.status_code, answer.headers["x-batch-rows"]) for answer in alone} == {(200, "1")}
        expected = [answer.json()["predictions"] for answer in alone]
        batched = at_once(client, instances)
        assert [answer.json()["predictions"] for answer in batched] == expected
        mixed = at_once(client, [*instances[:10], BAD, *instances[11:]])
    assert [answer.status_code for answer in mixed] == [200] * 10 + [500] + [200] * (CALLERS - 11)
    answers = [answer.json().get("predictions") for answer in mixed]
    assert [answers[:10], answers[11:]] == [expected[:10], expected[11:]]
    largest = max(int(answer.headers["x-batch-rows"]) for answer in batched)
    shared = [int(answer.headers["x-batch-rows"]) for answer in mixed if answer.status_code == 200]
    assert largest > 4
    figure(
        f"{CALLERS} callers at once in batches of up to {largest} rows: each answer as when alone; "
        f"with one bad row 1 failed, {len(shared)} were answered, bit for bit as before"
    )
