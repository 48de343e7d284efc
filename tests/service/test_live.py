"""The last ten minutes: what each worker writes, and the sum that any of them tells."""

import asyncio
import json
import resource
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.live import _LATE_SLOTS, SLOT_S, SLOTS, History, LiveRecorder
from service.metrics import Metrics
from service.runtime import Runtime

START = 1_000_000 * SLOT_S
BEGAN = {"cars": "one"}


class Worker:
    """One worker's metrics and recorder, in a process that is told its time."""

    def __init__(self, directory: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("os.getpid", lambda: number)
        monkeypatch.setattr("time.time", lambda: float(START - SLOT_S))
        self.metrics = Metrics()
        self.recorder = LiveRecorder(self.metrics, directory)
        monkeypatch.undo()
        self.recorder.record(BEGAN, START)

    def works(self, slot: int, seconds: list[float], batches: tuple[int, ...] = (), errors: int = 0) -> None:
        """Answers for a slot, counted from the beginning, then writes."""
        model = self.metrics.model("cars")
        for duration in seconds:
            model.answered("/predict/{model}", duration, 0.0, 0.0, 0.0)
        for rows in batches:
            model.batch(rows, 0.001)
        for _ in range(errors):
            model.refused("/predict/{model}", 422, 0.001)
        self.metrics.flush()
        self.recorder.record(BEGAN, START + (slot + 1) * SLOT_S)


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(tmp_path, 1, monkeypatch)


def at(slot: int) -> float:
    """A time at which the slot is told."""
    return float(START + (slot + _LATE_SLOTS) * SLOT_S)


def slots_of(*slots: int) -> list[int]:
    return [START // SLOT_S + slot for slot in slots]


def test_a_slot_says_how_much_was_answered_how_fast_and_in_which_batches(worker: Worker, tmp_path: Path) -> None:
    worker.works(0, [0.0015] * 90 + [0.0400] * 10, batches=(60, 40), errors=4)
    found = History(tmp_path).document(["cars"], now=at(0))["models"]["cars"]
    assert found["slots"] == slots_of(0)
    assert found["requests_per_s"] == [104 / SLOT_S]
    assert found["errors_per_s"] == [4 / SLOT_S]
    assert 1.0 < found["p50_ms"][0] <= 2.0
    assert 25.0 < found["p99_ms"][0] <= 50.0
    assert found["batch_rows"] == [50.0]
    assert found["queue_rows"] == [0.0]


def test_workers_are_summed_and_a_dead_ones_history_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = Worker(tmp_path, 1, monkeypatch), Worker(tmp_path, 2, monkeypatch)
    one.works(0, [0.001] * 10)
    other.works(0, [0.200] * 10)
    one.works(1, [0.001] * 6)
    history = History(tmp_path)
    found = history.document(["cars"], now=at(1))["models"]["cars"]
    assert found["requests_per_s"] == [20 / SLOT_S, 6 / SLOT_S]
    # The slower worker's requests decide the upper end of the slot that they are in.
    assert found["p99_ms"][0] > 100 > found["p99_ms"][1]


def test_a_look_reads_on_where_the_last_one_ended_and_leaves_half_a_line(worker: Worker, tmp_path: Path) -> None:
    history = History(tmp_path)
    worker.works(0, [0.001])
    assert history.document(["cars"], now=at(0))["models"]["cars"]["slots"] == slots_of(0)
    worker.works(1, [0.001] * 2)
    (file,) = tmp_path.glob("live_*.jsonl")
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    assert history.document(["cars"], now=at(1))["models"]["cars"]["slots"] == slots_of(0)
    file.write_bytes(whole)
    found = history.document(["cars"], now=at(1))["models"]["cars"]
    assert found["requests_per_s"] == [1 / SLOT_S, 2 / SLOT_S]


def test_a_file_that_was_written_anew_is_read_anew_though_its_inode_is_the_same(worker: Worker, tmp_path: Path) -> None:
    history = History(tmp_path)
    worker.works(0, [0.001])
    worker.works(1, [0.001] * 2)
    assert history.document(["cars"], now=at(1))["models"]["cars"]["slots"] == slots_of(0, 1)
    worker.works(2, [0.001] * 333)
    worker.works(3, [0.001] * 4)
    (file,) = tmp_path.glob("live_*.jsonl")
    # Without the first line, the others lie where none began before.
    file.write_bytes(file.read_bytes().partition(b"\n")[2])
    assert history.document(["cars"], now=at(3))["models"]["cars"]["slots"] == slots_of(1, 2, 3)


def test_only_the_slots_from_the_one_that_is_asked_for_are_told(worker: Worker, tmp_path: Path) -> None:
    for slot in range(4):
        worker.works(slot, [0.001])
    found = History(tmp_path).document(["cars"], since=slots_of(2)[0], now=at(3))
    assert found["models"]["cars"]["slots"] == slots_of(2, 3)
    assert found["slot"] == slots_of(3)[0]


def test_idle_slots_are_not_written(worker: Worker, tmp_path: Path) -> None:
    worker.works(0, [0.001])
    for slot in range(1, 50):
        worker.works(slot, [])
    worker.works(50, [0.001])
    assert History(tmp_path).document(["cars"], now=at(50))["models"]["cars"]["slots"] == slots_of(0, 50)


def test_neither_the_file_nor_what_is_told_grows_beyond_ten_minutes(worker: Worker, tmp_path: Path) -> None:
    history = History(tmp_path)
    last = 3 * SLOTS
    for slot in range(last + 1):
        worker.works(slot, [0.001])
        if slot % 100 == 0:
            history.document(["cars"], now=at(slot))
    (file,) = tmp_path.glob("live_*.jsonl")
    assert len(file.read_bytes().splitlines()) <= 2 * SLOTS
    for reader in (history, History(tmp_path)):
        slots = reader.document(["cars"], now=at(last))["models"]["cars"]["slots"]
        assert slots == slots_of(*range(last + _LATE_SLOTS - SLOTS, last + 1))


def test_a_switch_of_production_is_told_once_whichever_worker_saw_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (1, 2):
        worker = Worker(tmp_path, number, monkeypatch)
        worker.recorder.record({"cars": "two"}, START + 3 * SLOT_S)
    found = History(tmp_path).document(["cars"], now=at(10))["models"]["cars"]
    assert found["switched"] == [[slots_of(2)[0], "two"]]


def test_a_switch_is_told_however_long_the_worker_was_busy_before(worker: Worker, tmp_path: Path) -> None:
    for slot in range(2 * SLOTS + 1):
        worker.works(slot, [0.001])
    worker.recorder.record({"cars": "two"}, START + (2 * SLOTS + 2) * SLOT_S)
    found = History(tmp_path).document(["cars"], now=at(2 * SLOTS + 3))["models"]["cars"]
    assert [version for _, version in found["switched"]] == ["two"]


def test_a_folder_that_cannot_be_written_stops_nothing(worker: Worker, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    worker.works(0, [0.001])
    assert History(tmp_path).document(["cars"], now=at(0))["models"]["cars"]["slots"] == []


@contextmanager
def room_for(file: Path, more: int) -> Iterator[None]:
    """No file can become more than so many bytes larger than this one is, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (file.stat().st_size + more, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_full_disk_cut_off_is_written_when_there_is_room_again(worker: Worker, tmp_path: Path) -> None:
    early = History(tmp_path)
    worker.works(0, [0.001])
    (file,) = tmp_path.glob("live_*.jsonl")
    with room_for(file, 10):
        worker.works(1, [0.001])
        worker.works(2, [0.001])
        assert early.document(["cars"], now=at(2))["models"]["cars"]["slots"] == slots_of(0)
    assert not file.read_bytes().endswith(b"\n"), "half a line"
    worker.works(3, [0.001])
    worker.works(4, [0.001])
    for history in (early, History(tmp_path)):
        assert history.document(["cars"], now=at(4))["models"]["cars"]["slots"] == slots_of(0, 1, 2, 3, 4)


def test_a_line_that_is_spoilt_takes_no_other_with_it(worker: Worker, tmp_path: Path) -> None:
    worker.works(0, [0.001])
    (file,) = tmp_path.glob("live_*.jsonl")
    file.write_bytes(file.read_bytes() + b'{"slot": 7, "mo')
    worker.works(1, [0.001])
    worker.works(2, [0.001])
    assert History(tmp_path).document(["cars"], now=at(2))["models"]["cars"]["slots"] == slots_of(0, 2)


@pytest.mark.parametrize("jump", [1800, -1800])
def test_a_clock_that_is_set_makes_no_rate_that_never_was(worker: Worker, tmp_path: Path, jump: int) -> None:
    worker.works(0, [0.001] * 10)
    worker.works(jump + 1, [0.001] * 10)
    worker.works(jump + 2, [0.001] * 10)
    found = History(tmp_path).document(["cars"], now=at(jump + 2))["models"]["cars"]
    assert found["slots"] == slots_of(jump + 1, jump + 2)
    assert found["requests_per_s"] == [5.0, 5.0]


def test_outside_of_a_server_there_is_no_history(tmp_path: Path) -> None:
    LiveRecorder(Metrics(), None).record(BEGAN, START)
    document = History(None).document(["cars"])
    assert document["models"]["cars"]["slots"] == []
    assert json.dumps(document)


async def test_the_loop_does_not_wait_for_the_history(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    monkeypatch.setattr(runtime.live, "record", lambda _: threads.append(threading.current_thread()))
    async with asyncio.timeout(10):
        while not threads:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert threading.current_thread() not in threads
