"""`python -m training.seeds NAME --seed 1 --seed 2 --seed 3`: how much of a held-out figure is luck."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

if TYPE_CHECKING:
    from models.manifest import Figure


def spread(runs: Sequence[tuple[Figure, ...]]) -> list[str]:
    """One line a figure: mean and standard deviation over runs that differ in their seed alone."""
    found = []
    for figures in zip(*runs, strict=True):
        values = [figure.value for figure in figures]
        where = f"on {figures[0].rows} {figures[0].split} rows"
        each = ", ".join(f"{value:.4f}" for value in values)
        found.append(f"{figures[0].name} {np.mean(values):.4f} +- {np.std(values, ddof=1):.4f} {where} ({each})")
    return found


@click.command()
@click.argument("name")
@click.option("--seed", "seeds", multiple=True, type=int, default=(1, 2, 3), show_default=True)
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="DATA_DIR")
def main(name: str, seeds: tuple[int, ...], data_dir: Path | None) -> None:
    """Fit the committed recipe NAME with each seed; the test rows are not looked at."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if len(seeds) < 2:
        raise click.UsageError("a spread needs two seeds or more")
    from models import architecture
    from training.build import build_and_fit
    from training.config import config_path, load_config
    from training.evaluate import lines
    from training.parts import parts
    from training.pipeline import load_known
    from training.validation import validate

    config = load_config(config_path(name))
    loaded = load_known(config, data_dir)
    data, raw = loaded.data, validate(loaded.data.engineer(loaded.raw), loaded.data.schema())
    runs = []
    for seed in seeds:
        chosen = config.model_copy(update={"seed": seed})
        split = data.split(raw, chosen)
        fitted = build_and_fit(architecture(config.architecture), data.task, split, chosen)
        runs.append(fitted.held_out)
        click.echo(f"seed {seed}: {'; '.join(lines(fitted.held_out))}")
        if not config.folds:
            figure, found = parts(data.task, fitted.model, fitted.facts, split.validation)
            click.echo(f"  {figure}: " + "; ".join(f"{part} {value:.4f}" for part, value in found.items()))
    click.echo("\n".join(spread(runs)))


if __name__ == "__main__":
    main()
