"""Every kind of own data has a configuration that can be trained as it stands."""

import pytest

from models import architectures
from training.config import TrainConfig
from training.own.recipes import can_train, recipe

PAIRS = [(name, kind) for name in architectures() for kind in can_train(name)]


@pytest.mark.parametrize(("architecture", "kind"), PAIRS)
def test_a_recipe_is_a_configuration_that_the_manifest_can_hold(architecture: str, kind: str) -> None:
    config = recipe(architecture, kind, "customers", rows=500)
    assert (config.architecture, config.dataset) == (architecture, "customers")
    assert TrainConfig.model_validate(config.model_dump(mode="json")).sha256 == config.sha256


@pytest.mark.parametrize("architecture", architectures())
def test_every_architecture_learns_from_own_data(architecture: str) -> None:
    assert can_train(architecture)


def test_few_rows_are_passed_over_more_often_than_many() -> None:
    epochs = [recipe("cnn", "image_classification", "shoes", rows=rows).fit.epochs for rows in (500, 5_000, 50_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert len(set(epochs)) == 3


def test_own_pictures_are_not_mirrored_for_letters_and_digits_are_not_the_same_then() -> None:
    assert not recipe("cnn", "image_classification", "digits", rows=500).fit.augment.flip


def test_columns_of_own_data_enter_as_they_are_whatever_their_names() -> None:
    # The regressor's own defaults take the logarithm of Auto MPG's columns, which may be 0 in another table.
    config = recipe("regressor", "tabular_regression", "cars", rows=500)
    assert config.model.model_dump()["logarithms"] == ()
