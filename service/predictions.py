"""Answers to the requests for predictions over HTTP, whatever the protocol."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

from service.access import api_keys
from service.bodies import limit_body, read_body
from service.deadlines import deadline_of, in_time
from service.decode.inflate import Inflater
from service.details import details
from service.errors import NOSNIFF, ClientDisconnectError, MethodError
from service.head import Head, KnownHeads
from service.inference import DirectAnswer, admit, admit_when_ready, infer
from service.protocols import native, openinference, tfserving
from service.protocols.base import Answer, HttpProtocol, Pin, Question, Response
from service.refusals import count_refusal
from service.request_id import RequestIds
from service.runtime import Runtime
from service.served import Served
from service.trace_context import RESPONSE_HEADER, read_traceparent

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Give = Callable[[Response | None], None]
"""Called once with the response; None where there can be none, or nobody is there to get it. It must not raise."""

# Ours first: each of the others costs it half a microsecond.
_PROTOCOLS: tuple[HttpProtocol, ...] = (native, openinference, tfserving)


async def _nothing_more() -> MutableMapping[str, Any]:
    return {"type": "http.request"}


@dataclass(slots=True)
class Request:
    """An HTTP request for a prediction.

    Attributes:
        head: Its request line and headers.
        body: Where it has come in already.
        receive: Where it is still to come.
        started: When its first byte came, `time.perf_counter` seconds, where that was noted.
    """

    head: Head
    body: bytes = b""
    receive: Receive = _nothing_more
    started: float | None = None


@dataclass(slots=True)
class _Asked:
    """A request on its way.

    Attributes:
        question: What is asked.
        name: Of the model, as it came from outside.
        pin: The version that is wanted.
        served: The version that would answer.
    """

    question: Question
    name: str = ""
    pin: Pin | None = None
    served: Served | None = None


class Predictions:
    """What answers in one worker.

    Args:
        runtime: What is served.

    Attributes:
        heads: Those that came before.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._keys = api_keys(runtime.settings)
        self._ids = RequestIds()
        self._inflater = Inflater(runtime.settings.max_body_bytes)
        self.heads = KnownHeads()

    @staticmethod
    def protocol_of(path: str) -> HttpProtocol | None:
        """The protocol of the predictions that ``path`` belongs to, if any."""
        for protocol in _PROTOCOLS:
            if protocol.matches(path):
                return protocol
        return None

    def client_left(self) -> None:
        """Count a client that left before its request was complete."""
        self._runtime.metrics.disconnects.inc()

    async def reply(self, request: Request) -> Response | None:
        """The response to a request; None when the client left before it was complete."""
        runtime, asked = self._runtime, self._ask(request)
        runtime.inflight += 1
        try:
            self._look(asked, request.head)
            deadline = asked.question.deadline
            admitting = admit_when_ready(runtime, asked.name, asked.pin)
            asked.served = await (admitting if deadline is None else in_time(deadline, admitting))
            answering = self._read_and_infer(request, asked)
            answer = await (answering if deadline is None else in_time(deadline, answering))
        except ClientDisconnectError:
            self.client_left()
            return None
        except asyncio.CancelledError:
            # The server cancels what nobody waits for any more.
            self.client_left()
            raise
        except Exception as error:
            return self._refused(asked, request.head, error)
        finally:
            runtime.inflight -= 1
        return self._answered(asked.question, request.head, answer)

    def answer(self, request: Request, give: Give) -> Callable[[], object]:
        """Answer a request that has come in as a whole, without a task if nothing is to be awaited for.

        Args:
            request: It.
            give: Gets the response, maybe before this returns.

        Returns:
            To be called when the client leaves before its answer.
        """
        if self._runtime.loader.ready and not request.head.encoding:
            begun = self._begin(request, give)
            if begun is not None:
                return begun
        return asyncio.get_running_loop().create_task(self._reply_and_give(request, give)).cancel

    async def _reply_and_give(self, request: Request, give: Give) -> None:
        response = None
        try:
            response = await self.reply(request)
        except Exception:
            logger.exception("no answer to a request to %s", request.head.path[:80])
        finally:
            give(response)

    def _begin(self, request: Request, give: Give) -> Callable[[], object] | None:
        """Answer directly, if that is possible; nothing has happened if not."""
        runtime, asked = self._runtime, self._ask(request)
        question, then = asked.question, partial(self._end, asked, request.head, give)
        runtime.inflight += 1
        try:
            self._look(asked, request.head)
            served = asked.served = admit(runtime, asked.name, asked.pin)
            if served.split is None or asked.pin is not None:
                limit_body(len(request.body), runtime.settings.max_body_bytes)
                question.body = request.body
                direct = DirectAnswer(served, question, then)
                if direct.begin(request.head.protocol, runtime.settings):
                    return partial(self._leave, direct)
        except Exception as error:
            then(error)
            return _nothing
        runtime.inflight -= 1
        return None

    def _end(self, asked: _Asked, head: Head, give: Give, outcome: Answer | Exception) -> None:
        """Respond with what became of a direct answer."""
        response = None
        self._runtime.inflight -= 1
        try:
            if isinstance(outcome, Exception):
                response = self._refused(asked, head, outcome)
            else:
                if self._runtime.observer is not None:
                    self._runtime.observer.ended(asked.question, asked.name, 200, outcome)
                response = self._answered(asked.question, head, outcome)
        except Exception:
            logger.exception("no answer to a request to %s", head.path[:80])
        give(response)

    def _leave(self, direct: DirectAnswer) -> None:
        if direct.cancel():
            self._runtime.inflight -= 1
            self.client_left()

    def _ask(self, request: Request) -> _Asked:
        head = request.head
        return _Asked(
            Question(
                head.protocol,
                self._ids.next(),
                head.content_type,
                b"",
                encoding=head.encoding,
                headers=head.headers,
                started=request.started or perf_counter(),
            )
        )

    def _look(self, asked: _Asked, head: Head) -> None:
        """What the head asks for.

        Raises:
            ServingError: It breaks a rule.
        """
        question = asked.question
        if head.trace:
            question.trace = read_traceparent(head.trace)
        if head.request_id:
            question.request_id = self._ids.choose(head.request_id.decode("latin-1"))
        if head.timeout:
            question.deadline = deadline_of(head.timeout, question.started or perf_counter())
        asked.name, asked.pin, question.parameters = head.address()
        if self._keys is not None:
            self._keys.check(head.headers)
        if head.method != "POST":
            raise MethodError(head.method, "POST")

    async def _read_and_infer(self, request: Request, asked: _Asked) -> Answer:
        question, limit = asked.question, self._runtime.settings.max_body_bytes
        question.body = request.body
        if question.body:
            limit_body(len(question.body), limit)
        else:
            question.body = await read_body(request.receive, request.head.length, limit)
            question.receive = request.receive
        if question.encoding:
            question.inflater = self._inflater
        return await infer(self._runtime, asked.name, asked.pin, question)

    def _answered(self, question: Question, head: Head, answer: Answer) -> Response:
        headers = [
            (b"content-type", answer.content_type),
            (b"content-length", str(len(answer.body)).encode()),
            (b"x-request-id", question.request_id.encode()),
            NOSNIFF,
            *answer.headers,
        ]
        if head.details == b"1" or self._runtime.settings.response_details:
            headers += details(answer)
        headers += self._last_headers(question)
        return 200, headers, answer.body

    def _refused(self, asked: _Asked, head: Head, error: Exception) -> Response:
        question = asked.question
        response = head.protocol.problem(error, question.request_id)
        count_refusal(self._runtime, error, question, asked.name, asked.served, status=response[0])
        response[1].extend(self._last_headers(question))
        return response

    def _last_headers(self, question: Question) -> list[tuple[bytes, bytes]]:
        """What every response of a prediction ends with."""
        headers = []
        if question.trace is not None:
            headers.append((RESPONSE_HEADER, question.trace.response))
        if self._runtime.draining:
            # So that no client sends its next request on a connection that is about to close.
            headers.append((b"connection", b"close"))
        return headers


def _nothing() -> None:
    """There is nothing to end."""
