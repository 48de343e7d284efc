"""Small batches are run by one thread, and those that are long enough are split."""

import time
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from models.bundle import Bundle
from models.engines import onnx, open_engine
from models.engines.splitting import split_from
from service.settings import PRETRAINED
from tests.bundles import CARS, rows_of, run_offline
from tests.conftest import MakeBundle

SAMPLES = np.zeros((4, 2), np.float32)


class Working:
    """A graph that takes CPU time: so much for a batch, and for each row of it."""

    def __init__(self, batch_s: float, row_s: float) -> None:
        self.batch_s, self.row_s = batch_s, row_s
        self.runs: list[int] = []

    def __call__(self, rows: NDArray[Any]) -> NDArray[np.float32]:
        self.runs.append(len(rows))
        until = time.thread_time() + self.batch_s + self.row_s * len(rows)
        while time.thread_time() < until:
            pass
        return rows


def test_a_graph_of_long_rows_is_split_from_one_row_on_and_tried_once_beside_its_first_run() -> None:
    run = Working(0, 0.01)
    assert split_from(run, SAMPLES) == 1
    assert run.runs == [1, 1]


@pytest.mark.parametrize(("row_s", "expected"), [(50e-6, {3, 4}), (20e-6, {8, 9, 10})])
def test_a_graph_of_short_rows_is_split_from_the_batch_on_that_takes_a_fifth_of_a_millisecond(
    row_s: float, expected: set[int]
) -> None:
    assert split_from(Working(0, row_s), SAMPLES) in expected


def test_time_without_the_cpu_does_not_count() -> None:
    def run(rows: NDArray[Any]) -> NDArray[np.float32]:
        time.sleep(0.001)
        return rows

    # All of a sleep that the process pays for is some ten microseconds.
    assert split_from(run, SAMPLES) > 1


def test_what_one_batch_costs_besides_its_rows_is_not_taken_for_time_of_one_row() -> None:
    assert split_from(Working(150e-6, 5e-6), SAMPLES) > 4


@pytest.mark.parametrize(("threads", "splits"), [(1, False), (2, True)])
def test_an_engine_splits_only_where_it_has_several_threads(threads: int, splits: bool) -> None:
    engine = open_engine(Bundle.open(PRETRAINED / "cnn"), kind="onnx", device="cpu", threads=threads)
    assert (engine.split_rows > 0) == splits
    engine.close()


@pytest.mark.parametrize(("error", "split_rows"), [(0, 100), (1, 0)])
def test_a_graph_whose_rows_get_other_bits_when_they_are_split_is_not_split(
    bundle_of: MakeBundle, monkeypatch: pytest.MonkeyPatch, error: int, split_rows: int
) -> None:
    class Session(onnxruntime.InferenceSession):
        """Rounds otherwise where it has several threads."""

        def run(self, *arguments: Any) -> Any:
            outputs = super().run(*arguments)
            several = self.get_session_options().intra_op_num_threads > 1
            return [np.nextafter(outputs[0], np.float32(np.inf))] if several and error else outputs

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr("models.engines.onnx.split_from", lambda *_: 100)
    bundle = bundle_of()
    engine = open_engine(bundle, kind="onnx", device="cpu", threads=2)
    assert engine.split_rows == split_rows
    rows = rows_of(CARS, 128)
    np.testing.assert_array_equal(engine.run(rows), run_offline(bundle, rows))


def test_of_a_graph_that_is_always_split_one_session_is_kept(
    bundle_of: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "split_from", lambda run, samples: 1)
    engine = onnx.OnnxEngine(bundle_of(CARS, "always"), device="cpu", threads=2)
    assert engine._session is engine._split
    engine.close()
