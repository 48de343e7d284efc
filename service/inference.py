"""From a question to an answer, whatever the protocol: choose the version, decode, batch, encode."""

import logging
from collections.abc import Awaitable, Callable
from time import perf_counter

from service.batch import Job, Result
from service.decode.inflate import Inflater
from service.disconnects import WATCHED_S, unless_disconnected
from service.errors import NotReadyError
from service.protocols.base import Answer, Decoded, HttpProtocol, Pin, Question
from service.runtime import Runtime
from service.served import Served
from service.settings import Settings

logger = logging.getLogger(__name__)


def admit(runtime: Runtime, name: str, pin: Pin | None) -> Served:
    """The version that would answer now; refuses before anything of the body is decoded.

    Raises:
        UnknownModelError: No such model or version.
        NotReadyError: It is not loaded (yet), or the server is being stopped.
        QueueFullError: Not one more row fits into its queue, or would wait for too long.
    """
    if runtime.stopping:
        raise NotReadyError("This server is being stopped. Send the request again, on a new connection.")
    served = runtime.loader.find(name, pin)
    served.batcher.refuse_if_full()
    return served


async def admit_when_ready(runtime: Runtime, name: str, pin: Pin | None) -> Served:
    """The same, in a worker that may have just started.

    Raises:
        ServingError: As `admit`.
    """
    if not runtime.loader.ready and not runtime.stopping:
        # A worker in the place of a killed one gets its share of the connections at once.
        await runtime.loader.first_pass()
    return admit(runtime, name, pin)


async def infer(runtime: Runtime, name: str, pin: Pin | None, question: Question) -> Answer:
    """The answer of the version that is to give it: the pinned one, or production or its canary.

    Raises:
        ServingError: The version is gone, or as `respond`.
    """
    question.picture_decoder, question.one_thread = runtime.picture_decoder, runtime.one_thread
    # Looked up again: another version may have taken over while the body came in.
    served = runtime.loader.find(name, pin)
    if served.split is None or pin is not None:
        answer = await respond(served, question, runtime.settings)
    else:

        def ask(version: Served, share: float) -> Awaitable[Answer]:
            return respond(version, question, runtime.settings, share)

        answer = await served.split.answer(question.headers, ask, question.deadline)
    if runtime.observer is not None:
        runtime.observer.ended(question, name, 200, answer)
    return answer


async def respond(served: Served, question: Question, settings: Settings, share: float = 1.0) -> Answer:
    """Decode, batch, encode: the answer of one version, which is held until it is given.

    Args:
        served: The version.
        question: The whole request.
        settings: Of the service.
        share: Of the time from now to the question's deadline, what this version has. To be taken once the body is
            decoded: a deadline may be in it.

    Raises:
        ServingError: The body cannot be read, a value breaks the schema, the queue is full, the engine failed, or
            the question's deadline passed.
        ClientDisconnectError: The sender left.
    """
    served.users += 1
    began = perf_counter()
    try:
        # The queue may have filled up while the body came in.
        served.batcher.refuse_if_full()
        if question.inflater is None:
            decoded = await question.protocol.decode(served.manifest, question, settings)
        else:
            decoded = await _inflate_and_decode(served, question, question.inflater, settings)
        decoded_at = perf_counter()
        deadline = question.deadline
        if deadline is not None:
            deadline = began + (deadline - began) * share
        submitted = served.batcher.submit(decoded.rows, deadline, trial=decoded.trial)
        if question.receive is None or served.batcher.expect(len(decoded.rows)) < WATCHED_S:
            result = await submitted
        else:
            result = await unless_disconnected(question.receive, submitted)
    except Exception:
        served.statistics.failed(perf_counter() - began)
        raise
    finally:
        served.users -= 1
    return _conclude(served, question, decoded, result, began, decoded_at)


