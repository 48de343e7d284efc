"""One page about data, self-contained."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from tests.training.made_up import MADE_UP, tiny
from training.analysis_report import drift, html
from training.datasets import Raw, data_set

SECTIONS = {
    "cnn": ("Distributions", "Class balance", "Sample pictures"),
    "regressor": ("Distributions", "Missing values", "Correlation"),
    "lstm": ("Distributions", "Series", "Seasonality"),
}


@pytest.mark.parametrize("architecture", sorted(SECTIONS))
def test_the_page_shows_what_the_kind_of_data_calls_for_and_loads_nothing(architecture: str) -> None:
    config = tiny(architecture)
    data = data_set(config.dataset)
    raw = MADE_UP[config.dataset]()
    page = html(data, raw, data.split(data.engineer(raw), config))
    headings = re.findall("<h2>(.*?)</h2>", page)
    for wanted in SECTIONS[architecture]:
        assert any(heading.startswith(wanted) for heading in headings), wanted
    sources = re.findall('src="(.*?)"', page)
    assert len(sources) == len(headings) - 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)


def test_what_is_written_in_the_data_is_text_in_the_page() -> None:
    config = tiny("regressor")
    data = replace(data_set("auto-mpg"), title="<script>alert(1)</script>")
    raw = MADE_UP["auto-mpg"]()
    table = raw.table.assign(**{"<b>odd</b>": pd.Series(["<i>x</i>"] * len(raw.table))})
    page = html(data, Raw(table), data.split(data.engineer(raw), config))
    assert not any(tag in page for tag in ("<script>", "<b>", "<i>"))


def test_drift_is_0_for_the_same_values_and_1_for_values_apart() -> None:
    values = np.random.default_rng(0).normal(size=500)
    assert drift(values, values) == 0
    assert drift(values, values + 100) == 1
    assert drift(np.array([1.0, np.nan]), np.array([1.0])) == 0
