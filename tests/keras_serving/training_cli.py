"""What the tests of the commands that train say again and again."""

from pathlib import Path

import pandas as pd

from models.bundle import Bundle
from models.store import PRODUCTION, Store
from tests.training.own.made_up import customers

RECIPE = """architecture = "dnn"
[model]
units = [16]
batch_norm = false
[fit]
epochs = 12
batch_size = 32
learning_rate = 0.02
"""
TRAIN = (
    *("train", "dnn", "--data", "customers.csv", "--target", "churn", "--ignore", "customer"),
    *("--name", "churn", "--config", "churn.toml"),
)
WORSE = ("--set", "fit.epochs=1", "--set", "fit.learning_rate=0.0001")


def bring_data(folder: Path, rows: int = 1000) -> pd.DataFrame:
    """Write customers.csv and a recipe; return twice as many customers."""
    table = customers(folder / "customers.csv", rows=2 * rows)
    table[:rows].to_csv(folder / "customers.csv", index=False)
    (folder / "churn.toml").write_text(RECIPE)
    return table


def alias_of(home: Path, alias: str = PRODUCTION) -> str | None:
    target = Store(home).aliases().target("churn", alias)
    return target.version if target else None


def bundle(home: Path, alias: str = PRODUCTION) -> Bundle:
    version = alias_of(home, alias)
    assert version is not None
    return Store(home).open("churn", version)
