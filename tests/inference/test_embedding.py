"""A picture as a vector: what is taken for one, and the nearest of a gallery."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from agent.config.models import ModelOptions, Then
from agent.config.streams import FrameLimits
from agent.errors import ModelRefusedError
from agent.frames.recognise import recognise
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import resolve
from agent.inference.predictions import Embedding
from agent.inference.runtime import gallery
from agent.inference.runtime.base import FITS, NAMED, Geometry, Labels, Network, TensorInfo
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.tasks import embedding

FRAME = Geometry(64, 64, 64, 64)


def network(name: str, size: int, side: int = 64) -> Network:
    inputs = [TensorInfo("image", (1, 3, side, side), "float32")]
    return Network(inputs, [TensorInfo(name, (1, size), "float32")], Labels())


def task(size: int = 64, **options) -> embedding.ImageEmbedding:
    made = network("embedding", size)
    return embedding.ImageEmbedding(options, made.labels, made.inputs, made.outputs)


@pytest.mark.parametrize(
    ("name", "size", "side", "strength"),
    [("embeddings", 192, 160, NAMED), ("output", 512, 112, NAMED), ("output", 512, 64, FITS), ("output", 16, 64, None)],
)
def test_a_vector_is_taken_for_an_embedding_by_its_name_its_input_or_its_shape(name, size, side, strength) -> None:
    claims = embedding.ImageEmbedding.claims(network(name, size, side))
    assert [claim.strength for claim in claims] == ([] if strength is None else [strength])


def test_where_only_the_shape_speaks_for_it_its_length_has_to_be_one() -> None:
    vector = np.full((1, 64), 2.0, np.float32)
    assert "its vector has the length 16" in task().doubt([vector], FRAME, FITS)
    assert task().doubt([vector], FRAME, NAMED) == ""
    assert task().doubt([vector / 16], FRAME, FITS) == ""


def test_a_vector_of_numbers_whose_squares_have_no_room_has_its_direction_all_the_same() -> None:
    (told,) = task().predictions([np.full((1, 64), 3e38, np.float32)], FRAME)
    np.testing.assert_allclose(told["vector"], np.full(64, 1 / 8), rtol=1e-6)


def test_the_nearest_is_named_where_it_is_near_enough() -> None:
    reader = task(least=0.9)
    reader.learn(["anna", "ben"], [np.eye(64)[0] * 5, np.eye(64)[1]])
    near = np.eye(64)[0] + 0.1 * np.eye(64)[2]
    (known,) = reader.predictions([near[None]], FRAME)
    assert known["name"] == "anna"
    assert known["similarity"] == pytest.approx(1 / np.sqrt(1.01))
    assert np.linalg.norm(known["vector"]) == pytest.approx(1)
    (unknown,) = reader.predictions([np.ones((1, 64))], FRAME)
    assert "name" not in unknown
    assert unknown["similarity"] == pytest.approx(1 / 8)


def test_a_gallery_names_by_folder_or_file_and_passes_over_the_rest(tmp_path: Path) -> None:
    for path in ("anna.jpg", "anna-2.jpg", "clara/1.png", "clara/2.PNG", "notes.txt", ".hidden.jpg"):
        place = tmp_path / path
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"x")
    assert [name for name, _ in gallery.pictures(str(tmp_path))] == ["anna", "anna", "clara", "clara"]


def test_a_gallery_holds_files_and_waits_for_no_pipe(tmp_path: Path) -> None:
    (tmp_path / "anna.jpg").write_bytes(b"x")
    os.mkfifo(tmp_path / "clara.jpg")
    (tmp_path / "dora.jpg").symlink_to("/dev/zero")
    assert [name for name, _ in gallery.pictures(str(tmp_path))] == ["anna"]


def test_a_picture_of_a_gallery_that_is_too_large_is_named(tmp_path: Path) -> None:
    with (tmp_path / "anna.jpg").open("wb") as file:
        file.truncate(33 << 20)
    with pytest.raises(ModelError, match=r"anna\.jpg has more than") as refused:
        gallery.learned(str(tmp_path), lambda pixels: pixels)
    assert refused.value.code == "gallery-too-large"


def test_a_gallery_without_a_picture_or_with_a_broken_one_is_refused_and_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no pictures") as refused:
        gallery.pictures(str(tmp_path))
    assert refused.value.code == "gallery-empty"
    (tmp_path / "anna.jpg").write_bytes(b"no picture")
    with pytest.raises(ModelError, match=r"anna\.jpg"):
        gallery.learned(str(tmp_path), lambda pixels: pixels)


# With a real worker: a network whose vector is the mean colour of each of its picture's rows.

ROWS = """
import numpy as np
from agent.inference.runtime.base import Backend, TensorInfo

