"""`keras-serving analyse`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from keras_serving.data_dir import data_dir_option
from keras_serving.own_data import own_data_options, read_own_data, require_data
from models import architecture, architectures


@click.command()
@click.argument("name", required=False)
@data_dir_option
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The page to write.  [default: NAME-analysis.html]",
)
@own_data_options
def analyse(name: str | None, *, data_dir: Path | None, output: Path | None, **own: Any) -> None:
    """Write one HTML page about data: NAME (a known set, or an architecture for its set), or --data.

    Distributions, missing values, correlation, class balance, sample pictures, seasonality, drift from training to
    test rows, and test rows that are training rows too. Nothing is trained.
    """
    if (name is None) == (own["data"] is None):
        raise click.UsageError("give the NAME of a known data set, or --data.")
    from training.analysis_report import html
    from training.config import ConfigError, TrainConfig
    from training.datasets import DataError
    from training.pipeline import load_known

    try:
        if name is not None:
            require_data(own)
            known = next((a for a in architectures() if name in {a, architecture(a).dataset}), None)
            if known is None:
                sets = sorted({architecture(a).dataset for a in architectures()})
                raise click.UsageError(f"Unknown data set {name!r}. Known: {', '.join(sets)}.")
            config = TrainConfig.model_validate({"architecture": known})
            loaded = load_known(config, data_dir)
            data, raw = loaded.data, loaded.raw
        else:
            known = _suited(own)
            data, raw, _ = read_own_data(known, own, like=None, config=None)
            config = TrainConfig.model_validate({"architecture": known})
        page = html(data, raw, data.split(data.engineer(raw), config))
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except DataError as error:
        raise click.ClickException(str(error)) from None
    destination = output or Path(f"{data.name}-analysis.html")
    destination.write_text(page, encoding="utf-8")
    click.echo(f"{destination}, {len(page.encode()):,} bytes")


def _suited(own: dict[str, Any]) -> str:
    """An architecture that reads such data."""
    if own["data"].is_dir():
        return "cnn"
    return "lstm" if own["lookback"] else "regressor"
