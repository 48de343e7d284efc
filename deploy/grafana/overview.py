"""The first page: every model, its objective, and what is live."""

from deploy.grafana.panels import LATENCY, Dashboard, Panel, Query, quantile, rate

_A_MODEL = ', model!=""'

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
                        Query(quantile(0.5, LATENCY, "model", _A_MODEL), "{{model}} p50"),
                        Query(quantile(0.99, LATENCY, "model", _A_MODEL), "{{model}} p99"),
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
