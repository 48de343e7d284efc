"""`keras-serving train`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from keras_serving.begin import begin_with, from_option, name_of
from keras_serving.data_dir import data_dir_option
from keras_serving.own_data import own_data_options, read_own_data, require_data
from keras_serving.promotion import Gate, gate_options, into_store, require_promote
from keras_serving.stores import open_store, who
from models import architectures
from models.task.changes import breaking as changes

if TYPE_CHECKING:
    from models.store import Store
    from models.task import Task
    from training.config import TrainConfig
    from training.pipeline import Loaded
    from training.transfer import Start


@click.command()
@click.argument("architecture", metavar="ARCH")
@click.option("--name", help="Name of the model.  [default: that of --data, else ARCH]")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file.  [default: the shipped one, or one that suits the data]",
)
@data_dir_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the bundle to this folder, not to the store.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one setting of the configuration: fit.optimizer=nesterov, model.units=[100, 50]. Repeatable.",
)
@from_option
@click.option(
    "--tensorboard",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the course of the fit: tensorboard --logdir DIR.",
)
@click.option("--breaking", is_flag=True, help="Allow another schema or other labels than the name's served version.")
@click.option(
    "--promote", is_flag=True, help="Switch to the new version where the gate finds it not worse than the served one."
)
@gate_options
@own_data_options
def train(
    architecture: str,
    *,
    name: str | None,
    config: Path | None,
    data_dir: Path | None,
    output: Path | None,
    settings: tuple[str, ...],
    origin: str | None,
    tensorboard: Path | None,
    breaking: bool,
    promote: bool,
    margin: float | None,
    force: str | None,
    **own: Any,
) -> int:
    """Train ARCH, evaluate it, and put the version into the store.

    It is served at once when the name is new; else `keras-serving models promote` switches to it, or --promote where
    the gate lets it pass (exit status 3 where it does not). Without --data it is trained on the known data set that
    its configuration names.
    """
    require_promote(promote, output, margin, force)
    if architecture not in architectures():
        raise click.UsageError(f"Unknown architecture {architecture!r}. Known: {', '.join(architectures())}.")
    name = name_of(name, architecture, own["data"])
    if own["data"] is None:
        require_data(own)
    # TensorFlow's C++ logs of ordinary starts would bury our lines; what matters reaches Python as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training import pipeline
    from training.config import ConfigError
    from training.datasets import DataError
    from training.export import ExportError

    store = open_store() if output is None else None
    served = served_task(store, name)
    try:
        start = begin_with(origin, architecture) if origin else None
        chosen, loaded = _choose(architecture, config, own, settings, like=None if breaking else served, start=start)
        if start is None and chosen.transfer.parent:
            start = begin_with(chosen.transfer.parent, architecture)
        more: dict[str, Any] = {"data_dir": data_dir, "start": start, "tensorboard": tensorboard}

        def load(config: TrainConfig, data_dir: Path | None) -> Loaded:
            found = loaded or pipeline.load_known(config, data_dir)
            if served is not None and not breaking:
                refuse_changes(name, served, found.data.task)
            return found

        if output is not None:
            ledger = output.resolve().parent / "EVALUATIONS.md"
            pipeline.train(chosen, name=name, publish_to=output, load=load, ledger=ledger, progress=click.echo, **more)
            return 0
        store = open_store()
        gate = Gate(store, name, margin, force or "") if promote else None
        bundle = into_store(store, chosen, name, gate=gate, load=load, **more)
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except (DataError, ExportError) as error:
        raise click.ClickException(str(error)) from None
    if gate is not None:
        return gate.conclude(bundle)
    put_into_service(store, name, bundle.manifest.version)
    return 0


def put_into_service(store: Store, name: str, version: str) -> None:
    """Serve the first version of a name at once; say how to switch to a later one."""
    if store.aliases().target(name) is None:
        store.set_alias(name, version, who=who(), reason="the first version")
        click.echo(f"{name} {version} is the production version: try keras-serving serve")
    else:
        click.echo(f"to serve it: keras-serving models promote {name} {version}")


def served_task(store: Store | None, name: str) -> Task | None:
    """Task of the production version, if there is one."""
    target = store.aliases().target(name) if store else None
    return store.open(name, target.version).manifest.task if store and target else None


def refuse_changes(name: str, served: Task, new: Task) -> None:
    """Refuse what the clients of a served name would notice.

    Raises:
        click.ClickException: Lists the changes.
    """
    found = changes(served, new)
    if found:
        raise click.ClickException(
            f"{name} is served with another schema, and its clients would notice: {'; '.join(found)}. "
            "Use another --name, or --breaking if they are ready for it."
        )


def _choose(
    architecture: str,
    config: Path | None,
    own: dict[str, Any],
    settings: tuple[str, ...],
    *,
    like: Task | None,
    start: Start | None,
) -> tuple[TrainConfig, Loaded | None]:
    """The configuration, and the user's own data where `--data` names them."""
    from training.config import config_path, load_config, make_config
    from training.own.recipes import can_train, recipe
    from training.pipeline import Loaded
    from training.transfer import begun

    def begin(chosen: TrainConfig) -> TrainConfig:
        return begun(chosen, start, settings, keep_model=config is not None) if start else chosen

    # With a version to begin with, settings come last: they may be of what it adds.
    at_once = () if start else settings
    form = start.task if start else None
    if config is not None:
        chosen = load_config(config, at_once)
        if chosen.architecture != architecture:
            raise click.UsageError(f"{config} is a configuration of {chosen.architecture}, not of {architecture}.")
    if own["data"] is None:
        return begin(chosen if config else load_config(config_path(architecture), at_once)), None
    click.echo("read")
    data, raw, location = read_own_data(
        architecture, own, like=form or like, form=form, config=config, settings=settings
    )
    kind = data.task.kind
    if kind not in can_train(architecture):
        raise click.UsageError(f"{architecture} does not learn {kind.replace('_', ' ')}. Use dnn.")
    if config is None:
        rows = len(raw.table) // (own["lookback"] if own["series"] else 1)
        chosen = recipe(architecture, kind, data.name, rows=rows)
        if at_once:
            chosen = make_config(chosen.model_dump(mode="json"), at_once, source="--set")
    return begin(chosen.model_copy(update={"dataset": data.name})), Loaded(data, raw, location)
