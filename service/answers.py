"""The last answers of one worker, so that what turned out to be true can be told of them."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ConflictError, InputError
from models.manifest import Manifest
from service.errors import NoAnswerError
from service.metrics import Metrics
from service.protocols.base import Decoded, Question
from service.served import Served
from service.truth import Feedback, Verdict, verdict

_Remembered = tuple[Manifest, str, NDArray[np.float32]]


class Answers:
    """By request id, in two generations: a full young one becomes the old one, which is forgotten.

    That takes under half a microsecond an answer; to forget them one by one takes four times as long.

    Args:
        least_rows: Rows that are remembered at least; twice as many at most.
        metrics: Where the truth is counted.
    """

    def __init__(self, least_rows: int, metrics: Metrics) -> None:
        self.least_rows = least_rows
        self._metrics = metrics
        self._rows = 0
        self._young: dict[str, _Remembered] = {}
        self._old: dict[str, _Remembered] = {}
        # Request id -> which answer, and the rows of it of which the truth is known.
        self._told: dict[str, tuple[_Remembered, set[int]]] = {}

    def remember(self, served: Served, question: Question, _: Decoded, outputs: NDArray[np.float32]) -> None:
        """Called after each answer. A client may use an id of its own again: then its last answer is meant."""
        # A copy: an engine's own array keeps the engine's memory, and versions come and go.
        self._young[question.request_id] = (served.manifest, served.role, outputs.copy())
        self._rows += len(outputs)
        if self._rows >= self.least_rows:
            self._old, self._young, self._rows = self._young, {}, 0
            self._told = {name: told for name, told in self._told.items() if self._find(name) is told[0]}

    def _find(self, request_id: str) -> _Remembered | None:
        return self._young.get(request_id) or self._old.get(request_id)

    def knows(self, request_id: str) -> bool:
        """Whether the answer is remembered here."""
        return self._find(request_id) is not None

    def judge(self, told: Feedback) -> dict[str, Any]:
        """Count the truth of one row of an answer that is remembered here; what is said of it.

        Raises:
            NoAnswerError: It is not.
            InputError: The request has no such row, or the model could not have said this.
            ConflictError: The truth of this row is known already.
        """
        found = self._find(told.request_id)
        if found is None:
            raise NoAnswerError(told.request_id, self.least_rows)
        manifest, role, outputs = found
        if told.row >= len(outputs):
            raise InputError(
                "row", f"is from 0 to {len(outputs) - 1} in this request", str(told.row), "Count its rows from 0."
            )
        judged = verdict(manifest.task, outputs[told.row], told)
        if self._told.get(told.request_id, (None,))[0] is not found:
            self._told[told.request_id] = (found, set())
        known = self._told[told.request_id][1]
        if told.row in known:
            raise ConflictError(f"What is true of row {told.row} of {told.request_id} is known already. Tell it once.")
        known.add(told.row)
        self._count(manifest.name, role, judged)
        return {
            "request_id": told.request_id,
            "row": told.row,
            "model": manifest.name,
            "version": manifest.version,
            "alias": role,
            **judged.document(),
        }

    def _count(self, model: str, role: str, found: Verdict) -> None:
        for outcome, count in found.outcomes.items():
            self._metrics.feedback.labels(model, role, outcome).inc(count)
        if found.error is not None:
            self._metrics.feedback_error.labels(model, role).inc(found.error)
