"""Figures agree with scikit-learn's, or with a count by hand."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from training import metrics


@pytest.fixture
def answers() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(500, 4))
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), rng.integers(0, 4, 500)


def test_class_figures_agree_with_scikit_learn(answers: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, classes = answers
    expected = sklearn_metrics.accuracy_score(classes, probabilities.argmax(axis=1))
    assert metrics.accuracy(probabilities, classes) == pytest.approx(expected)
    assert metrics.log_loss(probabilities, classes) == pytest.approx(sklearn_metrics.log_loss(classes, probabilities))


def test_errors_agree_with_scikit_learn() -> None:
    truth, predicted = np.random.default_rng(0).normal(size=(2, 200))
    assert metrics.mean_absolute(predicted, truth) == pytest.approx(
        sklearn_metrics.mean_absolute_error(truth, predicted)
    )
    assert metrics.mean_squared(predicted, truth) == pytest.approx(sklearn_metrics.mean_squared_error(truth, predicted))


def test_calibration_error_is_the_gap_of_confidence_and_accuracy() -> None:
    """Ten answers of confidence 0.8, six of them right."""
    probabilities = np.tile([0.8, 0.2], (10, 1))
    classes = np.array([0] * 6 + [1] * 4)
    assert metrics.calibration_error(probabilities, classes) == pytest.approx(0.2)


def test_full_confidence_belongs_to_the_last_bin() -> None:
    assert metrics.calibration_error(np.array([[1.0, 0.0]]), np.array([0])) == 0


def test_coverage_counts_the_ends() -> None:
    low, high = np.zeros(4), np.ones(4)
    assert metrics.coverage(low, high, np.array([0.0, 0.5, 1.0, 1.5])) == 0.75
