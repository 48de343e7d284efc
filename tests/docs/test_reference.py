"""The pages of docs/reference/ say what the code says."""

import pytest

from docs.generate.__main__ import FOLDER, PAGES
from docs.generate.markdown import NOTICE, attributes, table


@pytest.mark.parametrize("name", PAGES)
def test_a_reference_page_is_what_the_code_makes_now(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == PAGES[name](), "write it anew: make reference"


def test_no_page_lies_there_that_the_code_does_not_make() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(PAGES)


@pytest.mark.parametrize("name", PAGES)
def test_nothing_in_a_reference_page_is_without_its_meaning(name: str) -> None:
    text = (FOLDER / name).read_text(encoding="utf-8")
    assert text.startswith(NOTICE)
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.replace("\\|", "").strip("|").split("|")] if line[:1] == "|" else []
        header = header if cells and header else cells
        if cells and "meaning" in header and "---" not in cells:
            assert len(cells[header.index("meaning")]) > 3, line


def test_what_a_docstring_says_of_members_is_found_with_that_of_its_bases() -> None:
    class Base:
        """One.

        Attributes:
            first: What is
                long.
        """

    class Derived(Base):
        """Two.

        Attributes:
            second: ``code`` in it.
        """

    assert attributes(Derived) == {"first": "What is long.", "second": "`code` in it."}


def test_a_cell_of_a_table_ends_where_it_ends() -> None:
    assert table(["a"], [["x|y\nz"]]).splitlines()[2] == "| x\\|y z |"
