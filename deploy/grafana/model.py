"""The page of one model."""

from deploy.grafana.panels import LATENCY, Dashboard, Panel, Query, mean, quantile, rate

_MODEL = ', model="$model"'
_PRODUCTION = _MODEL + ', alias="production"'
_ROWS = "serving_shadow_rows"


def _hourly(metric: str, outcomes: str = "") -> str:
    """Increase in an hour: the truth comes in seldom."""
    outcome = f', outcome=~"{outcomes}"' if outcomes else ""
    return f'sum by (alias) (increase({metric}{{job="$job"{_MODEL}{outcome}}}[1h]))'


def _share(outcomes: str, of: str) -> str:
    every = _hourly("serving_feedback_total", of)
    return f"({_hourly('serving_feedback_total', outcomes)} or 0 * {every}) / {every}"


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
                    needs="reference statistics",
                ),
                Panel(
                    "Predictions",
                    "What comes out, against the same reference.",
                    (Query('max by (feature) (serving_prediction_psi{job="$job", model="$model"})', "{{feature}}"),),
                    needs="reference statistics",
                ),
                Panel(
                    "Beyond what is known",
                    "Numbers out of range and categories that the schema (refused) or training (answered) lacks.",
                    (
                        Query(
                            rate("serving_input_out_of_range_total", "feature, by", _MODEL),
                            "{{feature}} out of range ({{by}})",
                        ),
                        Query(
                            rate("serving_input_unseen_category_total", "feature, by", _MODEL),
                            "{{feature}} unseen ({{by}})",
                        ),
                    ),
                    needs="records with such values",
                ),
            ),
        ),
        (
            "What turned out to be true (POST /feedback), over an hour",
            (
                Panel(
                    "Right answers",
                    "Share of the answers whose true class was told.",
                    (Query(_share("right", "right|wrong"), "{{alias}} right"),),
                    "percentunit",
                    needs="feedback on classes",
                ),
                Panel(
                    "Values inside their interval",
                    "Share of the answers whose true value was told.",
                    (Query(_share("inside", "inside|outside"), "{{alias}} inside"),),
                    "percentunit",
                    needs="feedback on values",
                ),
                Panel(
                    "Mean absolute error",
                    "In the model's unit.",
                    (
                        Query(
                            f"{_hourly('serving_feedback_absolute_error_total')} "
                            f"/ {_hourly('serving_feedback_total', 'inside|outside')}",
                            "{{alias}}",
                        ),
                    ),
                    needs="feedback on values",
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
