"""Every row is answered once, by a model that did not see it; seeds are summed up as mean and spread."""

import numpy as np
import pytest

from models.errors import ConfigError
from models.manifest import Figure
from tests.training.made_up import cars, tiny
from training.cross_validate import cross_validate
from training.datasets import data_set
from training.seeds import spread


# TensorFlow's word that it compiles what prepares the batches all the same.
@pytest.mark.filterwarnings("ignore:Even though the .tf.config:UserWarning")
@pytest.mark.usefixtures("uncompiled")
def test_all_rows_are_judged_beside_baselines_of_the_same_folds() -> None:
    data, config = data_set("auto-mpg"), tiny("regressor", folds=2, model={"members": 1, "units": [8]})
    split = data.split(data.engineer(cars()), config)
    # Half: networks of two epochs hold 78 % by themselves, so that only the folds within each fold can bring it about.
    found = cross_validate(data.task.model_copy(update={"coverage": 0.5}), split, config, 3)
    assert len(found.outputs) == len(split.train) + len(split.validation) + len(split.test) == 119
    headline = found.figures[0]
    assert (headline.name, headline.split, headline.rows) == ("mae", "3-fold", 119)
    assert set(headline.baselines) == {"median", "linear regression", "5 nearest neighbours", "gradient boosting"}
    # Out of fold: nearest neighbours that had seen their row would be far better than this noise allows.
    assert headline.baselines["gradient boosting"] > 0.3
    assert np.isfinite(found.outputs).all()
    covered = next(figure for figure in found.figures if figure.name == "interval_coverage")
    assert covered.value == pytest.approx(0.5, abs=0.1)


def test_a_recipe_that_calibrates_on_validation_rows_has_none_here() -> None:
    data, config = data_set("auto-mpg"), tiny("regressor", folds=0)
    with pytest.raises(ConfigError, match="Set folds = 5"):
        cross_validate(data.task, data.split(data.engineer(cars()), config), config, 3)


def test_a_spread_is_the_standard_deviation_over_seeds() -> None:
    runs = [(Figure(name="mae", value=v, higher_is_better=False, rows=9, split="validation"),) for v in (1.0, 2.0, 3.0)]
    (line,) = spread(runs)
    assert line == "mae 2.0000 +- 1.0000 on 9 validation rows (1.0000, 2.0000, 3.0000)"
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        spread([runs[0], ()])
