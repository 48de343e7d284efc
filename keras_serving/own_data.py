"""The options of `keras-serving train` that describe data of a user's own."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.pictures import PREPARATIONS
from models.task import ImageClassification

if TYPE_CHECKING:
    from models.task import Task
    from training.datasets import DataSet, Raw
    from training.own.pictures import PictureOptions

_TABLE = ("target", "task", "ignore", "category")
_PICTURES = ("size", "colour", "preparation")
_SERIES = ("column", "lookback", "horizon", "label", "series", "step")

_OPTIONS = (
    click.option(
        "--data",
        type=click.Path(exists=True, path_type=Path),
        help="Data of your own: a CSV or Parquet file, or a folder with a folder of pictures (PNG, JPEG) a class.",
    ),
    click.option("--target", metavar="COLUMN", help="Table: the column to predict."),
    click.option(
        "--task", type=click.Choice(["regression", "classification"]), help="Table.  [default: what the target suits]"
    ),
    click.option("--ignore", metavar="COLUMN,...", help="Table: columns to leave out, such as a customer's number."),
    click.option("--category", metavar="COLUMN,...", help="Table: columns of numbers that are names of something."),
    click.option("--unit", metavar="COLUMN=UNIT", multiple=True, help="Unit of a column; repeat for more."),
    click.option("--size", metavar="N|HxW", help="Pictures: pixels that the model sees.  [default: 28]"),
    click.option("--colour", type=click.Choice(["grey", "rgb"]), help="Pictures.  [default: grey]"),
    click.option(
        "--preparation",
        type=click.Choice(sorted(PREPARATIONS)),
        help="Pictures: how any size becomes the model's.  [default: stretch_v1]",
    ),
    click.option(
        "--column", metavar="NAME,...", help="Series: the columns to look at; with --horizon the first one is forecast."
    ),
    click.option("--lookback", type=click.IntRange(2, 10_000), help="Series: steps that the model sees."),
    click.option("--horizon", type=click.IntRange(1, 1_000), help="Series: steps that it forecasts."),
    click.option(
        "--label", metavar="COLUMN", help="Series: the column of classes; a window has the label of its last step."
    ),
    click.option(
        "--series",
        metavar="COLUMN",
        help="Series: the column that tells series apart, each with one label.  [default: the file is one series]",
    ),
    click.option(
        "--step", help="Series: time between two lines, such as PT1H.  [default: as the column of times says]"
    ),
    click.option(
        "--share-rows",
        is_flag=True,
        help="Put rows of the data into the bundle, as golden rows and example; else they are made up.",
    ),
)


def own_data_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options; the command gets them by name."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def require_data(given: dict[str, Any]) -> None:
    """Refuse options that describe data where none is given.

    Raises:
        click.UsageError: Names the option.
    """
    for name, value in given.items():
        if value and name != "data":
            raise click.UsageError(f"--{name.replace('_', '-')} describes data of your own: give it with --data.")


def read_own_data(
    architecture: str,
    given: dict[str, Any],
    *,
    like: Task | None,
    form: Task | None = None,
    config: Path | None,
    settings: tuple[str, ...] = (),
) -> tuple[DataSet, Raw, str]:
    """Read what `--data` names as the architecture needs it.

    Args:
        architecture: Of the zoo.
        given: The options by name; `data` is set.
        like: Task of the version that the new one is to replace.
        form: Task of the version that training begins with: pictures are brought into its form.
        config: That the user gave; part of the command that is recorded.
        settings: Single settings that the user changed; part of that command too.

    Returns:
        The data set, its raw form, and its location as the lineage may say it.

    Raises:
        click.UsageError: An option is missing or belongs to another kind of data.
        DataError: The data cannot be trained on.
    """
    from training.own.labelled import LabelledOptions, read_labelled
    from training.own.pictures import read_pictures
    from training.own.series import SeriesOptions, read_series
    from training.own.source import Options, location
    from training.own.table import TableOptions, read_table

    path: Path = given["data"]
    options = Options(
        command=_words(given, location(path), config, settings),
        share_rows=given["share_rows"],
        like=like,
        say=lambda line: click.echo(f"  {line}"),
    )
    units = tuple(_unit(text) for text in given["unit"])
    if path.is_dir():
        _only(given, _PICTURES, "a folder of pictures", architecture, ("cnn", "dnn"))
        return *read_pictures(path, _pictures(given, form), options), location(path)
    if architecture == "lstm":
        _only(given, _SERIES, "a series", architecture, ("lstm",))
        _require_series(given)
        columns, lookback, step = _columns(given["column"]), given["lookback"], given["step"]
        if given["label"]:
            labelled = LabelledOptions(columns, given["label"], lookback, given["series"], step, units)
            return *read_labelled(path, labelled, options), location(path)
        series = SeriesOptions(columns, lookback, given["horizon"], step, units)
        return *read_series(path, series, options), location(path)
    _only(given, _TABLE, "a table", architecture, ("dnn", "regressor"))
    if not given["target"]:
        raise click.UsageError("a table needs --target: the column to predict.")
    table = TableOptions(given["target"], given["task"], _columns(given["ignore"]), _columns(given["category"]), units)
    return *read_table(path, table, options), location(path)


def _only(given: dict[str, Any], known: tuple[str, ...], what: str, architecture: str, suits: tuple[str, ...]) -> None:
    if architecture not in suits:
        raise click.UsageError(f"{architecture} does not learn from {what}. Use {' or '.join(suits)}.")
    for name in (*_TABLE, *_PICTURES, *_SERIES):
        if given[name] and name not in known:
            raise click.UsageError(f"--{name} does not belong to {what}. Leave it out.")


def _require_series(given: dict[str, Any]) -> None:
    for name in ("column", "lookback"):
        if not given[name]:
            raise click.UsageError(f"a series needs --{name}.")
    if bool(given["horizon"]) == bool(given["label"]):
        raise click.UsageError(
            "a series needs either --horizon, to forecast it, or --label, to tell its classes apart."
        )
    if given["series"] and not given["label"]:
        raise click.UsageError("--series tells labelled series apart: give --label too. A forecast takes one series.")


def _pictures(given: dict[str, Any], form: Task | None) -> PictureOptions:
    """The form that pictures are brought into: that of the version to begin with, else as the user says."""
    from training.own.pictures import PictureOptions

    if isinstance(form, ImageClassification):
        for name in _PICTURES:
            if given[name]:
                raise click.UsageError(f"--{name} is that of the version that --from names. Leave it out.")
        return PictureOptions(form.height, form.width, form.channels, form.preparation)
    height, width = _size(given["size"] or "28")
    channels = 3 if given["colour"] == "rgb" else 1
    return PictureOptions(height, width, channels, given["preparation"] or "stretch_v1")


def _columns(text: str | None) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()


def _unit(text: str) -> tuple[str, str]:
    column, equals, unit = text.rpartition("=")
    if not equals or not column:
        raise click.UsageError(f"--unit {text!r}: write COLUMN=UNIT, such as --unit weight=kg.")
    return column, unit


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    height, width = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not (4 <= height <= 1024 and 4 <= width <= 1024):
        raise click.UsageError(f"--size {text!r}: write N or HEIGHTxWIDTH, 4 to 1024 pixels, such as 28 or 32x64.")
    return height, width


def _words(given: dict[str, Any], location: str, config: Path | None, settings: tuple[str, ...]) -> tuple[str, ...]:
    """The options as a command line would repeat them, without a folder of this machine."""
    words = ["--data", shlex.quote(location)]
    for name, value in given.items():
        if name == "data" or not value:
            continue
        option = f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        else:
            values = value if isinstance(value, tuple) else (value,)
            words += [word for one in values for word in (option, shlex.quote(str(one)))]
    if config is not None:
        words += ["--config", shlex.quote(config.name if config.is_absolute() else config.as_posix())]
    words += [word for setting in settings for word in ("--set", shlex.quote(setting))]
    return tuple(words)
