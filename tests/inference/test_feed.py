"""What a network is given beside the picture, and how one picture is given to a network that takes several."""

from __future__ import annotations

import numpy as np
import pytest

from agent.inference.runtime.base import Geometry, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.feed import KNOWN, WORDS, Feed

PICTURE = TensorInfo("image", (1, 3, 6, 8), "float32")
PIXELS = np.zeros((1, 3, 6, 8), np.float32)
FRAME = Geometry(640, 480, 8, 6)


def other(name: str, shape=(1, 2), dtype="float32") -> TensorInfo:
    return TensorInfo(name, shape, dtype)


def given(*tensors: TensorInfo, others=None, geometry=FRAME) -> list[np.ndarray]:
    return Feed(tensors, [], others or {}).given(PIXELS, geometry)


@pytest.mark.parametrize(
    ("tensor", "values"),
    [
        (other("scale_factor"), [[1, 1]]),
        (other("im_shape"), [[6, 8]]),
        (other("image_shape:0"), [[6, 8]]),
        (other("serving_default_im_info:0", (1, 3)), [[6, 8, 1]]),
        (other("orig_target_sizes", (1, 2), "int64"), [[8, 6]]),
        (other("orig_target_sizes", (-1, 2), "int64"), [[8, 6]]),
        (other("graph/is_training", (), "bool"), False),
        (other("pixel_mask", (-1, -1, -1), "int64"), np.ones((1, 6, 8))),
    ],
)
def test_known_inputs_are_told_that_the_networks_picture_is_the_frame(tensor, values) -> None:
    picture, told = given(PICTURE, tensor)
    assert picture is PIXELS
    assert told.dtype == tensor.dtype
    np.testing.assert_array_equal(told, values)


def test_the_picture_may_be_any_of_the_inputs() -> None:
    tensors = [other("im_shape"), PICTURE, other("scale_factor")]
    feed = Feed(tensors, [], {})
    assert [array.shape for array in feed.given(PIXELS, FRAME)] == [(1, 2), (1, 3, 6, 8), (1, 2)]
    assert feed.inputs == [PICTURE, tensors[0], tensors[2]]


def test_the_manifest_goes_before_what_a_name_is_known_for() -> None:
    letterboxed = Geometry(640, 480, 8, 6, 0.0, -0.25, 1.0, 1.5)
    words = {"im_shape": ("frame_height", "frame_width"), "scale_factor": ("scale_y", "scale_x"), "other": (3.0,)}
    tensors = (PICTURE, other("im_shape"), other("scale_factor"), other("other", (2, 2), "int32"))
    _, shape, factor, constant = given(*tensors, others=words, geometry=letterboxed)
    np.testing.assert_array_equal(shape, [[480, 640]])
    np.testing.assert_allclose(factor, [[6 / (1.5 * 480), 8 / 640]])
    np.testing.assert_array_equal(constant, np.full((2, 2), 3))


def test_what_nothing_is_known_for_is_refused_by_name_with_what_to_say() -> None:
    with pytest.raises(ModelError) as refused:
        given(PICTURE, other("scale_factor"), other("mystery", (1, 7)), other("riddle", ()))
    assert refused.value.code == "input-unsupported"
    assert refused.value.message == (
        "the network takes more than a picture: mystery of float32 [1, 7], riddle of float32 []"
    )
    assert "input.others = {mystery = [1.0]}" in refused.value.hint
    assert "what other code or another network makes cannot be given" in refused.value.hint


@pytest.mark.parametrize(
    ("tensors", "others", "named"),
    [
        ((PICTURE, other("im_shape")), {"im_shap": (1.0,)}, "did you mean 'im_shape'?"),
        ((PICTURE,), {"x": (1.0,)}, "nothing else"),
        ((PICTURE, other("x", (1, 4))), {"x": (1.0, 2.0)}, "input.others.x"),
        ((PICTURE, other("x", (1, 2), "str")), {"x": (1.0, 2.0)}, "input.others.x"),
        ((other("h", (1, 128)), other("c", (1, 128))), {}, "reads one picture"),
    ],
)
def test_a_feed_that_cannot_be_right_is_refused(tensors, others, named) -> None:
    with pytest.raises(ModelError) as refused:
        given(*tensors, others=others)
    assert named in f"{refused.value.message} {refused.value.hint}"


def test_every_known_input_holds_numbers_and_known_words_in_lower_case() -> None:
    assert all(name == name.lower() and values for name, values in KNOWN.items())
    assert {word for values in KNOWN.values() for word in values if isinstance(word, str)} <= set(WORDS)


def test_a_network_for_ten_pictures_is_given_one_ten_times_and_its_first_answer_is_taken() -> None:
    ten = [TensorInfo("image", (10, 3, 6, 8), "float32"), TensorInfo("scale_factor", (10, 2), "float32")]
    feed = Feed(ten, [TensorInfo("boxes", (10, 5, 4), "float32"), TensorInfo("all", (), "float32")], {})
    assert feed.inputs[0].shape == (1, 3, 6, 8)
    assert [tensor.shape for tensor in feed.outputs] == [(1, 5, 4), ()]
    pictures, factors = feed.given(np.full((1, 3, 6, 8), 7, np.float32), FRAME)
    np.testing.assert_array_equal(pictures, np.full((10, 3, 6, 8), 7))
    np.testing.assert_array_equal(factors, np.ones((10, 2)))
    boxes, lone = feed.taken([np.arange(200.0).reshape(10, 5, 4), np.float32(3)])
    np.testing.assert_array_equal(boxes, np.arange(20.0).reshape(1, 5, 4))
    assert lone == 3
    assert feed.notes == ("the network takes 10 pictures at once: each is given so many times",)


@pytest.mark.parametrize("batch", [1, -1])
def test_one_picture_and_an_open_number_of_pictures_pass_as_they_are(batch) -> None:
    feed = Feed([TensorInfo("image", (batch, 3, 6, 8), "float32")], [TensorInfo("out", (batch, 2), "float32")], {})
    outputs = [np.zeros((1, 2))]
    assert feed.given(PIXELS, FRAME)[0] is PIXELS
    assert feed.taken(outputs) is outputs
    assert feed.notes == ()
