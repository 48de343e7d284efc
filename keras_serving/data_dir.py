"""The option `--data-dir`, which several commands have."""

from pathlib import Path

import click

data_dir_option = click.option(
    "--data-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="DATA_DIR",
    help="Folder with the known data sets' files.  [default: DATA_DIR]",
)
