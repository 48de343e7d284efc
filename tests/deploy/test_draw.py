"""The pictures of the dashboards: a panel is drawn from what its query answers, and an empty one says what it needs."""

import math
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from deploy.grafana import DASHBOARDS
from deploy.grafana.draw import draw

LABELS = ("model", "route", "code", "reason", "instance", "worker", "stage", "alias", "class", "feature")


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.uid)
def test_every_query_of_a_page_is_asked_with_its_variables_filled_in(page: Any, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(expr: str) -> list[dict[str, Any]]:
        asked.append(expr)
        if "gpu" in expr:
            return []
        return [{"metric": dict.fromkeys(LABELS, "x"), "values": [[0, "1"], [5, str(math.nan)], [10, "2"]]}]

    variables = {"$job": "serving", "$model": "cnn", "$__rate_interval": "1m"}
    draw(page, answer, variables, tmp_path / "new" / "page.png")
    assert len(asked) == sum(len(panel.queries) for panel in page.panels)
    assert not any("$" in expr for expr in asked)
    with Image.open(tmp_path / "new" / "page.png") as picture:
        assert picture.width > 1000
        assert len(picture.convert("L").getcolors(256) or ()) > 10
