"""Requests with the answers they must get, from the golden rows of the served bundles.

The golden outputs were computed when the bundle was made, so nothing here runs a model. For a data set whose licence
allows no copies the golden rows are synthetic; they serve just as well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loadtests.formats import FORMATS, GRPC, Headers, Read
from loadtests.tensors import addressed
from models.bundle import Bundle
from models.task import Classes

# On top of the bundle's golden tolerance: float32 in batches of other sizes. Relative.
_RELATIVE = 1e-5
_MOST = 64
SINGLE, MANY = SIZES = (1, 32)
"""Rows of a request."""


@dataclass(frozen=True)
class Case:
    """One request and its right answer.

    Attributes:
        model: That is asked.
        payload: Such as ``png``.
        rows: In the body.
        name: In the statistics, such as ``dnn native png``.
        path: Of the request.
        headers: But for the length.
        body: To send.
        read: Finds version and values in an answer.
        where: What these are called in a message.
        answers: Version -> what it must say. Any of them may answer.
        tolerance: Largest accepted absolute difference, in the output's unit.
    """

    model: str
    payload: str
    rows: int
    name: str
    path: str
    headers: Headers
    body: bytes
    read: Read
    where: str
    answers: Mapping[str, Any]
    tolerance: float

    def judge(self, body: bytes) -> tuple[str, str]:
        """The version that answered (empty where the format does not say), and why ``body`` is wrong, else empty."""
        try:
            version, received = self.read(body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return "", f"unexpected form: {error!r}"
        if version and version not in self.answers:
            return version, f"version {version} answered instead of {' or '.join(self.answers)}"
        possible = [self.answers[version]] if version else list(self.answers.values())
        found = [difference(expected, received, self.tolerance, self.where) for expected in possible]
        return version, "" if "" in found else found[0]


def difference(expected: Any, received: Any, tolerance: float, path: str) -> str:
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
def cases(bundles: Path, protocol: str, models: tuple[str, ...] = ()) -> tuple[Case, ...]:
    """All cases of one protocol, of the named models or all.

    Two bundles of one name are two versions of a model that both may answer.

    Raises:
        LookupError: There is no such bundle, or versions of a model differ in their golden rows.
    """
    found: dict[str, list[Bundle]] = {}
    for manifest in sorted(bundles.glob("*/manifest.json")):
        bundle = Bundle.open(manifest.parent)
        found.setdefault(bundle.manifest.name, []).append(bundle)
    wrong = sorted(set(models) - found.keys()) if found else ["any model"]
    if wrong:
        raise LookupError(
            f"{bundles} holds no bundle of {', '.join(wrong)}, but of {', '.join(found) or 'none'}. "
            "Check --bundles and --models."
        )
    wanted = [versions for name, versions in found.items() if not models or name in models]
    return tuple(case for versions in wanted for case in _cases_of(versions, protocol))


def _cases_of(versions: list[Bundle], protocol: str) -> Iterator[Case]:
    first = versions[0].manifest
    rows, _ = versions[0].golden()
    outputs: dict[str, NDArray[np.float32]] = {}
    usable = np.full(len(rows), fill_value=True)
    for bundle in versions:
        same, outputs[bundle.manifest.version] = bundle.golden()
        if not np.array_equal(same, rows):
            raise LookupError(f"the versions of {first.name} have different golden rows. Leave one of them out.")
        if isinstance(first.task, Classes):
            usable &= ~_is_close(outputs[bundle.manifest.version])
    numbers = np.flatnonzero(usable)[:_MOST]
    for (spoken, payload), form in FORMATS.items():
        if spoken != protocol:
            continue
        for chosen in _batches(numbers):
            request = form.request(first.task, rows[chosen])
            if request is None:
                continue
            yield Case(
                model=first.name,
                payload=payload,
                rows=len(chosen),
                name=f"{first.name} {protocol} {payload}" + (f" {MANY} rows" if len(chosen) > 1 else ""),
                path=form.path.format(model=first.name),
                headers=request.headers,
                body=addressed(request.body, first.name) if protocol == GRPC else request.body,
                read=form.read,
                where=form.where,
                answers={v: form.answer(first.task, values[chosen]) for v, values in outputs.items()},
                tolerance=first.golden_tolerance,
            )


def _batches(numbers: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Each row alone, and two large requests in which rows may come again."""
    yield from numbers[:, np.newaxis]
    if len(numbers):
        yield np.resize(numbers, MANY)
        yield np.resize(numbers[::-1], MANY)


def _is_close(probabilities: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether the two likeliest classes of a row could change places by rounding."""
    ordered = np.partition(probabilities, -2, axis=-1)
    return np.asarray(ordered[:, -1] - ordered[:, -2] < 1e-3)
