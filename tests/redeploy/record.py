"""What the load recorded, and whether every answer is what the version that it names computes offline."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
from numpy.typing import NDArray

from models.bundle import ONNX, Bundle

ANSWERED = 200


@dataclass(frozen=True)
class Record:
    """What became of each request.

    Attributes:
        due: When it was to leave, seconds since 1970, ascending; (n,).
        latency: From then to its answer, seconds; (n,).
        route: Index in the plan's routes; (n,).
        status: 0 where no answer came; (n,).
        version: Index in ``versions``; (n,).
        versions: That answered.
        answers: (route, body, answer, how often), each different answer once.
        retried: Requests sent again because their connection broke before an answer came.
        problems: The first few that got no answer or an error.
    """

    due: NDArray[np.float64]
    latency: NDArray[np.float64]
    route: NDArray[np.int64]
    status: NDArray[np.int64]
    version: NDArray[np.int64]
    versions: Sequence[str]
    answers: Sequence[tuple[int, int, dict[str, Any], int]]
    retried: int
    problems: Sequence[str]

    @classmethod
    def read(cls, path: Path) -> "Record":
        """What `tests.redeploy.load.write` wrote."""
        with np.load(path) as stored:
            rows, document = stored["rows"], json.loads(str(stored["document"]))
        due, latency, route, status, version = rows.T
        answers = [(int(r), int(b), json.loads(text), int(count)) for r, b, text, count in document["answers"]]
        return cls(
            due,
            latency,
            route.astype(np.int64),
            status.astype(np.int64),
            version.astype(np.int64),
            document["versions"],
            answers,
            document["retried"],
            document["problems"],
        )

    @property
    def errors(self) -> int:
        """Requests without an answer of status 200."""
        return int((self.status != ANSWERED).sum())

    def wrong(self, bundles: Mapping[tuple[str, str], Bundle], rows: Mapping[int, NDArray[Any]]) -> list[str]:
        """Answers that are not, bit for bit, what the version that they name computes offline.

        Args:
            bundles: By name and version.
            rows: By route: the input rows, one a body.
        """
        expected: dict[tuple[int, str, str], list[tuple[Any, Any]]] = {}
        found = []
        for route, body, answer, count in self.answers:
            name, version = answer["model"], answer["version"]
            if (name, version) not in bundles:
                found.append(f"{count} answers name {name}:{version}, which was never offered")
                continue
            if (route, name, version) not in expected:
                expected[route, name, version] = offline(bundles[name, version], rows[route])
            if answer["predictions"] not in [[one] for one in expected[route, name, version][body]]:
                found.append(f"{count} answers of {name}:{version} to route {route}, body {body}: {answer}")
        return found


def offline(bundle: Bundle, rows: NDArray[Any]) -> list[tuple[Any, Any]]:
    """The answers to each row alone and in a batch, as JSON gives them back.

    Some graphs multiply one row by another kernel than many, which changes a last bit; nothing else may.
    """
    answer: Callable[[Any], Any] = bundle.manifest.task.answer

    def told(output: NDArray[np.float32]) -> Any:
        return orjson.loads(orjson.dumps(answer(output), option=orjson.OPT_SERIALIZE_NUMPY))

    session = onnxruntime.InferenceSession(bundle.read(ONNX))
    together, *alone = (session.run(None, {"rows": some})[0] for some in (rows, *np.split(rows, len(rows))))
    return [(told(one[0]), told(many)) for one, many in zip(alone, together, strict=True)]
