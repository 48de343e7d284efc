"""What a dashboard is made of: panels, and the query of each. Grafana's form of it is made in build.py.

``$job`` and ``$model`` are the dashboard's variables, ``$__rate_interval`` is Grafana's: at least four scrapes.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """One PromQL expression, and how its series are called: ``{{label}}`` is a label's value."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One rectangle of a dashboard.

    Attributes:
        title: Above it.
        says: What one reads from it, shown on the "i".
        queries: What it draws.
        unit: Grafana's name of the values' unit.
        kind: ``lines``, ``stacked`` lines, ``values`` or a ``table`` of labels.
        width: Of 24.
        needs: What must be there for it to have data; empty for any server that gets requests.
    """

    title: str
    says: str
    queries: tuple[Query, ...]
    unit: str = "short"
    kind: str = "lines"
    width: int = 8
    needs: str = ""


@dataclass(frozen=True)
class Dashboard:
    """One page: rows of panels under a heading each."""

    uid: str
    title: str
    says: str
    rows: tuple[tuple[str, tuple[Panel, ...]], ...]
    per_model: bool = False

    @property
    def panels(self) -> tuple[Panel, ...]:
        """All of them."""
        return tuple(panel for _, panels in self.rows for panel in panels)


def rate(metric: str, by: str, where: str = "") -> str:
    """Increase a second, summed over workers and replicas."""
    return f'sum by ({by}) (rate({metric}{{job="$job"{where}}}[$__rate_interval]))'


def quantile(share: float, metric: str, by: str, where: str = "") -> str:
    """A quantile of a histogram over all workers and replicas."""
    return f"histogram_quantile({share}, {rate(f'{metric}_bucket', f'le, {by}', where)})"


def mean(metric: str, by: str, where: str = "") -> str:
    """The mean of a histogram's values."""
    return f"{rate(f'{metric}_sum', by, where)} / {rate(f'{metric}_count', by, where)}"


LATENCY = "serving_request_duration_seconds"
