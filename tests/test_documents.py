"""What the documents say is so."""

import re
from pathlib import Path

import prometheus_client
import pytest

from docs.generate.metrics import declared
from service.present import PresentGauge
from service.settings import Settings
from tests.docs.pages import PAGES

ROOT = Path(__file__).parent.parent
REFERENCE = ROOT / "docs" / "reference"


def rows_of_table(page: str, header: str) -> dict[str, list[str]]:
    """First code of the first cell -> the other cells, of the table with this header on a page of the reference."""
    text = (REFERENCE / page).read_text(encoding="utf-8").split(f"| {header} |")[1].split("\n\n")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:3] == "| `"]
    return {first.split("`")[1]: rest for first, *rest in cells}


def metric_labels() -> dict[str, list[str]]:
    """Name -> labels of every metric that the service has."""
    found = {}
    for metric in declared():
        if isinstance(metric, PresentGauge):
            found[metric.name] = list(metric.labels)
        else:
            suffix = "_total" if isinstance(metric, prometheus_client.Counter) else ""
            found[metric._name + suffix] = list(metric._labelnames)
    return found


def test_the_reference_lists_exactly_the_settings_with_their_defaults() -> None:
    documented = rows_of_table("settings.md", "variable | default | meaning")
    assert set(documented) == {f"SERVING_{name.upper()}" for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        # A default that is made or empty has words of its own there.
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert documented[f"SERVING_{name.upper()}"][0] == f"`{field.default}`"


def test_the_reference_lists_exactly_the_metrics_with_their_labels() -> None:
    documented = rows_of_table("metrics.md", "metric | type | labels | meaning")
    assert {name: re.findall(r"\w+", labels) for name, (_, labels, _) in documented.items()} == metric_labels()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_metric_that_a_document_names_exists(page: Path) -> None:
    # The last is a signature of TensorFlow Serving.
    known = {name + part for name in metric_labels() for part in ("", "_bucket", "_count", "_sum")}
    known.add("serving_default")
    for name in re.findall(r"\bserving_[a-z_]+[a-z]\b(?![.*:/_])", page.read_text(encoding="utf-8")):
        assert name in known, f"{page.relative_to(ROOT)}: {name}"


def test_every_relative_link_of_the_documents_leads_somewhere() -> None:
    for document in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("loadtests/*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_every_make_target_of_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for target in re.findall(r"\bmake ([a-z-]+)", readme):
        if target != "and":
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
