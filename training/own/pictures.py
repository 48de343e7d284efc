"""A folder of folders of pictures, one a class -> a data set; decoded and prepared by the service's own code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.errors import ServingError
from models.pictures import open_picture, prepare
from models.task import ImageClassification
from training.datasets import DataError, DataSet, File, Raw
from training.own import source
from training.own.source import Options
from training.split import Part

if TYPE_CHECKING:
    import pandera.pandas as pa

    from training.config import TrainConfig
    from training.split import Split

SUFFIXES = (".png", ".jpg", ".jpeg")
MOST_PIXELS = 24_000_000
"""Width times height of one picture, as the service accepts by default."""
LEAST_OF_A_CLASS = 8


@dataclass(frozen=True)
class PictureOptions:
    """The form that pictures are brought into.

    Attributes:
        height: Pixels.
        width: Pixels.
        channels: 1 for grey, 3 for colour.
        preparation: Name in `models.pictures`; the service uses the same on what it is sent.
    """

    height: int = 28
    width: int = 28
    channels: int = 1
    preparation: str = "stretch_v1"


def read_pictures(folder: Path, form: PictureOptions, options: Options) -> tuple[DataSet, Raw]:
    """A folder as a data set.

    Args:
        folder: Its folders are the classes; PNG and JPEG files at any depth in them, of any size.
        form: What the model will see.
        options: See `Options`.

    Raises:
        DataError: Fewer than two classes, a class of too few pictures, or a file that is no picture.
    """
    import pandas as pd

    found = _files(folder)
    classes = tuple(sorted(found))
    if isinstance(options.like, ImageClassification) and set(options.like.labels) == set(classes):
        classes = options.like.labels
    task = ImageClassification.model_validate(
        {
            "height": form.height,
            "width": form.width,
            "channels": form.channels,
            "preparation": form.preparation,
            "labels": classes,
        }
    )
    options.say(f"classes: {', '.join(f'{label} x {len(found[label]):,}' for label in classes)}")
    names = [(label, path) for label in classes for path in found[label]]
    pictures = np.empty((len(names), *task.input_shape), np.uint8)
    files: list[File] = []
    for index, (_, path) in enumerate(names):
        name = path.relative_to(folder).as_posix()
        files.append(source.file(path, name))
        try:
            image = open_picture(path.read_bytes(), max_pixels=MOST_PIXELS, field=name)
        except ServingError as error:
            raise DataError(f"{error} Or remove it from the folder.") from None
        pictures[index] = prepare(task.preparation, image, task.height, task.width, task.channels)[0]
    data = source.data_set(
        folder.resolve(),
        tuple(files),
        task,
        options,
        read=lambda paths: read_pictures(folder, form, options)[1],
        schema=partial(_schema, task),
        split=_split,
    )
    return data, Raw(pd.DataFrame({"label": [classes.index(label) for label, _ in names]}), pictures)


def _files(folder: Path) -> dict[str, list[Path]]:
    """Class to its picture files, sorted; what is hidden or empty is no class."""
    found: dict[str, list[Path]] = {}
    for child in sorted(folder.iterdir()):
        if child.is_dir() and not child.name.startswith("."):
            paths = sorted(p for p in child.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if paths:
                found[child.name] = paths
    where = source.location(folder)
    if len(found) < 2:
        raise DataError(
            f"{where} must hold a folder with {', '.join(SUFFIXES)} files for each of at least two classes. "
            f"Received: {', '.join(found) or 'none'}. Make a folder a class."
        )
    source.require_rows({name: len(paths) for name, paths in found.items()}, LEAST_OF_A_CLASS, f"{where}: class")
    return found


def _schema(task: ImageClassification) -> pa.DataFrameSchema:
    import pandera.pandas as pa

    return pa.DataFrameSchema({"label": pa.Column(int, pa.Check.in_range(0, len(task.labels) - 1))})


def _split(raw: Raw, config: TrainConfig) -> Split:
    if raw.pictures is None:
        raise DataError("a set of pictures has no pictures")
    whole = Part(raw.pictures, raw.table["label"].to_numpy(np.int64))
    return source.random_split(whole, config, stratify=True)
