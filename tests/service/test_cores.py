"""CPUs of a container, as the kernel's files say."""

import os
from pathlib import Path

import pytest

from service.cores import available
from service.settings import Settings


def affinity(monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({"cpu.max": "max 100000"}, 8),
        ({"cpu.max": "200000 100000"}, 2),
        ({"cpu.max": "250000 100000"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "1600000 100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, 3),
        ({"cpu.max": "what"}, 8),
    ],
)
def test_a_process_has_the_cpus_that_its_affinity_and_its_quota_allow(
    files: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    affinity(monkeypatch, 8)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    assert available(tmp_path) == expected


@pytest.mark.parametrize(
    ("cores", "workers", "threads", "expected"), [(2, 1, 0, 2), (2, 2, 0, 1), (2, 4, 0, 1), (64, 1, 0, 8), (2, 1, 5, 5)]
)
def test_a_batch_has_the_threads_that_are_set_or_its_workers_share_of_the_cpus(
    cores: int, workers: int, threads: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.settings.available", lambda: cores)
    assert Settings.load(workers=workers, threads=threads).batch_threads == expected
