"""`keras-serving train`."""

import os
import tempfile
from pathlib import Path

import click

from keras_serving.models_commands import open_store
from models import architectures
from models.names import is_name
from service.settings import Settings


@click.command()
@click.argument("architecture", metavar="ARCH")
@click.option("--name", help="Name of the model.  [default: ARCH]")
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file.  [default: the shipped one]",
)
@click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="DATA_DIR",
    help="Folder with the data's files.  [default: DATA_DIR]",
)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the bundle to this folder, not to the store.",
)
def train(architecture: str, name: str | None, config: Path | None, data_dir: Path | None, output: Path | None) -> None:
    """Train ARCH, evaluate it, and put the version into the store.

    It is served at once when the name is new; else `keras-serving models promote` switches to it.
    """
    if architecture not in architectures():
        raise click.UsageError(f"Unknown architecture {architecture!r}. Known: {', '.join(architectures())}.")
    name = name or architecture
    if not is_name(name):
        raise click.UsageError(f"--name {name!r}: use lower case letters, digits, - and _, a letter first.")
    # TensorFlow's C++ logs of ordinary starts would bury our lines; what matters reaches Python as an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from training import pipeline
        from training.config import ConfigError, config_path, load_config
        from training.datasets import DataError
        from training.export import ExportError
    except ImportError as error:
        raise click.ClickException(
            f"training needs {error.name}, which is not installed. pip install -r requirements/train.txt"
        ) from None
    try:
        chosen = load_config(config or config_path(architecture))
        if chosen.architecture != architecture:
            raise click.UsageError(f"{config} is a configuration of {chosen.architecture}, not of {architecture}.")
        if output is not None:
            ledger = output.resolve().parent / "EVALUATIONS.md"
            pipeline.train(chosen, name=name, publish_to=output, data_dir=data_dir, ledger=ledger, progress=click.echo)
            return
        # Where it may write: the package itself may be installed read-only.
        home = Settings.load().home
        with tempfile.TemporaryDirectory() as folder:
            staged = Path(folder) / name
            pipeline.train(
                chosen,
                name=name,
                publish_to=staged,
                data_dir=data_dir,
                ledger=home / "EVALUATIONS.md",
                runs=home / "fits",
                progress=click.echo,
            )
            store = open_store()
            manifest = store.add(staged).manifest
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except (DataError, ExportError) as error:
        raise click.ClickException(str(error)) from None
    if store.aliases().target(name) is None:
        store.set_alias(name, manifest.version)
        click.echo(f"{name} {manifest.version} is the production version: try keras-serving serve")
    else:
        click.echo(f"to serve it: keras-serving models promote {name} {manifest.version}")
