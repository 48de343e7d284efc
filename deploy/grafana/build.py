"""Writes the dashboards as Grafana's JSON: ``python -m deploy.grafana.build``, after each change of a page."""

import json
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    GraphDrawStyle,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DataTransformerConfig,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from deploy.grafana import DASHBOARDS
from deploy.grafana.panels import Dashboard, Panel

FOLDER = Path(__file__).parent / "dashboards"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")
_HEIGHT = 8


def _queries(panel: Panel) -> list[Any]:
    queries = []
    for number, query in enumerate(panel.queries):
        built = prometheus.Dataquery().expr(query.expr).legend_format(query.legend).ref_id(chr(ord("A") + number))
        if panel.kind == "table":
            built = built.instant().format(PromQueryFormat.TABLE)
        queries.append(built.instant() if panel.kind == "values" else built)
    return queries


def _panel(panel: Panel) -> Any:
    built: Any
    if panel.kind == "table":
        hidden = {"excludeByName": {"Time": True, "Value": True}}
        built = table.Panel().with_transformation(DataTransformerConfig(id_val="organize", options=hidden))
    elif panel.kind == "values":
        built = stat.Panel().unit(panel.unit)
    else:
        legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
        built = timeseries.Panel().unit(panel.unit).legend(legend.show_legend(True)).tooltip(tooltip)
        built = built.draw_style(GraphDrawStyle.LINE).show_points(VisibilityMode.NEVER).line_width(1)
        if panel.kind == "stacked":
            built = built.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(30)
    needs = f" Empty without: {panel.needs}." if panel.needs else ""
    built = built.title(panel.title).description(panel.says + needs).datasource(SOURCE)
    return built.targets(_queries(panel)).span(panel.width).height(_HEIGHT)


def _variable(name: str, query: str) -> Any:
    refresh = VariableRefresh.ON_TIME_RANGE_CHANGED
    return dashboard.QueryVariable(name).query(query).datasource(SOURCE).refresh(refresh)


def build(page: Dashboard) -> str:
    """A dashboard as Grafana's JSON."""
    built = dashboard.Dashboard(page.title).uid(page.uid).description(page.says).tags(["keras-serving"])
    built = built.refresh("10s").time("now-30m", "now").timezone("browser").tooltip(DashboardCursorSync.CROSSHAIR)
    built = built.with_variable(_variable("job", "label_values(serving_model_info, job)"))
    if page.per_model:
        built = built.with_variable(_variable("model", 'label_values(serving_model_info{job="$job"}, model)'))
    link = dashboard.DashboardLink("Other pages").type(DashboardLinkType.DASHBOARDS).tags(["keras-serving"])
    built = built.link(link.include_vars(True).keep_time(True))
    for title, panels in page.rows:
        built = built.with_row(dashboard.Row(title))
        for panel in panels:
            built = built.with_panel(_panel(panel))
    return json.dumps(built.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"


def main() -> None:
    """Write each to its file."""
    for page in DASHBOARDS:
        (FOLDER / f"{page.uid}.json").write_text(build(page))


if __name__ == "__main__":
    main()
