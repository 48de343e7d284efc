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
    """Write a version of NAME to FILE.

    A tar archive of its production version, unless VERSION or an alias is given. The same version gives the same
    bytes. `keras-serving models import FILE` adds it to another store.
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
    type=click.Choice(
        [
            "image_classification",
            "tabular_classification",
            "tabular_regression",
            "sequence_classification",
            "sequence_forecast",
        ]
    ),
    help="What the numbers mean.  [default: image_classification]",
)
@click.option("--labels", metavar="A,B,...", help="Class names, in the order of the model's outputs.")
@click.option(
    "--schema",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="In place of these words, the JSON document of a task, as `keras-serving models show --json` prints it.",
)
@click.option("--column", "columns", metavar="NAME,...", help="Table, series: a name for each input, in their order.")
@click.option("--range", metavar="LOW..HIGH", help="Table, series: the values that every column accepts.")
@click.option("--target", help="Table, forecast: name of what is predicted.")
@click.option("--unit", help="Regression, forecast: its unit.")
@click.option("--step", help="Series: time between two steps, such as PT1H.")
@click.option("--preparation", type=click.Choice(sorted(PREPARATIONS)), help="[default: stretch_v1]")
@click.option(
    "--pixels",
    type=click.Choice(["0..255", "0..1", "-1..1"]),
    help="Range of the pixels that the model was trained on.  [default: 0..255]",
)
@click.option("--logits", is_flag=True, help="The model's outputs are logits, not probabilities.")
@click.option("--breaking", is_flag=True, help="Allow another schema or other labels than the name's served version.")
def import_file(file: Path, name: str | None, **form: Any) -> None:
    """Add a version from FILE to the store.

    FILE is an archive of `models export`, or a .keras file that was trained elsewhere. An archive says itself what it
    is. A .keras file needs --name and --labels or --schema; it is loaded without any code of its own, exported to
    ONNX and compared; what cannot be exported is served by TensorFlow. The first version of a name is served at once.
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
    kind = task or "image_classification"
    if form["labels"] is None and form["schema"] is None and kind.endswith("classification"):
        raise click.UsageError(
            f"{kind} needs --labels: class names, separated by commas; another kind is said with --task."
        )
    if task and form["schema"]:
        raise click.UsageError("--schema says the task whole: leave --task out.")
    form |= {"task": task}
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training.own.imported import Form, import_model

    store = open_store()
    served = None if breaking else served_task(store, name)
    said = {option: value for option, value in form.items() if value}
    words = ["keras-serving", "models", "import", file.name, "--name", name]
    flags = {"columns": "column"}
    words += [
        f"--{flags.get(option, option)}={getattr(value, 'name', value)}"
        for option, value in said.items()
        if value is not True
    ]
    words += [f"--{option}" for option, value in said.items() if value is True]
    for option in {"labels", "columns"} & set(said):
        said[option] = tuple(text.strip() for text in said[option].split(","))
    if "range" in said:
        said["range"] = _range(said["range"])
    with tempfile.TemporaryDirectory() as folder:
        bundle, reason = import_model(file, name, Form(command=shlex.join(words), **said), Path(folder) / name)
        if served is not None:
            refuse_changes(name, served, bundle.manifest.task)
        version = store.add(bundle.path, who=who(), reason=f"import {file.name}").manifest.version
    if reason:
        click.echo(f"no ONNX graph, so TensorFlow serves it: {reason}")
    put_into_service(store, name, version)


def _range(text: str) -> tuple[float, float]:
    low, dots, high = text.partition("..")
    try:
        found = (float(low), float(high)) if dots else None
    except ValueError:
        found = None
    if found is None or not found[0] < found[1]:
        raise click.UsageError(f"--range {text!r}: write LOW..HIGH, two numbers, such as --range=-5..120.")
    return found
