"""What simpler methods reach on the same rows, computed in the same run."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from models.task import (
    Category,
    ImageClassification,
    Records,
    SequenceClassification,
    TabularClassification,
    TabularRegression,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.task import Task
    from training.split import Part

_LOGISTIC_ROWS = 6000


def answers(task: Task, train: Part, part: Part) -> dict[str, NDArray[np.float64]]:
    """What each simple method, fitted on `train`, says of the rows of `part`: class probabilities or values."""
    if isinstance(task, ImageClassification):
        return classes(train, part, len(task.labels))
    if isinstance(task, TabularRegression):
        return regressions(task, train, part)
    if isinstance(task, TabularClassification):
        return table_classes(task, train, part)
    if isinstance(task, SequenceClassification):
        return sequence_classes(train, part, len(task.labels))
    target = [channel.name for channel in task.channels].index(task.target)
    # A day, where the steps say so.
    period = "day" if (task.step, task.horizon) == ("PT1H", 24) else f"{task.horizon} steps"
    return forecasts(train, part, target=target, ridge=100.0, period=period)


def classes(train: Part, test: Part, count: int) -> dict[str, NDArray[np.float64]]:
    """Probabilities (test rows, classes) of the most frequent class and of logistic regression on the pixels.

    Logistic regression sees at most 6,000 training rows, as its name says: more would take minutes for under a point.
    """
    from sklearn.linear_model import LogisticRegression

    frequencies = np.bincount(train.values, minlength=count) / len(train)
    few = train.take(slice(_LOGISTIC_ROWS))
    model = LogisticRegression(C=0.01, max_iter=60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # 60 iterations are enough for a baseline, convergence or not
        model.fit(few.rows.reshape(len(few), -1) / 255.0, few.values)
    logistic = np.zeros((len(test), count))
    logistic[:, model.classes_] = model.predict_proba(test.rows.reshape(len(test), -1) / 255.0)
    return {
        "most frequent class": np.tile(frequencies, (len(test), 1)),
        f"logistic regression on {len(few)} rows": logistic,
    }


def table_classes(task: TabularClassification, train: Part, test: Part) -> dict[str, NDArray[np.float64]]:
    """Probabilities (test rows, classes) of the class frequencies, logistic regression and gradient boosting."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    methods = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "gradient boosting": HistGradientBoostingClassifier(random_state=0),
    }
    inputs, questions = _columns(task, train.rows, train.rows), _columns(task, test.rows, train.rows)
    frequencies = np.bincount(train.values, minlength=len(task.labels)) / len(train)
    answers = {"most frequent class": np.tile(frequencies, (len(test), 1))}
    for name, method in methods.items():
        answers[name] = np.zeros((len(test), len(task.labels)))
        answers[name][:, np.unique(train.values)] = method.fit(inputs, train.values).predict_proba(questions)
    return answers


def sequence_classes(train: Part, test: Part, count: int) -> dict[str, NDArray[np.float64]]:
    """Probabilities (test rows, classes) of the class frequencies, and of logistic regression on window statistics.

    Of each channel: mean, standard deviation, least, largest and last value, and the last less the first.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def statistics(rows: NDArray[Any]) -> NDArray[np.float64]:
        steps = rows.astype(np.float64)
        first, last = steps[:, 0], steps[:, -1]
        columns = [steps.mean(1), steps.std(1), steps.min(1), steps.max(1), last, last - first]
        return np.concatenate(columns, axis=1)

    frequencies = np.bincount(train.values, minlength=count) / len(train)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    logistic = np.zeros((len(test), count))
    logistic[:, np.unique(train.values)] = model.fit(statistics(train.rows), train.values).predict_proba(
        statistics(test.rows)
    )
    return {
        "most frequent class": np.tile(frequencies, (len(test), 1)),
        "logistic regression on window statistics": logistic,
    }


def regressions(task: TabularRegression, train: Part, test: Part) -> dict[str, NDArray[np.float64]]:
    """Values (test rows,) of the median, linear regression, 5 nearest neighbours and gradient boosting."""
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.linear_model import LinearRegression
    from sklearn.neighbors import KNeighborsRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    methods = {
        "linear regression": LinearRegression(),
        "5 nearest neighbours": make_pipeline(StandardScaler(), KNeighborsRegressor(5)),
        "gradient boosting": GradientBoostingRegressor(random_state=0),
    }
    inputs, questions = _columns(task, train.rows, train.rows), _columns(task, test.rows, train.rows)
    answers = {name: method.fit(inputs, train.values).predict(questions) for name, method in methods.items()}
    return {"median": np.full(len(test), np.median(train.values)), **answers}


def forecasts(
    train: Part, test: Part, *, target: int, ridge: float, period: str = "day"
) -> dict[str, NDArray[np.float64]]:
    """Values (test rows, horizon) of repeating the last value or period, and of ridge regression on changes."""
    from sklearn.linear_model import Ridge

    last = test.rows[:, -1:, target].astype(np.float64)
    horizon = test.values.shape[1]
    changes = (train.rows - train.rows[:, -1:]).reshape(len(train), -1)
    linear = Ridge(ridge).fit(changes, train.values - train.rows[:, -1:, target])
    learned = last + linear.predict((test.rows - test.rows[:, -1:]).reshape(len(test), -1))
    answers = {"repeat the last value": np.repeat(last, horizon, axis=1), "ridge regression": learned}
    if test.rows.shape[1] >= horizon:
        answers[f"repeat the last {period}"] = test.rows[:, -horizon:, target].astype(np.float64)
    return answers


def _columns(task: Records, rows: NDArray[Any], train: NDArray[Any]) -> NDArray[np.float64]:
    """One column a number, its training mean where it is missing, one a category's value, one for what is missing."""
    columns = []
    for index, field in enumerate(task.fields):
        column = rows[:, index].astype(np.float64)
        absent = np.isnan(column)
        if field.missing:
            columns.append(absent)
        if isinstance(field, Category):
            columns += [column == code for code in range(len(field.values))]
        else:
            columns.append(np.where(absent, np.nanmean(train[:, index]), column) if field.missing else column)
    return np.stack(columns, axis=1).astype(np.float64)
