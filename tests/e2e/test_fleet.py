"""A fleet on one store in S3: one publishes, others follow; who is cut off goes on serving, and catches up."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from models.archive import write_archive
from models.bundle import KERAS, Bundle
from models.errors import OvertakenError, StoreError
from models.remote.address import Address
from models.remote.objects import Stored
from models.remote.s3 import Bucket
from models.remote.store import RemoteStore
from tests.bundles import CARS, make_bundle
from tests.e2e.s3 import KEYS, Wire, make_bucket, s3_server
from tests.e2e.server import Server, running, wait_for

URL = "s3://models/a/fleet"
RECORD = {"weight": 3000, "horsepower": 120, "origin": "usa"}
SECONDS = 30
TOKEN = "0123456789abcdef"  # noqa: S105 - of servers on loopback, for a moment
ADMIN = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def s3() -> Iterator[int]:
    """Port of an S3 server with a bucket."""
    with s3_server() as port:
        make_bucket(port, "models")
        yield port


def environment(port: int) -> dict[str, str]:
    return (
        KEYS
        | {"SERVING_STORE": URL, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "SERVING_STORE_POLL_S": "0.2"}
        | {"SERVING_LOG_LEVEL": "DEBUG", "SERVING_ADMIN_TOKEN": TOKEN}
    )


# --- objects


@pytest.fixture
def bucket(s3: int, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Bucket]:
    """A bucket's objects under a prefix of this test's own."""
    for name, value in environment(s3).items():
        monkeypatch.setenv(name, value)
    bucket = Bucket(Address("s3", "models", request.node.name), 10.0)
    yield bucket
    bucket.close()


def test_conditions_are_kept_by_s3(bucket: Bucket) -> None:
    tag = bucket.create("aliases.json", b"one")
    assert bucket.read("aliases.json") == Stored(b"one", tag)
    assert bucket.read("aliases.json", unless=tag) is None
    with pytest.raises(OvertakenError):
        bucket.create("aliases.json", b"two")
    newer = bucket.replace("aliases.json", b"two", tag)
    with pytest.raises(OvertakenError):
        bucket.replace("aliases.json", b"three", tag)
    assert bucket.read("aliases.json", unless=tag) == Stored(b"two", newer)
    bucket.delete("aliases.json")
    bucket.delete("aliases.json")
    with pytest.raises(OvertakenError):
        bucket.replace("aliases.json", b"three", newer)
    with pytest.raises(FileNotFoundError):
        bucket.read("aliases.json")


def test_a_file_is_written_once_and_read_bit_by_bit(bucket: Bucket, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(os.urandom(300_000))
    bucket.upload("models/cars/one.tar", file)
    with pytest.raises(OvertakenError):
        bucket.upload("models/cars/one.tar", file)
    with bucket.stream("models/cars/one.tar") as (source, size):
        parts = [source.read(131_072) for _ in range(4)]
    assert [len(part) for part in parts] == [131_072, 131_072, 37_856, 0]
    assert (b"".join(parts), size) == (file.read_bytes(), 300_000)
    with pytest.raises(FileNotFoundError), bucket.stream("models/cars/two.tar"):
        pass
    assert bucket.keys("models/") == ["models/cars/one.tar"]


def test_more_keys_than_one_answer_holds_are_all_listed(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.remote.s3._PAGE", 2)
    keys = [f"changes/{number}" for number in range(5)]
    for key in keys:
        bucket.create(key, b"")
    assert bucket.keys("changes/") == keys


def test_what_cannot_be_reached_or_refuses_is_told_without_a_secret(
    bucket: Bucket, s3: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = Bucket(Address("s3", "nobodys", ""), 10.0)
    with pytest.raises(StoreError, match=r"nobodys refuses \(404 NoSuchBucket\)"):
        missing.read("aliases.json")
    missing.close()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://me:hidden@127.0.0.1:9")
    away = Bucket(Address("s3", "models", ""), 2.0)
    with pytest.raises(StoreError, match="cannot be reached") as error:
        away.keys("")
    assert "hidden" not in str(error.value)
    away.close()


def test_a_document_larger_than_makes_sense_is_not_read(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.create("aliases.json", b"four")
    monkeypatch.setattr("models.remote.s3._LARGEST", 3)
    with pytest.raises(StoreError, match="has 4 bytes, where at most 3 make sense"):
        bucket.read("aliases.json")


def test_an_object_that_comes_too_slowly_is_given_up(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket.create("models/cars/one.tar", b"data")
    with bucket.stream("models/cars/one.tar") as (source, _):
        monkeypatch.setattr("models.remote.s3.monotonic", lambda: float("inf"))
        with pytest.raises(StoreError, match="TimeoutError"):
            source.read(4)


def test_silence_ends_within_the_time_of_a_request(s3: int, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = Wire(s3)
    wire.hang()
    for name, value in environment(wire.port).items():
        monkeypatch.setenv(name, value)
    silent = Bucket(Address("s3", "models", ""), 0.5)
    started = time.monotonic()
    with pytest.raises(StoreError, match="cannot be reached") as error:
        silent.read("aliases.json")
    assert "may be written" not in str(error.value)
    with pytest.raises(StoreError, match=r"may be written all the same: look .* models history"):
        silent.replace("aliases.json", b"two", "one")
    assert time.monotonic() - started < SECONDS
    silent.close()
    wire.cut()


# --- servers


@dataclass
class Fleet:
    """Two servers on one store, the first over a wire that can be cut, and who publishes."""

    one: Server
    two: Server
    wire: Wire
    publisher: RemoteStore
    bucket: Bucket
    s3: int
    versions: list[Bundle]

    def publish(self, number: int) -> str:
        bundle = self.versions[number]
        version = self.publisher.add(bundle.path, who="job").manifest.version
        self.publisher.set_alias("cars", version, who="job")
        return version


def version_of(server: Server) -> str:
    """Of what answers now; that it answers is asserted."""
    answer = httpx.post(f"{server.url}/predict/cars", json={"instances": [RECORD]}, timeout=30)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["version"])


def problems(server: Server) -> dict[str, str]:
    answer = httpx.get(f"{server.url}/readyz", timeout=30)
    assert answer.status_code == 200, answer.text
    found: dict[str, str] = answer.json()["problems"]
    return found


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> list[Bundle]:
    """Of cars, the oldest first."""
    folder = tmp_path_factory.mktemp("made")
    return [make_bundle(folder, "cars", CARS, seed=i, created=datetime(2026, 1 + i, 1, tzinfo=UTC)) for i in range(4)]


def command(home: Path, port: int, *words: str) -> str:
    """What `keras-serving` says as the job that publishes."""
    tool = str(Path(sys.executable).with_name("keras-serving"))
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("SERVING_", "AWS_"))}
    done = subprocess.run(
        [tool, *words],
        env=inherited | environment(port) | {"SERVING_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def fleet(s3: int, versions: list[Bundle], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A job published the first version by the command line; two servers without copies came up and serve it."""
    folder = tmp_path_factory.mktemp("fleet")
    archive = folder / "cars.tar"
    write_archive(versions[0], archive)
    assert "cars: nothing -> " in command(folder / "job", s3, "models", "import", str(archive))
    wire = Wire(s3)
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        stack.callback(wire.cut)
        one, two = (
            stack.enter_context(running(folder / name, pretrained=folder / "none", ready=False, **environment(port)))
            for name, port in (("one", wire.port), ("two", s3))
        )
        for server in (one, two):
            server.wait_until("ready")
        for name, value in environment(s3).items():
            patch.setenv(name, value)
        bucket = Bucket(Address.parse(URL), 10.0)
        stack.callback(bucket.close)
        yield Fleet(one, two, wire, RemoteStore(bucket, folder / "publisher"), bucket, s3, versions)


