"""`keras-serving captured`: what a server captured, as data to train on."""

import asyncio
import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.captured import input_columns
from models.task import ImageClassification, Task
from service.capture import Capture
from service.metrics import Metrics
from service.protocols import native
from service.protocols.base import Decoded, Question
from service.settings import Settings
from service.truth import Feedback
from tests.bundles import CARS, IMAGE, SERIES, rows_of
from tests.keras_serving.conftest import Cli
from training.own.pictures import PictureOptions, read_pictures
from training.own.source import Options


class _Manifest:
    def __init__(self, name: str, task: Task) -> None:
        self.name, self.task, self.version = name, task, "20260101-000000-00000000"


class _Served:
    role = "production"

    def __init__(self, name: str, task: Task) -> None:
        self.manifest = _Manifest(name, task)


@pytest.fixture
def capture(home: Path) -> Any:
    """Captures rows of a model, and truths of some of them, as a server does."""

    def write(name: str, task: Task, rows: NDArray[Any], truths: list[Feedback]) -> None:
        async def work() -> None:
            writer = Capture(Settings.load(home=home, capture_share=1.0), Metrics())
            outputs = np.zeros((1, *task.output_shape), np.float32)
            for number, row in enumerate(rows):
                question = Question(native, f"r{number}", b"", b"")
                writer.take(_Served(name, task), question, Decoded(row[np.newaxis]), outputs)  # type: ignore[arg-type]
            for told in truths:
                writer.learn(name, told)
            await writer.flush()
            await writer.close()

        asyncio.run(work())

    return write


def test_records_with_a_truth_become_a_table_with_the_target(cli: Cli, capture: Any, tmp_path: Path) -> None:
    rows = rows_of(CARS, 4)
    capture("cars", CARS, rows, [Feedback(request_id="r1", value=30.5), Feedback(request_id="r3", value=20.0)])
    status, out, _ = cli("captured", "cars", "--output", "cars.csv")
    assert status == 0
    assert "2 of 4 captured rows have a truth" in out
    assert "--data FILE --target mpg" in out
    with (tmp_path / "cars.csv").open() as file:
        found = list(csv.DictReader(file))
    assert [line["mpg"] for line in found] == ["30.5", "20.0"]
    assert [line["origin"] for line in found] == input_columns(CARS, rows[[1, 3]])["origin"]
    assert list(found[0]) == ["weight", "horsepower", "origin", "mpg"]


def test_pictures_with_a_truth_become_a_folder_a_class_that_training_reads(
    cli: Cli, capture: Any, tmp_path: Path
) -> None:
    pictures = rows_of(IMAGE, 40)
    labels = ["boot" if number % 2 else "bag" for number in range(40)]
    capture("clothes", IMAGE, pictures, [Feedback(request_id=f"r{i}", label=label) for i, label in enumerate(labels)])
    assert cli("captured", "clothes", "--output", "pictures")[0] == 0
    data, raw = read_pictures(
        tmp_path / "pictures", PictureOptions(28, 28, 1, "fashion_mnist_v1"), Options(say=lambda _: None)
    )
    assert raw.pictures is not None
    assert isinstance(data.task, ImageClassification)
    assert data.task.labels == ("bag", "boot")
    assert raw.table["label"].tolist().count(1) == 20
    assert {picture.tobytes() for picture in raw.pictures} == {picture.tobytes() for picture in pictures}


def test_stretches_of_a_series_are_refused_with_the_reason(cli: Cli, capture: Any) -> None:
    capture("heat", SERIES, rows_of(SERIES, 2), [])
    status, _, err = cli("captured", "heat", "--output", "heat.csv")
    assert status == 1
    assert "one series in time order" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["cars", "--output", "cars.csv"],
            "Nothing of 'cars' is captured. Start the server with SERVING_CAPTURE",
        ),
        (["../cars", "--output", "cars.csv"], "is no model name"),
    ],
)
def test_what_is_not_there_is_said_with_the_remedy(cli: Cli, arguments: list[str], says: str) -> None:
    status, _, err = cli("captured", *arguments)
    assert status == 2
    assert says in err


def test_a_file_of_another_kind_is_refused(cli: Cli, capture: Any) -> None:
    capture("cars", CARS, rows_of(CARS, 1), [])
    status, _, err = cli("captured", "cars", "--output", "cars.xlsx")
    assert status == 2
    assert "must end with .parquet or .csv" in err
