"""Row-aware micro-batching: greedy, bounded, cancellable, and one bad row fails alone.

An idle engine starts at once with whatever is queued; what arrives meanwhile forms the next batch. There is no timer,
so a lone request waits for nobody. Batches expected to be short run on the event loop (a thread hop costs more than
they do), longer ones in a thread.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.engines import Engine
from models.errors import EngineError
from service.errors import DeadlineError, QueueFullError

logger = logging.getLogger(__name__)

Tap = Callable[[NDArray[Any], NDArray[np.float32], float], None]


@dataclass(slots=True, eq=False)
class Result:
    """What became of one request's rows.

    Attributes:
        outputs: In the order of the rows.
        queue_s: Seconds that the first of them waited.
        infer_s: The engine's seconds for the batches that they were in.
        batch_rows: Rows in the last of these batches.
    """

    outputs: NDArray[np.float32]
    queue_s: float
    infer_s: float
    batch_rows: int


@dataclass(slots=True, eq=False)
class _Job:
    """One request's rows on their way through one or more batches."""

    rows: NDArray[Any]
    result: asyncio.Future[Result]
    submitted: float
    deadline: float | None = None
    taken: int = 0
    outputs: NDArray[np.float32] | None = None
    finished: int = 0
    queue_s: float = 0.0
    infer_s: float = 0.0


@dataclass(slots=True, eq=False)
class _Piece:
    """The rows of one job that are in one batch."""

    job: _Job
    start: int
    rows: NDArray[Any]
    outputs: NDArray[np.float32] | None = None
    error: EngineError | None = None


