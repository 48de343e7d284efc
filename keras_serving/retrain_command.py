"""`keras-serving retrain`: made for cron, its exit status says what happened."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from keras_serving.begin import begin_with
from keras_serving.data_dir import data_dir_option
from keras_serving.promotion import Gate, gate_options, into_store, require_reason
from keras_serving.recorded import present_data, recorded_config
from keras_serving.stores import find_bundle, open_store
from models.errors import ConflictError

if TYPE_CHECKING:
    from models.bundle import Bundle
    from models.store import Store
    from training.config import TrainConfig
    from training.pipeline import Loaded

NOTHING_TO_DO = 4


@click.command()
@click.argument("name")
@click.option(
    "--when",
    type=click.Choice(["always", "drift"]),
    default="always",
    show_default=True,
    help="Only where the new rows are distributed otherwise than those that it was trained on.",
)
@click.option(
    "--data",
    type=click.Path(exists=True, path_type=Path),
    help="Where its data of your own lie now.  [default: where they lay, seen from --data-dir or from here]",
)
@data_dir_option
@gate_options
def retrain(
    name: str, *, when: str, data: Path | None, data_dir: Path | None, margin: float | None, force: str | None
) -> int:
    """Train NAME again as its production version was trained, on the data as they are now, and ask the gate.

    Exit status: 0 promoted; 3 the gate refused, and the new version is the candidate; 4 nothing to do; 1 failed;
    2 used wrongly. Interrupted, the same command goes on where it was.
    """
    require_reason(force)
    # TensorFlow's C++ logs of ordinary starts would bury our lines; what matters reaches Python as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.config import ConfigError
    from training.datasets import DataError
    from training.export import ExportError

    store = open_store()
    production = find_bundle(store, name, None)
    try:
        with _alone(store, name):
            config = recorded_config(production)
            # A version that began with another one's weights begins with them again.
            start = begin_with(config.transfer.parent, config.architecture) if config.transfer.parent else None
            click.echo(f"read the data of {name} {production.manifest.version}")
            loaded = present_data(production, config, data, data_dir, form=start.task if start else None)
            if when == "drift" and not _moved(production, config, loaded):
                return NOTHING_TO_DO
            gate = Gate(store, name, margin, force or "")
            more = {"load": lambda *_: loaded, "parent": f"{name}:{production.manifest.version}", "start": start}
            return gate.conclude(into_store(store, config, name, gate=gate, **more))
    except (ConfigError, DataError, ExportError) as error:
        raise click.ClickException(str(error)) from None


def _moved(production: Bundle, config: TrainConfig, loaded: Loaded) -> bool:
    """Whether the new rows drifted; prints by which feature, or why there is nothing to do."""
    from models.stability import MUCH
    from training.drift import drifted, new_rows, shifts
    from training.validation import validate

    if loaded.data.sha256 == production.manifest.lineage.data_sha256:
        click.echo("nothing to do: the data are unchanged")
        return False
    raw = validate(loaded.data.engineer(loaded.raw), loaded.data.schema())
    rows = new_rows(production, loaded.data.split(raw, config))
    if not len(rows):
        click.echo("nothing to do: the data changed, but no row to train on is new")
        return False
    found = shifts(production, rows)
    moved = drifted(found)
    click.echo(f"population stability index of {len(rows):,} new rows (0.1 is some change, {MUCH:g} much)")
    for shift in found:
        verdict = "moved" if shift in moved else ("by chance" if shift.index > 0.1 else "")
        click.echo(f"  {shift.name:24}{shift.index:8.3f}   by chance up to {shift.chance:.3f}   {verdict}".rstrip())
    if not moved:
        click.echo("nothing to do: the new rows are distributed as before")
    return bool(moved)


@contextlib.contextmanager
def _alone(store: Store, name: str) -> Iterator[None]:
    """One retraining of a name at a time: two would share the folder of the unfinished fit.

    Raises:
        ConflictError: Another process is at it; the lock goes with the process that dies.
    """
    fits = store.home / "fits"
    fits.mkdir(parents=True, exist_ok=True)
    with (fits / f".{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConflictError(f"Another process is retraining {name}. Wait until it is done, or end it.") from None
        yield
