"""A CSV file with a labelled step a line becomes stretches of which no part shares a step or a series."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.task import Number, SequenceClassification
from tests.training.made_up import tiny
from tests.training.own.made_up import gestures, machine
from training import baselines
from training.datasets import DataError, DataSet, Raw
from training.own.labelled import LabelledOptions, read_labelled
from training.own.source import Options
from training.soundness import problems
from training.split import Part, Split

STATE = LabelledOptions(("shaking", "heat"), "state", lookback=12)
MOVEMENT = LabelledOptions(("x", "y"), "movement", lookback=16, series="recording")


def read(path: Path, labelled: LabelledOptions = STATE, **options: object) -> tuple[DataSet, Raw]:
    return read_labelled(path, labelled, Options(say=lambda _: None, **options))  # type: ignore[arg-type]


def task_of(data: DataSet) -> SequenceClassification:
    assert isinstance(data.task, SequenceClassification)
    return data.task


@pytest.fixture
def path(tmp_path: Path) -> Path:
    machine(tmp_path / "machine.csv")
    return tmp_path / "machine.csv"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    gestures(tmp_path / "gestures.csv")
    return tmp_path / "gestures.csv"


def changed(path: Path, row: int, column: str, cell: str) -> None:
    table = pd.read_csv(path, dtype=str)
    table.loc[row, column] = cell
    table.to_csv(path, index=False)


def test_the_task_has_the_labels_channels_look_back_and_step_of_the_file(path: Path) -> None:
    task = task_of(read(path)[0])
    assert task.labels == ("sound", "worn")
    assert [channel.name for channel in task.channels] == ["shaking", "heat"]
    assert (task.lookback, task.step) == (12, "PT1M")


def test_a_window_has_the_label_of_its_last_step(path: Path) -> None:
    data, raw = read(path)
    train = data.split(raw, tiny("lstm")).train
    np.testing.assert_array_equal(train.rows[50], raw.table[["shaking", "heat"]].to_numpy(np.float32)[50:62])
    assert train.values[47:50].tolist() == [0, 0, 1]  # steps 58, 59 and 60
    assert raw.table["state"][58:61].tolist() == ["sound", "sound", "worn"]


def test_the_parts_follow_each_other_in_time_and_share_no_step(path: Path) -> None:
    data, raw = read(path)
    split = data.split(raw, tiny("lstm"))
    values = raw.table[["shaking", "heat"]].to_numpy(np.float32)
    for part, start, end in ((split.train, 0, 540), (split.validation, 540, 720), (split.test, 720, 900)):
        assert len(part) == end - start - 11
        np.testing.assert_array_equal(part.rows[0], values[start : start + 12])
        np.testing.assert_array_equal(part.rows[-1], values[end - 12 : end])


def test_a_step_without_a_label_ends_no_window_but_may_lie_in_one(path: Path) -> None:
    whole = read(path)
    changed(path, 30, "state", "")
    data, raw = read(path)
    before, after = (d.split(r, tiny("lstm")).train for d, r in (whole, (data, raw)))
    assert len(after) == len(before) - 1
    np.testing.assert_array_equal(after.rows[19], before.rows[20])


def test_a_class_that_a_part_lacks_is_refused(path: Path) -> None:
    table = pd.read_csv(path)
    table.loc[720:, "state"] = "worn"
    table.to_csv(path, index=False)
    data, raw = read(path)
    with pytest.raises(DataError, match="'sound' ends 0 of the test windows, at least 1 must be"):
        data.split(raw, tiny("lstm"))


def test_a_file_that_is_too_short_for_its_windows_is_refused(path: Path) -> None:
    data, raw = read(path, LabelledOptions(("shaking",), "state", lookback=200))
    with pytest.raises(DataError, match="900 steps, of which validation gets 180: fewer than the 200"):
        data.split(raw, tiny("lstm"))


def windows_of(part: Part) -> set[bytes]:
    return {row.tobytes() for row in part.rows}


def test_series_are_parted_whole_and_each_class_is_in_each_part(recordings: Path) -> None:
    data, raw = read(recordings, MOVEMENT)
    split = data.split(raw, tiny("lstm"))
    series: dict[bytes, str] = {}
    for name, lines in raw.table.groupby("recording"):
        values = lines[["x", "y"]].to_numpy(np.float32)
        for end in range(len(values), 15, -16):
            series[values[end - 16 : end].tobytes()] = str(name)
    parts = [{series[window] for window in windows_of(part)} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 60
    assert 6 <= len(parts[2]) <= 20
    for part in (split.train, split.validation, split.test):
        assert set(part.values) == {0, 1}


def test_a_test_series_stays_one_when_others_come(recordings: Path) -> None:
    data, raw = read(recordings, MOVEMENT)
    before = windows_of(data.split(raw, tiny("lstm")).test)
    table = pd.read_csv(recordings)
    more = table[table["recording"].isin([f"r{i:02d}" for i in range(20)])]
    pd.concat([more.assign(recording="a" + more["recording"]), table]).to_csv(recordings, index=False)
    grown, raw = read(recordings, MOVEMENT)
    assert before <= windows_of(grown.split(raw, tiny("lstm")).test)


def test_a_longer_series_gives_several_windows_from_its_end_and_a_shorter_one_none(recordings: Path) -> None:
    said: list[str] = []
    longer = LabelledOptions(("x", "y"), "movement", lookback=24, series="recording")
    data, raw = read_labelled(recordings, longer, Options(say=said.append))
    lengths = pd.read_csv(recordings).groupby("recording").size()
    assert f"left out: {(lengths < 24).sum()} series shorter than 24 steps" in said
    split = data.split(raw, tiny("lstm"))
    assert sum(map(len, (split.train, split.validation, split.test))) == (lengths // 24).sum()


def test_a_series_with_two_labels_is_refused_by_its_line(recordings: Path) -> None:
    changed(recordings, 5, "movement", "push")
    with pytest.raises(DataError, match=r"line 7: movement must be one for a whole series. Received: 'push' in 'r00'"):
        read(recordings, MOVEMENT)


def test_the_classes_order_ranges_and_units_of_the_replaced_version_stay(path: Path) -> None:
    like = task_of(read(path, LabelledOptions(("shaking",), "state", 12, units=(("shaking", "mm/s"),)))[0])
    like = like.model_copy(update={"labels": ("worn", "sound")})
    task = task_of(read(path, LabelledOptions(("shaking",), "state", 12), like=like)[0])
    assert task.labels == ("worn", "sound")
    assert task.channels[0].unit == "mm/s"


@pytest.mark.parametrize(
    ("labelled", "says"),
    [
        (LabelledOptions(("shaking",), "status", 12), "no column 'status'.*Correct --label"),
        (LabelledOptions(("shaking", "state"), "state", 12), "state is the label: leave it out of --column"),
        (LabelledOptions(("shaking",), "heat", 12), "different values, at most 100 classes"),
        (LabelledOptions(("shaking",), "state", 12, series="plant"), "no column 'plant'.*Correct --series"),
    ],
)
def test_columns_that_cannot_be_meant_are_refused(path: Path, labelled: LabelledOptions, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read(path, labelled)


def test_window_statistics_tell_the_made_up_machine_but_the_most_frequent_class_does_not(path: Path) -> None:
    data, raw = read(path)
    split = data.split(raw, tiny("lstm"))
    found = baselines.answers(data.task, split.train, split.test)
    right = {name: (answer.argmax(axis=1) == split.test.values).mean() for name, answer in found.items()}
    assert right["logistic regression on window statistics"] > 0.8 > right["most frequent class"]


def test_a_channel_that_is_the_label_is_refused() -> None:
    task = SequenceClassification(
        channels=(Number(name="code", low=0, high=1),), lookback=2, step="PT1H", labels=("a", "b")
    )
    values = np.arange(40) % 2
    rows = np.random.default_rng(0).random((40, 2, 1)).astype(np.float32)
    rows[:, -1, 0] = values
    part = Part(rows, values)
    assert "column code is the label in another form" in problems(task, Split(part, part.take(slice(0)), part))[0]
