"""The same row gets the same bits alone and at any place of any batch."""

import time
from collections.abc import Callable
from functools import cache
from itertools import count
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.bundle import Bundle
from models.engines import Engine, open_engine
from models.engines.identity import padded, row_multiple
from models.task import Task
from service.settings import PRETRAINED
from tests.bundles import CARS, IMAGE, SERIES
from tests.conftest import MakeBundle

Rows = NDArray[Any]


def uneven(multiple: int) -> Callable[[Rows], NDArray[np.float32]]:
    """A graph whose rows after the last whole multiple are rounded otherwise."""

    def run(rows: Rows) -> NDArray[np.float32]:
        outputs = rows.astype(np.float32)
        whole = len(rows) // multiple * multiple
        outputs[whole:] = np.nextafter(outputs[whole:], np.float32(np.inf))
        return outputs

    return run


@pytest.mark.parametrize("multiple", [1, 2, 4, 8, 16])
def test_the_multiple_of_a_graph_that_rounds_its_last_rows_otherwise_is_found(multiple: int) -> None:
    samples = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    assert row_multiple(uneven(multiple), samples) == multiple


@pytest.mark.parametrize("call", range(4))
def test_the_multiple_is_found_though_the_machine_is_busy_with_something_else(call: int) -> None:
    samples = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    calls = count()

    def run(rows: Rows) -> NDArray[np.float32]:
        if next(calls) == call:
            time.sleep(0.05)
        # Few rows are at the edge of another rounding.
        return np.where(rows[:, :1] < 0, uneven(4)(rows), rows)

    assert row_multiple(run, samples) == 4


def test_the_multiple_is_found_though_the_first_run_takes_long() -> None:
    samples = np.random.default_rng(0).normal(size=(9, 3)).astype(np.float32)
    calls = count()

    def run(rows: Rows) -> NDArray[np.float32]:
        until = time.thread_time() + (0.005 if next(calls) == 0 else 0)
        while time.thread_time() < until:
            pass
        return np.where(rows[:, :1] < 0, uneven(16)(rows), rows)

    assert row_multiple(run, samples) == 16


def test_a_graph_that_no_multiple_helps_is_left_as_it_is() -> None:
    drift = iter(range(10**6))
    assert row_multiple(lambda rows: rows + np.float32(next(drift)), np.zeros((4, 2), np.float32)) == 1


def test_what_is_tried_is_made_of_the_samples_values_column_by_column() -> None:
    samples = np.array([[1, 10], [2, 20]], np.float32)
    seen: list[Rows] = []
    row_multiple(lambda rows: (seen.append(rows), rows)[1], samples)
    everything = np.concatenate(seen)
    assert set(everything[:, 0]) == {1, 2}
    assert set(everything[:, 1]) == {10, 20}


@pytest.mark.parametrize(("count", "expected"), [(1, 4), (3, 4), (4, 4), (5, 8)])
def test_rows_are_padded_with_the_last_one(count: int, expected: int) -> None:
    rows = np.arange(count)[:, np.newaxis]
    found = padded(rows, 4)
    assert len(found) == expected
    assert found[:count].tolist() == rows.tolist()
    assert set(found[count:, 0]) <= {count - 1}


SHIPPED = sorted(path.name for path in PRETRAINED.iterdir() if path.is_dir())


@cache
def shipped(name: str, threads: int) -> tuple[Engine, Rows]:
    bundle = Bundle.open(PRETRAINED / name)
    return open_engine(bundle, kind="onnx", device="cpu", threads=threads), bundle.golden()[0]


def check(engine: Engine, rows: Rows, place: int, size: int, chosen: int) -> None:
    """One row alone, and at a place in a batch of others."""
    row = rows[chosen : chosen + 1]
    batch = np.resize(rows, (size, *rows.shape[1:]))
    batch[place % size] = row[0]
    assert engine.run(batch)[place % size].tobytes() == engine.run(row)[0].tobytes()


BATCH = {
    "place": st.integers(0, 63),
    "size": st.integers(1, 64),
    "chosen": st.integers(0, 10**6),
    "seed": st.integers(),
    "threads": st.integers(1, 4),
}


@pytest.mark.parametrize("name", SHIPPED)
@given(**BATCH)
@examples(max_examples=60, deadline=None)
def test_a_row_of_a_shipped_model_has_the_same_bits_in_every_batch(
    name: str, place: int, size: int, chosen: int, seed: int, threads: int
) -> None:
    engine, golden = shipped(name, threads)
    flat = golden.reshape(len(golden), -1)
    # Each value is one that the model takes; together they are a row that it has never seen.
    order = np.random.default_rng(abs(seed)).permuted(np.arange(len(flat)))
    mixed = np.concatenate([golden, np.where(np.arange(flat.shape[1]) % 2, flat, flat[order]).reshape(golden.shape)])
    check(engine, mixed, place, size, chosen % len(mixed))
    # However many threads a machine gives it.
    batch = np.resize(mixed, (size, *mixed.shape[1:]))
    assert engine.run(batch).tobytes() == shipped(name, 1)[0].run(batch).tobytes()


@pytest.mark.parametrize("kind", [IMAGE, CARS, SERIES])
def test_a_row_of_a_model_of_ones_own_has_the_same_bits_in_every_batch(kind: Task, bundle_of: MakeBundle) -> None:
    bundle = bundle_of(kind, "own")
    engine = open_engine(bundle, kind="onnx", device="cpu")
    rows = bundle.golden()[0]
    for size in range(1, 65):
        for place in {0, size // 2, size - 1}:
            check(engine, rows, place, size, size % len(rows))
