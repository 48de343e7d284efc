"""Train the same model under every combination of some settings, and say which does best on held-out rows."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import architecture
from models.errors import ConfigError
from training.config import TrainConfig, load_config
from training.overrides import full_key, known_keys, parse_values, split_setting

if TYPE_CHECKING:
    from training.datasets import DataSet
    from training.pipeline import Loaded
    from training.split import Split


@dataclass(frozen=True)
class Run:
    """One fit of a comparison.

    Attributes:
        label: What is varied, and how: the seed is not in it.
        config: Of the fit.
    """

    label: str
    config: TrainConfig


@dataclass(frozen=True)
class Result:
    """What one fit came to, on held-out rows only.

    Attributes:
        label: As the run's.
        seed: Of the fit.
        figure: Name of the headline figure.
        value: Of it.
        higher_is_better: Of it.
        unit: Of it.
        parameters: Of the network.
        seconds: Of the fit; one that was interrupted counts from where it went on.
        history: Each epoch's losses and metrics.
    """

    label: str
    seed: int
    figure: str
    value: float
    higher_is_better: bool
    unit: str | None
    parameters: int
    seconds: float
    history: dict[str, list[float]]


def plan(
    recipes: Sequence[Path], over: Sequence[str], *, settings: Sequence[str] = (), seeds: int = 3
) -> tuple[Run, ...]:
    """All runs, checked before the first one starts.

    Args:
        recipes: TOML files, one a network.
        over: `key=value,value,...` each; every combination is run.
        settings: `key=value` each, of every run.
        seeds: Runs of each combination, with the seeds 1, 2, ...

    Raises:
        ConfigError: A setting that is unknown, or a combination that cannot be trained.
    """
    varied = []
    for text in over:
        key, listed = split_setting(text)
        varied.append((key, parse_values(listed)))
    runs: list[Run] = []
    for recipe in recipes:
        base = load_config(recipe, settings)
        known = known_keys(TrainConfig, architecture(base.architecture).config_class)
        keys = [full_key(key, known) for key, _ in varied]
        if "seed" in keys:
            raise ConfigError("seed is varied in any case: say how many with --seeds")
        for values in product(*(values for _, values in varied)):
            chosen = [f"{key}={json.dumps(value)}" for key, value in zip(keys, values, strict=True)]
            shown = [f"{k.rpartition('.')[2]} {_shown(v)}" for k, v in zip(keys, values, strict=True)]
            label = ", ".join([*([recipe.stem] if len(recipes) > 1 else []), *shown]) or recipe.stem
            configs = (load_config(recipe, [*settings, *chosen, f"seed={seed}"]) for seed in range(1, seeds + 1))
            runs += [Run(label, config) for config in configs]
    return tuple(runs)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def results(
    runs: Sequence[Run],
    folder: Path,
    *,
    data_dir: Path | None = None,
    load: Callable[..., Loaded] | None = None,
    progress: Callable[[str], None] = print,
) -> Iterator[Result]:
    """Fit what has no result yet, one after the other. The test rows are not looked at.

    Args:
        runs: Which.
        folder: Gets `runs/`, a file for each result by the hash of its configuration, and unfinished fits, so that
            the same call goes on where it was interrupted.
        data_dir: Folder that may hold the data's files (DATA_DIR).
        load: Another source of data, as `training.pipeline.train` takes it.
        progress: Gets a line for each result, with how many are done and how long the others will take.
    """
    data = _Data(data_dir, load)
    paths = [folder / "runs" / f"{run.config.architecture}-{run.config.sha256[:16]}.json" for run in runs]
    durations: list[float] = []
    for number, (run, path) in enumerate(zip(runs, paths, strict=True), 1):
        known = path.exists()
        if known:
            found = Result(**{**json.loads(path.read_text(encoding="utf-8")), "label": run.label})
        else:
            found = _fit(run, data, path.with_suffix(""))
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(vars(found)) + "\n", encoding="utf-8")
            partial.replace(path)
            durations.append(found.seconds)
        before = ", of an earlier call" if known else ""
        to_go = sum(not other.exists() for other in paths[number:])
        progress(
            f"[{number}/{len(runs)}] {found.label}, seed {found.seed}: held-out {found.figure} {found.value:.4f} "
            f"({found.seconds:.0f} s{before}{_left(to_go, durations)})"
        )
        yield found


def _left(runs: int, durations: Sequence[float]) -> str:
    """How long so many runs will take if they are as long as those of this call; nothing where none can tell."""
    if not runs or not durations:
        return ""
    seconds = runs * sum(durations) / len(durations)
    return f"; about {seconds / 60:.0f} min left" if seconds >= 90 else f"; about {seconds:.0f} s left"


def _fit(run: Run, data: _Data, checkpoints: Path) -> Result:
    import logging
    import shutil

    import keras

    from training.build import build_and_fit

    # A new network each run is what this is for, and TensorFlow would warn of it.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    keras.backend.clear_session()
    known, split = data(run.config)
    started = time.monotonic()
    checkpoints.parent.mkdir(parents=True, exist_ok=True)
    fitted = build_and_fit(
        architecture(run.config.architecture), known.task, split, run.config, checkpoints=checkpoints
    )
    figure = fitted.held_out[0]
    shutil.rmtree(checkpoints, ignore_errors=True)
    return Result(
        run.label,
        run.config.seed,
        figure.name,
        figure.value,
        figure.higher_is_better,
        figure.unit,
        fitted.model.count_params(),
        time.monotonic() - started,
        fitted.history,
    )


class _Data:
    """Reads a data set once for all runs on it."""

    def __init__(self, data_dir: Path | None, load: Callable[..., Loaded] | None) -> None:
        self.data_dir, self.load = data_dir, load
        self.read: dict[str, Any] = {}

    def __call__(self, config: TrainConfig) -> tuple[DataSet, Split]:
        from training.pipeline import load_known
        from training.validation import validate

        if config.dataset not in self.read:
            loaded = (self.load or load_known)(config, self.data_dir)
            raw = validate(loaded.data.engineer(loaded.raw), loaded.data.schema())
            self.read[config.dataset] = (loaded.data, raw)
        data, raw = self.read[config.dataset]
        return data, data.split(raw, config).fewer(config.train_rows, seed=config.seed)