def test_who_is_cut_off_goes_on_serving_and_catches_up(fleet: Fleet) -> None:
    one, two = fleet.one, fleet.two
    first = fleet.versions[0].manifest.version
    assert (version_of(one), version_of(two)) == (first, first)
    assert (problems(one), problems(two)) == ({}, {})
    fleet.wire.cut()
    second = fleet.publish(1)
    wait_for(lambda: version_of(two) == second, "the other one serves the new version")
    wait_for(lambda: "store" in problems(one), "the one that is cut off says so")
    assert version_of(one) == first
    assert problems(one)["store"].startswith("the store cannot be reached"), "not where it lies"
    assert f"{URL} cannot be reached" in one.text
    wait_for(lambda: one.metric("serving_store_reachable") == 0, "the metric says that it is cut off")
    assert two.metric("serving_store_reachable") == 1
    fleet.wire.mend()
    wait_for(lambda: version_of(one) == second and not problems(one), "it catches up")
    wait_for(lambda: one.metric("serving_store_reachable") == 1, "the metric says so")
    assert one.text.count("what is served stays as it is") == 1
    order = httpx.post(f"{two.url}/admin/models/cars/rollback", json={}, headers=ADMIN, timeout=30)
    assert order.json()["serving"], order.text
    assert version_of(two) == first
    wait_for(lambda: version_of(one) == first, "an order to one server is followed by the other")
    for server in (one, two):
        assert KEYS["AWS_SECRET_ACCESS_KEY"] not in server.text


