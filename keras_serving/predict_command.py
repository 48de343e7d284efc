"""`keras-serving predict`."""

import csv
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import click
import numpy as np
import orjson
from rich.console import Console
from rich.progress import track

from keras_serving.inputs import files_of, instances_of
from keras_serving.stores import find_bundle, open_store
from models.bundle import Bundle
from models.engines import Engine, open_engine
from models.errors import ServingError
from service.protocols import native
from service.protocols.base import Decoded
from service.settings import Settings

_BATCH_ROWS = 64


@click.command()
@click.argument("name")
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--version", help="A version in the store.  [default: the production version]")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A .csv or .jsonl file.  [default: NAME-predictions.csv]",
)
def predict(name: str, files: tuple[Path, ...], version: str | None, output: Path | None) -> int:
    """Predict with NAME from FILES, without a server.

    A picture, a JSON record or a CSV file; folders stand for the files in them. One row is printed; more rows go
    into a CSV or JSONL file. What cannot be predicted is listed there with the reason, and the exit status is 1.
    """
    if output is not None and output.suffix not in (".csv", ".jsonl"):
        raise click.UsageError(f"--output {output}: use a name that ends with .csv or .jsonl.")
    if output is not None and not output.absolute().parent.is_dir():
        raise click.UsageError(f"--output {output}: there is no folder {output.parent}. Make it first.")
    settings = Settings.load()
    bundle = find_bundle(open_store(), name, version)
    task = bundle.manifest.task
    rows = [pair for file in files_of(task, files) for pair in instances_of(task, file)]
    if not rows:
        raise click.UsageError("the files hold no row.")
    engine = open_engine(bundle, kind=settings.engine, device=settings.device, threads=settings.batch_threads)
    answers = _answers(bundle, engine, iter(rows), settings)
    if len(rows) == 1 and output is None:
        answer = next(answers)
        if "error" in answer:
            raise click.ClickException(f"{answer['source']}: {answer['error']}")
        click.echo(orjson.dumps(answer, option=orjson.OPT_INDENT_2 | orjson.OPT_SERIALIZE_NUMPY))
        return 0
    output = output or Path(f"{name}-predictions.csv")
    failed = 0
    with output.open("w", newline="", encoding="utf-8") as file:
        write = _write_csv if output.suffix == ".csv" else _write_jsonl
        shown = track(answers, f"{name} {bundle.manifest.version}", total=len(rows), console=Console(stderr=True))
        for answer in write(file, shown):
            failed += "error" in answer
    click.echo(f"{len(rows) - failed} predictions, {failed} failures: {output}")
    return 1 if failed else 0


def _answers(
    bundle: Bundle, engine: Engine, rows: Iterator[tuple[str, Any]], settings: Settings
) -> Iterator[dict[str, Any]]:
    """One answer a row, in order; a row that is refused gets its reason and hurts no other."""
    task = bundle.manifest.task
    while chunk := list(islice(rows, _BATCH_ROWS)):
        decoded: list[Decoded | str] = []
        for _, instance in chunk:
            try:
                one = native.decode_body(task, b"application/json", orjson.dumps({"instances": [instance]}), settings)
                one.decode_pictures_at_once()
                decoded.append(one)
            except ServingError as error:
                decoded.append(str(error).replace("instances[0].", "").replace("instances[0]", "row"))
        good = [one for one in decoded if not isinstance(one, str)]
        outputs = iter(engine.run(np.concatenate([one.rows for one in good])) if good else ())
        for (source, _), found in zip(chunk, decoded, strict=True):
            if isinstance(found, str):
                yield {"source": source, "error": found}
            else:
                yield {"source": source, **native.predictions(task, next(outputs)[np.newaxis], found.applied)[0]}


def _write_jsonl(file: IO[str], answers: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for answer in answers:
        file.write(orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
        yield answer


def _write_csv(file: IO[str], answers: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A header from the first good answer; nested values become ``probabilities.Bag``, ``forecast.0``."""
    waiting: list[dict[str, Any]] = []
    writer: csv.DictWriter[str] | None = None
    for answer in answers:
        waiting.append(answer)
        if writer is None and "error" not in answer:
            columns = [name for name in _flat(answer) if name != "applied"]
            writer = csv.DictWriter(file, [*columns, "error"], restval="", extrasaction="ignore")
            writer.writeheader()
        if writer is not None:
            writer.writerows(map(_flat, waiting))
            waiting.clear()
        yield answer
    if writer is None:
        plain = csv.DictWriter(file, ["source", "error"])
        plain.writeheader()
        plain.writerows(waiting)


def _flat(answer: dict[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": item for key, item in value.items()}
        elif isinstance(value, np.ndarray):
            flat |= {f"{name}.{i}": item for i, item in enumerate(value)}
        else:
            flat[name] = value
    return flat
