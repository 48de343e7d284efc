"""How a version was trained, from its own lineage, to do it again on the data as they are now."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_serving.own_data import own_data_options, read_own_data
from keras_serving.train_command import refuse_changes

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.manifest import Lineage
    from models.task import Task
    from training.config import TrainConfig
    from training.pipeline import Loaded


def recorded_config(bundle: Bundle) -> TrainConfig:
    """The configuration that a version was trained with.

    Raises:
        click.ClickException: It was not trained here.
        ConfigError: This version of the project has no such settings any more.
    """
    from training.config import make_config

    if _words(bundle)[:2] != ["keras-serving", "train"]:
        raise click.ClickException(
            f"{_label(bundle)} was not trained here, so nothing says how to do it again. Train a version: "
            f"keras-serving train ARCH --data ... --name {bundle.manifest.name} --promote"
        )
    return make_config(bundle.manifest.lineage.config, source=f"the configuration recorded in {_label(bundle)}")


def present_data(
    bundle: Bundle, config: TrainConfig, data: Path | None, data_dir: Path | None, *, form: Task | None
) -> Loaded:
    """The data that a version was trained on, as they are now, read as they were then.

    Args:
        bundle: The version.
        config: Its own.
        data: Where they lie now; by default where the lineage says.
        data_dir: Folder that the lineage's location may be relative to, as well as to the working directory.
        form: Task of the version that training begins with, if any.

    Raises:
        click.ClickException: The data are not found, or their schema changed.
        DataError: They cannot be trained on.
    """
    from training.own.source import location
    from training.pipeline import Loaded, load_known

    manifest = bundle.manifest
    words = _words(bundle)
    if "--data" not in words:
        if data is not None:
            raise click.UsageError(
                f"{manifest.name} is trained on the known data set {config.dataset}: leave --data out, or train it on "
                f"yours: keras-serving train {manifest.architecture} --data ... --name {manifest.name} --promote"
            )
        return load_known(config, data_dir)
    path = data or _found(manifest.lineage, data_dir)
    described = words[words.index("--data") :]
    form = manifest.task if config.transfer.parent else None
    read, raw, where = read_own_data(
        manifest.architecture, _given(described, path), like=manifest.task, form=form, config=None
    )
    refuse_changes(manifest.name, manifest.task, read.task)
    if data is not None:
        described[1] = location(path)
    else:
        where = manifest.lineage.data_location
    # A file of another name is the same data set, and the command stays the one that was given.
    again = replace(read, name=manifest.lineage.dataset, options=tuple(shlex.quote(word) for word in described))
    return Loaded(again, raw, where)


def _words(bundle: Bundle) -> list[str]:
    return shlex.split(bundle.manifest.lineage.command)


def _given(words: list[str], path: Path) -> dict[str, object]:
    """The options that describe a user's data, by name, as the command line had them."""
    parser = click.Command("data", context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
    own_data_options(parser)
    # A copy, since click takes the words away. Resilient: the recorded location may be relative to another folder.
    return parser.make_context("data", list(words), resilient_parsing=True).params | {"data": path}


def _found(lineage: Lineage, data_dir: Path | None) -> Path:
    """Where the lineage's location leads on this machine."""
    tried = [folder / lineage.data_location for folder in (data_dir, Path()) if folder is not None]
    found = next((path for path in tried if path.exists()), None)
    if found is None:
        places = " and ".join(str(path) for path in tried)
        raise click.ClickException(
            f"the data are not found: {places} do{'' if len(tried) > 1 else 'es'} not exist. Run it in the folder that "
            f"{lineage.data_location} is relative to, name that folder with --data-dir, or the data with --data."
        )
    return found


def _label(bundle: Bundle) -> str:
    return f"{bundle.manifest.name}:{bundle.manifest.version}"
