"""A folder a class becomes rows; the service's own decoder makes the same ones."""

from pathlib import Path

import numpy as np
import pytest

from models.task import ImageClassification
from service.protocols import native
from service.settings import Settings
from tests.training.made_up import tiny
from tests.training.own.made_up import shapes
from training.datasets import DataError, DataSet, Raw
from training.own.pictures import PictureOptions, read_pictures
from training.own.source import Options


def read(folder: Path, form: PictureOptions | None = None) -> tuple[DataSet, Raw]:
    return read_pictures(folder, form or PictureOptions(), Options(say=lambda _: None))


@pytest.mark.parametrize(
    "form",
    [
        PictureOptions(16, 16, 1),
        PictureOptions(16, 24, 3),
        PictureOptions(28, 28, 1, "fashion_mnist_v1"),
    ],
)
def test_a_training_file_sent_to_the_service_becomes_the_row_that_training_saw(
    tmp_path: Path, form: PictureOptions
) -> None:
    folder = shapes(tmp_path / "shapes")
    data, raw = read(folder, form)
    assert raw.pictures is not None
    assert isinstance(data.task, ImageClassification)
    for index, file in enumerate(data.files):
        media = b"image/png" if file.name.endswith("png") else b"image/jpeg"
        decoded = native.decode_body(data.task, media, (folder / file.name).read_bytes(), Settings())
        decoded.decode_pictures_at_once()
        np.testing.assert_array_equal(decoded.rows[0], raw.pictures[index])


def test_the_folders_are_the_labels_and_the_form_is_in_the_task(tmp_path: Path) -> None:
    data, raw = read(shapes(tmp_path / "shapes"), PictureOptions(16, 24, 3))
    assert data.task == ImageClassification(
        height=16, width=24, channels=3, preparation="stretch_v1", labels=("bar", "cross")
    )
    assert raw.table["label"].tolist() == [0] * 16 + [1] * 16
    assert data.name == "shapes"


def test_each_picture_is_in_one_part_only(tmp_path: Path) -> None:
    data, raw = read(shapes(tmp_path / "shapes"))
    split = data.split(raw, tiny("cnn"))
    parts = [{row.tobytes() for row in part.rows} for part in (split.train, split.validation, split.test)]
    assert sum(map(len, parts)) == 32
    assert all(len(part) >= 2 for part in parts)
    assert not parts[0] & parts[1] | parts[0] & parts[2] | parts[1] & parts[2]


def test_the_hash_depends_on_every_picture_and_its_class(tmp_path: Path) -> None:
    folder = shapes(tmp_path / "shapes")
    before = read(folder)[0].sha256
    (folder / "bar" / "0.jpg").rename(folder / "cross" / "99.jpg")
    assert read(folder)[0].sha256 != before


def test_a_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    folder = shapes(tmp_path / "shapes")
    (folder / "bar" / "3.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"bar/3.png: must be a PNG or JPEG picture.*remove it"):
        read(folder)


def test_one_class_or_a_folder_of_loose_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"at least two classes. Received: none. Make a folder a class"):
        read(shapes(tmp_path / "shapes") / "bar")


def test_a_class_of_too_few_pictures_is_refused_by_name(tmp_path: Path) -> None:
    folder = shapes(tmp_path / "shapes")
    for i in range(5, 16):
        next((folder / "bar").glob(f"{i}.*")).unlink()
    with pytest.raises(DataError, match="class 'bar' has 5 rows; each needs at least 8"):
        read(folder)
