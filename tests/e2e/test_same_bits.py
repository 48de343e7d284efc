"""The same rows get the same numbers, bit for bit, whatever the protocol."""

import io
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc

from models.bundle import Bundle
from models.task import Records, Task
from service.protocols.signature import inputs_of, outputs_of
from service.settings import PRETRAINED
from tests.bundles import rows_of
from tests.e2e.server import Server

MODELS = ("cnn", "dnn", "lstm", "regressor")
TASKS: dict[str, Task] = {name: Bundle.open(PRETRAINED / name).manifest.task for name in MODELS}
Outputs = dict[str, NDArray[np.float32]]
Way = Callable[[httpx.Client, str, Task, NDArray[Any]], Outputs]


def instances_of(task: Task, rows: NDArray[Any]) -> list[Any]:
    return [task.record(row) for row in rows] if isinstance(task, Records) else rows.tolist()


def numbers(task: Task, values: dict[str, Any]) -> Outputs:
    """Output name -> float32 in the shape of the metadata, from JSON's numbers."""
    return {
        spec.name: np.array(values[spec.name], np.float32).reshape(-1, *spec.shape[1:]) for spec in outputs_of(task)
    }


def bits(outputs: Outputs) -> dict[str, bytes]:
    return {name: values.tobytes() for name, values in outputs.items()}


def of_native(task: Task, answer: httpx.Response) -> Outputs:
    predictions = answer.raise_for_status().json()["predictions"]
    for one in predictions:
        if "probabilities" in one:
            one["probabilities"] = list(one["probabilities"].values())
    return numbers(task, {spec.name: [one[spec.name] for one in predictions] for spec in outputs_of(task)})


def native_json(client: httpx.Client, model: str, task: Task, rows: NDArray[Any]) -> Outputs:
    return of_native(task, client.post(f"/predict/{model}", json={"instances": instances_of(task, rows)}))


def native_npy(client: httpx.Client, model: str, task: Task, rows: NDArray[Any]) -> Outputs:
    buffer = io.BytesIO()
    np.save(buffer, rows)
    headers = {"content-type": "application/x-npy"}
    return of_native(task, client.post(f"/predict/{model}", content=buffer.getvalue(), headers=headers))


def tensorflow_rows(client: httpx.Client, model: str, task: Task, rows: NDArray[Any]) -> Outputs:
    body = {"instances": instances_of(task, rows)}
    found = client.post(f"/v1/models/{model}:predict", json=body).raise_for_status().json()["predictions"]
    names = [spec.name for spec in outputs_of(task)]
    columns = {name: [one[name] for one in found] for name in names} if len(names) > 1 else {names[0]: found}
    return numbers(task, columns)


def tensorflow_columns(client: httpx.Client, model: str, task: Task, rows: NDArray[Any]) -> Outputs:
    instances = instances_of(task, rows)
    inputs: Any = instances
    if isinstance(task, Records):
        inputs = {name: [one[name] for one in instances] for name in task.names}
    found = client.post(f"/v1/models/{model}:predict", json={"inputs": inputs}).raise_for_status().json()["outputs"]
    return numbers(task, found if isinstance(found, dict) else {outputs_of(task)[0].name: found})


def tensors_of(task: Task, rows: NDArray[Any]) -> list[tuple[dict[str, Any], bytes]]:
    """The inputs as metadata show them: each without its data, and these as raw bytes."""
    if not isinstance(task, Records):
        (spec,) = inputs_of(task)
        return [({"name": spec.name, "datatype": spec.datatype, "shape": rows.shape}, rows.tobytes())]
    found = []
    for i, spec in enumerate(inputs_of(task)):
        values = [task.record(row)[spec.name] for row in rows]
        texts = [value.encode() for value in values if isinstance(value, str)]
        framed = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        raw = framed if spec.datatype == "BYTES" else rows[:, i].tobytes()
        found.append(({"name": spec.name, "datatype": spec.datatype, "shape": (len(rows), 1)}, raw))
    return found


def v2_json(client: httpx.Client, model: str, task: Task, rows: NDArray[Any]) -> Outputs:
    inputs = []
    for i, (tensor, _) in enumerate(tensors_of(task, rows)):
        records = [list(task.record(row).values()) for row in rows] if isinstance(task, Records) else []
        inputs.append(tensor | {"data": [record[i] for record in records] or rows.ravel().tolist()})
    answer = client.post(f"/v2/models/{model}/infer", json={"inputs": inputs}).raise_for_status()
    return numbers(task, {one["name"]: one["data"] for one in answer.json()["outputs"]})


def v2_binary(client: httpx.Client, model: str, task: Task, rows: NDArray[Any]) -> Outputs:
    tensors = tensors_of(task, rows)
    inputs = [tensor | {"parameters": {"binary_data_size": len(raw)}} for tensor, raw in tensors]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    body = head + b"".join(raw for _, raw in tensors)
    headers = {"inference-header-content-length": str(len(head))}
    answer = client.post(f"/v2/models/{model}/infer", content=body, headers=headers).raise_for_status()
    length = int(answer.headers["inference-header-content-length"])
    place, found = length, {}
    for output in json.loads(answer.content[:length])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        found[output["name"]] = np.frombuffer(answer.content[place : place + size], "<f4").reshape(output["shape"])
        place += size
    return found


def v2_grpc(server: Server, model: str, task: Task, rows: NDArray[Any]) -> Iterator[Outputs]:
    """Raw contents, then typed ones."""
    raw, typed = service_pb2.ModelInferRequest(model_name=model), service_pb2.ModelInferRequest(model_name=model)
    for i, (tensor, data) in enumerate(tensors_of(task, rows)):
        raw.inputs.add(**tensor)
        raw.raw_input_contents.append(data)
        member = {"UINT8": "uint_contents", "FP32": "fp32_contents", "BYTES": "bytes_contents"}[tensor["datatype"]]
        values = [list(task.record(row).values())[i] for row in rows] if isinstance(task, Records) else rows.ravel()
        contents = [value.encode() if isinstance(value, str) else value for value in values]
        getattr(typed.inputs.add(**tensor).contents, member).extend(contents)
    with grpc.insecure_channel(server.grpc) as channel:
        for request in (raw, typed):
            answer = service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=30)
            arrays = [np.frombuffer(data, "<f4") for data in answer.raw_output_contents]
            yield {one.name: array.reshape(one.shape) for one, array in zip(answer.outputs, arrays, strict=True)}


WAYS: tuple[Way, ...] = (native_npy, tensorflow_rows, tensorflow_columns, v2_json, v2_binary)


@pytest.mark.parametrize("model", MODELS)
@given(count=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=8, deadline=None)
def test_every_protocol_gives_the_same_bits(server: Server, model: str, count: int, seed: int) -> None:
    task = TASKS[model]
    rows = rows_of(task, count, seed)
    with httpx.Client(base_url=server.url, timeout=30) as client, ThreadPoolExecutor(len(WAYS) + 1) as pool:
        expected = native_json(client, model, task, rows)
        # At once, so that they share batches, and lie at any place of them.
        asked = {way.__name__: pool.submit(way, client, model, task, rows) for way in WAYS}
        asked_by_grpc = pool.submit(lambda: list(v2_grpc(server, model, task, rows)))
        answers = [(name, future.result()) for name, future in asked.items()]
        answers += [("grpc", found) for found in asked_by_grpc.result()]
    for name, found in answers:
        assert bits(found) == bits(expected), name
