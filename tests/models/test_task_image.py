"""Image classification: pixels in, labels out."""

import io
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from pydantic import ValidationError

from models.errors import InputError
from models.task import ImageClassification

TASK = ImageClassification(height=4, width=3, channels=1, preparation="stretch_v1", labels=("bag", "boot", "coat"))
COLOUR = ImageClassification(height=2, width=2, channels=3, preparation="stretch_v1", labels=("bag", "boot"))


def picture(value: Any = 7) -> list[list[Any]]:
    return [[value] * TASK.width for _ in range(TASK.height)]


def refused(instances: list[Any], task: ImageClassification = TASK) -> InputError:
    with pytest.raises(InputError) as caught:
        task.parse(instances)
    return caught.value


def refused_array(array: np.ndarray, task: ImageClassification = TASK) -> InputError:
    with pytest.raises(InputError) as caught:
        task.accept(array)
    return caught.value


def test_pixel_lists_become_uint8_rows_in_order() -> None:
    rows = TASK.parse([picture(0), picture(255)])
    assert rows.dtype == np.uint8
    assert rows.shape == (2, 4, 3, 1)
    assert rows[0].max() == 0
    assert rows[1].min() == 255


def test_every_pixel_keeps_its_place() -> None:
    image = [[10 * y + x for x in range(3)] for y in range(4)]
    assert TASK.parse([image])[0, :, :, 0].tolist() == image


def test_floats_that_are_whole_are_pixels() -> None:
    assert TASK.parse([picture(7.0)]).tolist() == TASK.parse([picture(7)]).tolist()


def test_a_channel_axis_of_one_may_be_spelled_out() -> None:
    assert TASK.parse([picture([7])]).tolist() == TASK.parse([picture(7)]).tolist()


def test_three_channels_need_the_channel_axis() -> None:
    image = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 11, 12]]]
    assert COLOUR.parse([image])[0].tolist() == image
    error = refused([[[1, 2], [3, 4]]], COLOUR)
    assert error.field == "instances[0][0][0]"


def test_an_instance_of_each_form_may_share_a_request() -> None:
    rows = TASK.parse([picture(7), picture(7.0), picture([7])])
    assert (rows == 7).all()


@given(st.lists(st.lists(st.lists(st.integers(0, 255), min_size=3, max_size=3), min_size=4, max_size=4), min_size=1))
@examples(max_examples=30, deadline=None)
def test_the_fast_path_gives_what_the_careful_path_gives(instances: list[Any]) -> None:
    careful = np.stack([TASK._parse_one(image, "instances[0]") for image in instances])
    fast = TASK._parse_whole_numbers(instances)
    assert fast.dtype == careful.dtype
    np.testing.assert_array_equal(fast, careful)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=20,
)


@given(st.lists(_JSON, min_size=1, max_size=3))
@examples(max_examples=100, deadline=None)
def test_any_json_is_rows_or_an_input_error_that_names_the_instance(instances: list[Any]) -> None:
    try:
        good = TASK.parse(instances).dtype == np.uint8
    except InputError as error:
        good = error.field.startswith("instances[")
    assert good


@pytest.mark.parametrize("bad", [-1, 256, 0.5, 255.5, 1e300, math.nan, math.inf, True, False, None, "7", {}])
def test_what_is_no_pixel_is_refused_at_its_exact_place(bad: Any) -> None:
    # Whole numbers above 1 around it, so that the picture does not look scaled.
    image = picture(200)
    image[2][1] = bad
    if isinstance(bad, bool):
        image[0][0] = 200.0  # The fast path leaves booleans to the JSON decoder.
    assert refused([picture(), picture(), picture(), image]).field == "instances[3][2][1]"


def test_the_error_of_a_pixel_says_rule_value_and_remedy() -> None:
    image = picture(200)
    image[2][1] = 256
    error = refused([image])
    assert "0 to 255" in error.rule
    assert "256" in error.received
    assert "PNG" in error.remedy


def test_a_wrong_channel_is_named_with_its_own_index() -> None:
    image = [[[1, 2, 3], [4, 5, 6]], [[7, 8, 9], [10, 300, 12]]]
    assert refused([image], COLOUR).field == "instances[0][1][1][1]"


@pytest.mark.parametrize("value", [0.5, 1 / 255])
def test_pixels_scaled_to_one_are_recognised_and_the_remedy_says_so(value: float) -> None:
    error = refused([[*picture(1.0)[:-1], [value, 0.0, 1.0]]])
    assert error.field == "instances[0]"
    assert "scaled" in error.received
    assert "raw pixels" in error.remedy


