"""The page of one model."""

from deploy.grafana.panels import LATENCY, Dashboard, Panel, Query, mean, quantile, rate

_MODEL = ', model="$model"'
_PRODUCTION = _MODEL + ', alias="production"'
_ROWS = "serving_shadow_rows"

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
                    (Query(quantile(0.99, LATENCY, "alias", _MODEL), "{{alias}}"),),
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
