"""A disk that is full, may only be read, goes away or does not answer: predictions go on, and all else says so."""

import os
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from tests.e2e.server import running
from tests.figures import Figure
from tests.reliability.faults import (
    TOKEN,
    answers,
    ask,
    fill,
    make_read_only,
    problems,
    promote,
    small_disk,
    two_versions,
)
from tests.reliability.probe import until


@pytest.mark.slow
@pytest.mark.reliability(
    26, "full disk: predictions and metrics go on, changes are refused whole, room again mends all"
)
def test_on_a_full_disk_everything_but_changes_goes_on_and_room_again_mends_all(tmp_path: Path, figure: Figure) -> None:
    with small_disk(tmp_path / "disk") as disk:
        home = disk / "home"
        old, new = two_versions(tmp_path, home)
        before = (home / "aliases.json").read_bytes()
        capture = {"SERVING_CAPTURE_SHARE": "1", "SERVING_CAPTURE_FLUSH_S": "0.2"}
        (tmp_path / "home").symlink_to(home)
        with running(tmp_path / "home", pretrained=tmp_path / "none", SERVING_ADMIN_TOKEN=TOKEN, **capture) as server:
            served = {(200, old.manifest.version)}
            until(lambda: server.metric("serving_model_info", model="cars") == 1)
            ballast = fill(disk)
            assert answers(server) == served
            refused = promote(server, new)
            assert (refused.status_code, refused.json()["title"]) == (503, "The store cannot be changed")
            assert "No space left on device. Check the volume's space" in refused.json()["detail"]
            until(lambda: "what was captured of cars is lost: No space left on device" in server.text)
            assert server.metric("serving_requests_total", model="cars", code="200") == 40
            assert server.metric("serving_captured_rows_total", result="dropped") > 0
            assert (home / "aliases.json").read_bytes() == before
            assert not (home / ".staging").exists()
            assert not list(home.glob("captured/*/.*"))

            # Not even a worker that begins on a full disk needs room.
            os.kill(server.workers()[0], signal.SIGKILL)
            seconds = until(lambda: _is_ready(server.url), 60)
            assert answers(server) == served
            until(lambda: "No space left on device" in problems(server).get("metrics", ""))

            ballast.unlink()
            until(lambda: "metrics" not in problems(server))
            assert server.metric("serving_requests_total", model="cars", code="200") >= 80
            assert promote(server, new).status_code == 200
            assert answers(server) == {(200, new.manifest.version)}
            until(lambda: bool(list(home.glob("captured/cars/rows-*.parquet"))))
            assert httpx.get(f"{server.url}/live.json").status_code == 200
        figure(f"80 of 80 predictions right; a worker killed meanwhile served again after {seconds:.1f} s")


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.reliability(27, "read-only disk at the start: a seeded store is served, changes are refused")
def test_a_seeded_store_that_can_only_be_read_is_served(tmp_path: Path, figure: Figure) -> None:
    with small_disk(tmp_path / "disk") as disk:
        old, new = two_versions(tmp_path, disk / "home")
        (tmp_path / "home").symlink_to(disk / "home")
        make_read_only(disk)
        with running(
            tmp_path / "home", "--workers", "2", pretrained=tmp_path / "none", SERVING_ADMIN_TOKEN=TOKEN
        ) as server:
            assert "cannot be written: Read-only" in server.text
            assert answers(server) == {(200, old.manifest.version)}
            until(lambda: server.metric("serving_requests_total", model="cars", code="200") == 40)
            assert "Read-only file system" in promote(server, new).json()["detail"]
            folder = Path(server.text.split("This run's files: ")[1].split()[0])
            assert folder.exists()
            make_read_only(disk, on=False)
            assert promote(server, new).status_code == 200
            until(lambda: answers(server) == {(200, new.manifest.version)})
            assert server.terminate() == 0
            assert not folder.exists()
    figure("40 of 40 predictions and metrics of two workers; a promotion got 503, then 200 when it could be written")


