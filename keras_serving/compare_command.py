"""`keras-serving compare`."""

import os
import shlex
from pathlib import Path

import click

from keras_serving.data_dir import data_dir_option
from models import architectures


@click.command()
@click.argument("names", metavar="ARCH...", nargs=-1, required=True)
@click.option("--over", multiple=True, metavar="KEY=VALUE,...", help="A setting and the values to compare. Repeatable.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting of every run. Repeatable.")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Runs of each combination.")
@click.option(
    "--config",
    "configs",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="TOML file, one for each ARCH in order.  [default: the shipped ones]",
)
@data_dir_option
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("runs/compare"),
    show_default=True,
    help="Folder for table.md, curves.png and the runs; what it holds already is not trained again.",
)
def compare(
    names: tuple[str, ...],
    *,
    over: tuple[str, ...],
    settings: tuple[str, ...],
    seeds: int,
    configs: tuple[Path, ...],
    data_dir: Path | None,
    output: Path,
) -> None:
    """Train ARCH under every combination of settings, and compare on held-out rows.

    Mean and spread over seeds, as a table and learning curves. The test rows are not looked at. Interrupted, the same
    command goes on where it was.

    Example: keras-serving compare dnn --over optimizer=sgd,adam --over activation=sigmoid,relu --set epochs=5
    """
    unknown = [name for name in names if name not in architectures()]
    if unknown:
        raise click.UsageError(f"Unknown architecture {unknown[0]!r}. Known: {', '.join(architectures())}.")
    if configs and len(configs) != len(names):
        raise click.UsageError(f"{len(names)} ARCH and {len(configs)} --config: give one for each, in order, or none.")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from training import compare_report
    from training.compare import Result, plan, results
    from training.config import ConfigError, config_path
    from training.datasets import DataError

    recipes = configs or tuple(config_path(name) for name in names)
    found: list[Result] = []
    try:
        runs = plan(recipes, over, settings=settings, seeds=seeds)
        for run, name in zip(runs[:: len(runs) // len(names)], names, strict=False):
            if run.config.architecture != name:
                raise click.UsageError(f"--config of {run.config.architecture} is given for {name}.")
        for result in results(runs, output, data_dir=data_dir, progress=click.echo):
            found.append(result)  # noqa: PERF402 - one by one: what is there counts when the next one is interrupted
    except KeyboardInterrupt:
        if found:
            click.echo(f"\n{len(found)} of {len(runs)} runs are done:\n\n{compare_report.table(found)}")
        click.echo("The same command goes on from here.")
        raise click.Abort from None
    except ConfigError as error:
        raise click.UsageError(str(error)) from None
    except DataError as error:
        raise click.ClickException(str(error)) from None
    words = ["keras-serving", "compare", *names]
    for option, values in (("--config", configs), ("--over", over), ("--set", settings)):
        for value in values:
            words += [option, str(value)]
    command = shlex.join([*words, "--seeds", str(seeds), "--output", str(output)])
    compare_report.write(output, found, command=command)
    click.echo(compare_report.table(found))
    click.echo(f"in {output}: table.md, curves.png")
