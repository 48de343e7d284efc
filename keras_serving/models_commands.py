"""`keras-serving models ...`: versions and aliases."""

import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from models.bundle import Bundle
from models.errors import BundleError
from models.names import is_name
from models.pictures import PREPARATIONS
from models.store import PRODUCTION, Store
from service.settings import Settings


def open_store() -> Store:
    """The store that the environment names, with the shipped bundles in it."""
    settings = Settings.load()
    store = Store(settings.home)
    for name, reason in store.seed(settings.pretrained).failed.items():
        click.echo(f"shipped bundle {name} is left out: {reason}", err=True)
    return store


@click.group("models")
def models_group() -> None:
    """List, show and switch versions."""


@models_group.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def list_models(as_json: bool) -> None:
    """Show every version in the store; what is served carries an alias."""
    store = open_store()
    aliases = store.aliases()
    rows = []
    for name in store.names():
        pointed = {target.version: alias for alias, target in aliases.models.get(name, {}).items()}
        for version in store.versions(name):
            row = {"name": name, "version": version, "alias": pointed.get(version, "")}
            try:
                manifest = store.open(name, version).manifest
                row["kind"] = manifest.task.kind
                figure = manifest.figures[0] if manifest.figures else None
                row["figure"] = f"{figure.name} {figure.value:.4g} {figure.unit or ''}".strip() if figure else ""
            except BundleError as error:
                row |= {"kind": "", "figure": f"unusable: {error}"}
            rows.append(row)
    if as_json:
        click.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return
    table = Table("model", "version", "alias", "kind", "first figure", box=None)
    for row in rows:
        table.add_row(row["name"], row["version"], row["alias"], row["kind"], row["figure"])
    Console(width=None if Console().is_terminal else 200).print(table)


@models_group.command("show")
@click.argument("name")
@click.argument("version", required=False)
def show_model(name: str, version: str | None) -> None:
    """Show the manifest of NAME, of its production version unless VERSION is given."""
    store = open_store()
    click.echo(
        orjson.dumps(find_bundle(store, name, version).manifest.model_dump(mode="json"), option=orjson.OPT_INDENT_2)
    )


@models_group.command("promote")
@click.argument("name")
@click.argument("version")
def promote(name: str, version: str) -> None:
    """Make VERSION the production version of NAME; running servers follow within a second."""
    store = open_store()
    before = store.aliases().target(name)
    store.set_alias(name, version)
    click.echo(f"{name}: {before.version if before else 'nothing'} -> {version}")


@models_group.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", required=True, help="Name of the model.")
@click.option(
    "--task",
    type=click.Choice(["image_classification"]),
    default="image_classification",
    show_default=True,
    help="What the numbers mean; any other kind is described by --schema.",
)
@click.option("--labels", metavar="A,B,...", help="Class names, in the order of the model's outputs.")
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON document of a task, as `keras-serving models show` prints it under `task`.",
)
@click.option("--preparation", type=click.Choice(sorted(PREPARATIONS)), default="stretch_v1", show_default=True)
@click.option(
    "--pixels",
    type=click.Choice(["0..255", "0..1", "-1..1"]),
    default="0..255",
    show_default=True,
    help="Range of the pixels that the model was trained on.",
)
@click.option("--logits", is_flag=True, help="The model's outputs are logits, not probabilities.")
@click.option("--breaking", is_flag=True, help="Allow another schema or other labels than the name's served version.")
def import_file(file: Path, name: str, *, task: str, labels: str | None, breaking: bool, **form: Any) -> None:
    """Make a served model of FILE, a .keras file that was trained elsewhere.

    It is loaded without any code of its own, exported to ONNX and compared; what cannot be exported is served by
    TensorFlow.
    """
    from keras_serving.train_command import put_into_service, refuse_changes, served_task

    if not is_name(name):
        raise click.UsageError(f"--name {name!r}: use lower case letters, digits, - and _, a letter first.")
    if labels is None and form["schema"] is None:
        raise click.UsageError(f"{task} needs --labels: class names, separated by commas.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from training.own.imported import Form, import_model
    except ImportError as error:
        raise click.ClickException(
            f"importing needs {error.name}, which is not installed. pip install -r requirements/train.txt"
        ) from None
    store = open_store()
    served = None if breaking else served_task(store, name)
    words = ["keras-serving", "models", "import", file.name, "--name", name]
    words += ["--labels", labels] if labels else []
    words += [f"--{option}={getattr(value, 'name', value)}" for option, value in form.items() if value]
    said = Form(labels=tuple(labels.split(",")) if labels else (), command=shlex.join(words), **form)
    with tempfile.TemporaryDirectory() as folder:
        bundle, reason = import_model(file, name, said, Path(folder) / name)
        if served is not None:
            refuse_changes(name, served, bundle.manifest.task)
        version = store.add(bundle.path).manifest.version
    if reason:
        click.echo(f"no ONNX graph, so TensorFlow serves it: {reason}")
    put_into_service(store, name, version)


def find_bundle(store: Store, name: str, version: str | None) -> Bundle:
    """The bundle of ``version``, or of the production version."""
    versions = store.versions(name)
    target = store.aliases().target(name)
    if version is None and target is None:
        raise click.UsageError(f"{name} has no {PRODUCTION} version. Versions: {', '.join(versions) or 'none'}.")
    return store.open(name, version or target.version)  # type: ignore[union-attr]
