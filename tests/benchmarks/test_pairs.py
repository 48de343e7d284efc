"""Servers in short turns: both of a pair are compared within a round."""

from pathlib import Path

import pytest

from benchmarks.pairs import chosen, options_of, table
from benchmarks.servers import BenchmarkError
from benchmarks.turns import Span

PRETRAINED = Path(__file__).parents[2] / "models" / "pretrained"


def test_a_slow_phase_of_the_machine_decides_no_ratio() -> None:
    # Of the medians it would be a quarter.
    ours = [Span(rate, 1.0, 2.0, 100.0) for rate in (1000, 100, 400)]
    theirs = [Span(rate, 1.0, 2.0, 100.0) for rate in (500, 80, 100)]
    closed = ("closed", 8.0)
    first, second = table({(closed, "ours"): ours, (closed, "theirs"): theirs}, "ours").splitlines()[1:]
    assert first.startswith("8 connections")
    assert "100.0% of its requests/s" in first
    assert "50.0% of its requests/s" in second


def test_in_open_loop_latencies_are_compared_and_turns_that_held_counted() -> None:
    offered = ("open", 4000.0)
    ours = [Span(4000, 1.0, p99, 100.0) for p99 in (5.0, 9.9, 30.0)]
    theirs = [Span(4000, 1.0, p99, 100.0) for p99 in (10.0, 19.8, 15.0)]
    first, second = table({(offered, "ours"): ours, (offered, "theirs"): theirs}, "ours").splitlines()[1:]
    assert first.startswith("4,000/s offered")
    assert "below 10 ms in 2 of 3 turns" in first
    assert "200.0% of its p99; below 10 ms in 0 of 3 turns" in second


def test_ours_is_measured_beside_itself_with_other_settings_and_other_code(tmp_path: Path) -> None:
    settings = ["SERVING_BATCH_ROWS=4", "SERVING_THREADS=1,SERVING_INLINE_MS=0"]
    options = options_of(["dnn", "--servers", "keras-serving", "--checkout", str(tmp_path), "--settings", *settings])
    ours, other, *found = chosen(options, PRETRAINED)
    assert other.environment == {**ours.environment, "PYTHONPATH": str(tmp_path)}
    assert [one.name for one in found] == settings
    assert found[1].environment == {**ours.environment, "SERVING_THREADS": "1", "SERVING_INLINE_MS": "0"}


@pytest.mark.parametrize("settings", ["4", "BATCH_ROWS=4", "SERVING_BATCH_ROWS=4,2"])
def test_what_is_no_setting_is_said_at_once(settings: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options_of(["--settings", settings])
    assert f"must be SERVING_...=VALUE[,SERVING_...=VALUE...], not '{settings}'" in capsys.readouterr().err


def test_a_server_that_does_not_exist_is_said_with_those_that_do() -> None:
    with pytest.raises(BenchmarkError, match="no server tensorflow; there are: keras-serving,"):
        chosen(options_of(["dnn", "--servers", "tensorflow"]), PRETRAINED)
