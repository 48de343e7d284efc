"""What a manifest may say, and that every change of it is noticed."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from models.bundle import CARD, MANIFEST, Bundle
from models.errors import BundleError
from models.manifest import Figure, FileEntry
from models.names import is_name, is_version
from tests.models.test_bundle import DECISION, copy, edit, forge, intact

__all__ = ["copy", "intact"]


@given(st.data())
@examples(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_changed_byte_of_the_manifest_is_noticed(intact: Bundle, tmp_path: Path, data: st.DataObject) -> None:
    whole = (intact.path / MANIFEST).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != whole[at]))
    (tmp_path / MANIFEST).write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    with pytest.raises(BundleError):
        Bundle.open(tmp_path)


def test_changed_white_space_of_the_manifest_is_noticed(copy: Path) -> None:
    whole = (copy / MANIFEST).read_bytes()
    changes = (
        whole + b"\n",
        b" " + whole,
        whole[:-1],
        whole.replace(b"\n  ", b"\n\t", 1),
        whole.replace(b": ", b":", 1),
    )
    for changed in changes:
        assert json.loads(changed) == json.loads(whole)
        (copy / MANIFEST).write_bytes(changed)
        with pytest.raises(BundleError, match="altered"):
            Bundle.open(copy)


def test_a_member_given_twice_is_noticed(copy: Path) -> None:
    whole = (copy / MANIFEST).read_bytes()
    (copy / MANIFEST).write_bytes(whole.replace(b'  "name": "cars"', b'  "name": "evil",\n  "name": "cars"'))
    with pytest.raises(BundleError, match="altered"):
        Bundle.open(copy)


def test_a_changed_hash_with_the_file_to_match_it_is_noticed(copy: Path) -> None:
    (copy / CARD).write_bytes(b"# a better model\n")
    files = json.loads((copy / MANIFEST).read_bytes())["files"]
    files[CARD] = {"sha256": hashlib.sha256(b"# a better model\n").hexdigest(), "bytes": 17}
    edit(copy, files=files)
    with pytest.raises(BundleError, match="altered"):
        Bundle.open(copy)


@pytest.mark.parametrize("found", [0, 2, "1", None, 99])
def test_an_unknown_manifest_version_is_refused_by_name(copy: Path, found: Any) -> None:
    edit(copy, manifest_version=found)
    with pytest.raises(BundleError, match=f"manifest_version must be 1. Received: {found!r}"):
        Bundle.open(copy)


@pytest.mark.parametrize("found", [True, 1.0])
def test_what_merely_equals_the_manifest_version_is_refused(copy: Path, found: Any) -> None:
    edit(copy, manifest_version=found)
    with pytest.raises(BundleError):
        Bundle.open(copy)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"manifest_version": 1}',
        b'{"manifest_version": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_no_manifest_is_a_bundle_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(data)
    with pytest.raises(BundleError):
        Bundle.open(tmp_path)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_does_not_have_is_a_bundle_error(copy: Path, text: str) -> None:
    whole = (copy / MANIFEST).read_text()
    for member in ('"example": 0', '"value": 0.9'):
        edit(copy, example=0)
        changed = (copy / MANIFEST).read_text().replace(member, f"{member.split(':')[0]}: {text}")
        assert text in changed
        (copy / MANIFEST).write_text(changed)
        with pytest.raises(BundleError):
            Bundle.open(copy)
        (copy / MANIFEST).write_text(whole)


def test_a_folder_without_a_manifest_is_a_bundle_error(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no readable manifest"):
        Bundle.open(tmp_path)
    with pytest.raises(BundleError, match="no readable manifest"):
        Bundle.open(tmp_path / "absent")


ENTRY = {"sha256": "0" * 64, "bytes": 1}


@pytest.mark.parametrize(
    "name",
    [
        "../secret.txt",
        "a/../b.txt",
        "/etc/passwd.txt",
        "a/b/c.txt",
        "..",
        ".hidden.txt",
        "a\\b.txt",
        "a.txt\n",
        "a.txt\0",
        "",
        "no_extension",
        "plots/.png",
    ],
)
def test_file_names_that_could_leave_the_folder_are_refused_even_under_a_fitting_digest(copy: Path, name: str) -> None:
    files = json.loads((copy / MANIFEST).read_bytes())["files"]
    forge(copy, files={**files, name: ENTRY})
    with pytest.raises(BundleError, match="is no file name"):
        Bundle.open(copy)


def test_a_forged_digest_alone_is_accepted_so_the_refusals_above_are_about_the_names(copy: Path) -> None:
    forge(copy, architecture="another")
    assert Bundle.open(copy).manifest.architecture == "another"


NAMES = ["", "../up", "a/b", "a\\b", ".", "..", "Upper", "1st", "-a", "a-", "a--b", "a b", "a\n", "é", "a" * 64, "a:b"]


@pytest.mark.parametrize("name", NAMES)
def test_model_names_that_are_no_names_are_refused_even_under_a_fitting_digest(copy: Path, name: str) -> None:
    assert not is_name(name)
    forge(copy, name=name)
    with pytest.raises(BundleError, match="is no name"):
        Bundle.open(copy)


@pytest.mark.parametrize("name", ["a", "cars", "fashion-mnist_2", "a" * 63])
def test_model_names_are_lower_case_words(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "version", ["", "..", "../x", "20260102-030405", "20260102-030405-0123ABCD", "20260102-030405-0123abcd\n", "latest"]
)
def test_versions_of_another_form_are_refused_even_under_a_fitting_digest(copy: Path, version: str) -> None:
    assert not is_version(version)
    forge(copy, version=version)
    with pytest.raises(BundleError, match="is no version"):
        Bundle.open(copy)


def test_an_unknown_member_is_refused_even_under_a_fitting_digest(copy: Path) -> None:
    forge(copy, hook="os.system")
    with pytest.raises(BundleError, match="not valid"):
        Bundle.open(copy)


def test_a_manifest_cannot_be_changed_in_memory(intact: Bundle) -> None:
    with pytest.raises(ValidationError):
        intact.manifest.name = "other"  # type: ignore[misc]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_figure_is_a_finite_number(value: float) -> None:
    with pytest.raises(ValidationError):
        Figure(name="accuracy", value=value, higher_is_better=True, rows=1)


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "G" * 64, "0" * 64 + "\n"])
def test_a_hash_is_64_hexadecimal_digits(sha256: str) -> None:
    with pytest.raises(ValidationError):
        FileEntry(sha256=sha256, bytes=0)


def test_a_manifest_that_no_gate_judged_does_not_mention_one(intact: Bundle) -> None:
    assert b"gate" not in (intact.path / MANIFEST).read_bytes()


@pytest.mark.parametrize("changes", [{"production": "../up"}, {"margin": 0}, {"rows": -1}, {"verdict": "good"}])
def test_a_decision_that_is_none_is_refused_even_under_a_fitting_digest(copy: Path, changes: dict[str, Any]) -> None:
    forge(copy, gate=DECISION.model_dump(mode="json") | changes)
    with pytest.raises(BundleError, match="not valid"):
        Bundle.open(copy)


def test_a_decision_passes_when_every_criterion_does_and_promotes_when_it_passed_or_was_forced() -> None:
    failed = DECISION.model_copy(update={"criteria": (DECISION.criteria[0].model_copy(update={"passed": False}),)})
    refused = DECISION.model_copy(update={"criteria": (), "refused": "no rows"})
    assert DECISION.passed
    assert DECISION.promotes
    assert DECISION.summary == "gate passed: 1 criteria on 200 rows"
    for decision, reason in ((failed, "accuracy"), (refused, "no rows")):
        assert not decision.passed
        assert not decision.promotes
        assert decision.summary == f"gate refused: {reason}"
        forced = decision.model_copy(update={"forced": "a recall"})
        assert not forced.passed
        assert forced.promotes
        assert forced.summary == f"forced: a recall (gate refused: {reason})"
