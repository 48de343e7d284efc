"""What is watched of rows and answers."""

import numpy as np
import pytest

from models.features import Feature, input_features, output_features
from tests.bundles import CARS, CHURN, IMAGE, SERIES, rows_of


def named(features: list[Feature]) -> dict[str, Feature]:
    return {feature.name: feature for feature in features}


def test_a_pictures_statistics_are_those_of_its_pixels() -> None:
    rows = rows_of(IMAGE, 5)
    found = named(input_features(IMAGE, rows))
    flat = rows.reshape(5, -1)
    np.testing.assert_allclose(found["picture_mean"].values, flat.mean(axis=1))
    np.testing.assert_allclose(found["picture_spread"].values, flat.std(axis=1))
    np.testing.assert_array_equal(found["pixel_intensity"].values, flat)


def test_centre_and_extent_say_where_the_brightness_lies() -> None:
    row = np.zeros((1, 28, 28, 1), np.uint8)
    row[0, 10, 4:7] = 200
    found = named(input_features(IMAGE, row))
    assert found["picture_centre_x"].values[0] == pytest.approx(5)
    assert found["picture_centre_y"].values[0] == pytest.approx(10)
    assert found["picture_width"].values[0] == pytest.approx(np.std([4, 5, 6]))
    assert found["picture_height"].values[0] == pytest.approx(0)


def test_a_quarter_turn_swaps_width_and_height_and_changes_no_pixel() -> None:
    rows = rows_of(IMAGE, 3)
    rows[:, :, 14:] = 0
    before, after = (named(input_features(IMAGE, r)) for r in (rows, np.rot90(rows, axes=(1, 2))))
    np.testing.assert_allclose(after["picture_width"].values, before["picture_height"].values)
    np.testing.assert_allclose(after["picture_mean"].values, before["picture_mean"].values)


def test_a_black_picture_has_its_centre_in_the_middle() -> None:
    found = named(input_features(IMAGE, np.zeros((2, 28, 28, 1), np.uint8)))
    np.testing.assert_allclose(found["picture_centre_x"].values, 13.5)
    assert np.isfinite(found["picture_width"].values).all()


def test_records_are_watched_by_column_and_series_by_level_spread_and_last_value() -> None:
    assert list(named(input_features(CARS, rows_of(CARS, 4)))) == ["weight", "horsepower", "origin"]
    assert [feature.may_lack for feature in input_features(CHURN, rows_of(CHURN, 4))] == [False, True, True]
    series = rows_of(SERIES, 4)
    found = named(input_features(SERIES, series))
    assert list(found) == ["OT_level", "OT_spread", "OT_last"]
    np.testing.assert_array_equal(found["OT_last"].values, series[:, -1, 0])


def test_answers_are_watched_by_class_and_confidence_or_value_and_width() -> None:
    label, confidence = output_features(IMAGE, np.array([[0.1, 0.7, 0.2]], np.float32))
    assert (label.values[0], label.vocabulary, confidence.values[0]) == (1, IMAGE.labels, np.float32(0.7))
    value, width = output_features(CARS, np.array([[20, 18, 25]], np.float32))
    assert (value.values[0], width.values[0], width.unit) == (20, 7, "mpg")
