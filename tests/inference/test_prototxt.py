"""The size of a Caffe network's picture, from each of the places where its description may say it."""

from __future__ import annotations

import pytest

from agent.inference.runtime import parts, prototxt

SHAPES = [
    'input: "data"\ninput_shape {\n  dim: 1\n  dim: 3\n  dim: 300\n  dim: 320\n}\nlayer { name: "a" }',
    'name: "x"\ninput: "data"\ninput_dim: 1\ninput_dim: 3\ninput_dim: 300\ninput_dim: 320\n',
    'layer {\n  name: "data"\n  type: "Input"\n  input_param { shape: { dim: 1 dim: 3 dim: 300 dim: 320 } }\n}\n',
]


@pytest.mark.parametrize("text", SHAPES)
def test_the_size_of_the_picture_is_read(tmp_path, text) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_text(text)
    assert prototxt.picture(str(path)) == (1, 3, 300, 320)


@pytest.mark.parametrize("text", ["", "\udcff".encode("utf-8", "surrogateescape"), "input_dim: 1\ninput_dim: 3\n"])
def test_a_description_that_does_not_say_it_leaves_it_open(tmp_path, text) -> None:
    path = tmp_path / "deploy.prototxt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert prototxt.picture(str(path)) == (-1, -1, -1, -1)


def test_a_description_that_is_called_a_text_is_found_beside_its_weights(tmp_path) -> None:
    (tmp_path / "deploy.prototxt.txt").write_text(SHAPES[0])
    (tmp_path / "face.caffemodel").write_bytes(b"")
    assert parts.beside(str(tmp_path / "face.caffemodel")) == str(tmp_path / "deploy.prototxt.txt")
