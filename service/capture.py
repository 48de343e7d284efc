"""A share of the requests with their answers, and what turned out to be true of them, in Parquet files. Off by default.

A request that is chosen is copied into a list; a thread writes what lies there into files of this worker's own,
complete before they have their name, and deletes the oldest ones beyond the limits of size and age. Values only: no
header, no key, no address of a client.
"""

import asyncio
import contextlib
import json
import logging
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.captured import ALIAS, REQUEST_ID, ROW, TASK, TIME, TRUTH, VERSION, input_columns, output_columns
from models.manifest import Manifest
from service.metrics import Metrics
from service.protocols.base import Decoded, Question
from service.served import Served
from service.settings import Settings
from service.truth import Feedback

logger = logging.getLogger(__name__)

ROWS_FILES, TRUTH_FILES = "rows", "truth"
# What waits for the thread in one worker. Bytes, and truths.
_MOST_BYTES = 64 * 1024 * 1024
_MOST_TRUTHS = 100_000
_HOUR_S = 3600


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    """One request that is to be written."""

    request_id: str
    time: float
    manifest: Manifest
    role: str
    rows: NDArray[Any]
    outputs: NDArray[np.float32]


class Capture:
    """What one worker captures.

    Args:
        settings: Share, folder and limits.
        metrics: Where captured rows are counted.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings, self._metrics = settings, metrics
        self._folder = capture_folder(settings)
        self._choose = random.Random().random  # noqa: S311 - a sample, no secret
        self._taken: list[_Taken] = []
        self._bytes = 0
        self._truths: list[tuple[str, Feedback]] = []
        self._name = f"{os.getpid()}-{os.urandom(3).hex()}"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="capture")
        self._task: asyncio.Task[None] | None = None

    def take(self, served: Served, question: Question, decoded: Decoded, outputs: NDArray[np.float32]) -> None:
        """Called after each answer."""
        if decoded.trial or self._choose() >= self._settings.capture_share:
            return
        rows = decoded.rows
        if self._bytes + rows.nbytes > _MOST_BYTES:
            self._metrics.captured.labels(served.manifest.name, "dropped").inc(len(rows))
            return
        self._bytes += rows.nbytes
        # Copies: what a view belongs to may be a whole body or batch.
        taken = _Taken(question.request_id, time.time(), served.manifest, served.role, rows.copy(), outputs.copy())
        self._taken.append(taken)

    def learn(self, model: str, told: Feedback) -> None:
        """Called with what turned out to be true."""
        if len(self._truths) < _MOST_TRUTHS:
            self._truths.append((model, told))

    def start(self) -> None:
        """Begin to write now and then; returns at once."""
        self._task = asyncio.get_running_loop().create_task(self._run(), name="capture")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._settings.capture_flush_s)
            await self.flush()

    async def flush(self) -> None:
        """Write what was taken."""
        taken, self._taken, self._bytes = self._taken, [], 0
        truths, self._truths = self._truths, []
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._write, taken, truths)
        except Exception:
            # Nothing here may hurt a prediction.
            logger.exception("what was captured is lost")

    async def close(self) -> None:
        """Write the rest, and end the thread."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await self.flush()
        self._thread.shutdown(wait=False)

    def _write(self, taken: list[_Taken], truths: list[tuple[str, Feedback]]) -> None:
        versions: dict[tuple[str, str], list[_Taken]] = {}
        for one in taken:
            versions.setdefault((one.manifest.name, one.manifest.version), []).append(one)
        for (model, _), some in versions.items():
            task = some[0].manifest.task
            columns = input_columns(task, np.concatenate([one.rows for one in some])) | _about(some)
            columns |= output_columns(task, np.concatenate([one.outputs for one in some]))
            written = self._try_to_write(model, ROWS_FILES, columns, {TASK: task.model_dump_json().encode()})
            self._metrics.captured.labels(model, "written" if written else "dropped").inc(len(columns[ROW]))
        for model in {model for model, _ in truths}:
            told = [each for name, each in truths if name == model]
            columns = {
                REQUEST_ID: [each.request_id for each in told],
                ROW: [each.row for each in told],
                TRUTH: [json.dumps(each.label if each.label is not None else each.value) for each in told],
            }
            self._try_to_write(model, TRUTH_FILES, columns, {})
        if versions or truths:
            self._prune()

    def _try_to_write(self, model: str, kind: str, columns: dict[str, list[Any]], metadata: dict[bytes, bytes]) -> bool:
        """Write a file; where the disk takes none, that is logged, and false is the answer."""
        try:
            self._write_file(model, kind, columns, metadata)
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            logger.error(  # noqa: TRY400
                "what was captured of %s is lost: %s. Check the volume's space and permissions.", model, reason
            )
            return False
        return True

    def _write_file(self, model: str, kind: str, columns: dict[str, list[Any]], metadata: dict[bytes, bytes]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder = self._folder / model
        folder.mkdir(parents=True, exist_ok=True)
        table = pa.table(columns).replace_schema_metadata(metadata)
        path = folder / f"{kind}-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{self._name}.parquet"
        temporary = path.with_name(f".{path.name}")
        try:
            pq.write_table(table, temporary, compression="zstd")
            temporary.replace(path)
        except OSError:
            # Half of it would only fill the disk more.
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise

    def _prune(self) -> None:
        """Delete what is too old, and the oldest files until the rest is small enough; other workers do so too."""
        found = []
        for path in self._folder.glob("*/*.parquet"):
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        found.sort(reverse=True)
        room = self._settings.capture_max_mb * 1024 * 1024
        oldest = time.time() - self._settings.capture_max_age_h * _HOUR_S
        for modified, size, path in found:
            room -= size
            if room < 0 or modified < oldest:
                path.unlink(missing_ok=True)


def capture_folder(settings: Settings) -> Path:
    """Where captured requests lie: a folder a model."""
    return settings.home / "captured"


def _about(some: list[_Taken]) -> dict[str, list[Any]]:
    """What is known of each row's request."""
    each = [(one, place) for one in some for place in range(len(one.rows))]
    return {
        REQUEST_ID: [one.request_id for one, _ in each],
        ROW: [place for _, place in each],
        TIME: [datetime.fromtimestamp(one.time, UTC) for one, _ in each],
        VERSION: [one.manifest.version for one, _ in each],
        ALIAS: [one.role for one, _ in each],
    }
