"""`python -m training.transfer_report`: does training that begins with another version's weights pay with few rows?

A CNN learns six classes of Fashion-MNIST. The other four are then learned from 10, 20 and 50 rows each, from scratch
and with `--from`, with the same recipe, rows and passes. Everything is of the publishers' training pictures: the test
pictures are not looked at.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

if TYPE_CHECKING:
    from models.task import Task
    from training.config import TrainConfig
    from training.datasets import Raw
    from training.split import Part, Split
    from training.transfer import Start

REPORT = Path(__file__).parent.parent / "docs" / "transfer.md"
KNOWN, NEW = (0, 1, 3, 4, 7, 8), (2, 5, 6, 9)
"""Class numbers that the first network learns, and those that are new to it."""

SIZES = (10, 20, 50)
"""Training rows of a new class."""

_PARENT_ROWS, _HELD_OUT = 1_200, 300
"""Of a class: rows of the first network's whole data, and rows that each network for the new classes is judged on."""

_MODEL = {"filters": [16, 32, 64], "convolutions": 2, "dropout": 0.2}
_AUGMENT = {"shift": 2, "erase": 0.2}
_PARENT_FIT = {"epochs": 10, "batch_size": 64, "learning_rate": 0.003, "weight_decay": 0.02, "augment": _AUGMENT}
_FIT = {"epochs": 40, "batch_size": 16, "learning_rate": 0.003, "weight_decay": 0.02, "augment": _AUGMENT}

Results = dict[tuple[str, int], list[float]]


def chosen_classes(raw: Raw, classes: tuple[int, ...]) -> Part:
    """The training pictures of some classes, which are numbered anew, in the set's order."""
    from training.split import Part

    if raw.pictures is None:
        raise ValueError("a set of pictures has no pictures")
    labels = raw.table["label"].to_numpy()
    rows = np.flatnonzero((raw.table["part"] == "train").to_numpy() & np.isin(labels, classes))
    return Part(raw.pictures[rows][..., np.newaxis], np.array([classes.index(label) for label in labels[rows]]))


def few_of_each(part: Part, count: int, *, after: int = 0) -> Part:
    """So many rows of each class, after the first ones."""
    rows = [np.flatnonzero(part.values == label)[after : after + count] for label in np.unique(part.values)]
    return part.take(np.sort(np.concatenate(rows)))


def lesson(part: Part, count: int, seed: int) -> Split:
    """Training rows by the seed, and the same held-out rows for all; there are no test rows."""
    from training.split import Part, Split

    held_out = few_of_each(part, _HELD_OUT)
    rest = few_of_each(part, len(part), after=_HELD_OUT)
    rest = rest.take(np.random.default_rng([seed, count]).permutation(len(rest)))
    return Split(few_of_each(rest, count), held_out, Part(part.rows[:0], part.values[:0]))


def _task(classes: tuple[int, ...]) -> Task:
    from training.sets.fashion_mnist import TASK

    return TASK.model_copy(update={"labels": tuple(TASK.labels[label] for label in classes)})


def first_network(raw: Raw, folder: Path) -> None:
    """Publish a version that knows six classes; its own test rows are training pictures too."""
    from training.config import TrainConfig
    from training.datasets import Raw, data_set
    from training.pipeline import Loaded, train
    from training.split import Split, hold_out

    part = few_of_each(chosen_classes(raw, KNOWN), _PARENT_ROWS)

    def split(raw: Raw, config: TrainConfig) -> Split:
        rest, test = hold_out(part, 0.1, seed=0, stratify=True)
        return Split(*hold_out(rest, 0.1, seed=config.seed, stratify=True), test)

    data = replace(data_set("fashion-mnist"), name="six-classes", task=_task(KNOWN), split=split)
    few = Raw(raw.table.iloc[:1_000], raw.pictures[:1_000] if raw.pictures is not None else None)
    config = TrainConfig.model_validate(
        {"architecture": "cnn", "dataset": "six-classes", "model": _MODEL, "fit": _PARENT_FIT}
    )
    train(
        config,
        name="six-classes",
        publish_to=folder / "six-classes",
        load=lambda config, data_dir: Loaded(data, few, "Fashion-MNIST, training pictures"),
        ledger=folder / "EVALUATIONS.md",
        runs=folder / "runs",
        progress=click.echo,
    )


