"""`keras-serving models ...`: versions, aliases and traffic."""

import click

from keras_serving.models_change import canary, delete, label, promote, prune, rollback, seed, shadow, unlabel
from keras_serving.models_compare_live import compare_live
from keras_serving.models_diff import diff
from keras_serving.models_files import export, import_file
from keras_serving.models_look import history, list_models, show
from keras_serving.models_wait import wait


@click.group("models")
def models_group() -> None:
    """List, compare, switch, move and delete versions; every change is logged."""


for command in (
    *(list_models, show, diff, history, compare_live),
    *(promote, rollback, label, unlabel, canary, shadow, wait),
    *(seed, delete, prune, export, import_file),
):
    models_group.add_command(command)
