"""Versions that go wrong in ways of their own, made from a good one."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundle import MANIFEST, ONNX, Bundle
from tests.bundles import CARS, CREATED, make_bundle

_WORK = 900
"""Side of the square matrices that the slow version multiplies: some 10 ms on one core."""
FATAL, SLOW = 3000.0, 4000.0
"""Weights of cars that a moody version fails on, and takes its time with."""


def resealed(source: Bundle, folder: Path, created: datetime, graph: bytes | None = None) -> Bundle:
    """The same model as another version, with another ONNX graph where one is given."""
    shutil.copytree(source.path, folder, ignore=shutil.ignore_patterns(MANIFEST, "model.yaml"))
    if graph is not None:
        (folder / ONNX).write_bytes(graph)
    return source.resealed(folder, created=created)


def slow(source: Bundle, side: int = _WORK) -> bytes:
    """The graph of ``source`` with work added that changes no answer: a product of two matrices a batch."""
    model = onnx.load_from_string(source.read(ONNX))
    graph = model.graph
    (output,) = graph.output
    (rows,) = graph.input
    for node in graph.node:
        for index, name in enumerate(node.output):
            if name == output.name:
                node.output[index] = "quick"
    weights = np.random.default_rng(0).normal(size=(side, side)).astype(np.float32)
    graph.initializer.extend(
        [
            numpy_helper.from_array(weights, "busy_weights"),
            numpy_helper.from_array(np.zeros(1, np.float32), "busy_zero"),
        ]
    )
    graph.node.extend(
        [
            # Of the batch's shape, so that no optimiser computes it beforehand; the rows may hold missing values.
            helper.make_node("Shape", [rows.name], ["busy_shape"]),
            helper.make_node("Cast", ["busy_shape"], ["busy_floats"], to=onnx.TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["busy_floats"], ["busy_mean"], keepdims=0),
            helper.make_node("Add", ["busy_weights", "busy_mean"], ["busy_square"]),
            helper.make_node("MatMul", ["busy_square", "busy_square"], ["busy_product"]),
            helper.make_node("ReduceMean", ["busy_product"], ["busy_result"], keepdims=0),
            helper.make_node("Mul", ["busy_result", "busy_zero"], ["busy_nothing"]),
            helper.make_node("Add", ["quick", "busy_nothing"], [output.name]),
        ]
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def moody(source: Bundle, rounds: int = 80) -> bytes:
    """The graph of ``source``, which fails on the weight `FATAL`, and takes some 10 ms a round with `SLOW`."""
    model = onnx.load_from_string(source.read(ONNX))
    graph = model.graph
    for node in graph.node:
        node.output[:] = ["moody_healthy" if name == "outputs" else name for name in node.output]
    square = np.full((900, 900), 1 / 900, np.float32)
    for name, value in {"moody_fatal": FATAL, "moody_slow": SLOW, "moody_rounds": rounds, "moody_nothing": 0.0}.items():
        graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), name))
    graph.initializer.append(numpy_helper.from_array(square, "moody_square"))
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["moody_before", "moody_square"], ["moody_after"]),
            helper.make_node("Identity", ["moody_on"], ["moody_still_on"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("moody_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("moody_before", TensorProto.FLOAT, [900, 900]),
        ],
        [
            helper.make_tensor_value_info("moody_still_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("moody_after", TensorProto.FLOAT, [900, 900]),
        ],
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMax", ["rows"], ["moody_weight"], axes=[1], keepdims=1),
            helper.make_node("Equal", ["moody_weight", "moody_slow"], ["moody_is_slow"]),
            helper.make_node("Cast", ["moody_is_slow"], ["moody_slowness"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["moody_slowness"], ["moody_any_slow"], keepdims=0),
            helper.make_node("Mul", ["moody_any_slow", "moody_rounds"], ["moody_turns_float"]),
            helper.make_node("Cast", ["moody_turns_float"], ["moody_turns"], to=TensorProto.INT64),
            helper.make_node("Loop", ["moody_turns", "", "moody_square"], ["moody_product"], body=body),
            helper.make_node("ReduceMean", ["moody_product"], ["moody_mean"], keepdims=0),
            helper.make_node("Mul", ["moody_mean", "moody_nothing"], ["moody_zero"]),
            helper.make_node("Sub", ["moody_weight", "moody_fatal"], ["moody_apart"]),
            helper.make_node("Div", ["moody_apart", "moody_apart"], ["moody_one_or_nan"]),
            helper.make_node("Mul", ["moody_healthy", "moody_one_or_nan"], ["moody_certain"]),
            helper.make_node("Add", ["moody_certain", "moody_zero"], ["outputs"]),
        ]
    )
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def slow_cars(folder: Path, side: int = _WORK) -> Bundle:
    """``cars`` in ``folder / "pre"``, as slow as `slow` makes it."""
    quick = make_bundle(folder, "cars", CARS)
    return resealed(quick, folder / "pre" / "cars", CREATED + timedelta(days=1), slow(quick, side))


def place(bundle: Bundle, home: Path) -> Path:
    """Put a bundle where the store keeps versions, as a copy that went wrong would: nothing looks at it."""
    folder = home / "models" / bundle.manifest.name / bundle.manifest.version
    shutil.copytree(bundle.path, folder)
    return folder


def corrupt(folder: Path) -> None:
    """Turn one bit of the graph."""
    data = bytearray((folder / ONNX).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / ONNX).write_bytes(data)


def truncate(folder: Path) -> None:
    """Cut the graph in half."""
    data = (folder / ONNX).read_bytes()
    (folder / ONNX).write_bytes(data[: len(data) // 2])
