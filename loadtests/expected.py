"""Requests with the answers they must get, from the golden rows of the shipped bundles.

The golden outputs were computed when the bundle was made, so nothing here runs a model. For a data set whose licence
allows no copies the golden rows are synthetic; they serve just as well.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from models.bundle import Bundle
from models.task import ImageClassification, Sequences, TabularRegression, Task

# On top of the bundle's golden tolerance: float32 in batches of other sizes. Relative.
_RELATIVE = 1e-5
JSON, PNG = "application/json", "image/png"


@dataclass(frozen=True)
class Case:
    """One request and its right answer.

    Attributes:
        name: In the statistics, such as ``dnn image/png``.
        path: Of the request.
        content_type: Of the body.
        body: To send.
        version: That must answer.
        expected: The answer as `Task.answer` gives it, with Python numbers.
        tolerance: Largest accepted absolute difference, in the output's unit.
    """

    name: str
    path: str
    content_type: str
    body: bytes
    version: str
    expected: dict[str, Any]
    tolerance: float

    def problem(self, body: bytes) -> str:
        """Why ``body`` is no right answer; empty if it is one."""
        try:
            document = orjson.loads(body)
            version, (received,) = document["version"], document["predictions"]
        except (ValueError, KeyError, TypeError) as error:
            return f"unexpected form: {error!r}"
        if version != self.version:
            return f"version {version} answered instead of {self.version}"
        return difference(self.expected, received, self.tolerance)


def difference(expected: Any, received: Any, tolerance: float, path: str = "predictions[0]") -> str:
    """The first difference of two JSON values, numbers compared with tolerance; empty if there is none."""
    if isinstance(expected, dict):
        if not isinstance(received, dict) or expected.keys() != received.keys():
            return f"{path}: members differ"
        pairs: Iterator[tuple[Any, Any, str]] = ((expected[k], received[k], f"{path}.{k}") for k in expected)
    elif isinstance(expected, list):
        if not isinstance(received, list) or len(expected) != len(received):
            return f"{path}: lengths differ"
        pairs = ((e, r, f"{path}[{i}]") for i, (e, r) in enumerate(zip(expected, received, strict=True)))
    elif isinstance(expected, float):
        # Written so that NaN differs.
        same = isinstance(received, int | float) and abs(received - expected) <= tolerance + _RELATIVE * abs(expected)
        return "" if same else f"{path}: {received} instead of {expected}"
    else:
        return "" if expected == received else f"{path}: {received!r} instead of {expected!r}"
    return next((found for e, r, p in pairs if (found := difference(e, r, tolerance, p))), "")


@lru_cache(maxsize=8)
def cases(bundles: Path, kind: str) -> tuple[Case, ...]:
    """All cases of the bundles whose task is of ``kind``.

    Raises:
        LookupError: There is no such bundle.
    """
    found: list[Case] = []
    for manifest in sorted(bundles.glob("*/manifest.json")):
        bundle = Bundle.open(manifest.parent)
        if bundle.manifest.task.kind == kind:
            found += _cases_of(bundle)
    if not found:
        raise LookupError(f"{bundles} holds no bundle for {kind}. Give --bundles a folder with one.")
    return tuple(found)


def _cases_of(bundle: Bundle) -> Iterator[Case]:
    manifest = bundle.manifest
    for row, output in zip(*bundle.golden(), strict=True):
        # orjson turns numpy's numbers into those that the service would send.
        expected = orjson.loads(orjson.dumps(manifest.task.answer(output), option=orjson.OPT_SERIALIZE_NUMPY))
        if isinstance(manifest.task, ImageClassification) and _is_close(output):
            continue
        for content_type, body in _bodies(manifest.task, row):
            yield Case(
                f"{manifest.name} {content_type}",
                f"/predict/{manifest.name}",
                content_type,
                body,
                manifest.version,
                expected,
                manifest.golden_tolerance,
            )


def _is_close(probabilities: NDArray[np.float32]) -> bool:
    """Whether the two likeliest classes could change places by rounding."""
    second, first = np.partition(probabilities, -2)[-2:]
    return bool(first - second < 1e-3)


def _bodies(task: Task, row: NDArray[Any]) -> Sequence[tuple[str, bytes]]:
    """Every way in which this row can be sent."""
    if isinstance(task, ImageClassification):
        pixels = row[..., 0] if task.channels == 1 else row
        picture = io.BytesIO()
        Image.fromarray(pixels).save(picture, "PNG")
        return [(PNG, picture.getvalue()), (JSON, _instances(pixels.tolist()))]
    if isinstance(task, TabularRegression):
        return [(JSON, _instances(task.record(row)))]
    if isinstance(task, Sequences):
        return [(JSON, _instances(row[:, 0].tolist() if len(task.channels) == 1 else row.tolist()))]
    raise TypeError(f"no request for {type(task).__name__}")


def _instances(value: Any) -> bytes:
    return orjson.dumps({"instances": [value]})