def test_a_nearly_black_picture_of_whole_numbers_is_not_taken_for_a_scaled_one() -> None:
    assert TASK.parse([picture(1)]).max() == 1


@pytest.mark.parametrize(
    ("image", "field"),
    [
        ([], "instances[0]"),
        (picture()[:-1], "instances[0]"),
        ([*picture(), [7, 7, 7]], "instances[0]"),
        ([*picture()[:-1], [7, 7]], "instances[0][3]"),
        ([[7, 7, 7, 7], *picture()[1:]], "instances[0][0]"),
        ([*picture()[:-1], 7], "instances[0][3]"),
        ([*picture()[:-1], "abc"], "instances[0][3]"),
        ([*picture()[:-1], [[7], 7, 7]], "instances[0]"),
        ([*picture()[:-1], [[7, 7], 7, 7]], "instances[0][3][0]"),
        ("abc", "instances[0]"),
        (None, "instances[0]"),
        (7, "instances[0]"),
    ],
)
def test_ragged_or_wrongly_sized_pictures_are_refused_where_they_go_wrong(image: Any, field: str) -> None:
    assert refused([image]).field == field


def test_arrays_may_lack_the_batch_and_the_channel_axis() -> None:
    pixels = np.arange(12, dtype=np.uint8).reshape(4, 3)
    expected = pixels[np.newaxis, :, :, np.newaxis]
    for shape in ((4, 3), (1, 4, 3), (4, 3, 1), (1, 4, 3, 1)):
        np.testing.assert_array_equal(TASK.accept(pixels.reshape(shape)), expected)


def test_a_uint8_array_is_not_copied() -> None:
    array = np.zeros((2, 4, 3, 1), np.uint8)
    assert np.shares_memory(TASK.accept(array), array)


@pytest.mark.parametrize("dtype", ["int64", "uint16", "float32", "float64", "float16"])
def test_arrays_of_other_numbers_are_taken_when_they_hold_whole_pixels(dtype: str) -> None:
    rows = TASK.accept(np.full((4, 3), 200, dtype))
    assert rows.dtype == np.uint8
    assert (rows == 200).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0, 256.0, 3.5])
def test_a_bad_number_in_an_array_is_refused_at_its_place(bad: float) -> None:
    array = np.full((2, 4, 3), 200.0)
    array[1, 2, 0] = bad
    assert refused_array(array).field == "array[1][2][0][0]"


def test_a_large_unsigned_number_does_not_wrap_around() -> None:
    assert "256" in refused_array(np.full((4, 3), 256, np.uint64)).received


def test_a_scaled_array_is_recognised() -> None:
    assert "scaled" in refused_array(np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)).received
    assert "scaled" in refused_array(np.ones((4, 3), np.float32)).received


@pytest.mark.parametrize("shape", [(), (12,), (3, 4), (0, 4, 3), (0, 4, 3, 1), (1, 1, 4, 3, 1), (4, 3, 3)])
def test_arrays_of_another_shape_are_refused_with_both_shapes(shape: tuple[int, ...]) -> None:
    error = refused_array(np.zeros(shape, np.uint8))
    assert error.field == "array"
    assert "(4, 3, 1)" in error.rule
    assert str(shape) in error.received or str((*shape, 1)) in error.received


@pytest.mark.parametrize("dtype", ["bool", "complex64", "S1", "O"])
def test_arrays_of_no_numbers_are_refused(dtype: str) -> None:
    assert "dtype" in refused_array(np.zeros((4, 3), dtype)).rule


def test_the_answer_names_the_most_probable_class_and_keeps_class_order() -> None:
    answer = TASK.answer(np.array([0.2, 0.7, 0.1], np.float32))
    assert answer["label"] == "boot"
    assert answer["class_id"] == 1
    assert answer["confidence"] == pytest.approx(0.7)
    assert list(answer["probabilities"]) == ["bag", "boot", "coat"]
    assert sum(answer["probabilities"].values()) == pytest.approx(1)


def test_shapes_follow_from_the_schema() -> None:
    assert (COLOUR.input_shape, COLOUR.dtype, COLOUR.output_shape) == ((2, 2, 3), "uint8", (2,))


@pytest.mark.parametrize(
    "change", [{"preparation": "unheard_of"}, {"channels": 2}, {"labels": ("one",)}, {"height": 0}]
)
def test_a_schema_that_makes_no_sense_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ImageClassification(**{**TASK.model_dump(), **change})


def test_a_saved_array_survives_the_way_through_npy() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.full((4, 3), 9, np.uint8))
    buffer.seek(0)
    assert (TASK.accept(np.load(buffer)) == 9).all()
