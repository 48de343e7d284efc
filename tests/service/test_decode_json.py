"""JSON body to the list of instances."""

import contextlib
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from models.errors import DecodeError, InputError, ServingError
from service.decode.json import decode_instances, decode_json


def invalid(body: bytes) -> InputError:
    with pytest.raises(InputError) as caught:
        decode_instances(body)
    return caught.value


@pytest.mark.parametrize(
    "instances", [[1], [[1, 2.5]], [{"weight": 3504}], [None], ["text"], [[[0, 255]]], [{"b64": "aGVsbG8="}]]
)
def test_the_instances_come_out_as_they_are(instances: list[Any]) -> None:
    assert decode_instances(json.dumps({"instances": instances}).encode()) == instances


def test_white_space_and_unicode_are_json() -> None:
    assert decode_instances('\n { "instances" : [ "é" ] } \r\n'.encode()) == ["é"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{'instances': [1]}",
        b'{"instances": [1,]}',
        b'{"instances": [01]}',
        b'{"instances": ["\xff"]}',
        b'{"instances": [1]} x',
        b'{"instances": [1]',
        b'\xef\xbb\xbf{"instances": [1]}',
        '{"instances": [1]}'.encode("utf-16"),
        b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"instances": [' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"]}",
    ],
    ids=lambda body: repr(body[:30]),
)
def test_what_is_no_json_is_refused_and_never_overflows(body: bytes) -> None:
    with pytest.raises(DecodeError, match="not valid JSON"):
        decode_instances(body)


@pytest.mark.parametrize("word", [b"NaN", b"Infinity", b"-Infinity"])
def test_words_that_json_does_not_have_are_refused_with_the_remedy(word: bytes) -> None:
    with pytest.raises(DecodeError, match="JSON has no NaN or Infinity"):
        decode_instances(b'{"instances": [[1, ' + word + b"]]}")


@pytest.mark.parametrize("body", [b"[]", b"7", b"null", b'"instances"', b"[1, 2, 3]"])
def test_a_document_that_is_no_object_is_refused(body: bytes) -> None:
    error = invalid(body)
    assert error.field == "body"
    assert error.remedy == 'Send {"instances": [...]}.'


@pytest.mark.parametrize("body", [b"{}", b'{"inputs": [1]}', b'{"Instances": [1]}'])
def test_a_document_without_instances_is_refused(body: bytes) -> None:
    assert invalid(body).field == "instances"


def test_the_members_that_were_found_instead_are_named() -> None:
    assert invalid(b'{"inputs": [1]}').received == "'inputs'"


def test_another_member_is_refused_by_name() -> None:
    assert invalid(b'{"instances": [1], "signature_name": "x"}').field == "signature_name"


@pytest.mark.parametrize("value", ["[]", "{}", "null", "7", '"text"', "true"])
def test_instances_are_a_list_with_something_in_it(value: str) -> None:
    error = invalid(f'{{"instances": {value}}}'.encode())
    assert error.field == "instances"
    assert "at least one" in error.rule


@pytest.mark.parametrize("word", ["true", "false"])
@pytest.mark.parametrize(
    ("form", "field"),
    [
        ("[1, {}]", "instances[1]"),
        ("[[1, {}]]", "instances[0][1]"),
        ("[[1], [[1, 2], [3, {}]]]", "instances[1][1][1]"),
        ("[[[[1, 2, {}]]]]", "instances[0][0][0][2]"),
    ],
)
def test_a_boolean_in_the_place_of_a_number_is_refused_with_its_path(word: str, form: str, field: str) -> None:
    error = invalid(f'{{"instances": {form.format(word)}}}'.encode())
    assert error.field == field
    assert error.received == word


def test_numbers_in_scientific_notation_are_numbers() -> None:
    assert decode_instances(b'{"instances": [[1e2, 2E1]]}') == [[100.0, 20.0]]


def test_an_error_does_not_echo_the_body() -> None:
    assert len(str(invalid(json.dumps({"x" * 10**5: 1}).encode()))) < 300
    assert len(str(invalid(json.dumps({"instances": [1], "x" * 10**5: 1}).encode()))) < 300


@given(st.binary(max_size=60) | st.text(alphabet='{}[]",:instace0e1tru-+. \\', max_size=60).map(str.encode))
@examples(max_examples=150, deadline=None)
def test_any_bytes_are_instances_or_an_error_of_ours(body: bytes) -> None:
    with contextlib.suppress(ServingError):
        assert decode_instances(body)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"instances": [1], "instances": [2]}', "instances"),
        (b'{"instances": [{"a": 1, "b": 2, "a": 3}]}', "a"),
        (b'{"instances": [1, {"a": "::", "\\u0061" : "\\":"}]}', "a"),
        (b'{"instances": [{"a": 1, "a": 3}' + b", 1" * 30_000 + b"]}", "body"),
        (b'{"a": 1, "a": ' + b"[" * 1020 + b"]" * 1020 + b"}", "body"),
    ],
    ids=["top", "record", "escaped", "large", "deep"],
)
def test_a_member_that_comes_twice_is_refused_by_name_where_that_is_quick(body: bytes, name: str) -> None:
    assert (invalid(body).field, invalid(body).received) == (name, "it came twice")


def peak_bytes(parse: Callable[[bytes], Any], body: bytes) -> int:
    tracemalloc.start()
    try:
        parse(body)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("piece", [b"A", b"\\n", b"\\nA"], ids=["plain", "escaped", "mixed"])
def test_the_colons_of_a_long_text_cost_no_more_memory_than_its_parsing(piece: bytes) -> None:
    body = b'{"instances": ["' + piece * 100_000 + b'"], "x": ":"}'
    assert peak_bytes(decode_json, body) < 2 * peak_bytes(orjson.loads, body)


names = st.text(alphabet=':a"\\\u00e9{', max_size=3)
documents = st.recursive(
    st.none() | st.integers(0, 9) | names, lambda inner: st.lists(inner) | st.dictionaries(names, inner), max_leaves=8
)


@given(documents, st.booleans())
@examples(deadline=None)
def test_no_document_that_names_each_member_once_is_taken_for_another(document: Any, escaped: bool) -> None:
    assert decode_json(json.dumps(document, ensure_ascii=escaped).encode()) == document


@given(st.dictionaries(names, documents, min_size=1), documents, st.data())
@examples(deadline=None)
def test_a_member_added_again_anywhere_is_refused(members: dict[str, Any], beside: Any, data: st.DataObject) -> None:
    again = data.draw(st.sampled_from(sorted(members)))
    doubled = f"{json.dumps(members)[:-1]}, {json.dumps(again)}: {json.dumps(beside)}}}"
    with pytest.raises(InputError, match="only once"):
        decode_json(f'[{json.dumps(beside)}, {{"outer": {doubled}}}]'.encode())