def configuration(start: Start | None, seed: int) -> TrainConfig:
    """Of a fit on the new classes; from scratch it has as many passes as the other way with its head and everything."""
    from training.config import TrainConfig
    from training.transfer import begun

    document = {"architecture": "cnn", "dataset": "four-classes", "seed": seed, "model": _MODEL, "fit": _FIT}
    config = TrainConfig.model_validate(document)
    if start is not None:
        return begun(config, start)
    epochs = config.fit.epochs + config.transfer.frozen_epochs
    return config.model_copy(update={"fit": config.fit.model_copy(update={"epochs": epochs})})


def accuracy(raw: Raw, config: TrainConfig, start: Start | None, count: int) -> float:
    """On the held-out rows, after training on so many rows of each new class."""
    import keras

    from models import architecture
    from training.build import build_and_fit

    keras.backend.clear_session()
    split = lesson(chosen_classes(raw, NEW), count, config.seed)
    return build_and_fit(architecture("cnn"), _task(NEW), split, config, start=start).held_out[0].value


def compared(raw: Raw, start: Start, seeds: int, folder: Path) -> Results:
    """Every size, way and seed; what the folder holds already is not trained again."""
    results: Results = {}
    for count, (way, begin), seed in product(SIZES, (("scratch", None), ("from", start)), range(1, seeds + 1)):
        config = configuration(begin, seed)
        path = folder / f"{count}-{config.sha256[:16]}.json"
        if not path.exists():
            path.write_text(json.dumps(accuracy(raw, config, begin, count)), encoding="utf-8")
        value = float(json.loads(path.read_text(encoding="utf-8")))
        results.setdefault((way, count), []).append(value)
        click.echo(f"{count} rows of a class, {way}, seed {seed}: {value:.4f}")
    return results


def table(results: Results) -> str:
    """Markdown: mean, standard deviation over seeds, and each seed."""
    lines = ["| rows of a class | from scratch | with --from | gain, points | seeds |", "|---|---|---|---|---|"]
    for count in sorted({count for _, count in results}):
        scratch, begun = (np.array(results[way, count]) for way in ("scratch", "from"))
        cells = [f"{way.mean():.3f} +- {way.std(ddof=1):.3f}" for way in (scratch, begun)]
        each = ", ".join(f"{100 * gain:+.1f}" for gain in begun - scratch)
        gain = 100 * (begun - scratch).mean()
        lines.append(f"| {count} | {cells[0]} | **{cells[1]}** | {gain:+.1f} ({each}) | {len(scratch)} |")
    return "\n".join(lines) + "\n"


def plot(path: Path, results: Results) -> None:
    """Accuracy by rows of a class, bars of one standard deviation over seeds."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(6, 4), layout="constrained")
    axes = canvas.subplots()
    sizes = sorted({count for _, count in results})
    for way, label in (("scratch", "from scratch"), ("from", "with --from")):
        values = np.array([results[way, count] for count in sizes])
        axes.errorbar(sizes, values.mean(axis=1), yerr=values.std(axis=1, ddof=1), label=label, capsize=3, marker="o")
    axes.set(xscale="log", xlabel="training rows of a class", ylabel="held-out accuracy, four new classes")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.minorticks_off()
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.savefig(path, dpi=80, metadata={"Software": None})


def write(report: Path, results: Results) -> None:
    """Put the table in the place of the report's old one, and the plot beside it; the words stay."""
    text = report.read_text(encoding="utf-8")
    old = [line for line in text.splitlines(keepends=True) if line.startswith("|")]
    report.write_text(text.replace("".join(old), table(results)), encoding="utf-8")
    plot(report.with_suffix("") / "accuracy.png", results)


@click.command()
@click.option("--seeds", type=click.IntRange(2, 20), default=3, show_default=True)
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="DATA_DIR")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default=Path("runs/transfer"))
def main(seeds: int, data_dir: Path | None, output: Path) -> None:
    """Run the comparison (some minutes of one core) and write it into docs/transfer.md.

    The runs lie in the folder --output; interrupted, the same command goes on.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from models.bundle import MANIFEST, Bundle
    from training.datasets import data_set, find
    from training.transfer import start_from

    known = data_set("fashion-mnist")
    raw = known.read(find(known, data_dir=data_dir).paths)
    output.mkdir(parents=True, exist_ok=True)
    first = output / "six-classes"
    if not (first / MANIFEST).exists():
        first_network(raw, output)
    results = compared(raw, start_from(Bundle.open(first), "cnn"), seeds, output)
    write(REPORT, results)
    click.echo(table(results))


if __name__ == "__main__":
    main()
