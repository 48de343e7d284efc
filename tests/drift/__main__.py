"""`make drift`: the figures and the picture of docs/drift.md, from real data and the shipped models (DATA_DIR)."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from service.drift import Monitor
from service.settings import Settings
from tests.drift.measure import Alarms, draws, false_alarms, halves, offer_microseconds, rows_until_alarm, turned
from tests.drift.plot import Course, course, draw
from tests.drift.streams import Rows, Shipped, feed

ROOT = Path(__file__).resolve().parents[2]
WEIGHT, YEAR, ORIGIN, JAPAN = 3, 5, 6, 2


def false(models: dict[str, Shipped], known: dict[str, Rows], streams: int) -> None:
    """Print how often traffic as in training raises an alarm."""
    rng = np.random.default_rng(0)
    click.echo("\n| model | traffic | streams | looks | moderate or worse | major | streams with any |")
    click.echo("|---|---|---|---|---|---|---|")
    for name in ("cnn", "dnn"):
        rows = models[name].answered(models[name].split.test.rows)
        _line(name, "test pictures", false_alarms(draws(models[name], rows, streams, 4000, rng)))
    cars = known["regressor"]
    every = {"drift_min_rows": 100}
    found = false_alarms(halves(models["regressor"], cars, 5 * streams, rng), **every)
    _line("regressor", "one half of the cars, the other being the reference", found)
    often = Rows(_tenfold(cars.rows), _tenfold(cars.answers))
    found = false_alarms(draws(models["regressor"], often, streams, 3000, rng))
    _line("regressor", "the cars, ten times each", found)
    found = false_alarms(draws(models["lstm"], known["lstm"], streams, 4000, rng))
    _line("lstm", "windows of the years of training", found)


def _tenfold(values: np.ndarray) -> np.ndarray:
    return np.repeat(values, 10, axis=0)


def _line(name: str, what: str, found: Alarms) -> None:
    click.echo(
        f"| `{name}` | {what} | {found.streams:,} of {found.rows:,} rows | {found.looks:,} | "
        f"{found.moderate / found.looks:.2%} | {found.major / found.looks:.2%} | {found.streams_alarmed} |"
    )


Changes = dict[str, tuple[str, str, Rows]]
"""Title -> model, what a person would say, and rows as they become."""


def changes(models: dict[str, Shipped], known: dict[str, Rows]) -> Changes:
    """What may change."""
    cnn, cars, heat = models["cnn"], models["regressor"], models["lstm"]
    pictures, car_rows, windows = known["cnn"].rows, known["regressor"].rows, known["lstm"].rows
    heavier = car_rows.copy()
    heavier[:, WEIGHT] += 300

    def only(chosen: np.ndarray) -> Rows:
        return known["regressor"].take(np.flatnonzero(chosen))

    return {
        "inverted": ("cnn", "pictures inverted", cnn.answered(255 - pictures)),
        "turned": ("cnn", "pictures turned by a quarter", cnn.answered(turned(pictures))),
        "darker": ("cnn", "pictures at 70 % of their brightness", cnn.answered((pictures * 0.7).astype(np.uint8))),
        "boots": ("cnn", "ankle boots only", known["cnn"].take(np.flatnonzero(cnn.split.validation.values == 9))),
        "heavier": ("regressor", "cars 300 lb heavier", cars.answered(heavier)),
        "japan": ("regressor", "Japanese cars only", only(car_rows[:, ORIGIN] == JAPAN)),
        "newer": ("regressor", "cars from 1979 on", only(car_rows[:, YEAR] >= 79)),
        "warmer2": ("lstm", "2 degC warmer", heat.answered(windows + np.float32(2))),
        "warmer5": ("lstm", "5 degC warmer", heat.answered(windows + np.float32(5))),
        "later": ("lstm", "the months after those of training", heat.answered(heat.split.test.rows)),
    }


def soon(models: dict[str, Shipped], known: dict[str, Rows], changed: Changes) -> None:
    """Print how soon a real change raises an alarm."""
    shares = (1.0, 0.5, 0.2)
    click.echo("\n| change | all of the traffic | half | a fifth | what is said in the end (all) |")
    click.echo("|---|---|---|---|---|")
    for name, title, after in changed.values():
        cells, said = [], ""
        for share in shares:
            found = [rows_until_alarm(models[name], known[name], after, share, seed) for seed in range(5)]
            said = said or found[0][1]
            noticed = sorted(rows for rows, _ in found if rows is not None)
            cells.append(f"{noticed[len(noticed) // 2]:,}" if len(noticed) > 2 else "none")
        click.echo(f"| `{name}`: {title} | {' | '.join(cells)} | {said.split('; PSI')[0]}{_rest(said)} |")


def _rest(said: str) -> str:
    return "; PSI" + said.split("; PSI", 1)[1].split(";", maxsplit=1)[0] if "; PSI" in said else ""


def seasons(model: Shipped, known: Rows) -> None:
    """Print what the windows of training say of themselves in the order of time, the second time around."""
    for half_life in (1000, 4000):
        monitor = Monitor(model.bundle, Settings(drift_half_life_rows=half_life))
        states = [report.state for _ in range(2) for report in feed(monitor, known, 200)]
        again = states[len(states) // 2 :]
        calm = again.count("none")
        click.echo(f"\nlstm in order, half-life {half_life:,} rows: no alarm at {calm} of {len(again)} looks")


def courses(models: dict[str, Shipped], known: dict[str, Rows], changed: Changes) -> list[Course]:
    """What the picture shows."""
    shown = {"turned": ("picture_centre_y", "picture_width", "label", "pixel_intensity")}
    shown |= {"heavier": ("weight", "value", "horsepower"), "warmer5": ("OT_level", "OT_last", "value", "OT_spread")}
    return [
        course(models[name], known[name], changed[key][2], f"{name}: {changed[key][1]}", features)
        for key, features in shown.items()
        for name in (changed[key][0],)
    ]


@click.command()
@click.option("--data-dir", type=click.Path(exists=True, file_okay=False, path_type=Path), envvar="DATA_DIR")
@click.option("--streams", default=100, show_default=True, help="Streams of each kind without any change.")
@click.option("--picture", default=ROOT / "docs" / "drift.png", type=click.Path(path_type=Path))
def main(data_dir: Path | None, streams: int, picture: Path) -> None:
    """Measure false alarms, alarms and cost, and draw the picture."""
    models = {name: Shipped(name, data_dir) for name in ("cnn", "dnn", "regressor", "lstm")}
    known = {}
    for name, model in models.items():
        parts = [model.split.validation] if name in ("cnn", "dnn") else [model.split.train, model.split.validation]
        known[name] = model.answered(np.concatenate([part.rows for part in parts]))
    for name, model in models.items():
        on_path, in_thread = offer_microseconds(model, known[name])
        click.echo(f"{name}: {on_path:.2f} us a batch on the path, {in_thread:.0f} us a row in the thread")
    false(models, known, streams)
    changed = changes(models, known)
    soon(models, known, changed)
    seasons(models["lstm"], known["lstm"])
    draw(courses(models, known, changed), picture)


if __name__ == "__main__":
    main()
