"""What the load test counts as a right answer."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from loadtests.expected import Case, cases, difference
from tests.bundles import CARS, CREATED, IMAGE, SERIES, make_bundle


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    for name, task in (("pictures", IMAGE), ("cars", CARS), ("series", SERIES)):
        make_bundle(folder, name, task)
    return folder


def first(bundles: Path, model: str) -> Case:
    return cases(bundles, "native", (model,))[0]


def answer(case: Case, **changes: Any) -> bytes:
    ((version, (expected,)),) = case.answers.items()
    document = {"model": "m", "version": version, "request_id": "1", "predictions": [expected | changes]}
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"label": "hat"}, "predictions[0].label"),
        ({"confidence": 2.0}, "predictions[0].confidence"),
        ({"confidence": None}, "predictions[0].confidence"),
        ({"probabilities": {}}, "members differ"),
        ({"extra": 1}, "members differ"),
    ],
)
def test_a_changed_member_is_named(bundles: Path, changes: dict[str, Any], says: str) -> None:
    case = first(bundles, "pictures")
    assert case.judge(answer(case))[1] == ""
    assert says in case.judge(answer(case, **changes))[1]


def test_another_version_is_a_wrong_answer(bundles: Path) -> None:
    case = first(bundles, "cars")
    (version,) = case.answers
    body = answer(case).replace(version.encode(), b"20200101-000000-00000000")
    assert "20200101-000000-00000000 answered" in case.judge(body)[1]


def test_of_two_versions_each_may_answer_but_only_with_its_own_values(tmp_path: Path) -> None:
    made = [make_bundle(tmp_path, "cars", CARS, seed=seed, created=CREATED + timedelta(days=seed)) for seed in (0, 1)]
    old, new = (bundle.manifest.version for bundle in made)
    case = first(tmp_path, "cars")
    assert set(case.answers) == {old, new}
    for version, other in ((old, new), (new, old)):
        body = json.dumps({"version": version, "predictions": case.answers[version]}).encode()
        assert case.judge(body) == (version, "")
        mixed = json.dumps({"version": version, "predictions": case.answers[other]}).encode()
        assert "predictions[0]" in case.judge(mixed)[1]


def test_a_format_that_names_no_version_may_be_answered_by_any_of_them(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_bundle(tmp_path, "cars", CARS, seed=seed, created=CREATED + timedelta(days=seed))
    case = next(case for case in cases(tmp_path, "tfserving") if case.payload == "row")
    old, new = case.answers.values()
    assert old != new
    for right in (old, new):
        assert case.judge(json.dumps({"predictions": right}).encode()) == ("", "")
    assert case.judge(json.dumps({"predictions": [old[0] | {"value": new[0]["value"]}]}).encode())[1] != ""


def test_numbers_differ_beyond_the_tolerance_and_nan_always() -> None:
    assert difference([1.0, 2.0], [1.0, 2.00001], 1e-4, "a") == ""
    assert difference([1.0, 2.0], [1.0, 2.1], 1e-4, "a") == "a[1]: 2.1 instead of 2.0"
    assert difference([1.0], [float("nan")], 1e-4, "a") != ""
    assert "lengths" in difference([1.0], [1.0, 1.0], 1e-4, "a")


def test_a_model_that_the_folder_lacks_is_named(bundles: Path, tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="no bundle of planes, but of cars, pictures, series"):
        cases(bundles, "native", ("cars", "planes"))
    with pytest.raises(LookupError, match="no bundle of any model"):
        cases(tmp_path, "native")
