"""What the load test counts as a right answer."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from loadtests.expected import JSON, PNG, Case, cases, difference
from tests.bundles import CARS, IMAGE, SERIES, make_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for name, task in (("pictures", IMAGE), ("cars", CARS), ("series", SERIES)):
        make_bundle(folder, name, task)
    return folder


def answer(case: Case, **changes: Any) -> bytes:
    document = {"model": "m", "version": case.version, "request_id": "1", "predictions": [case.expected | changes]}
    return json.dumps(document).encode()


@pytest.mark.parametrize("kind", ["image_classification", "tabular_regression", "sequence_forecast"])
def test_the_golden_answer_is_right_and_any_other_is_wrong(bundles: Path, kind: str) -> None:
    found = cases(bundles, kind)
    assert len(found) >= 8
    first = found[0]
    assert first.problem(answer(first)) == ""
    # The random picture classifier is so sure of itself that all its answers are all but the same.
    others = [case for case in found if difference(first.expected, case.expected, 1e-3)]
    assert others or kind == "image_classification"
    assert all("instead of" in first.problem(answer(first, **case.expected)) for case in others)


def test_a_picture_is_sent_as_a_file_and_as_pixels(bundles: Path) -> None:
    found = cases(bundles, "image_classification")
    file = next(case for case in found if case.content_type == PNG)
    pixels = next(case for case in found if case.content_type == JSON)
    with Image.open(io.BytesIO(file.body)) as image:
        np.testing.assert_array_equal(np.asarray(image), json.loads(pixels.body)["instances"][0])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": "boat"}, "predictions[0].label"),
        ({"confidence": 2.0}, "predictions[0].confidence"),
        ({"confidence": None}, "predictions[0].confidence"),
        ({"probabilities": {}}, "members differ"),
        ({"extra": 1}, "members differ"),
    ],
)
def test_a_changed_member_is_named(bundles: Path, changes: dict[str, Any], says: str) -> None:
    case = cases(bundles, "image_classification")[0]
    assert says in case.problem(answer(case, **changes))


def test_another_version_is_a_wrong_answer(bundles: Path) -> None:
    case = cases(bundles, "tabular_regression")[0]
    body = answer(case).replace(case.version.encode(), b"20200101-000000-00000000")
    assert "20200101-000000-00000000 answered" in case.problem(body)


@pytest.mark.parametrize("body", [b"", b"oops", b"[]", b'{"version": "x"}', b'{"version": "x", "predictions": []}'])
def test_an_unexpected_form_is_a_wrong_answer(bundles: Path, body: bytes) -> None:
    assert cases(bundles, "tabular_regression")[0].problem(body).startswith("unexpected form")


def test_numbers_differ_beyond_the_tolerance_and_nan_always() -> None:
    assert difference([1.0, 2.0], [1.0, 2.00001], 1e-4) == ""
    assert difference([1.0, 2.0], [1.0, 2.1], 1e-4) == "predictions[0][1]: 2.1 instead of 2.0"
    assert difference([1.0], [float("nan")], 1e-4) != ""
    assert "lengths" in difference([1.0], [1.0, 1.0], 1e-4)


def test_a_folder_without_such_a_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no bundle for tabular_regression"):
        cases(tmp_path, "tabular_regression")
