"""Fashion-MNIST: 70,000 grey pictures of clothes, 28 x 28, in ten classes; train and test are the publishers'."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from models.task import ImageClassification
from training.datasets import DataError, DataSet, File, Raw, unpacked
from training.split import Part, Split, hold_out

if TYPE_CHECKING:
    import pandera.pandas as pa

    from training.config import TrainConfig

_SITE = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
_TRAIN, _TRAIN_LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
_TEST, _TEST_LABELS = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"


def read_idx(path: Path) -> np.ndarray:
    """Array of an IDX file: two zero bytes, 8 (uint8), the number of axes, big-endian sizes, then the values.

    Raises:
        DataError: Not such a file, or cut short.
    """
    content = unpacked(path)
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise DataError(f"{path.name} must be an IDX file of bytes (00 00 08). Received: {content[:4].hex(' ')}")
    start = 4 + 4 * content[3]
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], ">u4"))
    count = int(np.prod(shape))
    if len(content) != start + count:
        raise DataError(f"{path.name} must hold {count} values, {shape}. Received: {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def read(paths: Mapping[str, Path]) -> Raw:
    """Training pictures first, then test pictures."""
    import pandas as pd

    train, test = read_idx(paths[_TRAIN]), read_idx(paths[_TEST])
    train_labels, test_labels = read_idx(paths[_TRAIN_LABELS]), read_idx(paths[_TEST_LABELS])
    for name, pictures, labels in ((_TRAIN_LABELS, train, train_labels), (_TEST_LABELS, test, test_labels)):
        if len(pictures) != len(labels):
            raise DataError(f"{name} must hold one label a picture, {len(pictures)}. Received: {len(labels)}")
    if train.shape[1:] != (28, 28) or test.shape[1:] != (28, 28):
        raise DataError(f"pictures must be 28 x 28. Received: {train.shape[1:]} and {test.shape[1:]}")
    table = pd.DataFrame(
        {
            "label": np.concatenate([train_labels, test_labels]).astype(np.int64),
            "part": ["train"] * len(train) + ["test"] * len(test),
        }
    )
    return Raw(table, np.concatenate([train, test]))


def engineer(raw: Raw) -> Raw:
    """A channel axis for the network, and each picture's mean for the validation."""
    pictures = _pictures(raw)
    table = raw.table.assign(mean_pixel=pictures.reshape(len(pictures), -1).mean(axis=1))
    return Raw(table, pictures[..., np.newaxis])


def schema() -> pa.DataFrameSchema:
    """Labels 0 to 9; a picture is neither all black nor all white."""
    import pandera.pandas as pa

    return pa.DataFrameSchema(
        {
            "label": pa.Column(int, pa.Check.in_range(0, len(TASK.labels) - 1), coerce=True),
            "part": pa.Column(str, pa.Check.isin(["train", "test"])),
            "mean_pixel": pa.Column(float, pa.Check.in_range(0, 255, include_min=False, include_max=False)),
        }
    )


def split(raw: Raw, config: TrainConfig) -> Split:
    """The publishers' test pictures; a share of their training pictures, the same of each class, for validation."""
    whole = Part(_pictures(raw), raw.table["label"].to_numpy())
    train, test = (whole.take(np.flatnonzero(raw.table["part"] == part)[: config.limit]) for part in ("train", "test"))
    return Split(*hold_out(train, config.validation, seed=config.seed, stratify=True), test)


def _pictures(raw: Raw) -> np.ndarray:
    if raw.pictures is None:
        raise DataError("a set of pictures has no pictures")
    return raw.pictures


TASK = ImageClassification(
    height=28,
    width=28,
    channels=1,
    preparation="fashion_mnist_v1",
    labels=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)

DATA_SET = DataSet(
    name="fashion-mnist",
    title="Fashion-MNIST",
    licence="MIT, https://github.com/zalandoresearch/fashion-mnist",
    derivatives=True,
    files=(
        File(
            _TRAIN,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            _SITE + _TRAIN,
            "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        ),
        File(
            _TRAIN_LABELS,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            _SITE + _TRAIN_LABELS,
            "md5:25c81989df183df01b3e8a0aad5dffbe",
        ),
        File(
            _TEST,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            _SITE + _TEST,
            "md5:bef4ecab320f06d8554ea6380940ec79",
        ),
        File(
            _TEST_LABELS,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            _SITE + _TEST_LABELS,
            "md5:bb300cfdad3c16e7a12a480ee83cd310",
        ),
    ),
    package=("dataset-fashion-mnist", Path("/usr/share/datasets/fashion-mnist")),
    task=TASK,
    read=read,
    engineer=engineer,
    schema=schema,
    split=split,
)
