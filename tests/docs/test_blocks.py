"""Every command of the documents is run by a test, or says why not; and what it names exists."""

import re

import pytest

from service.settings import Settings
from tests.docs.commands import commands, faults
from tests.docs.pages import MARKS, PAGES, ROOT, Block, blocks

ALL = [block for page in PAGES for block in blocks(page)]
SHELL = [block for block in ALL if block.language in ("bash", "sh")]


def test_every_fence_of_the_pages_is_found() -> None:
    for page in PAGES:
        fences = re.findall(r"^ *```", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert len(fences) == 2 * len(blocks(page)), page


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_what_a_command_names_exists(block: Block) -> None:
    assert not faults(block.text)


def test_a_mark_is_one_of_those_that_mean_something_and_what_is_not_run_says_why() -> None:
    for block in ALL:
        assert block.mark in MARKS, f"{block}: {block.mark}"
        assert bool(block.reason) == (block.mark == "not run"), f"{block}: a block that is not run gives a reason"
        for named in re.findall(r"tests/[\w/.]*\w", block.reason):
            assert (ROOT / named).exists(), f"{block}: there is no {named}"


def test_every_setting_that_a_page_names_is_one() -> None:
    known = {f"SERVING_{name.upper()}" for name in Settings.model_fields}
    for page in PAGES:
        for name, more in re.findall(r"\b(SERVING_[A-Z_]+)(\*?)", page.read_text(encoding="utf-8")):
            exists = any(one.startswith(name) for one in known) if more else name in known
            assert exists or name == "SERVING_", f"{page.relative_to(ROOT)}: {name}"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("keras-serving trian dnn", "no command trian"),
        ("A=1 .venv/bin/keras-serving train dnn --dato x.csv", "train has no --dato"),
        ("cd data && keras-serving models prune --keeping 5 >> log", "prune has no --keeping"),
        ("make no-such-target", "no target no-such-target"),
        ("python -m benchmarks.no_such", "no module benchmarks.no_such"),
        ("kubectl apply -k deploy/kubernetes/overlays/tpu", "there is no deploy/kubernetes/overlays/tpu"),
    ],
)
def test_a_command_that_names_what_does_not_exist_is_seen(text: str, fault: str) -> None:
    assert faults(text) == [fault]


def test_each_command_of_a_line_is_looked_at() -> None:
    assert list(commands("A=1 one 'x y' | two # three\nfour && five; six")) == [
        *(["one", "x y"], ["two"], ["four"], ["five"], ["six"])
    ]
