"""Row-aware micro-batching: greedy, bounded, fair, cancellable, and one bad row fails alone.

An idle engine starts at once with whatever is queued; what arrives meanwhile forms the next batch. There is no timer,
so a lone request waits for nobody. Batches expected to be short run on the event loop (a thread hop costs more than
they do), longer ones in a thread.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import perf_counter
from typing import Any

from numpy.typing import NDArray

from models.engines import Engine
from service.batch import BatchListeners, Job, Piece, Result, Waiter, blame, run
from service.batch_latency import BatchLatency
from service.errors import DeadlineError, QueueFullError
from service.scheduler import Scheduler

# Requests of a batch on the loop while another model is busy too: each takes the loop some 0.1 ms besides. With whole
# batches of 64 a flood of the dense network left four clients of the regressor a tenth of their requests a second.
_SHARED_REQUESTS = 8


class Batcher:
    """The queue of one loaded model.

    Args:
        name: Model name, for errors.
        engine: Runs the batches.
        max_batch_rows: Largest batch.
        max_queue_rows: Rows that may wait; `submit` refuses more.
        max_queue_s: Longest wait that is expected of a request; `submit` refuses it where that is longer. Seconds.
        inline_rows: Batches of up to this many rows run on the event loop.
        seconds_per_row: First estimate, for expected waits; then measured.
        seconds_per_batch: Likewise, what a batch costs besides.
        on_batch: Called with rows and engine seconds of each batch.
        scheduler: Shared by all the batchers of one event loop.

    Attributes:
        queued_rows: Rows that wait.
        inline_rows: As given; it may be changed at any time.
        on_batch: As given; it may be changed at any time.
        listeners: Called with rows, outputs and the engine's seconds of each batch that succeeded, wherever it ran;
            each must be quick and must not raise.
    """

    def __init__(
        self,
        name: str,
        engine: Engine,
        *,
        max_batch_rows: int,
        max_queue_rows: int,
        max_queue_s: float = float("inf"),
        inline_rows: int = 0,
        seconds_per_row: float = 0.001,
        seconds_per_batch: float = 0.0,
        on_batch: Callable[[int, float], None] | None = None,
        scheduler: Scheduler | None = None,
    ) -> None:
        self._name = name
        self._engine = engine
        self._max_batch_rows = max_batch_rows
        self._max_queue_rows = max_queue_rows
        self._max_queue_s = max_queue_s
        self.inline_rows = inline_rows if engine.in_flight == 1 else 0
        self.on_batch = on_batch
        self.listeners: BatchListeners = ()
        self._latency = BatchLatency(seconds_per_row, seconds_per_batch, max_batch_rows)
        self._scheduler = scheduler or Scheduler()
        self._jobs: deque[Job] = deque()
        self._scheduled = False
        self._running = 0
        self._busy_until = 0.0
        # When the last batch ended, and whether rows were left waiting then.
        self._ended, self._behind = 0.0, False
        self._threads: ThreadPoolExecutor | None = None
        self.queued_rows = 0
        # Rows that go before those of the next request: of each that waits at most one batch, then the next one's turn.
        self._ahead_rows = 0
        self._max_ahead_rows = max_queue_s / self._latency.full_row_s

    @property
    def retry_after(self) -> float:
        """Seconds in which the engine works off what is queued now, as measured."""
        return self._latency.expect(self.queued_rows)

    def expect(self, rows: int) -> float:
        """Seconds until ``rows`` that are submitted now will be answered, as measured."""
        running = max(0.0, self._busy_until - perf_counter()) if self._running else 0.0
        return running + self._latency.expect(self._ahead_rows + rows)

    def refuse_if_full(self) -> None:
        """Refuse a request of unknown size before its body is decoded.

        Raises:
            QueueFullError: Not even one more row fits, or it would wait for too long.
        """
        if self.queued_rows >= self._max_queue_rows or self._ahead_rows > self._max_ahead_rows:
            raise QueueFullError(self._name, self.retry_after)

    async def submit(self, rows: NDArray[Any], deadline: float | None = None, *, trial: bool = False) -> Result:
        """Outputs for ``rows``, in their order, and how they came about.

        Cancelling the call takes rows out that are not being computed yet, and so does the deadline.

        Args:
            rows: Shape ``(n, *input_shape)``.
            deadline: When an answer is of no use any more, `time.perf_counter` seconds.
            trial: Whether somebody only tries the model: neither drift nor a shadow sees the rows.

        Raises:
            DeadlineError: It passed; at once, though a batch with some of the rows may still be running.
            QueueFullError: The rows do not fit into the queue, or would wait for too long.
            EngineError: The engine fails on these very rows, or answers with a number that is not finite.
        """
        waiter: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        job = self.enqueue(rows, waiter, deadline, trial=trial)
        try:
            return await waiter
        except asyncio.CancelledError:
            self.withdraw(job)
            raise

    def enqueue(self, rows: NDArray[Any], waiter: Waiter, deadline: float | None = None, *, trial: bool = False) -> Job:
        """The same for who waits otherwise: `waiter` gets the outputs, or what went wrong later.

        Raises:
            DeadlineError: It has passed.
            QueueFullError: The rows do not fit into the queue, or would wait for too long.
        """
        count = len(rows)
        # Its own time does not count: any request that is allowed fits into an empty queue.
        if self.queued_rows + count > self._max_queue_rows or self._ahead_rows > self._max_ahead_rows:
            raise QueueFullError(self._name, self.retry_after)
        loop = asyncio.get_running_loop()
        job = Job(rows, waiter, perf_counter(), deadline, trial)
        if deadline is not None:
            if deadline <= job.submitted:
                raise DeadlineError
            job.timer = loop.call_later(deadline - job.submitted, self._expire, job)
        self._jobs.append(job)
        self.queued_rows += count
        self._ahead_rows += min(count, self._max_batch_rows)
        self._schedule(loop)
        return job

    def withdraw(self, job: Job) -> None:
        """Let no more rows of ``job`` be computed, since nobody waits for them; it goes when its turn comes."""
        if job.timer is not None:
            job.timer.cancel()
        self._forget(job)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled and self._jobs and self._running < self._engine.in_flight:
            self._scheduled = True
            self._scheduler.schedule(loop, self._dispatch)

    def _expire(self, job: Job) -> None:
        if not job.waiter.done():
            self._forget(job)
            job.fail(DeadlineError())

    def _forget(self, job: Job) -> None:
        left = len(job.rows) - job.taken
        job.taken = len(job.rows)
        self.queued_rows -= left
        self._ahead_rows -= min(left, self._max_batch_rows)

    def _dispatch(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Begin what can begin now; whether a batch ran on the loop."""
        self._scheduled = False
        inline = False
        while self._jobs and not inline and self._running < self._engine.in_flight:
            pieces, count = self._take()
            if not pieces:
                break
            inline = count <= self.inline_rows
            if not inline:
                self._begin(loop, pieces, partial(self._compute, pieces), self._latency.expect(count))
                continue
            started = perf_counter()
            error = run(self._engine, self._name, pieces, self.listeners)
            if error is not None:
                # Several runs may follow, so not on the loop.
                self._begin(loop, pieces, partial(self._blame, pieces, error, started), self._latency.expect(3 * count))
                continue
            self._finish(pieces, perf_counter() - started)
        self._schedule(loop)
        return inline

    def _take(self) -> tuple[list[Piece], int]:
        """The rows at the head of the queue, as many as a batch holds, and how many they are."""
        pieces: list[Piece] = []
        now = perf_counter()
        room = most = self._max_batch_rows
        many = _SHARED_REQUESTS if self.inline_rows >= _SHARED_REQUESTS and self._scheduler.is_contended(now) else most
        while self._jobs and room and len(pieces) < many:
            job = self._jobs[0]
            if job.deadline is not None and job.deadline <= now:
                # The loop was busy: its timer is late.
                self._expire(job)
            start, left = job.taken, len(job.rows) - job.taken
            if not left:
                self._jobs.popleft()
                continue
            count = min(left, room)
            rows = job.rows if count == len(job.rows) else job.rows[start : start + count]
            if not start:
                job.queue_s = now - job.submitted
            job.taken += count
            self._jobs.popleft()
            if count < left:
                # Behind those that came later: a long request holds up a short one for one batch at most.
                self._jobs.append(job)
            self.queued_rows -= count
            self._ahead_rows -= min(left, most) - min(left - count, most)
            room -= count
            pieces.append(Piece(job, start, rows))
        return pieces, most - room

    def _begin(
        self, loop: asyncio.AbstractEventLoop, pieces: list[Piece], work: Callable[[], float], expected_s: float
    ) -> None:
        """Let a thread do ``work`` on the pieces; it returns the engine's seconds."""
        self._running += 1
        self._busy_until = perf_counter() + expected_s
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._engine.in_flight, thread_name_prefix=f"engine-{self._name}")
        future = loop.run_in_executor(self._threads, work)
        future.add_done_callback(partial(self._end, loop, pieces))

    def _end(self, loop: asyncio.AbstractEventLoop, pieces: list[Piece], done: asyncio.Future[float]) -> None:
        self._running -= 1
        self._finish(pieces, done.result())
        self._schedule(loop)

    def _compute(self, pieces: list[Piece]) -> float:
        started = perf_counter()
        error = run(self._engine, self._name, pieces, self.listeners)
        return perf_counter() - started if error is None else self._blame(pieces, error, started)

    def _blame(self, pieces: list[Piece], error: Exception, started: float) -> float:
        blame(self._engine, self._name, pieces, error, self.listeners)
        return perf_counter() - started

    def _finish(self, pieces: list[Piece], seconds: float) -> None:
        """Hand out what was computed."""
        now = perf_counter()
        batch_rows = sum(len(piece.rows) for piece in pieces)
        failed = False
        for piece in pieces:
            job = piece.job
            if piece.error is not None:
                failed = True
            if job.waiter.done():
                continue
            error: Exception | None = piece.error
            if error is None:
                try:
                    result = job.add(piece, seconds, batch_rows)
                except Exception as unforeseen:
                    # Such as memory that runs out: everybody gets an answer.
                    error = unforeseen
                else:
                    if result is not None:
                        job.answer(result)
            if error is not None:
                self._forget(job)
                job.fail(error)
        if not failed:
            # Of rows that wait the next batch ends as long after this one: what the loop and other models do between
            # two batches counts, and so do turns with Python's lock.
            self._latency.took(batch_rows, max(seconds, now - self._ended) if self._behind else seconds)
            self._max_ahead_rows = self._max_queue_s / self._latency.full_row_s
        # Not whether jobs are left: those that expired wait for nothing.
        self._ended, self._behind = now, self.queued_rows > 0
        if self.on_batch is not None:
            self.on_batch(batch_rows, seconds)

    async def close(self) -> None:
        """Wait until everything submitted is answered, then end the threads."""
        while self._jobs or self._running:  # noqa: ASYNC110 - once a version's life
            await asyncio.sleep(0.005)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
