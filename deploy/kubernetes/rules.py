"""Writes the rules and alerts of deploy/prometheus as a PrometheusRule: `python -m deploy.kubernetes.rules`."""

from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[1]
TARGET = DEPLOY / "kubernetes" / "monitoring" / "prometheusrule.yaml"
_HEAD = "# Made of deploy/prometheus/*.yml by `python -m deploy.kubernetes.rules`: change those.\n"


class _Dumper(yaml.SafeDumper):
    """Long expressions as blocks and lists indented, so that a person can read them."""

    def ignore_aliases(self, _: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def prometheus_rule() -> str:
    """The whole document, in YAML."""
    files = (DEPLOY / "prometheus" / name for name in ("rules.yml", "alerts.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "keras-serving", "labels": {"app.kubernetes.io/name": "keras-serving"}},
        "spec": {"groups": groups},
    }
    return _HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)


if __name__ == "__main__":
    TARGET.write_text(prometheus_rule(), encoding="utf-8")
