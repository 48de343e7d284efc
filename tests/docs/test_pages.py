"""The documents' commands, run as they stand: `make test` those that only ask a server, `make test-docs` all."""

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from models.bundle import Bundle
from models.store import Store
from service.settings import PRETRAINED
from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.runner import assert_shown, run
from tests.e2e.server import Server, running
from tests.redeploy.offered import resealed

NAMES = {page.relative_to(ROOT).as_posix(): blocks(page) for page in PAGES}
# Those with a server of their own train or import what it serves: they are for `make test-docs`.
OWN = {name: found for name, found in NAMES.items() if any(block.mark == "background" for block in found)}
SHARED = {name: found for name, found in NAMES.items() if name not in OWN and any(block.runs for block in found)}


def asked(page: str, slow: bool) -> list[Block]:
    """The blocks of a page, with those that train or without."""
    return [block for block in SHARED[page] if slow or block.mark != "slow"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The shipped models, as `make serve` serves them."""
    with running(tmp_path_factory.mktemp("shipped") / "home", pretrained=PRETRAINED, grpc=True) as found:
        yield found


@pytest.mark.parametrize("page", [name for name in SHARED if any(block.runs for block in asked(name, slow=False))])
def test_the_commands_of_a_page_do_what_it_says(server: Server, tmp_path: Path, page: str) -> None:
    if any("promtool" in block.text for block in SHARED[page]) and shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: Debian's package prometheus has it")
    run(asked(page, slow=False), tmp_path, url=server.url, grpc=server.grpc, home=server.home)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", OWN)
def test_the_commands_of_a_page_with_a_server_of_its_own_do_what_it_says(tmp_path: Path, page: str) -> None:
    run(OWN[page], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [name for name, found in SHARED.items() if any(b.mark == "slow" for b in found)])
def test_the_slow_commands_of_a_page_do_what_it_says(server: Server, tmp_path: Path, page: str) -> None:
    shipped = Bundle.open(PRETRAINED / "regressor")
    again = resealed(shipped, tmp_path / "again", shipped.manifest.created + timedelta(days=1))
    version = Store(server.home).add(again.path).manifest.version
    found = asked(page, slow=True)
    run(found, tmp_path, url=server.url, grpc=server.grpc, home=server.home, version=version)


def text_block(text: str, language: str = "text") -> Block:
    return Block("page.md", 1, language, "", text, "output", "")


def test_figures_and_versions_may_differ_from_those_shown_and_lines_may_be_left_out() -> None:
    shown = text_block("read\n  accuracy 0.92 on 385 rows\n...\nx 20261121-152037-ddbd3668\n")
    assert_shown(shown, "read\nmore\n accuracy 0.5 on 1,000 rows\nx 20260101-000000-00000000\n")


@pytest.mark.parametrize("printed", ["accuracy 0.5 on 7 lines", "rows on 7 accuracy 0.5", ""])
def test_another_word_or_order_than_shown_is_seen(printed: str) -> None:
    with pytest.raises(AssertionError, match="was not printed"):
        assert_shown(text_block("accuracy 0.92 on 385 rows"), printed)


def test_an_answer_is_shown_by_its_members_and_their_kinds() -> None:
    shown = text_block('{"id": "85650f50233", "rows": [{"label": "yes", "share": 0.5}]}', "json")
    assert_shown(shown, 'log\n{"id": "aa", "more": 1, "rows": [{"label": "yes", "share": 1}]}')
    for wrong in ('{"id": "a", "rows": []}', '{"id": 1, "rows": [{"label": "yes", "share": 1}]}', "no JSON"):
        with pytest.raises(AssertionError):
            assert_shown(shown, wrong)


def test_a_block_that_fails_or_prints_something_else_is_told_with_its_place(tmp_path: Path) -> None:
    failing = Block("page.md", 7, "bash", "", "echo before\nfalse\n", "", "")
    with pytest.raises(AssertionError, match=r"page\.md:7 failed"):
        run([failing], tmp_path, url="http://127.0.0.1:1")
