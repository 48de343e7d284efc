"""One trained version on disk: nothing of it is believed before its hash is checked."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.bundle import CARD, GOLDEN, KERAS, MANIFEST, ONNX, REFERENCE, TRAINED_ROWS, Bundle
from models.decision import Criterion, Decision
from models.errors import BundleError
from models.names import is_version
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
    again = made.resealed(folder)
    with pytest.raises(ValueError, match="allow_pickle"):
        again.golden()


@pytest.mark.parametrize("name", [KERAS, GOLDEN, REFERENCE, CARD])
def test_a_bundle_without_a_required_file_is_not_sealed(copy: Path, intact: Bundle, name: str) -> None:
    (copy / name).unlink()
    (copy / MANIFEST).unlink()
    with pytest.raises(BundleError, match=f"needs {name}"):
        intact.resealed(copy)
    assert not (copy / MANIFEST).exists()


def test_a_resealed_bundle_says_what_the_first_said_but_for_the_gate_and_what_was_changed(
    copy: Path, intact: Bundle
) -> None:
    changed = intact.resealed(copy, parameters=11, golden_tolerance=1e-3, architecture="other")
    expected = intact.manifest.model_copy(
        update={"parameters": 11, "golden_tolerance": 1e-3, "architecture": "other"}
    ).sealed()
    assert changed.manifest == expected
    assert changed.judged(DECISION).resealed(copy).manifest == expected


def test_plots_belong_to_the_bundle(copy: Path, intact: Bundle) -> None:
    (copy / "plots").mkdir()
    (copy / "plots" / "learning-curve.png").write_bytes(b"png")
    sealed = intact.resealed(copy)
    assert sealed.read("plots/learning-curve.png") == b"png"
    flip(copy / "plots" / "learning-curve.png", 1)
    with pytest.raises(BundleError, match="learning-curve"):
        sealed.verify()


def test_sealing_leaves_no_temporary_file(intact: Bundle) -> None:
    assert {p.name for p in intact.path.iterdir()} == {*FILES, MANIFEST}


def test_a_stray_file_is_named_and_not_sealed(copy: Path, intact: Bundle) -> None:
    (copy / ".DS_Store").write_bytes(b"x")
    with pytest.raises(BundleError, match=r"'\.DS_Store' can be no file of a bundle"):
        intact.resealed(copy)


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


def test_the_rows_that_a_version_was_trained_on_come_back_as_written(copy: Path, intact: Bundle) -> None:
    assert intact.trained_rows() is None
    np.save(copy / TRAINED_ROWS, np.array([3, 5, 4_000_000_000], np.uint32))
    found = intact.resealed(copy).trained_rows()
    assert found is not None
    np.testing.assert_array_equal(found, [3, 5, 4_000_000_000])


@pytest.mark.parametrize("rows", [np.zeros(3), np.zeros((2, 2), np.uint32), np.array([{}], object)])
def test_other_arrays_are_no_fingerprints_of_rows(copy: Path, intact: Bundle, rows: Any) -> None:
    np.save(copy / TRAINED_ROWS, rows)
    with pytest.raises(BundleError, match="Train it anew"):
        intact.resealed(copy).trained_rows()
