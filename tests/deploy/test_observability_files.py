"""Rules, alerts and dashboards, without a server: they fit each other, the metrics and the documents."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import yaml

from deploy.grafana import DASHBOARDS
from deploy.grafana.build import FOLDER, build
from docs.generate.metrics import declared
from service.present import PresentGauge

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PAGE = (DEPLOY.parent / "docs" / "observability.md").read_text(encoding="utf-8")


def rules(name: str) -> list[dict[str, Any]]:
    document = yaml.safe_load((DEPLOY / "prometheus" / name).read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def alerts() -> list[str]:
    return [rule["alert"] for rule in rules("alerts.yml")]


def series_names() -> set[str]:
    """Every series that the service or the recording rules can make."""
    names = {rule["record"] for rule in rules("rules.yml")}
    for metric in declared():
        if isinstance(metric, PresentGauge):
            names.add(metric.name)
        elif isinstance(metric, prometheus_client.Counter):
            names.add(metric._name + "_total")
        elif isinstance(metric, prometheus_client.Histogram):
            names |= {metric._name + suffix for suffix in ("_bucket", "_sum", "_count")}
        else:
            names.add(metric._name)
    return names


def names_in(expr: str) -> set[str]:
    return set(re.findall(r"(?:job_model:)?\bserving_[a-z_0-9:]+", expr))


EXPRESSIONS = [rule["expr"] for name in ("rules.yml", "alerts.yml") for rule in rules(name)]
EXPRESSIONS += [query.expr for page in DASHBOARDS for panel in page.panels for query in panel.queries]


def test_every_metric_of_a_rule_or_a_panel_exists() -> None:
    asked = set().union(*map(names_in, EXPRESSIONS))
    assert len(asked) > 30
    assert asked - series_names() == set()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (Debian: prometheus)")
def test_the_rules_pass_their_unit_tests() -> None:
    command = ["promtool", "test", "rules", "rules_test.yml"]
    done = subprocess.run(command, cwd=DEPLOY / "prometheus", check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_unit_tested_both_firing_and_silent() -> None:
    cases = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())["tests"]
    seen = {
        (case["alertname"], bool(case.get("exp_alerts"))) for test in cases for case in test.get("alert_rule_test", ())
    }
    assert seen == {(alert, fires) for alert in alerts() for fires in (True, False)}


def test_every_alert_has_a_severity_and_says_where_to_read_what_to_do() -> None:
    for rule in rules("alerts.yml"):
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert f"In docs/observability.md: {rule['alert']}." in rule["annotations"]["description"]


def test_the_document_has_a_section_for_each_alert_and_no_other() -> None:
    assert sorted(re.findall(r"^### (\w+)$", PAGE, re.MULTILINE)) == sorted(alerts())


def test_the_document_names_every_dashboard_and_shows_its_picture() -> None:
    for page in DASHBOARDS:
        assert page.title in PAGE
        assert f"](observability/{page.uid}.png)" in PAGE


@pytest.mark.parametrize("page", DASHBOARDS, ids=lambda page: page.uid)
def test_the_json_of_a_dashboard_is_what_the_code_makes(page: Any) -> None:
    assert (FOLDER / f"{page.uid}.json").read_text() == build(page), "run: python -m deploy.grafana.build"


def test_there_is_no_dashboard_without_code() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {page.uid for page in DASHBOARDS}


def test_grafana_finds_the_data_source_and_the_dashboards_where_compose_puts_them() -> None:
    provisioning = DEPLOY / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "dashboards.yaml").read_text())["providers"]
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in services
    for page in DASHBOARDS:
        document = json.loads((FOLDER / f"{page.uid}.json").read_text())
        panels = [panel for panel in document["panels"] if panel["type"] != "row"]
        assert {panel["datasource"]["uid"] for panel in panels} == {source["uid"]}