@pytest.mark.slow
@pytest.mark.reliability(28, "read-only disk while serving: predictions go on, /metrics says 503 and why, comes back")
def test_a_disk_that_becomes_read_only_stops_no_prediction(tmp_path: Path, figure: Figure) -> None:
    with small_disk(tmp_path / "disk") as disk:
        old, _ = two_versions(tmp_path, disk / "home")
        (tmp_path / "home").symlink_to(disk / "home")
        with running(tmp_path / "home", pretrained=tmp_path / "none") as server:
            make_read_only(disk)
            assert answers(server) == {(200, old.manifest.version)}
            until(lambda: "Read-only file system" in problems(server).get("metrics", ""))
            scrape = httpx.get(f"{server.url}/metrics")
            assert (scrape.status_code, "Read-only file system" in scrape.text) == (503, True)
            assert httpx.get(f"{server.url}/readyz").status_code == 200
            make_read_only(disk, on=False)
            until(lambda: not problems(server))
            assert server.metric("serving_requests_total", model="cars", code="200") == 40
    figure("40 of 40 predictions; afterwards every one of them is counted")


@pytest.mark.slow
@pytest.mark.reliability(
    29, "store gone: what is loaded goes on answering, readiness and log say so, it is followed again"
)
def test_a_store_that_goes_away_is_served_from_memory_and_followed_again(tmp_path: Path, figure: Figure) -> None:
    home = tmp_path / "home"
    old, new = two_versions(tmp_path, home)
    with running(home, "--workers", "2", pretrained=tmp_path / "none", SERVING_ADMIN_TOKEN=TOKEN) as server:
        until(lambda: server.metric("serving_model_reloads_total", result="success") == 2)
        home.rename(tmp_path / "away")
        until(lambda: "has no alias document any more" in problems(server).get("aliases", ""))
        assert answers(server) == {(200, old.manifest.version)}
        assert httpx.get(f"{server.url}/readyz").status_code == 200
        assert httpx.get(f"{server.url}/metrics").status_code == 503
        assert "what is served stays as it is" in server.text
        # A worker that begins meanwhile begins no store either.
        victim = server.workers()[0]
        os.kill(victim, signal.SIGKILL)
        until(lambda: "is gone, or this server's folder in it" in server.text, 60)
        assert {status for status, _ in answers(server)} <= {200, 503}
        # Changes made meanwhile must not begin a new store in the old one's place.
        assert promote(server, new).status_code in (404, 422, 503)
        if home.exists():
            shutil.rmtree(home)
        (tmp_path / "away").rename(home)
        seconds = until(lambda: answers(server) == {(200, old.manifest.version)})
        until(lambda: not any(problems(server) for _ in range(4)), 60)
        assert promote(server, new).status_code == 200
        until(lambda: answers(server) == {(200, new.manifest.version)})
        assert server.metric("serving_store_reachable") == 1
    figure(f"40 of 40 predictions without the store; followed again {seconds:.1f} s after it was back")


@pytest.mark.slow
@pytest.mark.reliability(
    30, "store that hangs: predictions go on, readiness and metrics say so within 10 s, it comes back"
)
def test_a_store_that_does_not_answer_holds_up_nobody_and_is_told_of(tmp_path: Path, figure: Figure) -> None:
    home = tmp_path / "home"
    old, _ = two_versions(tmp_path, home)
    with running(home, pretrained=tmp_path / "none") as server:
        document = home / "aliases.json"
        kept = document.read_bytes()
        # Who opens a pipe that nobody writes to waits, as for a file server that is gone.
        os.mkfifo(home / "pipe")
        (home / "pipe").rename(document)
        seconds = until(lambda: "has not answered" in problems(server).get("aliases", ""), 20)
        assert answers(server) == {(200, old.manifest.version)}
        assert ask(server).elapsed.total_seconds() < 5
        until(lambda: server.metric("serving_store_reachable") == 0)
        (home / "new").write_bytes(kept)
        with document.open("wb"):
            (home / "new").rename(document)
        until(lambda: not problems(server))
        until(lambda: server.metric("serving_store_reachable") == 1)
    figure(f"told after {seconds:.1f} s; 40 of 40 predictions meanwhile")
