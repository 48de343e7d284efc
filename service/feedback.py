"""``POST /feedback``: what turned out to be true of an answer, whichever worker gave it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models.errors import ConflictError, InputError, ServingError
from service.access import api_keys
from service.answers import Answers
from service.bodies import read_form
from service.errors import NoAnswerError
from service.mailbox import Mailbox
from service.metrics import Metrics
from service.replies import json_response
from service.settings import Settings
from service.truth import Feedback

FEEDBACK_ROUTE = "/feedback"

OnTruth = Callable[[str, Feedback], None]
"""Takes the model's name and what was told."""


class FeedbackDesk:
    """Finds the answer that feedback is about, here or in another worker.

    Args:
        settings: How many rows are remembered, how many workers there are, and the API keys.
        metrics: Where the truth is counted.
        folder: That the workers share; None where there is one process.

    Attributes:
        answers: Those of this worker.
        on_truth: Called with the truth of an answer of this worker.
    """

    def __init__(self, settings: Settings, metrics: Metrics, folder: Path | None) -> None:
        self.answers = Answers(settings.feedback_rows, metrics)
        self.on_truth: tuple[OnTruth, ...] = ()
        self._keys = api_keys(settings)
        shared = folder is not None and settings.workers > 1
        self._mailbox = Mailbox(folder, self.answers.knows, self._reply) if shared and folder else None

    def start(self) -> None:
        """Begin to look for other workers' questions; returns at once."""
        if self._mailbox is not None:
            self._mailbox.start()

    async def close(self) -> None:
        """Stop."""
        if self._mailbox is not None:
            await self._mailbox.close()

    def routes(self) -> list[Route]:
        """The route."""
        return [Route(FEEDBACK_ROUTE, self._call, methods=["POST"])]

    async def _call(self, request: Request) -> Response:
        if self._keys is not None:
            self._keys.check(request.scope["headers"])
        return json_response(await self.tell(await read_form(request, Feedback)))

    async def tell(self, told: Feedback) -> dict[str, Any]:
        """Count the truth; what the model had said.

        Raises:
            NoAnswerError: No worker remembers the answer.
            InputError: The truth is not one that the model could have said.
            ConflictError: It is known already.
        """
        if self._mailbox is None or self.answers.knows(told.request_id):
            return self._judge(told)
        reply = await self._mailbox.ask(told.request_id, told.model_dump())
        if reply is None:
            raise NoAnswerError(told.request_id, self.answers.least_rows)
        return _opened(reply)

    def _judge(self, told: Feedback) -> dict[str, Any]:
        found = self.answers.judge(told)
        for listener in self.on_truth:
            listener(found["model"], told)
        return found

    def _reply(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to another worker; errors travel as their arguments."""
        try:
            return {"found": self._judge(Feedback.model_validate(body))}
        except InputError as error:
            return {"input": [error.field, error.rule, error.received, error.remedy]}
        except ServingError as error:
            return {"conflict": str(error)}


def _opened(reply: dict[str, Any]) -> dict[str, Any]:
    if "input" in reply:
        raise InputError(*reply["input"])
    if "conflict" in reply:
        raise ConflictError(reply["conflict"])
    found: dict[str, Any] = reply["found"]
    return found
