"""One batch: pieces of requests that go through the engine together. Of a batch that fails, only the one to blame does.

A failing batch is halved until the failing request is alone: for one of n, that is at most 2 log2(n) + 1 runs, of at
most three times the rows.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.engines import Engine
from models.errors import EngineError

logger = logging.getLogger(__name__)

BatchListener = Callable[[NDArray[Any], NDArray[np.float32], float], None]
"""Called with rows, outputs, all of them finite, and the engine's seconds of each run, in the thread that it ran in."""
BatchListeners = tuple[BatchListener, ...]


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


class Waiter(Protocol):
    """Who waits for a result: a future, or what needs no task of asyncio's to go on. None of these may raise."""

    def done(self) -> bool:
        """Whether nobody waits any more."""

    def set_result(self, result: Result, /) -> None:
        """Give it."""

    def set_exception(self, error: Exception, /) -> None:
        """Say why there is none."""


@dataclass(slots=True, eq=False)
class Job:
    """One request's rows on their way through one or more batches.

    Attributes:
        rows: All of them.
        waiter: Who waits for them.
        submitted: When, `time.perf_counter` seconds.
        deadline: When an answer is of no use any more, likewise.
        trial: Whether somebody only tries the model: nobody looks on.
        timer: Rings at the deadline.
        taken: How many of the rows are in a batch already, or need not be in one any more.
    """

    rows: NDArray[Any]
    waiter: Waiter
    submitted: float
    deadline: float | None = None
    trial: bool = False
    timer: asyncio.TimerHandle | None = None
    taken: int = 0
    outputs: NDArray[np.float32] | None = None
    finished: int = 0
    queue_s: float = 0.0
    infer_s: float = 0.0

    def add(self, piece: "Piece", seconds: float, batch_rows: int) -> Result | None:
        """Take in the outputs of one batch; the last one makes the result."""
        assert piece.outputs is not None  # noqa: S101 - a piece has outputs or an error
        count = len(piece.rows)
        if count == len(self.rows):
            return Result(piece.outputs, self.queue_s, seconds, batch_rows)
        if self.outputs is None:
            self.outputs = np.empty((len(self.rows), *piece.outputs.shape[1:]), piece.outputs.dtype)
        # By place: of two batches in flight the second may end first.
        self.outputs[piece.start : piece.start + count] = piece.outputs
        self.finished += count
        self.infer_s += seconds
        return Result(self.outputs, self.queue_s, self.infer_s, batch_rows) if self.finished == len(self.rows) else None

    def answer(self, result: Result) -> None:
        """Give the result to who waits for it."""
        if self.timer is not None:
            self.timer.cancel()
        self.waiter.set_result(result)

    def fail(self, error: Exception) -> None:
        """Tell who waits that there is no result."""
        if self.timer is not None:
            self.timer.cancel()
        self.waiter.set_exception(error)


@dataclass(slots=True, eq=False)
class Piece:
    """The rows of one job that are in one batch; with outputs or an error once that has run."""

    job: Job
    start: int
    rows: NDArray[Any]
    outputs: NDArray[np.float32] | None = None
    error: EngineError | None = None


def run(engine: Engine, name: str, pieces: list[Piece], listeners: BatchListeners) -> Exception | None:
    """Run the pieces in one batch, and give each its outputs; what went wrong, if anything did for the whole batch."""
    started = perf_counter()
    try:
        rows = pieces[0].rows if len(pieces) == 1 else np.concatenate([piece.rows for piece in pieces])
        outputs = engine.run(rows)
        if len(outputs) != len(rows):
            return EngineError(f"{name}: {len(rows)} rows went in, {len(outputs)} came out.")
        _hand_out(name, pieces, rows, outputs, perf_counter() - started, listeners)
    except Exception as error:
        # Also where memory runs out beside the engine: nobody is left without an answer.
        return error
    return None


def _hand_out(  # noqa: PLR0917 - what a run is
    name: str,
    pieces: list[Piece],
    rows: NDArray[Any],
    outputs: NDArray[np.float32],
    seconds: float,
    listeners: BatchListeners,
) -> None:
    """Show what was computed to the listeners, and give each piece its part."""
    all_finite = bool(np.isfinite(outputs).all())
    seen: NDArray[np.bool_] | None = None
    if not all_finite:
        # Such an answer reaches nobody.
        seen = np.asarray(np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1))
    if True in [piece.job.trial for piece in pieces]:
        real = np.repeat([not piece.job.trial for piece in pieces], [len(piece.rows) for piece in pieces])
        seen = real if seen is None else seen & real
    if seen is None or seen.any():
        for listener in listeners:
            listener(rows if seen is None else rows[seen], outputs if seen is None else outputs[seen], seconds)
    start = 0
    for piece in pieces:
        piece.outputs = outputs[start : start + len(piece.rows)]
        start += len(piece.rows)
        if not all_finite and not np.isfinite(piece.outputs).all():
            logger.error("%s answered with a number that is not finite", name)
            piece.error = EngineError(f"{name}: an output is not a finite number.")


def blame(engine: Engine, name: str, pieces: list[Piece], error: Exception, listeners: BatchListeners = ()) -> None:
    """Find out whom ``error`` is to be blamed on: the others among ``pieces`` get their outputs."""
    # Once a batch: were every request to fail, a traceback for each would fill the log.
    rows = sum(len(piece.rows) for piece in pieces)
    logger.error("%s failed on %d rows of %d requests", name, rows, len(pieces), exc_info=error)
    _halve(engine, name, pieces, error, listeners)


def _halve(engine: Engine, name: str, pieces: list[Piece], error: Exception, listeners: BatchListeners) -> None:
    if len(pieces) == 1:
        pieces[0].error = error if isinstance(error, EngineError) else EngineError(f"{name}: {error}")
        return
    middle = len(pieces) // 2
    for half in (pieces[:middle], pieces[middle:]):
        failed = run(engine, name, half, listeners)
        if failed is not None:
            _halve(engine, name, half, failed, listeners)