def _conclude(  # noqa: PLR0917 - what an answer is made of
    served: Served, question: Question, decoded: Decoded, result: Result, began: float, decoded_at: float
) -> Answer:
    """Encode, count, and tell who listens."""
    protocol, manifest = question.protocol, served.manifest
    served.metrics.predicted(manifest.task, result.outputs)
    encoding = perf_counter()
    answer = protocol.encode(manifest, question, decoded, result.outputs)
    now = perf_counter()
    for listener in served.listeners:
        listener(served, question, decoded, result.outputs)
    answer.version = manifest.version
    answer.batch_rows = result.batch_rows
    answer.decode_s, answer.queue_s = decoded_at - began, result.queue_s
    answer.infer_s, answer.encode_s = result.infer_s, now - encoding
    served.statistics.answered(len(decoded.rows), now - (question.started or began), answer)
    if question.started is not None:
        served.metrics.answered(
            protocol.ROUTE, now - question.started, answer.decode_s, answer.queue_s, answer.encode_s
        )
    return answer


class DirectAnswer:
    """The answer of one version without a task: decoded at once, and encoded where its batch ends.

    Args:
        served: The version, which is held until the answer is given.
        question: The whole request.
        then: Called once with the answer, or with what went wrong; not if `cancel` was called.
    """

    __slots__ = ("_began", "_decoded", "_decoded_at", "_done", "_job", "_question", "_served", "_then")

    def __init__(self, served: Served, question: Question, then: Callable[[Answer | Exception], None]) -> None:
        self._served, self._question, self._then = served, question, then
        self._done = False
        self._began = perf_counter()

    def begin(self, protocol: HttpProtocol, settings: Settings) -> bool:
        """Decode, and queue the rows; whether this is such a request that nothing need be awaited for.

        Raises:
            ServingError: As `respond`, as far as that is known now.
        """
        served, question = self._served, self._question
        try:
            decoded = protocol.decode_at_once(served.manifest, question, settings)
            if decoded is None:
                return False
            self._decoded, self._decoded_at = decoded, perf_counter()
            self._job: Job = served.batcher.enqueue(decoded.rows, self, question.deadline, trial=decoded.trial)
        except Exception:
            served.statistics.failed(perf_counter() - self._began)
            raise
        served.users += 1
        return True

    def cancel(self) -> bool:
        """Let the rows not be computed, if that is not too late; whether it was not."""
        if self._done:
            return False
        self._served.batcher.withdraw(self._job)
        self._end()
        # The job holds this until its turn comes: nothing of the request need wait for that.
        del self._then, self._question, self._decoded
        return True

    def done(self) -> bool:
        """See `service.batch.Waiter`, as for the following."""
        return self._done

    def set_result(self, result: Result) -> None:
        """Go on to the end."""
        self._end()
        outcome: Answer | Exception
        try:
            outcome = _conclude(self._served, self._question, self._decoded, result, self._began, self._decoded_at)
        except Exception as error:
            # Such as an output that a client asked for and that does not exist.
            outcome = error
        self._tell(outcome)

    def set_exception(self, error: Exception) -> None:
        """End without an answer."""
        self._end()
        self._served.statistics.failed(perf_counter() - self._began)
        self._tell(error)

    def _tell(self, outcome: Answer | Exception) -> None:
        try:
            self._then(outcome)
        except Exception:
            # The others of the batch get their answers all the same.
            logger.exception("an answer of %s was not taken", self._served.manifest.name)

    def _end(self) -> None:
        self._done = True
        # It holds this too: what goes in circles waits for the garbage collector, which stops everything to look.
        del self._job
        self._served.users -= 1


async def _inflate_and_decode(served: Served, question: Question, inflater: Inflater, settings: Settings) -> Decoded:
    """The inflated body is there while it is decoded, and not while its rows wait in the queue."""
    compressed = question.body
    async with inflater.inflated(compressed, question.encoding) as body:
        question.body = body
        try:
            decoded = await question.protocol.decode(served.manifest, question, settings)
        finally:
            # Where a candidate fails, production is asked the same.
            question.body = compressed
    if not decoded.rows.flags.owndata:
        # Rows that are a part of the body keep all of it.
        decoded.rows = decoded.rows.copy()
    return decoded
