"""Where data comes from: a folder, a Debian package or a download, each file checked by its hash."""

from __future__ import annotations

import gzip
import hashlib
import importlib
import pkgutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import ServingError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import pandera.pandas as pa

    from models.task import Task
    from training.config import TrainConfig
    from training.split import Split


class DataError(ServingError):
    """Data that is missing, altered or broken; found before training. Says file, column and row where it can."""


@dataclass(frozen=True)
class File:
    """One file of a data set.

    Attributes:
        name: As the data set calls it, compression included.
        sha256: Of the unpacked bytes, hexadecimal: the same however a distribution compressed them.
        url: Where to download it.
        download_hash: Of the download as pooch takes it ("sha256:..." or "md5:...").
    """

    name: str
    sha256: str
    url: str
    download_hash: str


@dataclass(frozen=True)
class Raw:
    """A data set as read, nothing changed yet.

    Attributes:
        table: One row an example: columns as the data set names them; of pictures `label` and `part`.
        pictures: uint8 (n, height, width), in the table's order; None for tables and series.
    """

    table: pd.DataFrame
    pictures: np.ndarray | None = None


@dataclass(frozen=True)
class DataSet:
    """What is known of a data set; one file of `training/sets/` each.

    Attributes:
        name: What configurations call it.
        title: What people call it.
        licence: And where it says so.
        derivatives: Whether the licence lets rows of it be passed on (golden rows, examples).
        files: All of them.
        package: Debian's package and the folder that it fills; none if there is no package.
        task: What its numbers mean.
        read: Paths by file name to `Raw`; raises `DataError` where the bytes cannot be read.
        engineer: Adds and drops columns and rows; leaves broken data for the validation to name.
        schema: Of the engineered table.
        split: Into training, validation and test rows, as everyone splits this set.
        options: Words of the command line that name data of a user's own; none for a known set.
    """

    name: str
    title: str
    licence: str
    derivatives: bool
    files: tuple[File, ...]
    package: tuple[str, Path] | None
    task: Task
    read: Callable[[Mapping[str, Path]], Raw]
    engineer: Callable[[Raw], Raw]
    schema: Callable[[], pa.DataFrameSchema]
    split: Callable[[Raw, TrainConfig], Split]
    options: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        """Of the unpacked files' hashes and names, in order."""
        return hashlib.sha256("".join(f"{f.sha256}  {f.name}\n" for f in self.files).encode()).hexdigest()


@dataclass(frozen=True)
class Source:
    """Files found.

    Attributes:
        paths: By file name.
        location: "DATA_DIR", the package's name, or "download": never a path of this machine.
    """

    paths: Mapping[str, Path]
    location: str


def data_set(name: str) -> DataSet:
    """The known set of that name.

    Raises:
        DataError: There is none; the message lists the known ones.
    """
    folder = Path(__file__).parent / "sets"
    modules = (importlib.import_module(f"training.sets.{m.name}") for m in pkgutil.iter_modules([str(folder)]))
    known: dict[str, DataSet] = {module.DATA_SET.name: module.DATA_SET for module in modules}
    if name not in known:
        raise DataError(f"unknown data set {name!r}; known: {', '.join(sorted(known))}")
    return known[name]


def find(wanted: DataSet, *, data_dir: Path | None, cache: Path | None = None, progress: bool = True) -> Source:
    """Find a set's files: in `data_dir`, else from its Debian package, else by download; and check their hashes.

    Args:
        wanted: Which.
        data_dir: Folder that may hold the files, as DATA_DIR says.
        cache: Folder that keeps downloads; by default the user's cache folder.
        progress: Show a bar for downloads.

    Raises:
        DataError: Altered bytes, or none of the three ways leads to the files.
    """
    names = [file.name for file in wanted.files]
    folders = [(data_dir, "DATA_DIR")] if data_dir else []
    if wanted.package:
        folders.append((wanted.package[1], f"Debian package {wanted.package[0]}"))
    found = next((place for place in folders if all((place[0] / name).is_file() for name in names)), None)
    location = found[1] if found else "download"
    paths = {n: found[0] / n for n in names} if found else _download(wanted, cache, progress=progress)
    for file in wanted.files:
        received = hashlib.sha256(unpacked(paths[file.name])).hexdigest()
        if received != file.sha256:
            raise DataError(
                f"{file.name} ({location}) is not the file of {wanted.title}: its sha256 must be {file.sha256}. "
                f"Received: {received}. Restore the file or remove it."
            )
    return Source(paths, location)


def unpacked(path: Path) -> bytes:
    """Bytes of a file, decompressed when its name ends with .gz.

    Raises:
        DataError: Not gzip, or cut short.
    """
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{path.name} cannot be unpacked, it is cut short or no gzip file: {error}") from None


def _download(wanted: DataSet, cache: Path | None, *, progress: bool) -> dict[str, Path]:
    import pooch
    import requests

    paths = {}
    for file in wanted.files:
        fetcher = pooch.create(
            cache or pooch.os_cache("keras-serving"),
            base_url="",
            registry={file.name: file.download_hash},
            urls={file.name: file.url},
            # A cut transfer and a wrong hash are both tried again; pooch renames only what has the right hash.
            retry_if_failed=2,
        )
        try:
            paths[file.name] = Path(fetcher.fetch(file.name, progressbar=progress))
        except (requests.RequestException, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:160]
            what = f"no {file.name} of {wanted.title}"
            raise DataError(f"{what}: {_ways(wanted)} The download failed: {reason}") from None
    return paths


def _ways(wanted: DataSet) -> str:
    package = f"apt-get install {wanted.package[0]}" if wanted.package else "a Debian package (this set has none)"
    names = ", ".join(file.name for file in wanted.files)
    return f"(1) set DATA_DIR to a folder with {names}; (2) {package}; (3) let it download {wanted.files[0].url}."
