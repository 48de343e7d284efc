"""`keras-serving models export|import`: versions as files, and models that were trained elsewhere."""

import os
import shlex
import tempfile
from pathlib import Path
from typing import Any

import click

from keras_serving.models_change import switch
from keras_serving.stores import find_bundle, open_store, who
from models.names import is_name
from models.pictures import PREPARATIONS
from models.store import PRODUCTION

_USTAR_AT = 257
_ZIP = b"PK\x03\x04"


@click.command("export")
@click.argument("name")
@click.argument("version", metavar="[VERSION|ALIAS] FILE", nargs=-1, required=True)
def export(name: str, version: tuple[str, ...]) -> None:
    """Write a version of NAME to FILE, a tar archive; its production version unless VERSION or an alias is given.

    The same version gives the same bytes. `keras-serving models import FILE` adds it to another store.
    """
    *given, file = version
    if len(given) > 1:
        raise click.UsageError(f"one VERSION and one FILE. Received: {' '.join(version)}.")
    if not Path(file).absolute().parent.is_dir():
        raise click.UsageError(f"FILE {file}: there is no folder {Path(file).parent}. Make it first.")
    store = open_store()
    bundle = find_bundle(store, name, given[0] if given else None)
    store.export(name, bundle.manifest.version, Path(file))
    click.echo(f"{name} {bundle.manifest.version} -> {file}, {Path(file).stat().st_size / 1e6:.2f} MB")


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--name", help="Name of the model; a .keras file needs one.")
@click.option(
    "--task",
    type=click.Choice(["image_classification"]),
    help="What the numbers mean; any other kind is described by --schema.  [default: image_classification]",
)
@click.option("--labels", metavar="A,B,...", help="Class names, in the order of the model's outputs.")
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON document of a task, as `keras-serving models show --json` prints it under `task`.",
)
@click.option("--preparation", type=click.Choice(sorted(PREPARATIONS)), help="[default: stretch_v1]")
@click.option(
    "--pixels",
    type=click.Choice(["0..255", "0..1", "-1..1"]),
    help="Range of the pixels that the model was trained on.  [default: 0..255]",
)
@click.option("--logits", is_flag=True, help="The model's outputs are logits, not probabilities.")
@click.option("--breaking", is_flag=True, help="Allow another schema or other labels than the name's served version.")
def import_file(file: Path, name: str | None, **form: Any) -> None:
    """Add FILE to the store: an archive of `models export`, or a .keras file that was trained elsewhere.

    An archive says itself what it is. A .keras file needs --name and --labels or --schema; it is loaded without any
    code of its own, exported to ONNX and compared; what cannot be exported is served by TensorFlow. The first version
    of a name is served at once.
    """
    with file.open("rb") as stream:
        head = stream.read(512)
    if head[_USTAR_AT:].startswith(b"ustar"):
        given = [f"--{option}" for option, value in {"name": name, **form}.items() if value]
        if given:
            raise click.UsageError(f"{file.name} is an archive, which says itself what it is. Leave out {given[0]}.")
        _import_archive(file)
    elif head.startswith(_ZIP):
        _import_keras(file, name, **form)
    else:
        raise click.UsageError(
            f"{file.name} is neither an archive of keras-serving models export nor a .keras file. "
            "Unpack what is compressed; save a model by model.save('model.keras')."
        )


def _import_archive(file: Path) -> None:
    store = open_store()
    manifest = store.import_file(file, who=who()).manifest
    document = store.aliases()
    if document.target(manifest.name) is None and not document.previous.get(manifest.name):
        switch(store, manifest.name, manifest.version, alias=PRODUCTION, expect=None, reason="the first version")
    else:
        click.echo(f"{manifest.name} {manifest.version} is in the store")
        click.echo(f"to serve it: keras-serving models promote {manifest.name} {manifest.version}")


def _import_keras(file: Path, name: str | None, *, task: str | None, breaking: bool, **form: Any) -> None:
    from keras_serving.train_command import put_into_service, refuse_changes, served_task

    if name is None:
        raise click.UsageError(f"{file.name} is a .keras file, which needs --name: the name to serve it by.")
    if not is_name(name):
        raise click.UsageError(f"--name {name!r}: use lower case letters, digits, - and _, a letter first.")
    if form["labels"] is None and form["schema"] is None:
        raise click.UsageError(
            f"{task or 'image_classification'} needs --labels: class names, separated by commas; another task --schema."
        )
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from training.own.imported import Form, import_model
    except ImportError as error:
        raise click.ClickException(
            f"importing needs {error.name}, which is not installed. pip install -r requirements/train.txt"
        ) from None
    store = open_store()
    served = None if breaking else served_task(store, name)
    said = {option: value for option, value in form.items() if value}
    words = ["keras-serving", "models", "import", file.name, "--name", name]
    words += [f"--{option}={getattr(value, 'name', value)}" for option, value in said.items() if value is not True]
    words += [f"--{option}" for option, value in said.items() if value is True]
    if "labels" in said:
        said["labels"] = tuple(said["labels"].split(","))
    with tempfile.TemporaryDirectory() as folder:
        bundle, reason = import_model(file, name, Form(command=shlex.join(words), **said), Path(folder) / name)
        if served is not None:
            refuse_changes(name, served, bundle.manifest.task)
        version = store.add(bundle.path, who=who(), reason=f"import {file.name}").manifest.version
    if reason:
        click.echo(f"no ONNX graph, so TensorFlow serves it: {reason}")
    put_into_service(store, name, version)