class Batcher:
    """The queue of one loaded model.

    Args:
        name: Model name, for errors.
        engine: Runs the batches.
        max_batch_rows: Largest batch.
        max_queue_rows: Rows that may wait; `submit` refuses more.
        inline_rows: Batches of up to this many rows run on the event loop.
        seconds_per_row: First estimate, for Retry-After; then measured.
        on_batch: Called with rows and engine seconds of each batch.

    Attributes:
        queued_rows: Rows that wait.
        inline_rows: As given; it may be changed at any time.
        on_batch: As given; it may be changed at any time.
        taps: Called with rows, outputs and the engine's seconds of each batch that succeeded, wherever it ran. Each
            must be quick and must not raise.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        inline_rows: int = 0,
        seconds_per_row: float = 0.001,
        on_batch: Callable[[int, float], None] | None = None,
    ) -> None:
        self._name = name
        self._engine = engine
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self.inline_rows = inline_rows if engine.in_flight == 1 else 0
        self._seconds_per_row = seconds_per_row
        self.on_batch = on_batch
        self.taps: tuple[Tap, ...] = ()
        self._jobs: deque[_Job] = deque()
        self._scheduled = False
        self._running = 0
        self._threads: ThreadPoolExecutor | None = None
        self.queued_rows = 0

    @property
    def retry_after(self) -> float:
        """Seconds in which the engine works off what is queued now, as measured."""
        return self.queued_rows * self._seconds_per_row

    def refuse_if_full(self) -> None:
        """Refuse a request of unknown size before its body is decoded.

        Raises:
            QueueFullError: Not even one more row fits.
        """
        if self.queued_rows >= self._max_queue_rows:
            raise QueueFullError(self._name, self.retry_after)

    async def submit(self, rows: NDArray[Any], deadline: float | None = None) -> Result:
        """Outputs for ``rows``, in their order, and how they came about.

        Cancelling the call takes rows out that are not being computed yet, and so does the deadline.

        Args:
            rows: Shape ``(n, *input_shape)``.
            deadline: When an answer is of no use any more, `time.perf_counter` seconds.

        Raises:
            DeadlineError: It passed; at once, though a batch with some of the rows may still be running.
            QueueFullError: The rows do not fit into the queue.
            EngineError: The engine fails on these very rows, or answers with a number that is not finite.
        """
        count = len(rows)
        if self.queued_rows + count > self._max_queue_rows:
            raise QueueFullError(self._name, self.retry_after)
        loop = asyncio.get_running_loop()
        job = _Job(rows, loop.create_future(), perf_counter(), deadline)
        if deadline is not None:
            if deadline <= job.submitted:
                raise DeadlineError
            timer = loop.call_later(deadline - job.submitted, self._expire, job)
            job.result.add_done_callback(lambda _: timer.cancel())
        self._jobs.append(job)
        self.queued_rows += count
        self._schedule(loop)
        try:
            return await job.result
        except asyncio.CancelledError:
            self._forget(job)
            raise

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Dispatch once the requests that are being read in this turn of the loop have queued their rows too."""
        if not self._scheduled and self._jobs and self._running < self._engine.in_flight:
            self._scheduled = True
            loop.call_soon(self._dispatch, loop)

    def _expire(self, job: _Job) -> None:
        if not job.result.done():
            job.result.set_exception(DeadlineError())
            self._forget(job)

    def _forget(self, job: _Job) -> None:
        if job in self._jobs:
            self._jobs.remove(job)
            self.queued_rows -= len(job.rows) - job.taken

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> None:
        self._scheduled = False
        while self._jobs and self._running < self._engine.in_flight:
            pieces, count = self._take()
            if count <= self.inline_rows:
                self._finish(pieces, self._compute(pieces))
                # One batch a turn, so that the answers go out and new requests come in before the next.
                break
            self._running += 1
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self._engine.in_flight, thread_name_prefix=f"engine-{self._name}")
            future = loop.run_in_executor(self._threads, self._compute, pieces)
            future.add_done_callback(lambda done, pieces=pieces: self._finish_threaded(loop, pieces, done))  # type: ignore[misc]
        self._schedule(loop)

    def _take(self) -> tuple[list[_Piece], int]:
        """The rows at the head of the queue, as many as a batch holds, and how many they are."""
        pieces: list[_Piece] = []
        room = self._max_batch_rows
        now = perf_counter()
        while self._jobs and room:
            job = self._jobs[0]
            if job.deadline is not None and job.deadline <= now:
                # The loop was busy: its timer is late.
                self._expire(job)
                continue
            rows = job.rows if not job.taken and len(job.rows) <= room else job.rows[job.taken : job.taken + room]
            start = job.taken
            if not start:
                job.queue_s = now - job.submitted
            job.taken += len(rows)
            if job.taken == len(job.rows):
                self._jobs.popleft()
            self.queued_rows -= len(rows)
            room -= len(rows)
            pieces.append(_Piece(job, start, rows))
        return pieces, self._max_batch_rows - room

    def _compute(self, pieces: list[_Piece]) -> float:
        """Fill in each piece's outputs or error; return the engine's seconds. Runs on the loop or in a thread."""
        started = perf_counter()
        try:
            rows = pieces[0].rows if len(pieces) == 1 else np.concatenate([piece.rows for piece in pieces])
            outputs = self._engine.run(rows)
            if len(outputs) != len(rows):
                raise EngineError(f"{self._name}: {len(rows)} rows went in, {len(outputs)} came out.")  # noqa: TRY301
        except Exception as error:
            if len(pieces) > 1:
                # Halve until the failing request is alone: its neighbours get their answers.
                middle = len(pieces) // 2
                self._compute(pieces[:middle])
                self._compute(pieces[middle:])
            else:
                logger.exception("%s failed on %d rows", self._name, len(pieces[0].rows))
                pieces[0].error = error if isinstance(error, EngineError) else EngineError(f"{self._name}: {error}")
        else:
            for tap in self.taps:
                tap(rows, outputs, perf_counter() - started)
            all_finite = bool(np.isfinite(outputs).all())
            start = 0
            for piece in pieces:
                piece.outputs = outputs[start : start + len(piece.rows)]
                start += len(piece.rows)
                if not all_finite and not np.isfinite(piece.outputs).all():
                    logger.error("%s answered with a number that is not finite", self._name)
                    piece.error = EngineError(f"{self._name}: an output is not a finite number.")
        return perf_counter() - started

    def _finish_threaded(
        self, loop: asyncio.AbstractEventLoop, pieces: list[_Piece], done: asyncio.Future[float]
    ) -> None:
        self._running -= 1
        self._finish(pieces, done.result())
        self._schedule(loop)

    def _finish(self, pieces: list[_Piece], seconds: float) -> None:
        """Hand out what was computed."""
        batch_rows = sum(len(piece.rows) for piece in pieces)
        for piece in pieces:
            job = piece.job
            if job.result.done():
                continue
            if piece.error is not None:
                job.result.set_exception(piece.error)
                self._forget(job)
                continue
            assert piece.outputs is not None  # noqa: S101 - _compute sets one or the other
            job.finished += len(piece.rows)
            job.infer_s += seconds
            if len(piece.rows) == len(job.rows):
                job.result.set_result(Result(piece.outputs, job.queue_s, seconds, batch_rows))
                continue
            if job.outputs is None:
                job.outputs = np.empty((len(job.rows), *piece.outputs.shape[1:]), piece.outputs.dtype)
            # By place: of two batches in flight the second may end first.
            job.outputs[piece.start : piece.start + len(piece.rows)] = piece.outputs
            if job.finished == len(job.rows):
                job.result.set_result(Result(job.outputs, job.queue_s, job.infer_s, batch_rows))
        # Exponential moving average over about ten batches.
        self._seconds_per_row += 0.1 * (seconds / batch_rows - self._seconds_per_row)
        if self.on_batch is not None:
            self.on_batch(batch_rows, seconds)

    async def close(self) -> None:
        """Wait until everything submitted is answered, then end the threads."""
        while self._jobs or self._running:  # noqa: ASYNC110 - once a version's life
            await asyncio.sleep(0.005)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
