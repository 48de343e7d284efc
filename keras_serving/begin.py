"""What `keras-serving train` begins with: a name for the model, and the version of `--from`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_serving.stores import open_store, refer
from models.names import is_name

if TYPE_CHECKING:
    from training.transfer import Start

from_option = click.option(
    "--from",
    "origin",
    metavar="NAME[:VERSION]|FOLDER",
    help="Go on from the weights of a version: other labels get a new head. Pictures keep that version's form.",
)


def name_of(name: str | None, architecture: str, data: Path | None) -> str:
    """A model's name: as given, else that of the user's data, else the architecture's.

    Raises:
        click.UsageError: It is no name, or the data's cannot be made one.
    """
    if name is not None:
        if not is_name(name):
            raise click.UsageError(f"--name {name!r}: use lower case letters, digits, - and _, a letter first.")
        return name
    if data is None:
        return architecture
    stem = data.resolve().name if data.is_dir() else data.stem
    found = re.sub(r"[^a-z0-9]+", "-", stem.lower()).lstrip("-0123456789").rstrip("-")[:63].rstrip("-")
    if not is_name(found):
        raise click.UsageError(f"{data.name} makes no name of a model: give one with --name.")
    return found


def begin_with(reference: str, architecture: str) -> Start:
    """The version that `--from` means, verified.

    Raises:
        ServingError: There is none, a file of it is altered, or it is of another architecture.
    """
    from training.transfer import start_from

    return start_from(refer(open_store(), reference), architecture)
