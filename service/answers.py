"""The last answers of one worker, so that what turned out to be true can be told of them."""

from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import ConflictError, InputError
from models.manifest import Manifest
from service.metrics import Metrics
from service.protocols.base import Decoded, Question
from service.served import Served
from service.truth import Feedback, Verdict, verdict


class Answers:
    """By request id, as many rows as fit.

    Args:
        most_rows: Rows that are remembered; the oldest answers go first.
        metrics: Where the truth is counted.
    """

    def __init__(self, most_rows: int, metrics: Metrics) -> None:
        self.most_rows = most_rows
        self._metrics = metrics
        self._rows = 0
        self._answers: OrderedDict[str, tuple[Manifest, str, NDArray[np.float32]]] = OrderedDict()
        self._told: dict[str, set[int]] = {}

    def remember(self, served: Served, question: Question, _: Decoded, outputs: NDArray[np.float32]) -> None:
        """Called after each answer."""
        request_id = question.request_id
        answers = self._answers
        # A client may use its own id again: then its last answer is meant.
        if request_id in answers:
            self._drop(request_id)
        answers[request_id] = (served.manifest, served.role, outputs)
        self._rows += len(outputs)
        while self._rows > self.most_rows and answers:
            self._drop(next(iter(answers)))

    def _drop(self, request_id: str) -> None:
        self._rows -= len(self._answers.pop(request_id)[2])
        if self._told:
            self._told.pop(request_id, None)

    def knows(self, request_id: str) -> bool:
        """Whether the answer is remembered here."""
        return request_id in self._answers

    def judge(self, told: Feedback) -> dict[str, Any]:
        """Count the truth of one remembered row; what is said of it.

        Raises:
            InputError: The request has no such row, or the model could not have said this.
            ConflictError: The truth of this row is known already.
        """
        manifest, role, outputs = self._answers[told.request_id]
        if told.row >= len(outputs):
            raise InputError(
                "row", f"is from 0 to {len(outputs) - 1} in this request", str(told.row), "Count its rows from 0."
            )
        found = verdict(manifest.task, outputs[told.row], told)
        known = self._told.setdefault(told.request_id, set())
        if told.row in known:
            raise ConflictError(f"What is true of row {told.row} of {told.request_id} is known already. Tell it once.")
        known.add(told.row)
        self._count(manifest.name, role, found)
        return {
            "request_id": told.request_id,
            "row": told.row,
            "model": manifest.name,
            "version": manifest.version,
            "alias": role,
            **found.document(),
        }

    def _count(self, model: str, role: str, found: Verdict) -> None:
        for outcome, count in found.outcomes.items():
            self._metrics.feedback.labels(model, role, outcome).inc(count)
        if found.error is not None:
            self._metrics.feedback_error.labels(model, role).inc(found.error)
