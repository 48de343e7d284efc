"""`keras-serving captured`: what a server captured, with what turned out to be true, as data to train on."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from models.errors import UnknownModelError

if TYPE_CHECKING:
    from models.task import Task


@click.command()
@click.argument("name")
@click.option(
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    help="Records: a file that ends with .parquet or .csv. Pictures: a folder, which gets a folder a class.",
)
def captured(name: str, output: Path) -> None:
    """Write the captured rows of NAME of which the truth was told, to train on.

    A server captures with SERVING_CAPTURE_SHARE, and learns the truth by POST /feedback.
    """
    from models.task import ImageClassification, Records

    task, columns, truths = _read(name)
    if isinstance(task, ImageClassification):
        count, how = _write_pictures(columns, truths, output), "--data FOLDER"
    elif isinstance(task, Records):
        count, how = _write_records(task, columns, truths, output), f"--data FILE --target {task.target}"
    else:
        raise click.ClickException(
            f"{name} learns from one series in time order, which captured stretches are not. Train it on the series."
        )
    click.echo(f"{count:,} of {len(columns['_row']):,} captured rows have a truth: written to {output}")
    click.echo(f"train on them: keras-serving train ARCH {how} --name {name}")


def _read(name: str) -> tuple[Task, dict[str, list[Any]], dict[tuple[str, int], Any]]:
    """The newest version's task, all rows of versions with the same columns, and the truths by request id and row.

    Raises:
        UnknownModelError: Nothing was captured of this model.
    """
    import pyarrow.parquet as pq
    from pydantic import TypeAdapter

    from models.captured import REQUEST_ID, ROW, TASK, TRUTH
    from models.names import is_name
    from models.task import Task
    from service.capture import ROWS_FILES, TRUTH_FILES, capture_folder
    from service.settings import Settings

    if not is_name(name):
        raise click.UsageError(f"{name!r} is no model name.")
    folder = capture_folder(Settings.load()) / name
    tables = [pq.read_table(io.BytesIO(path.read_bytes())) for path in sorted(folder.glob(f"{ROWS_FILES}-*.parquet"))]
    if not tables:
        raise UnknownModelError(
            f"Nothing of {name!r} is captured. Start the server with SERVING_CAPTURE_SHARE=1 and this SERVING_HOME."
        )
    newest = tables[-1]
    alike = [table for table in tables if table.column_names == newest.column_names]
    columns = {key: [value for table in alike for value in table[key].to_pylist()] for key in newest.column_names}
    truths = {}
    for path in sorted(folder.glob(f"{TRUTH_FILES}-*.parquet")):
        told = pq.read_table(io.BytesIO(path.read_bytes())).to_pydict()
        for request_id, row, truth in zip(told[REQUEST_ID], told[ROW], told[TRUTH], strict=True):
            truths[request_id, row] = json.loads(truth)
    return TypeAdapter(Task).validate_json(newest.schema.metadata[TASK]), columns, truths


def _write_records(task: Any, columns: dict[str, list[Any]], truths: dict[tuple[str, int], Any], output: Path) -> int:
    from models.captured import with_truth

    found = with_truth(columns, truths, task.target)
    temporary = output.with_name(f".{output.name}")
    if output.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table(found), temporary)
    elif output.suffix == ".csv":
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(found)
            writer.writerows(zip(*found.values(), strict=True))
    else:
        raise click.UsageError(f"--output must end with .parquet or .csv. Received: {output.name!r}.")
    temporary.replace(output)
    return len(found[task.target])


def _write_pictures(columns: dict[str, list[Any]], truths: dict[tuple[str, int], Any], output: Path) -> int:
    from models.captured import PICTURE, with_truth

    found = with_truth(columns, truths, "label")
    for picture, label in zip(found[PICTURE], found["label"], strict=True):
        # No label leads out of the folder.
        folder = output / (re.sub(r"[^\w ()+.-]", "_", label).strip(".") or "_")
        folder.mkdir(parents=True, exist_ok=True)
        # By its bytes: the same picture twice is one file, and no name comes from a client.
        (folder / f"{hashlib.sha256(picture).hexdigest()[:16]}.png").write_bytes(picture)
    return len(found["label"])
