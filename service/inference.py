"""From a question to an answer, whatever the protocol: choose the version, decode, batch, encode."""

from collections.abc import Awaitable
from time import perf_counter

from service.decode.inflate import Inflater
from service.errors import NotReadyError
from service.leaving import WATCHED_S, unless_left
from service.protocols.base import Answer, Decoded, Pin, Question
from service.runtime import Runtime
from service.served import Served
from service.settings import Settings


async def admit(runtime: Runtime, name: str, pin: Pin | None) -> Served:
    """The version that would answer now; refuses before anything of the body is decoded.

    Raises:
        UnknownModelError: No such model or version.
        NotReadyError: It is not loaded (yet), or the server is being stopped.
        QueueFullError: Not one more row fits into its queue, or would wait for too long.
    """
    if runtime.stopping:
        raise NotReadyError("This server is being stopped. Send the request again, on a new connection.")
    if not runtime.loader.ready:
        # A worker in the place of a killed one gets its share of the connections at once.
        await runtime.loader.first_pass()
    served = runtime.loader.find(name, pin)
    served.batcher.refuse_if_full()
    return served


async def infer(runtime: Runtime, name: str, pin: Pin | None, question: Question) -> Answer:
    """The answer of the version that is to give it: the pinned one, or production or its canary.

    Raises:
        ServingError: The version is gone, or as `respond`.
    """
    question.darkroom, question.one_thread = runtime.darkroom, runtime.one_thread
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
    protocol, manifest = question.protocol, served.manifest
    served.users += 1
    decoding = perf_counter()
    try:
        # The queue may have filled up while the body came in.
        served.batcher.refuse_if_full()
        if question.inflater is None:
            decoded = await protocol.decode(manifest, question, settings)
        else:
            decoded = await _inflate_and_decode(served, question, question.inflater, settings)
        decoded_at = perf_counter()
        deadline = question.deadline
        if deadline is not None:
            deadline = decoding + (deadline - decoding) * share
        submitted = served.batcher.submit(decoded.rows, deadline, trial=decoded.trial)
        if question.receive is None or served.batcher.expect(len(decoded.rows)) < WATCHED_S:
            result = await submitted
        else:
            result = await unless_left(question.receive, submitted)
    except Exception:
        served.statistics.failed(perf_counter() - decoding)
        raise
    finally:
        served.users -= 1
    served.metrics.predicted(manifest.task, result.outputs)
    encoding = perf_counter()
    answer = protocol.encode(manifest, question, decoded, result.outputs)
    now = perf_counter()
    for listener in served.listeners:
        listener(served, question, decoded, result.outputs)
    answer.version = manifest.version
    answer.batch_rows = result.batch_rows
    answer.decode_s, answer.queue_s = decoded_at - decoding, result.queue_s
    answer.infer_s, answer.encode_s = result.infer_s, now - encoding
    served.statistics.answered(len(decoded.rows), now - (question.started or decoding), answer)
    if question.started is not None:
        served.metrics.answered(
            protocol.ROUTE, now - question.started, answer.decode_s, answer.queue_s, answer.encode_s
        )
    return answer


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
