"""Finding data: a folder, a Debian package, a download; each byte checked. The server here is a loopback one."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from training.datasets import DataError, DataSet, File, data_set, find, unpacked

CONTENT = b"a,b\n1,2\n" * 500


class Shop(ThreadingHTTPServer):
    """Serves CONTENT, after cutting the first `cut` transfers short."""

    cut = 0
    asked = 0


class _Handler(BaseHTTPRequestHandler):
    server: Shop

    def do_GET(self) -> None:
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT if self.server.asked > self.server.cut else CONTENT[:100])

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def shop() -> Iterator[Shop]:
    server = Shop(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """pooch waits a second before each new try."""
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)


def small(server: Shop | None = None, *, content: bytes = CONTENT) -> DataSet:
    digest = hashlib.sha256(content).hexdigest()
    url = f"http://127.0.0.1:{server.server_port if server else 9}/small.csv"
    file = File("small.csv", digest, url, f"sha256:{digest}")
    return replace(data_set("auto-mpg"), name="small", title="Small", files=(file,))


def test_a_download_is_checked_and_kept(shop: Shop, tmp_path: Path) -> None:
    for _ in range(2):
        source = find(small(shop), data_dir=None, cache=tmp_path, progress=False)
        assert source.paths["small.csv"].read_bytes() == CONTENT
        assert source.location == "download"
    assert shop.asked == 1


def test_a_cut_transfer_is_tried_again(shop: Shop, tmp_path: Path) -> None:
    shop.cut = 1
    source = find(small(shop), data_dir=None, cache=tmp_path, progress=False)
    assert source.paths["small.csv"].read_bytes() == CONTENT
    assert shop.asked == 2


def test_a_wrong_hash_is_refused_and_nothing_is_kept(shop: Shop, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"download failed: .*hash"):
        find(small(shop, content=b"other"), data_dir=None, cache=tmp_path, progress=False)
    assert shop.asked == 3
    assert not list(tmp_path.iterdir())


def test_no_data_gives_one_line_that_names_all_three_ways(tmp_path: Path) -> None:
    known = data_set("fashion-mnist")
    nowhere = replace(
        known,
        package=("dataset-fashion-mnist", tmp_path / "missing"),
        files=tuple(replace(file, url="http://127.0.0.1:9/" + file.name) for file in known.files),
    )
    with pytest.raises(DataError) as caught:
        find(nowhere, data_dir=tmp_path, cache=tmp_path / "cache", progress=False)
    message = str(caught.value)
    assert "\n" not in message
    for way in ("DATA_DIR", "apt-get install dataset-fashion-mnist", "http://127.0.0.1:9/train-images"):
        assert way in message


def test_data_dir_comes_before_the_package(tmp_path: Path) -> None:
    for folder in ("mine", "package"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "small.csv").write_bytes(CONTENT)
    wanted = replace(small(), package=("dataset-small", tmp_path / "package"))
    assert find(wanted, data_dir=tmp_path / "mine").location == "DATA_DIR"
    assert find(wanted, data_dir=None).location == "Debian package dataset-small"


def test_an_altered_file_is_refused_with_both_hashes(tmp_path: Path) -> None:
    (tmp_path / "small.csv").write_bytes(CONTENT + b"3,4\n")
    with pytest.raises(DataError, match=r"sha256 must be [0-9a-f]{64}\. Received: [0-9a-f]{64}"):
        find(small(), data_dir=tmp_path)


def test_the_hash_is_of_the_unpacked_bytes(tmp_path: Path) -> None:
    """Debian compressed Fashion-MNIST anew."""
    for level in (1, 9):
        (tmp_path / "small.gz").write_bytes(gzip.compress(CONTENT, level))
        assert unpacked(tmp_path / "small.gz") == CONTENT


@pytest.mark.parametrize("damage", [lambda packed: packed[:-20], lambda packed: b"no gzip" + packed])
def test_a_truncated_archive_is_named(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    (tmp_path / "small.gz").write_bytes(damage(gzip.compress(CONTENT)))
    with pytest.raises(DataError, match=r"small\.gz cannot be unpacked, it is cut short or no gzip file"):
        unpacked(tmp_path / "small.gz")


def test_an_unknown_set_lists_the_known_ones() -> None:
    with pytest.raises(DataError, match="known: auto-mpg, etth1, fashion-mnist"):
        data_set("iris")
