"""One trained version on disk: nothing of it is believed before its hash is checked."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from models.bundle import CARD, GOLDEN, KERAS, MANIFEST, ONNX, REFERENCE, TRAINED_ROWS, Bundle
from models.decision import Criterion, Decision
from models.errors import BundleError
from models.manifest import Figure, FileEntry, Manifest
from models.names import is_name, is_version
from tests.bundles import CARS, CREATED, IMAGE, SERIES, make_bundle
from tests.conftest import MakeBundle

FILES = (KERAS, ONNX, GOLDEN, REFERENCE, CARD)


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("intact"), "cars", CARS)


@pytest.fixture
def copy(intact: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(intact.path, tmp_path / "copy"))


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x01
    path.write_bytes(data)


def edit(path: Path, **changes: Any) -> None:
    """Change members of the manifest without sealing it anew."""
    document = json.loads((path / MANIFEST).read_bytes())
    (path / MANIFEST).write_text(json.dumps(document | changes, indent=2, sort_keys=True) + "\n")


def forge(path: Path, **changes: Any) -> None:
    """Change members of the manifest and give it the digest that fits: what a careful forger does."""
    document = json.loads((path / MANIFEST).read_bytes()) | changes | {"digest": ""}
    blank = (json.dumps(document, indent=2, sort_keys=True) + "\n").encode()
    document["digest"] = hashlib.sha256(blank).hexdigest()
    (path / MANIFEST).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


@pytest.mark.parametrize("task", [IMAGE, CARS, SERIES], ids=lambda task: task.kind)
def test_what_was_sealed_is_what_is_opened(task: Any, bundle_of: MakeBundle) -> None:
    sealed = bundle_of(task, "some-model")
    opened = Bundle.open(sealed.path)
    opened.verify()
    assert opened == sealed
    assert opened.manifest.task == task
    assert opened.manifest.files.keys() == set(FILES)


def test_a_version_is_the_time_of_creation_and_the_start_of_the_keras_files_hash(intact: Bundle) -> None:
    manifest = intact.manifest
    assert manifest.version == f"{CREATED:%Y%m%d-%H%M%S}-{manifest.files[KERAS].sha256[:8]}"
    assert is_version(manifest.version)


def test_golden_rows_and_reference_come_back_as_written(intact: Bundle) -> None:
    rows, outputs = intact.golden()
    assert rows.shape[1:] == CARS.input_shape
    assert outputs.shape == (len(rows), *CARS.output_shape)
    assert intact.reference() == {}


def test_a_bundle_knows_whether_it_could_be_exported(bundle_of: MakeBundle) -> None:
    assert bundle_of(CARS, "with").has_onnx
    without = bundle_of(CARS, "without", onnx_graph=False)
    assert not without.has_onnx
    with pytest.raises(BundleError, match=r"lists no model\.onnx"):
        without.read(ONNX)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("at", [0.0, 0.3, 0.7, 1.0])
def test_a_flipped_bit_in_any_file_is_noticed(copy: Path, name: str, at: float) -> None:
    size = (copy / name).stat().st_size
    flip(copy / name, round(at * (size - 1)))
    bundle = Bundle.open(copy)
    with pytest.raises(BundleError, match=name.replace(".", r"\.") + " does not match"):
        bundle.read(name)
    with pytest.raises(BundleError, match="sha256"):
        bundle.verify()


@pytest.mark.parametrize("name", FILES)
def test_a_longer_or_shorter_file_is_noticed(copy: Path, name: str) -> None:
    whole = (copy / name).read_bytes()
    for changed in (whole + b"\0", whole[:-1], b""):
        (copy / name).write_bytes(changed)
        with pytest.raises(BundleError, match="does not match"):
            Bundle.open(copy).verify()
    (copy / name).write_bytes(whole)
    Bundle.open(copy).verify()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_noticed(copy: Path, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"{name} cannot be read"):
        Bundle.open(copy).verify()


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
    with pytest.raises(BundleError, match="is no model name"):
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


@pytest.mark.parametrize("name", ["model.h5", MANIFEST, "../manifest.json", ""])
def test_only_what_the_manifest_lists_is_read(copy: Path, name: str) -> None:
    with pytest.raises(BundleError, match="lists no"):
        Bundle.open(copy).read(name)


def test_opening_reads_the_manifest_alone(copy: Path) -> None:
    for name in FILES:
        (copy / name).unlink()
    assert Bundle.open(copy).manifest.name == "cars"


def test_golden_rows_are_not_parsed_before_their_hash_is_checked(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / GOLDEN).write_bytes(b"x" * (copy / GOLDEN).stat().st_size)
    parsed: list[object] = []
    monkeypatch.setattr(np, "load", lambda *args, **_: parsed.append(args))
    with pytest.raises(BundleError, match="does not match"):
        Bundle.open(copy).golden()
    assert not parsed


def test_golden_rows_hold_no_objects(bundle_of: MakeBundle, tmp_path: Path) -> None:
    made = bundle_of()
    folder = tmp_path / "objects"
    shutil.copytree(made.path, folder)
    np.savez(folder / GOLDEN, rows=np.array([{}], object), outputs=np.zeros(1))
    again = reseal(folder, made.manifest)
    with pytest.raises(ValueError, match="allow_pickle"):
        again.golden()


def reseal(folder: Path, manifest: Manifest, **changes: Any) -> Bundle:
    (folder / MANIFEST).unlink(missing_ok=True)
    keep = ("name", "architecture", "task", "figures", "parameters", "lineage", "example", "created")
    return Bundle.seal(folder, **{member: getattr(manifest, member) for member in keep} | changes)


@pytest.mark.parametrize("name", [KERAS, GOLDEN, REFERENCE, CARD])
def test_a_bundle_without_a_required_file_is_not_sealed(copy: Path, intact: Bundle, name: str) -> None:
    (copy / name).unlink()
    with pytest.raises(BundleError, match=f"needs {name}"):
        reseal(copy, intact.manifest)
    assert not (copy / MANIFEST).exists()


def test_plots_belong_to_the_bundle(copy: Path, intact: Bundle) -> None:
    (copy / "plots").mkdir()
    (copy / "plots" / "learning-curve.png").write_bytes(b"png")
    sealed = reseal(copy, intact.manifest)
    assert sealed.read("plots/learning-curve.png") == b"png"
    flip(copy / "plots" / "learning-curve.png", 1)
    with pytest.raises(BundleError, match="learning-curve"):
        sealed.verify()


def test_sealing_leaves_no_temporary_file(intact: Bundle) -> None:
    assert {p.name for p in intact.path.iterdir()} == {*FILES, MANIFEST}


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


def test_a_stray_file_is_named_and_not_sealed(copy: Path, intact: Bundle) -> None:
    (copy / ".DS_Store").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"'\.DS_Store' can be no file of a bundle"):
        reseal(copy, intact.manifest)


DECISION = Decision(
    production="20260101-000000-0123abcd",
    rows=200,
    left_out=3,
    margin=0.02,
    criteria=(Criterion(name="accuracy", passed=True, value=0.01, limit=0.02, sentence="It is as good."),),
)


def test_a_gates_decision_becomes_part_of_the_sealed_manifest(copy: Path) -> None:
    before = Bundle.open(copy)
    judged = before.judged(DECISION)
    assert Bundle.open(copy) == judged
    assert judged.manifest.gate == DECISION
    assert judged.manifest.digest != before.manifest.digest
    assert judged.manifest.version == before.manifest.version


def test_a_manifest_that_no_gate_judged_does_not_mention_one(intact: Bundle) -> None:
    assert b"gate" not in (intact.path / MANIFEST).read_bytes()


@pytest.mark.parametrize("changes", [{"production": "../up"}, {"margin": 0}, {"rows": -1}, {"verdict": "good"}])
def test_a_decision_that_is_none_is_refused_even_under_a_fitting_digest(copy: Path, changes: dict[str, Any]) -> None:
    forge(copy, gate=DECISION.model_dump(mode="json") | changes)
    with pytest.raises(BundleError, match="not valid"):
        Bundle.open(copy)


def test_the_rows_that_a_version_was_trained_on_come_back_as_written(copy: Path, intact: Bundle) -> None:
    assert intact.trained_rows() is None
    np.save(copy / TRAINED_ROWS, np.array([3, 5, 4_000_000_000], np.uint32))
    found = reseal(copy, intact.manifest).trained_rows()
    assert found is not None
    np.testing.assert_array_equal(found, [3, 5, 4_000_000_000])


@pytest.mark.parametrize("rows", [np.zeros(3), np.zeros((2, 2), np.uint32), np.array([{}], object)])
def test_other_arrays_are_no_fingerprints_of_rows(copy: Path, intact: Bundle, rows: Any) -> None:
    np.save(copy / TRAINED_ROWS, rows)
    with pytest.raises(BundleError, match="Train it anew"):
        reseal(copy, intact.manifest).trained_rows()


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
