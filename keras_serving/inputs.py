"""Files that a person has -> instances as a client would send them."""

import base64
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from models.task import Category, ImageClassification, Number, Records, Sequences, Task
from models.task.fields import BLANKS

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg")


def files_of(task: Task, paths: tuple[Path, ...]) -> list[Path]:
    """The files to read: folders stand for what lies in them and suits the task, at any depth, sorted.

    Raises:
        click.UsageError: A folder holds nothing that suits.
    """
    wanted = PICTURE_SUFFIXES if isinstance(task, ImageClassification) else (".json", ".csv")
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        found = sorted(p for p in path.rglob("*") if p.suffix.lower() in wanted and p.is_file())
        if not found:
            raise click.UsageError(f"{path} holds no {', '.join(wanted)} file.")
        files += found
    return files


def instances_of(task: Task, file: Path) -> Iterator[tuple[str, Any]]:
    """Pairs of where it comes from and an instance.

    Raises:
        click.UsageError: The file is of a kind that the task does not take, or cannot be read.
    """
    suffix = file.suffix.lower()
    try:
        if suffix in PICTURE_SUFFIXES and isinstance(task, ImageClassification):
            yield str(file), {"b64": base64.b64encode(file.read_bytes()).decode()}
        elif suffix == ".json":
            yield from _from_json(file)
        elif suffix == ".csv" and isinstance(task, Records):
            yield from _records(task, file)
        elif suffix == ".csv" and isinstance(task, Sequences):
            yield str(file), _series(task, file)
        else:
            takes = "PNG, JPEG or JSON" if isinstance(task, ImageClassification) else "JSON or CSV"
            raise click.UsageError(f"{file}: this model takes {takes} files.")
    except OSError as error:
        raise click.UsageError(f"{file} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, csv.Error, json.JSONDecodeError, RecursionError) as error:
        raise click.UsageError(f"{file} is no valid {suffix[1:].upper()}: {error}.") from None


def _from_json(file: Path) -> Iterator[tuple[str, Any]]:
    """``{"instances": [...]}``, as the service takes it, or one instance alone."""
    document = json.loads(file.read_text(encoding="utf-8"))
    if isinstance(document, dict) and isinstance(document.get("instances"), list):
        for i, instance in enumerate(document["instances"]):
            yield f"{file}[{i}]", instance
    else:
        yield str(file), document


def _records(task: Records, file: Path) -> Iterator[tuple[str, Any]]:
    """One record a line; columns that the model does not know, such as the target, are left out."""
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in task.names if name not in (reader.fieldnames or ())]
        if missing:
            raise click.UsageError(
                f"{file}: a column {missing[0]!r} is needed. Columns: {', '.join(reader.fieldnames or ())}."
            )
        for line in reader:
            yield f"{file}:{reader.line_num}", {field.name: _value(field, line[field.name]) for field in task.fields}


def _series(task: Sequences, file: Path) -> list[Any]:
    """The columns of the channels, one step a line, oldest first."""
    names = [channel.name for channel in task.channels]
    with file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in names if name not in (reader.fieldnames or ())]
        if missing:
            raise click.UsageError(
                f"{file}: a column {missing[0]!r} is needed. Columns: {', '.join(reader.fieldnames or ())}."
            )
        return [[_number(line[name]) for name in names] for line in reader]


def _value(field: Number | Category, text: str | None) -> float | str | None:
    """A cell as the field takes it; training read the same texts as missing."""
    if field.missing and (text is None or text in BLANKS):
        return None
    return text if isinstance(field, Category) else _number(text)


def _number(text: str | None) -> float | str | None:
    """A number where the text is one; otherwise the text itself, which the task refuses by name."""
    try:
        return float(text or "")
    except ValueError:
        return text
