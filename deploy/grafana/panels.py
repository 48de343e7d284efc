"""What the dashboards show: their panels, and the query of each. Grafana's form of it is made in build.py.

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


_LATENCY = "serving_request_duration_seconds"
_A_MODEL = ', model!=""'
_MODEL = ', model="$model"'
_PRODUCTION = _MODEL + ', alias="production"'
_ROWS = "serving_shadow_rows"

OVERVIEW = Dashboard(
    "serving-overview",
    "Serving: overview",
    "Requests, errors and duration of every model, what is left of its objective, saturation, and what is live.",
    (
        (
            "Requests, errors, duration",
            (
                Panel(
                    "Requests",
                    "Answered requests, refusals included.",
                    (Query(rate("serving_requests_total", "model", _A_MODEL), "{{model}}"),),
                    "reqps",
                ),
                Panel(
                    "Answers that are no success",
                    "4xx are the clients' errors; 429 and 5xx use up the objective's budget.",
                    (Query(rate("serving_requests_total", "route, code", ', code!~"2.."'), "{{code}} {{route}}"),),
                    "reqps",
                ),
                Panel(
                    "Duration",
                    "From request line to answer.",
                    (
                        Query(quantile(0.5, _LATENCY, "model", _A_MODEL), "{{model}} p50"),
                        Query(quantile(0.99, _LATENCY, "model", _A_MODEL), "{{model}} p99"),
                    ),
                    "s",
                ),
            ),
        ),
        (
            "Objective and error budget",
            (
                Panel(
                    "Objective: success and in time",
                    "Share of requests that is to succeed, and to be answered within the time beside it.",
                    (
                        Query('min by (model) (serving_objective_success_ratio{job="$job"})', "{{model}} success"),
                        Query('max by (model) (serving_objective_latency_seconds{job="$job"})', "{{model}} within, s"),
                    ),
                    "short",
                    "values",
                    6,
                ),
                Panel(
                    "Requests that failed or were slow",
                    "Of the last five minutes.",
                    (
                        Query('job_model:serving_requests_failed:ratio_rate5m{job="$job"}', "{{model}} failed"),
                        Query('job_model:serving_requests_slow:ratio_rate5m{job="$job"}', "{{model}} slow"),
                    ),
                    "percentunit",
                    width=9,
                ),
                Panel(
                    "Budget left, three days",
                    "1 is all of it; below 0 the objective was missed.",
                    tuple(
                        Query(
                            f'1 - job_model:serving_requests_{kind}:ratio_rate3d{{job="$job"}} '
                            "/ on (job, model) job_model:serving_error_budget:ratio",
                            "{{model}} " + kind,
                        )
                        for kind in ("failed", "slow")
                    ),
                    "percentunit",
                    width=9,
                ),
            ),
        ),
        (
            "Saturation and versions",
            (
                Panel(
                    "Under way and waiting",
                    "Predictions being worked on; rows that wait for an engine.",
                    (
                        Query('sum(serving_inflight{job="$job"})', "under way"),
                        Query('sum by (model) (serving_queue_depth{job="$job"})', "{{model}} rows waiting"),
                    ),
                    width=6,
                ),
                Panel(
                    "Refused",
                    "queue_full is overload; the others are the clients' errors.",
                    (Query(rate("serving_rejected_total", "reason"), "{{reason}}"),),
                    "reqps",
                    width=6,
                ),
                Panel(
                    "What is loaded",
                    "fallback: production's version could not be loaded, and this one answers in its place.",
                    (Query('max by (model, alias, version, engine, device) (serving_model_info{job="$job"})', ""),),
                    "short",
                    "table",
                    12,
                ),
            ),
        ),
    ),
)

MODEL = Dashboard(
    "serving-model",
    "Serving: one model",
    "Where its time goes, what it answers, whether its input is what it was, and its candidate beside production.",
    (
        (
            "Where the time goes",
            (
                Panel(
                    "Stages, mean",
                    "decode, queue and encode of a request; infer of a batch.",
                    (Query(mean("serving_stage_duration_seconds", "stage", _PRODUCTION), "{{stage}}"),),
                    "s",
                    "stacked",
                ),
                Panel(
                    "Stages, p99",
                    "The same, of the slowest hundredth.",
                    (Query(quantile(0.99, "serving_stage_duration_seconds", "stage", _PRODUCTION), "{{stage}}"),),
                    "s",
                ),
                Panel(
                    "Batch size",
                    "Rows that the engine computes together.",
                    (
                        Query(mean("serving_batch_size", "model", _MODEL), "mean"),
                        Query(quantile(0.95, "serving_batch_size", "model", _MODEL), "p95"),
                    ),
                ),
            ),
        ),
        (
            "What it answers",
            (
                Panel(
                    "Requests by route",
                    "Which protocol its clients speak.",
                    (Query(rate("serving_requests_total", "route", _MODEL), "{{route}}"),),
                    "reqps",
                ),
                Panel(
                    "Confidence",
                    "Probability of the most probable class; a tenth of the answers are below p10.",
                    (
                        Query(quantile(0.5, "serving_confidence", "alias", _MODEL), "{{alias}} median"),
                        Query(quantile(0.1, "serving_confidence", "alias", _MODEL), "{{alias}} p10"),
                    ),
                    "percentunit",
                    needs="classes",
                ),
                Panel(
                    "Predictions by class",
                    "Rows predicted; a mix that moves is drift, or a broken sender.",
                    (Query(rate("serving_predictions_total", "class", _MODEL), "{{class}}"),),
                    "short",
                    "stacked",
                ),
            ),
        ),
        (
            "Drift (population stability index: above 0.25 a feature is not what it was)",
            (
                Panel(
                    "Input",
                    "By feature, against the training data's reference.",
                    (Query('max by (feature) (serving_input_psi{job="$job", model="$model"})', "{{feature}}"),),
                    width=12,
                    needs="reference statistics",
                ),
                Panel(
                    "Predictions",
                    "What comes out, against the same reference.",
                    (Query('max by (feature) (serving_prediction_psi{job="$job", model="$model"})', "{{feature}}"),),
                    width=12,
                    needs="reference statistics",
                ),
            ),
        ),
        (
            "Candidate beside production",
            (
                Panel(
                    "Requests by alias",
                    "The canary's share.",
                    (Query(rate("serving_requests_total", "alias", _MODEL), "{{alias}}"),),
                    "reqps",
                    width=6,
                ),
                Panel(
                    "Duration by alias, p99",
                    "From request line to answer.",
                    (Query(quantile(0.99, _LATENCY, "alias", _MODEL), "{{alias}}"),),
                    "s",
                    width=6,
                ),
                Panel(
                    "Canary failures",
                    "Requests that the candidate failed and production answered.",
                    (Query('sum(serving_canary_failures_total{job="$job", model="$model"})', "failures"),),
                    "short",
                    "values",
                    6,
                    "canary",
                ),
                Panel(
                    "Shadow: rows that agree",
                    "Of the rows that both versions computed.",
                    (
                        Query(
                            f'sum({_ROWS}{{job="$job", model="$model", result="agreed"}}) '
                            f'/ sum({_ROWS}{{job="$job", model="$model", result=~"agreed|differed"}})',
                            "agreed",
                        ),
                    ),
                    "percentunit",
                    "lines",
                    6,
                    "shadow",
                ),
            ),
        ),
    ),
    per_model=True,
)

HOST = Dashboard(
    "serving-host",
    "Serving: processes and GPU",
    "The worker processes, and the GPUs where there are any.",
    (
        (
            "Worker processes",
            (
                Panel(
                    "CPU",
                    "Cores that each worker uses; near 1, its event loop is full.",
                    (Query(rate("serving_worker_cpu_seconds_total", "instance, worker"), "{{instance}} {{worker}}"),),
                ),
                Panel(
                    "Resident memory",
                    "It must not grow without end.",
                    (Query('serving_worker_rss_bytes{job="$job"}', "{{instance}} {{worker}}"),),
                    "bytes",
                ),
                Panel(
                    "Lag of the event loop",
                    "Longest lateness of a timer in 15 seconds: something held up every request of this worker.",
                    (Query('serving_event_loop_lag_seconds{job="$job"}', "{{instance}} {{worker}}"),),
                    "s",
                ),
                Panel(
                    "Open file descriptors",
                    "Connections, mostly.",
                    (Query('serving_worker_open_fds{job="$job"}', "{{instance}} {{worker}}"),),
                    width=12,
                ),
                Panel(
                    "Up for",
                    "A worker that is young again was killed and replaced.",
                    (Query('time() - serving_worker_start_time_seconds{job="$job"}', "{{instance}} {{worker}}"),),
                    "s",
                    width=12,
                ),
            ),
        ),
        (
            "GPU",
            (
                Panel(
                    "Utilisation",
                    "Share of time in which a kernel ran.",
                    (
                        Query(
                            'max by (instance, gpu) (serving_gpu_utilization_ratio{job="$job"})', "{{instance}} {{gpu}}"
                        ),
                    ),
                    "percentunit",
                    width=12,
                    needs="GPU",
                ),
                Panel(
                    "Memory",
                    "In use, by whoever uses it, and in all.",
                    (
                        Query(
                            'max by (instance, gpu) (serving_gpu_memory_used_bytes{job="$job"})',
                            "{{instance}} {{gpu}} used",
                        ),
                        Query(
                            'max by (instance, gpu) (serving_gpu_memory_total_bytes{job="$job"})',
                            "{{instance}} {{gpu}} total",
                        ),
                    ),
                    "bytes",
                    width=12,
                    needs="GPU",
                ),
            ),
        ),
    ),
)

DASHBOARDS = (OVERVIEW, MODEL, HOST)
