"""`keras-serving analyse`: a page for a table of one's own, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from keras_serving.main import cli


def test_a_table_of_ones_own_becomes_a_page(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"age": rng.normal(40, 9, 200), "income": rng.normal(3, 1, 200)})
    table["churn"] = np.where(table["age"] + rng.normal(0, 9, 200) > 40, "yes", "no")
    table.to_csv(tmp_path / "people.csv", index=False)
    page = tmp_path / "page.html"
    arguments = ["analyse", "--data", str(tmp_path / "people.csv"), "--target", "churn", "--output", str(page)]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "page.html" in done.output
    text = page.read_text(encoding="utf-8")
    assert "Class balance" in text
    assert "income" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "give the NAME of a known data set, or --data"),
        (["mnist"], "Unknown data set 'mnist'. Known: auto-mpg, etth1, fashion-mnist"),
        (["etth1", "--target", "OT"], "--target describes data of your own"),
    ],
)
def test_a_wrong_use_is_refused_with_the_reason(arguments: list[str], reason: str) -> None:
    done = CliRunner().invoke(cli, ["analyse", *arguments])
    assert done.exit_code == 2
    assert reason in done.output
