"""The last ten minutes of each model, summed over the workers, for the page at ``/``.

Each worker writes what it did in a slot of two seconds as one line to a file of its own, and nothing when it did
nothing. Whoever is asked reads on in the files of all, so that every worker tells the same, a worker that was killed
leaves its history behind, and nothing is computed while nobody looks.
"""

import contextlib
import logging
import math
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.metrics import SECONDS, Metrics

logger = logging.getLogger(__name__)

SLOT_S = 2
SLOTS = 300
"""Slots that are remembered: ten minutes."""
# A worker writes a slot up to half a second after its end, and may be late.
_LATE_SLOTS = 2

_BOUNDS = (*SECONDS, math.inf)
_PLACE = {bound: place for place, bound in enumerate(_BOUNDS)}
# Places in a slot's numbers: first a count for each bound of the latency histogram, then requests and errors a second,
# batches, rows in them, rows waiting.
_RATE, _ERRORS, _BATCHES, _ROWS, _QUEUE = range(len(_BOUNDS), len(_BOUNDS) + 5)
_WIDTH = _QUEUE + 1
_FIRST_ERROR = 400

Numbers = NDArray[np.float64]


def directory_of_workers() -> Path | None:
    """Folder that this server's workers share and that is emptied at its start; None outside of a server."""
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    return Path(folder) if folder else None


