"""Whether an answer is the right one, found out cheaply enough to ask of every answer."""

import json
from array import array
from collections.abc import Callable
from typing import Any

from benchmarks.plan import Plan

# Different correct byte sequences remembered for one request: batches of other sizes differ in the last digit.
_REMEMBERED = 64

Reader = Callable[[bytes], list[list[float]]]


def _read_serving(body: bytes) -> list[list[float]]:
    """Our service: the probabilities of each prediction, whose label must be the likeliest."""
    rows = []
    for prediction in json.loads(body)["predictions"]:
        probabilities = prediction["probabilities"]
        if prediction["label"] != max(probabilities, key=probabilities.__getitem__):
            raise ValueError(f"label {prediction['label']} is not the likeliest of {probabilities}")
        rows.append(list(probabilities.values()))
    return rows


def numbers_in(value: Any) -> list[float]:
    """Every number of a JSON value, in order."""
    if isinstance(value, dict | list):
        return [number for one in (value.values() if isinstance(value, dict) else value) for number in numbers_in(one)]
    return [value] if isinstance(value, int | float) else []


def _read_answers(body: bytes) -> list[list[float]]:
    """Our service, a model of whatever task: all the numbers of each prediction."""
    return [numbers_in(prediction) for prediction in json.loads(body)["predictions"]]


def _read_rows(body: bytes) -> list[list[float]]:
    """A BentoML API that returns an array."""
    rows: list[list[float]] = json.loads(body)
    return rows


def _read_v2(body: bytes) -> list[list[float]]:
    """Open Inference Protocol: one output tensor, as JSON or as the bytes after it."""
    # Latin-1 keeps each byte one character; what follows the JSON is the tensor.
    document, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    (output,) = document["outputs"]
    if output["datatype"] != "FP32":
        raise ValueError(f"datatype {output['datatype']} instead of FP32")
    if "data" in output:
        numbers: list[float] = output["data"]
        return [numbers]
    size = output["parameters"]["binary_data_size"]
    if len(body) - end != size:
        raise ValueError(f"{len(body) - end} bytes after the JSON instead of {size}")
    return [array("f", body[end:]).tolist()]


READERS: dict[str, Reader] = {"serving": _read_serving, "answers": _read_answers, "rows": _read_rows, "v2": _read_v2}
# What precedes it names the request and differs each time.
_MARKERS = {"serving": b'"predictions":', "answers": b'"predictions":', "v2": b'"outputs":'}


class Checker:
    """Compares every answer with what is expected, and parses only what it has not seen before.

    An answer whose significant part equals, byte for byte, one that was parsed and found right is right too.
    """

    def __init__(self, plan: Plan) -> None:
        self._expected = plan.expected
        self._tolerance = plan.tolerance
        self._read = READERS[plan.reader]
        self._marker = _MARKERS.get(plan.reader, b"")
        self._right: list[set[bytes]] = [set() for _ in plan.bodies]

    def wrong(self, index: int, body: bytes) -> str:
        """Why ``body`` is no right answer to request ``index``; empty if it is one."""
        significant = body[body.find(self._marker) :] if self._marker else body
        if significant in self._right[index]:
            return ""
        try:
            rows = self._read(body)
            received = [number for row in rows for number in row]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"unexpected form ({error}): {body[:200]!r}"
        if not all(isinstance(number, int | float) for number in received):
            return f"not only numbers: {body[:200]!r}"
        expected = self._expected[index]
        if len(received) != len(expected):
            return f"{len(received)} numbers instead of {len(expected)}"
        for got, want in zip(received, expected, strict=True):
            # Written so that NaN fails.
            if not abs(got - want) <= self._tolerance:
                return f"{got} instead of {want}"
        if len(self._right[index]) < _REMEMBERED:
            self._right[index].add(significant)
        return ""
