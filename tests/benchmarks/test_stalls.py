"""From late answers and samples to a cause; and what the samples are read from."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.causes import Meanwhile, Stall, cause, meanwhile, stalls
from benchmarks.watch import ProcessSample, Sample, Watch, process_sample, sample

STALL = Stall(begin=10.0, seconds=1.0, late=5, worst_s=1.0, generator_lag_s=0.001)
CALM = Meanwhile(0.001, 0, 0, 0, 0.1, 0.05, 0.01, 0, 0, "", "SSRS")
SERVER, GENERATOR = 7, 8


def test_late_answers_close_together_are_one_stall() -> None:
    due = np.array([1.0, 1.01, 1.02, 5.0, 9.0])
    latency = np.array([0.3, 0.29, 0.001, 0.002, 0.06])
    lag = np.array([0.0, 0.2, 0.0, 0.0, 0.0])
    one, two = stalls(due, lag, latency)
    assert (one.begin, one.late, one.worst_s, one.generator_lag_s) == (1.0, 2, 0.3, 0.2)
    assert one.seconds == pytest.approx(0.3)
    assert (two.begin, two.late) == (9.0, 1)


def test_answers_in_time_or_without_an_answer_make_no_stall() -> None:
    assert stalls(np.array([1.0, 2.0]), np.zeros(2), np.array([0.049, np.nan])) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampler_gap": 0.8, "server_waited": 0.9}, "the machine: nothing ran"),
        ({"stolen": 0.6}, "the host"),
        ({"collected": 0.7, "server_ran": 0.9}, "garbage collection"),
        ({"states": "DDDS"}, "a disk: the server"),
        ({"server_waited": 0.6}, "no free CPU"),
        ({"generator_waited": 0.6}, "the generator"),
        ({"server_waited": 0.3, "generator_waited": 0.3}, "server and generator both waited"),
        ({"server_ran": 0.9, "function": "flush for 0.800 s"}, "it computed in flush for 0.800 s"),
        ({"disk": 0.9}, "a disk: something"),
        ({"memory": 0.9}, "memory"),
        ({}, "unknown"),
    ],
)
def test_the_first_that_explains_half_of_a_stall_is_its_cause(changes: dict[str, Any], words: str) -> None:
    assert words in cause(STALL, replace(CALM, **changes))


def test_a_generator_that_was_late_is_its_own_cause() -> None:
    assert "the generator" in cause(replace(STALL, generator_lag_s=0.9), CALM)


def at(time: float, *, ran: float, waited: float = 0.0, state: str = "R", gap: float = 0.0) -> Sample:
    one = ProcessSample(ran, waited, state, 0)
    return Sample(time, gap, 0.0, 0.0, 0.0, 0.0, {SERVER: one, GENERATOR: replace(one, cpu_s=0.0)})


def test_what_happened_meanwhile_is_the_difference_of_the_samples_around_it() -> None:
    samples = [at(9.9, ran=1.0), at(10.5, ran=1.5, gap=0.04, state="S"), at(11.1, ran=1.9, waited=0.1), at(12, ran=9.0)]
    notes = [
        {"kind": "gc", "since": 10.2, "seconds": 0.3, "what": ""},
        {"kind": "gc", "since": 5.0, "seconds": 3.0, "what": ""},
        {"kind": "function", "since": 10.1, "seconds": 0.7, "what": "flush"},
    ]
    found = meanwhile(STALL, samples, SERVER, GENERATOR, notes)
    assert found is not None
    assert found.server_ran == pytest.approx(0.9)
    assert (found.server_waited, found.collected, found.sampler_gap, found.states) == (0.1, 0.3, 0.04, "SR")
    assert found.function == "flush for 0.700 s"
    assert meanwhile(STALL, samples[1:], SERVER, GENERATOR, notes) is None


def test_samples_are_read_from_the_kernel(tmp_path: Path) -> None:
    process = tmp_path / "7"
    process.mkdir()
    (process / "schedstat").write_text("1500000000 250000000 99\n")
    (process / "stat").write_text("7 (a name) R) D 1 7 7 0 -1 0 11 0 42 0 5 5 0\n")
    (process / "status").write_text("Name:\tx\nvoluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t17\n")
    (tmp_path / "stat").write_text("cpu  100 0 100 900 200 0 0 300 0 0\ncpu0 1\n")
    (tmp_path / "pressure").mkdir()
    (tmp_path / "pressure" / "io").write_text("some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull total=1\n")
    assert process_sample(7, tmp_path) == ProcessSample(1.5, 0.25, "D", 17)
    found = sample([7, 8], 0.001, tmp_path)
    assert set(found.processes) == {7}, "one that has ended is left out"
    assert (found.stolen_s, found.disk_wait_s) == (3.0, 2.0)
    assert (found.io_pressure_s, found.memory_pressure_s) == (2.5, 0.0)


def test_a_watch_samples_until_its_end() -> None:
    with Watch(lambda: [1]) as watch:
        while len(watch.samples) < 2:
            pass
    count = len(watch.samples)
    assert watch.samples[0].at < watch.samples[1].at
    assert len(watch.samples) == count