def test_a_corrupted_object_is_refused_and_what_was_served_goes_on(fleet: Fleet) -> None:
    before = version_of(fleet.two)
    bundle = fleet.versions[2]
    version = fleet.publisher.add(bundle.path).manifest.version
    # Its publisher has a good copy, and notices nothing.
    key = f"models/cars/{version}.tar"
    stored = fleet.bucket.read(key)
    assert stored is not None
    archive = bytearray(stored.data)
    archive[archive.index(bundle.read(KERAS))] ^= 1
    fleet.bucket.replace(key, bytes(archive), stored.tag)
    fleet.publisher.set_alias("cars", version)
    for server in (fleet.one, fleet.two):
        wait_for(lambda server=server: "cars" in problems(server), "the version is refused")  # type: ignore[misc]
        assert "sha256" in problems(server)["cars"]
        assert version_of(server) == before
    fleet.publisher.rollback("cars")
    for server in (fleet.one, fleet.two):
        wait_for(lambda server=server: not problems(server), "nothing is wrong any more")  # type: ignore[misc]


@pytest.mark.slow
def test_a_server_starts_from_its_copies_while_the_store_cannot_be_reached(fleet: Fleet, tmp_path: Path) -> None:
    wire = Wire(fleet.s3)
    settings = environment(wire.port) | {"SERVING_STORE_TIMEOUT_S": "1"}
    none, home = tmp_path / "none", tmp_path / "replica"
    with running(home, "--workers", "2", pretrained=none, **settings) as server:
        served = version_of(server)
    for away in (wire.cut, wire.hang):
        away()
        with running(home, "--workers", "2", pretrained=none, **settings) as server:
            assert version_of(server) == served
            wait_for(lambda server=server: "store" in problems(server), "it says so")  # type: ignore[misc]
        with running(tmp_path / "bare", pretrained=none, ready=False, **settings) as bare:
            bare.wait_until("loading")
            wait_for(lambda bare=bare: "cannot be reached" in bare.text, "it says why")  # type: ignore[misc]
            assert httpx.get(f"{bare.url}/livez").status_code == 200
            wire.mend()
            bare.wait_until("ready")
            assert version_of(bare) == served
        for copied in (tmp_path / "bare").rglob("*.json"):
            copied.unlink()
    wire.cut()


@pytest.mark.slow
def test_every_command_on_the_store_says_and_does_what_it_does_here(fleet: Fleet, tmp_path: Path) -> None:
    home, port = tmp_path / "job", fleet.s3
    first = fleet.versions[3].manifest.version
    archive = tmp_path / "cars.tar"
    write_archive(fleet.versions[3], archive)
    assert "is in the store" in command(home, port, "models", "import", str(archive))
    assert "candidate: nothing" in command(home, port, "models", "label", "cars", first, "candidate")
    assert "25 %" in command(home, port, "models", "canary", "cars", "25")
    wait_for(
        lambda: httpx.get(f"{fleet.two.url}/predict/cars?label=candidate").status_code != 404, "the candidate is loaded"
    )
    listed = command(home, port, "--store", URL, "models", "list")
    assert "candidate 25 %" in listed
    assert "nothing" in command(home, port, "models", "unlabel", "cars", "candidate")
    assert "is deleted" in command(home, port, "models", "delete", "cars", first)
    assert first not in command(home, port, "models", "list")
    history = command(home, port, "models", "history", "cars")
    assert [word for word in ("import", "label", "traffic", "remove", "delete") if word not in history] == []
