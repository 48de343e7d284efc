"""docs/reference/metrics.md."""

import prometheus_client

from docs.generate.markdown import heading, table
from service.metrics import ROWS, SECONDS, SHARES, STAGE_SECONDS, Metrics
from service.present import PresentGauge

Metric = PresentGauge | prometheus_client.metrics.MetricWrapperBase

_INTRODUCTION = """
`GET /metrics` answers in Prometheus's text format, summed over the workers. Labels are bounded: nothing that a
client sends becomes a label. [Watching the service](../observability.md) has objectives, alerts and dashboards made
of these; [how labels are to be read](../architecture.md#metrics) says what `alias` and `route` hold.

`PSI` is the population stability index: [drift](../drift.md).
"""


def page() -> str:
    """The page's text."""
    rows = sorted(_row(metric) for metric in declared())
    buckets = [
        ("request_duration_seconds", SECONDS),
        ("stage_duration_seconds", STAGE_SECONDS),
        ("batch_size", ROWS),
        ("confidence", SHARES),
    ]
    bounds = [[f"`serving_{name}`", ", ".join(f"{bound:g}" for bound in found)] for name, found in buckets]
    return (
        heading("Metrics", _INTRODUCTION)
        + "\n"
        + table(["metric", "type", "labels", "meaning"], rows)
        + "\n## Buckets\n\nUpper bounds of the histograms' buckets; each has one more without a bound.\n\n"
        + table(["histogram", "upper bounds"], bounds)
    )


def declared() -> list[Metric]:
    """Every metric that the service has."""
    metrics = Metrics()
    values = (*vars(metrics).values(), *vars(metrics.vitals).values())
    return [value for value in values if isinstance(value, Metric)]


def _row(metric: Metric) -> list[str]:
    if isinstance(metric, PresentGauge):
        name, kind, labels, text = metric.name, "gauge", metric.labels, metric.documentation
    else:
        # prometheus_client tells these to nobody but a scrape.
        kind, labels, text = str(metric._type), metric._labelnames, metric._documentation
        name = metric._name + ("_total" if kind == "counter" else "")
    return [f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), text]
