"""Small files as a user might bring them, made up."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image


def customers(path: Path, rows: int = 160) -> pd.DataFrame:
    """Those who pay monthly and came lately leave; a tenth of the charges is unknown."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "customer": [f"C{i:04d}" for i in range(rows)],
            "months": rng.integers(1, 72, rows),
            "charges": np.round(rng.uniform(20, 120, rows), 2),
            "contract": rng.choice(["monthly", "yearly"], rows),
            "region": "north",
        }
    )
    leaves = (table["contract"] == "monthly") & (table["months"] < 40)
    table["churn"] = np.where(leaves, "yes", "no")
    table["price"] = 100_000 + 3_000 * table["months"]
    table["plan"] = rng.choice(["basic", "plus", "pro"], rows)
    table.loc[rng.random(rows) < 0.1, "charges"] = np.nan
    table.to_csv(path, index=False)
    return table


def shapes(folder: Path, count: int = 16, *, seed: int = 0) -> Path:
    """Bright crosses and bars on dark ground, PNG and JPEG of many sizes."""
    rng = np.random.default_rng(seed)
    for label in ("bar", "cross"):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            height, width = rng.integers(20, 60, 2)
            picture = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
            picture[height // 2 - 2 : height // 2 + 2] = 220
            if label == "cross":
                picture[:, width // 2 - 2 : width // 2 + 2] = 220
            Image.fromarray(picture).save(folder / label / f"{i}.{'png' if i % 2 else 'jpg'}")
    return folder


def load(path: Path, steps: int = 300) -> pd.DataFrame:
    """A daily cycle by the hour, and the temperature beside it."""
    rng = np.random.default_rng(0)
    cycle = 20 + 5 * np.sin(2 * np.pi * np.arange(steps) / 24) + rng.normal(0, 0.2, steps)
    table = pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=steps, freq="h").astype(str),
            "load": np.round(cycle, 3),
            "temperature": np.round(cycle / 2, 2),
        }
    )
    table.to_csv(path, index=False)
    return table


def machine(path: Path, steps: int = 900) -> pd.DataFrame:
    """A machine that shakes more in every other stretch of 60 minutes, and is worn then."""
    rng = np.random.default_rng(0)
    worn = np.arange(steps) // 60 % 2 == 1
    table = pd.DataFrame(
        {
            "time": pd.date_range("2024-01-01", periods=steps, freq="min").astype(str),
            "shaking": np.round(rng.gamma(4, np.where(worn, 2.0, 0.8)), 3),
            "heat": np.round(60 + rng.normal(0, 1, steps), 2),
            "state": np.where(worn, "worn", "sound"),
        }
    )
    table.to_csv(path, index=False)
    return table


def gestures(path: Path, count: int = 60) -> pd.DataFrame:
    """Short recordings of 20 to 50 steps, one of two movements each; their lines are not mixed."""
    rng = np.random.default_rng(0)
    recordings = []
    for number in range(count):
        steps = int(rng.integers(20, 51))
        wave = number % 2 == 0
        course = np.sin(np.arange(steps) / 2) if wave else np.linspace(-1, 1, steps)
        recordings.append(
            pd.DataFrame(
                {
                    "recording": f"r{number:02d}",
                    "x": np.round(course + rng.normal(0, 0.1, steps), 3),
                    "y": np.round(rng.normal(0, 1, steps), 3),
                    "movement": "wave" if wave else "push",
                }
            )
        )
    table = pd.concat(recordings, ignore_index=True)
    table.to_csv(path, index=False)
    return table
