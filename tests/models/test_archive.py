"""Archives: one version as one file, read without trust."""

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from models.archive import read_archive, write_archive
from models.bundle import MANIFEST, ONNX, Bundle
from models.errors import BundleError
from tests.bundles import CARS
from tests.conftest import MakeBundle

Members = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def made(bundle_of: MakeBundle) -> Bundle:
    return bundle_of(CARS, "cars")


@pytest.fixture
def archive(made: Bundle, tmp_path: Path) -> Path:
    file = tmp_path / "cars.tar"
    write_archive(made, file)
    return file


def members(file: Path) -> Members:
    with tarfile.open(file) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]


def write(file: Path, what: Members) -> None:
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in what:
            tar.addfile(member, io.BytesIO(data))


def entry(name: str, data: bytes = b"", **members: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for member, value in members.items():
        setattr(info, member, value)
    return info, data


def test_what_was_written_is_read_and_verified(made: Bundle, archive: Path, tmp_path: Path) -> None:
    read = read_archive(archive, tmp_path / "unpacked")
    assert read.manifest == made.manifest
    read.verify()
    assert {p.name for p in read.path.iterdir()} == {MANIFEST, *made.manifest.files}


def test_an_archive_is_the_same_byte_for_byte_each_time(made: Bundle, archive: Path, tmp_path: Path) -> None:
    (made.path / ONNX).touch()
    write_archive(made, tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive.read_bytes()


def test_tar_unpacks_an_archive_into_a_folder_of_its_own(made: Bundle, archive: Path, tmp_path: Path) -> None:
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path / "by-tar", filter="data")
    (folder,) = (tmp_path / "by-tar").iterdir()
    assert folder.name == f"cars-{made.manifest.version}"
    Bundle.open(folder).verify()


def test_an_altered_bundle_is_not_written_and_an_older_archive_stays(made: Bundle, archive: Path) -> None:
    before = archive.read_bytes()
    (made.path / ONNX).write_bytes(b"altered")
    with pytest.raises(BundleError, match="sha256"):
        write_archive(made, archive)
    assert archive.read_bytes() == before
    assert [p.name for p in archive.parent.iterdir() if p.name.startswith(".")] == []


def test_altered_content_is_refused(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    at = data.index(b"stands for a Keras file")
    archive.write_bytes(data[:at] + b"S" + data[at + 1 :])
    with pytest.raises(BundleError, match="sha256"):
        read_archive(archive, tmp_path / "unpacked")


def _dots(what: Members, root: str) -> Members:
    return [*what, entry(f"{root}/../../escaped", b"x")]


def _absolute(what: Members, root: str) -> Members:
    return [*what, entry("/etc/escaped", b"x")]


def _dots_in_front(what: Members, root: str) -> Members:
    return [entry("../escaped", b"x"), *what]


def _a_file_more(what: Members, root: str) -> Members:
    return [*what, entry(f"{root}/more.txt", b"x")]


def _a_symbolic_link(what: Members, root: str) -> Members:
    return [*what[:1], entry(f"{root}/{ONNX}", type=tarfile.SYMTYPE, linkname="/etc/passwd"), *what[1:]]


def _a_hard_link(what: Members, root: str) -> Members:
    return [*what[:1], entry(f"{root}/{ONNX}", type=tarfile.LNKTYPE, linkname="../../etc/passwd"), *what[1:]]


def _a_device(what: Members, root: str) -> Members:
    return [*what[:1], entry(f"{root}/{ONNX}", type=tarfile.CHRTYPE, devmajor=1, devminor=5), *what[1:]]


def _a_pipe(what: Members, root: str) -> Members:
    return [*what[:1], entry(f"{root}/{ONNX}", type=tarfile.FIFOTYPE), *what[1:]]


def _a_folder(what: Members, root: str) -> Members:
    return [entry(root, type=tarfile.DIRTYPE), *what]


def _a_long_name(what: Members, root: str) -> Members:
    return [*what, entry(f"{root}/{'x' * 5000}", b"x")]


def _a_file_twice(what: Members, root: str) -> Members:
    return [*what, what[-1]]


def _a_second_manifest(what: Members, root: str) -> Members:
    return [*what, what[0]]


def _two_bundles(what: Members, root: str) -> Members:
    return [*what, *((entry(m.name.replace(root, "other"), data)) for m, data in what)]


def _another_folder(what: Members, root: str) -> Members:
    return [entry(m.name.replace(root, "other"), data) for m, data in what]


def _no_folder(what: Members, root: str) -> Members:
    return [entry(m.name.removeprefix(f"{root}/"), data) for m, data in what]


def _a_file_less(what: Members, root: str) -> Members:
    return what[:-1]


def _the_manifest_last(what: Members, root: str) -> Members:
    return [*what[1:], what[0]]


def _no_members(what: Members, root: str) -> Members:
    return []


def _many_members(what: Members, root: str) -> Members:
    return [*what, *(entry(f"{root}/f{n}.txt") for n in range(5000))]


def _a_longer_file(what: Members, root: str) -> Members:
    return [*what[:-1], entry(what[-1][0].name, what[-1][1] + b"x")]


@pytest.mark.parametrize(
    "alter",
    [
        _dots,
        _absolute,
        _dots_in_front,
        _a_file_more,
        _a_symbolic_link,
        _a_hard_link,
        _a_device,
        _a_pipe,
        _a_folder,
        _a_long_name,
        _a_file_twice,
        _a_second_manifest,
        _two_bundles,
        _another_folder,
        _no_folder,
        _a_file_less,
        _the_manifest_last,
        _no_members,
        _many_members,
        _a_longer_file,
    ],
    ids=lambda alter: alter.__name__.strip("_"),
)
def test_an_archive_that_is_not_ours_is_refused_and_writes_nothing_outside(
    made: Bundle, archive: Path, tmp_path: Path, alter: Callable[[Members, str], Members]
) -> None:
    write(archive, alter(members(archive), f"cars-{made.manifest.version}"))
    box = tmp_path / "box"
    box.mkdir()
    before = set(tmp_path.rglob("*"))
    with pytest.raises(BundleError, match=r"cars\.tar is no archive of a bundle.*models export") as caught:
        read_archive(archive, box / "unpacked")
    assert len(str(caught.value)) < 500
    assert {p for p in set(tmp_path.rglob("*")) - before if box / "unpacked" not in (p, *p.parents)} == set()


@pytest.mark.parametrize("data", [b"", b"x", b"\0" * 511, b"x" * 5000, b"PK\x03\x04" + b"\0" * 5000])
def test_a_file_that_is_no_tar_is_refused(archive: Path, tmp_path: Path, data: bytes) -> None:
    archive.write_bytes(data)
    with pytest.raises(BundleError, match="is no archive of a bundle"):
        read_archive(archive, tmp_path / "unpacked")


def test_a_compressed_archive_is_refused(archive: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cars.tgz", "w:gz") as tar:
        for member, data in members(archive):
            tar.addfile(member, io.BytesIO(data))
    with pytest.raises(BundleError, match="uncompressed"):
        read_archive(tmp_path / "cars.tgz", tmp_path / "unpacked")


def cuts(length: int) -> Iterator[int]:
    yield from range(1, length, max(1, length // 60))


def test_an_archive_that_was_cut_off_anywhere_is_refused(archive: Path, tmp_path: Path) -> None:
    data = archive.read_bytes()
    content = len(data.rstrip(b"\0"))
    for length in cuts(content):
        archive.write_bytes(data[:length])
        with pytest.raises(BundleError):
            read_archive(archive, tmp_path / "unpacked")
        shutil.rmtree(tmp_path / "unpacked", ignore_errors=True)


def test_a_size_beyond_the_file_is_refused_before_it_is_believed(archive: Path, tmp_path: Path) -> None:
    huge, data = members(archive)[0]
    for size in (8**11 - 1, 2**40, 16 * 1024 * 1024 + 1):
        huge.size = size
        archive.write_bytes(huge.tobuf(tarfile.GNU_FORMAT) + data)
        with pytest.raises(BundleError, match="is no archive of a bundle"):
            read_archive(archive, tmp_path / "unpacked")
        assert not (tmp_path / "unpacked").exists()


def test_a_manifest_that_announces_more_than_the_file_holds_is_refused(
    made: Bundle, archive: Path, tmp_path: Path
) -> None:
    what = members(archive)
    files = {**made.manifest.files, ONNX: made.manifest.files[ONNX].model_copy(update={"bytes": 10**12})}
    manifest = made.manifest.model_copy(update={"files": files}).sealed()
    write(archive, [entry(what[0][0].name, manifest.to_json()), *what[1:]])
    with pytest.raises(BundleError, match="announced by the manifest"):
        read_archive(archive, tmp_path / "unpacked")
    assert not (tmp_path / "unpacked").exists()
