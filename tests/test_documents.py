"""What the documents say is so."""

import re
from pathlib import Path

import prometheus_client
import pytest

from service.metrics import Metrics
from service.present import PresentGauge
from service.settings import Settings

ROOT = Path(__file__).parent.parent
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def rows_of_table(heading: str) -> dict[str, list[str]]:
    """First cell without quotes -> the other cells of the table under a heading."""
    section = ARCHITECTURE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first.replace("`", ""): rest for first, *rest in cells}


def test_the_architecture_page_lists_exactly_the_settings() -> None:
    assert set(rows_of_table("Settings")) == {f"SERVING_{name.upper()}" for name in Settings.model_fields}


@pytest.mark.parametrize("name", ["threads", "workers", "max_batch_rows", "max_queue_rows", "max_request_rows"])
def test_the_architecture_page_gives_the_settings_their_defaults(name: str) -> None:
    assert rows_of_table("Settings")[f"SERVING_{name.upper()}"][0] == str(Settings.model_fields[name].default)


def test_the_architecture_page_lists_exactly_the_metrics_with_their_labels() -> None:
    documented = {}
    for names, (labels, _) in rows_of_table("Metrics").items():
        every = names.split(", ")
        groups = [labels] if len(every) == 1 else labels.split(", ")
        for name, group in zip(every, groups, strict=True):
            documented[name] = [label for label in re.split(r",\s*", group) if label not in ("", "-")]
    declared = {}
    for metric in vars(Metrics()).values():
        if isinstance(metric, PresentGauge):
            declared[metric.name.removeprefix("serving_")] = list(metric.labels)
        elif isinstance(metric, prometheus_client.metrics.MetricWrapperBase):
            suffix = "_total" if isinstance(metric, prometheus_client.Counter) else ""
            declared[metric._name.removeprefix("serving_") + suffix] = list(metric._labelnames)
    assert documented == declared


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