class Rows(Backend):
    inputs = (TensorInfo("image", (1, 16, 16, 3), "uint8"),)
    outputs = (TensorInfo("embedding", (1, 48), "float32"),)
    def __init__(self, path, threads, accelerator, options): pass
    def run(self, arrays):
        return [(arrays[0].astype(np.float32).mean(axis=2).reshape(1, 48) - 100) / 100]
"""
SPOT = """
import numpy as np
from agent.inference.runtime.base import Backend, TensorInfo

class Spot(Backend):
    inputs = (TensorInfo("image", (1, 64, 64, 3), "uint8"),)
    outputs = tuple(TensorInfo(name, shape, "float32") for name, shape in
        (("boxes", (1, 1, 4)), ("classes", (1, 1)), ("scores", (1, 1)), ("count", (1,))))
    def __init__(self, path, threads, accelerator, options): pass
    def run(self, arrays):
        rows, columns = np.nonzero(arrays[0][0].max(axis=2) >= 60)
        if not rows.size:
            rows = columns = np.array([0, 1])
        box = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]) / 64
        return [np.float32(box).reshape(1, 1, 4), np.zeros((1, 1), np.float32), np.full((1, 1), 0.9, np.float32),
            np.ones(1, np.float32)]
"""
PEOPLE = {"anna": (0, 0, 255), "ben": (255, 0, 0)}


def person(colour, x: int, y: int) -> bytes:
    pixels = np.zeros((128, 128, 3), np.uint8)
    pixels[y : y + 40, x : x + 40] = colour
    pixels[y : y + 20, x : x + 40] = np.array(colour) // 2
    return bytes(cv2.imencode(".png", pixels)[1])


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "code.py").write_text(ROWS + SPOT)
    (tmp_path / "network").write_bytes(b"x")
    (tmp_path / "people").mkdir()
    for name, colour in PEOPLE.items():
        (tmp_path / "people" / f"{name}.png").write_bytes(person(colour, 8, 8))
    return tmp_path


@pytest.mark.parametrize("name", PEOPLE)
async def test_who_was_detected_is_named_by_the_gallery_of_the_model_behind(models: Path, name: str) -> None:
    behind = Then(model="network", backend="code.py:Rows", task="embedding", gallery="people")
    options = ModelOptions(source="network", backend="code.py:Spot", task="object-detection", then=(behind,))
    async with loaded(resolve(options, models)) as (plane, metadata):
        answer = await plane.infer(MODEL, recognise(person(PEOPLE[name], 60, 70), None, FrameLimits()))
    (found,) = answer.predictions
    (who,) = found.parts
    assert isinstance(who, Embedding)
    assert (who.name, who.size) == (name, 48)
    assert who.similarity > 0.95
    assert [stage.task for stage in metadata.stages] == ["embedding"]


async def test_a_gallery_for_what_has_no_use_for_it_and_one_that_is_not_there_are_refused(models: Path) -> None:
    with pytest.raises(ModelRefusedError, match="there is no folder") as refused:
        resolve(ModelOptions(source="classifier", gallery="nobody"), models)
    assert refused.value.code == "gallery-missing"
    with pytest.raises(ModelRefusedError, match="a gallery is nothing to image-classification"):
        async with loaded(resolve(ModelOptions(source="classifier", gallery="people"), models)):
            pass