class LiveRecorder:
    """Writes what this worker does.

    Args:
        metrics: What it has counted.
        directory: Folder of all workers' files; None to write nothing.
    """

    def __init__(self, metrics: Metrics, directory: Path | None) -> None:
        self.directory = directory
        self._metrics = metrics
        self._path = directory / f"live_{os.getpid()}.jsonl" if directory else None
        self._slot, self._since = 0, time.time()
        self._counted: dict[str, Numbers] = {}
        self._versions: dict[str, str] = {}
        self._lines: list[bytes] = []
        self._lost = False

    def record(self, versions: Mapping[str, str], now: float | None = None) -> None:
        """Write a line if a slot is over; cheap otherwise, so call it often.

        Args:
            versions: Model -> the version that production's requests get.
            now: Seconds since the epoch; the present time if None.
        """
        now = time.time() if now is None else now
        slot = int(now // SLOT_S)
        if self._path is None or slot == self._slot:
            return
        counted = _counts(self._metrics)
        # Where the clock was set meanwhile, the difference is no duration.
        elapsed = now - self._since
        seconds = elapsed if 0 < elapsed < SLOTS * SLOT_S else SLOT_S
        models = {}
        for name, numbers in counted.items():
            done = numbers - self._counted.get(name, np.zeros(_WIDTH))
            done[[_RATE, _ERRORS]] /= seconds
            done[_QUEUE] = numbers[_QUEUE]
            if done.any():
                models[name] = [round(number, 3) for number in done.tolist()]
        # The versions that a worker begins with are no switch.
        switched = {name: version for name, version in versions.items() if self._versions.get(name, version) != version}
        self._slot, self._since, self._counted = slot, now, counted
        self._versions |= versions
        if models or switched:
            line = orjson.dumps({"slot": slot - 1, "models": models, "switched": switched}) + b"\n"
            try:
                self._write(self._path, line)
                self._lost = False
            except OSError as error:
                if not self._lost:
                    logger.warning("no history for the page: %s", error)
                self._lost = True

    def _write(self, path: Path, line: bytes) -> None:
        self._lines.append(line)
        # What was lost may have left half a line, which the next one would spoil.
        if len(self._lines) <= 2 * SLOTS and not self._lost:
            with path.open("ab") as file:
                file.write(line)
            return
        self._lines = self._lines[-SLOTS:]
        fresh = path.with_suffix(".new")
        fresh.write_bytes(b"".join(self._lines))
        fresh.replace(path)


def _counts(metrics: Metrics) -> dict[str, Numbers]:
    """Model -> what this worker alone has counted up to now."""
    found: dict[str, Numbers] = {}

    def of(sample: Any) -> Numbers:
        return found.setdefault(sample.labels["model"], np.zeros(_WIDTH))

    for sample in _samples(metrics.duration):
        if sample.name.endswith("_bucket"):
            of(sample)[_PLACE[float(sample.labels["le"])]] += sample.value
    for numbers in found.values():
        numbers[_RATE] = numbers[len(SECONDS)]
    for sample in _samples(metrics.requests):
        if sample.name.endswith("_total") and int(sample.labels["code"]) >= _FIRST_ERROR:
            of(sample)[_ERRORS] += sample.value
    for sample in _samples(metrics.batch_size):
        if sample.name.endswith("_count"):
            of(sample)[_BATCHES] += sample.value
        elif sample.name.endswith("_sum"):
            of(sample)[_ROWS] += sample.value
    for sample in _samples(metrics.queue_depth):
        of(sample)[_QUEUE] += sample.value
    # Requests that belong to no model.
    found.pop("", None)
    return found


def _samples(metric: Any) -> Iterable[Any]:
    return (sample for family in metric.collect() for sample in family.samples)


class History:
    """Reads what all workers did.

    Args:
        directory: Folder of their files; None for no history.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        # First line of each file, and how far it was read.
        self._read: dict[Path, tuple[bytes, int]] = {}
        self._parts: dict[Path, dict[int, dict[str, Numbers]]] = {}
        self._switches: dict[str, dict[int, str]] = {}

    def document(self, names: Iterable[str], since: int = 0, now: float | None = None) -> dict[str, Any]:
        """What is known of some models: columns by slot, only of slots in which something happened.

        Args:
            names: Of the models.
            since: First slot that is wanted; a client that asks again asks for the last few once more, as a worker may
                have been late.
            now: Seconds since the epoch; the present time if None.
        """
        slot = int((time.time() if now is None else now) // SLOT_S)
        self._read_on(slot - SLOTS)
        first, last = max(since, slot - SLOTS), slot - _LATE_SLOTS
        return {
            "slot": last,
            "slot_s": SLOT_S,
            "slots": SLOTS,
            "models": {name: self._columns(name, first, last) | self._switched(name, first) for name in names},
        }

    def _read_on(self, oldest: int) -> None:
        """Take in what was written since the last look, and forget what is too old."""
        for path in self._directory.glob("live_*.jsonl") if self._directory else ():
            try:
                with path.open("rb") as file:
                    first, offset = self._read.get(path, (b"", 0))
                    # A file that was written anew begins with a later slot; its inode may be one that it had before.
                    if (found := file.readline()) != first:
                        first, offset = found, 0
                        self._parts[path] = {}
                    file.seek(offset)
                    # The last line may be half written.
                    whole = file.read().rpartition(b"\n")[0]
            except FileNotFoundError:
                continue
            for line in whole.splitlines():
                # Half a line of a worker that was killed is spoilt where another one got its number.
                with contextlib.suppress(orjson.JSONDecodeError):
                    self._take(self._parts[path], orjson.loads(line))
            self._read[path] = first, offset + len(whole) + bool(whole)
        for part in self._parts.values():
            for slot in [slot for slot in part if slot < oldest]:
                del part[slot]
        for switches in self._switches.values():
            for slot in [slot for slot in switches if slot < oldest]:
                del switches[slot]

    def _take(self, part: dict[int, dict[str, Numbers]], line: dict[str, Any]) -> None:
        part[line["slot"]] = {name: np.array(numbers) for name, numbers in line["models"].items()}
        for name, version in line["switched"].items():
            self._switches.setdefault(name, {}).setdefault(line["slot"], version)

    def _columns(self, name: str, first: int, last: int) -> dict[str, Any]:
        summed: dict[int, Numbers] = {}
        for part in self._parts.values():
            for slot, models in part.items():
                if first <= slot <= last and name in models:
                    summed[slot] = summed[slot] + models[name] if slot in summed else models[name]
        slots = sorted(summed)
        table = np.array([summed[slot] for slot in slots]).reshape(-1, _WIDTH)
        cumulative = table[:, : len(_BOUNDS)]
        return {
            "slots": slots,
            "requests_per_s": table[:, _RATE].round(2).tolist(),
            "errors_per_s": table[:, _ERRORS].round(2).tolist(),
            "p50_ms": _quantile(cumulative, 0.5),
            "p99_ms": _quantile(cumulative, 0.99),
            "batch_rows": _known(table[:, _ROWS] / np.maximum(table[:, _BATCHES], 1), table[:, _BATCHES] > 0),
            "queue_rows": table[:, _QUEUE].tolist(),
        }

    def _switched(self, name: str, first: int) -> dict[str, Any]:
        """When production became another version, as the first worker saw it: slot and version."""
        switched: list[list[Any]] = []
        before = ""
        for slot, version in sorted(self._switches.get(name, {}).items()):
            if version != before:
                switched.append([slot, version])
            before = version
        return {"switched": [one for one in switched if one[0] >= first]}


def _quantile(cumulative: Numbers, share: float) -> list[float | None]:
    """A quantile in milliseconds a row, interpolated within its bucket as Prometheus does; None without requests."""
    if not len(cumulative):
        return []
    rank = cumulative[:, -1:] * share
    place = np.minimum((cumulative >= rank).argmax(axis=1), len(SECONDS) - 1)
    rows = np.arange(len(cumulative))
    edges = np.array([0.0, *SECONDS])
    below = np.where(place > 0, cumulative[rows, place - 1], 0.0)
    within = np.clip((rank[:, 0] - below) / np.maximum(cumulative[rows, place] - below, 1e-9), 0, 1)
    return _known(1000 * (edges[place] + within * (edges[place + 1] - edges[place])), cumulative[:, -1] > 0)


def _known(values: Numbers, known: NDArray[np.bool_]) -> list[float | None]:
    return [value if good else None for value, good in zip(values.round(3).tolist(), known.tolist(), strict=True)]
