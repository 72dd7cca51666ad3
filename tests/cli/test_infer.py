"""``verge infer``: pictures in, answers out, as a user sees them."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import cv2
import numpy as np
import pytest

from agent.cli.pictures import expand
from agent.inference.manifest import SAMPLES
from tests.cli.conftest import ROOT, environment
from tests.support.models import onnx_constant, tflite_constant
from tests.support.pictures import WRAPPINGS, encode, picture, turned

IMAGES = SAMPLES.parent / "images"
CHELSEA = IMAGES / "chelsea.jpg"


def best(told):
    return {Path(one["image"]).stem: one["predictions"][0] for one in told}


def test_photographs_are_answered_with_their_class(verge):
    done = verge("infer", CHELSEA, IMAGES / "coffee.jpg", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0
    assert done.stderr == ""
    assert best(told)["chelsea"]["label"] == "Egyptian cat"
    assert best(told)["chelsea"]["label_id"] == 285
    assert best(told)["coffee"]["label"] == "espresso"
    assert set(told[0]) == {"image", "model", "task", "predictions", "timing_ms"}
    assert told[0]["image"] == str(CHELSEA)
    assert told[0]["task"] == "image-classification"
    assert set(told[0]["timing_ms"]) == {"decode", "preprocess", "infer", "postprocess", "total"}


def test_the_detector_finds_the_objects_and_their_boxes(verge):
    done = verge(
        "infer", "--model", "detector", "--json", *(IMAGES / f"{n}.jpg" for n in ("chelsea", "astronaut", "coffee"))
    )
    found = best(json.loads(done.stdout))
    assert (found["chelsea"]["label"], found["astronaut"]["label"], found["coffee"]["label"]) == (
        "Cat",
        "Person",
        "Coffee cup",
    )
    assert found["chelsea"]["score"] >= 0.8
    assert found["astronaut"]["score"] >= 0.5
    assert found["coffee"]["score"] >= 0.4
    assert found["chelsea"]["box"]["width"] > 0.8


def test_a_picture_gives_the_same_answer_however_it_is_wrapped(verge, tmp_path):
    data = CHELSEA.read_bytes()
    for number, wrap in enumerate(WRAPPINGS.values()):
        (tmp_path / f"{number:02d}.payload").write_bytes(wrap(data))
    done = verge("infer", "*.payload", "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    assert len(told) == len(WRAPPINGS)
    assert all(one["predictions"] == told[0]["predictions"] for one in told)


def test_a_picture_gives_the_same_answer_in_every_encoding_and_orientation(verge, tmp_path):
    pixels = cv2.imread(str(CHELSEA))
    lying = cv2.rotate(pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
    lossless = {
        "as.png": encode(pixels, "png"),
        "as.webp": encode(pixels, "webp", cv2.IMWRITE_WEBP_QUALITY, 101),
        "as.bmp": encode(pixels, "bmp"),
        "as.npy": encode(pixels[..., ::-1], "npy"),
        "turned.png": turned(encode(lying, "png"), 6),
    }
    for name, data in lossless.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "turned.jpg").write_bytes(turned(encode(lying, "jpeg", cv2.IMWRITE_JPEG_QUALITY, 100), 6))
    done = verge("infer", CHELSEA, *lossless, "turned.jpg", "--top-k", 1, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout
    scores = [one["predictions"][0]["score"] for one in told]
    assert {one["predictions"][0]["label"] for one in told} == {"Egyptian cat"}
    assert scores[:-1] == pytest.approx([scores[0]] * len(scores[:-1]), abs=1e-5)
    assert scores[-1] == pytest.approx(scores[0], abs=0.05)  # JPEG loses a little each time


def test_a_picture_is_read_from_standard_input(verge):
    done = verge("infer", "-", "--json", "--top-k", 1, stdin=CHELSEA.read_bytes())
    (told,) = json.loads(done.stdout)
    assert told["image"] == "-"
    assert [each["label_id"] for each in told["predictions"]] == [285]


def test_a_picture_that_fails_is_told_and_the_others_go_on(verge, tmp_path):
    (tmp_path / "cut.jpg").write_bytes(CHELSEA.read_bytes()[:60])
    (tmp_path / "folder").mkdir()
    done = verge("infer", "missing.jpg", "cut.jpg", "folder", CHELSEA, "--json")
    told = json.loads(done.stdout)
    assert done.returncode == 1
    assert [one.get("error", {}).get("code") for one in told] == ["file-unreadable", "truncated", "folder-empty", None]
    assert all(one["error"]["message"] and one["error"]["hint"] for one in told[:3])
    assert told[3]["predictions"][0]["label"] == "Egyptian cat"


def test_a_folder_and_a_pattern_stand_for_their_pictures_in_order(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.JPG", "a.png", "notes.txt", "c.npy"):
        (tmp_path / name).write_bytes(b"")
    assert [Path(source.name).name for source in expand([str(tmp_path)])] == ["a.png", "b.JPG", "c.npy"]
    assert [source.name for source in expand(["*.p*", "-", "[x].jpg"])] == ["a.png", "-", "[x].jpg"]


def test_people_get_a_table_and_failures_apart_from_it(verge, tmp_path):
    (tmp_path / "empty.jpg").write_bytes(b"")
    done = verge("infer", CHELSEA, "empty.jpg", "--model", "detector", COLUMNS="80")
    assert done.returncode == 1
    header, row = _rows(done.stdout)
    assert header == ["image", "label", "score", "x,", "y", "width", "×", "height", "ms"]
    assert "Cat" in row
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stderr.splitlines()[0] == "verge: empty.jpg: there are no bytes"


def _rows(text):
    lines = [line for line in text.splitlines() if line.strip()]
    at = next(number for number, line in enumerate(lines) if line.startswith("image"))
    return lines[at].split(), " ".join(lines[at + 1 :]).split()


def test_annotated_pictures_are_written_and_none_is_overwritten(verge, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "chelsea.jpg").write_bytes(CHELSEA.read_bytes())
    done = verge("infer", CHELSEA, "other/chelsea.jpg", "--model", "detector", "--annotate", "other", "--json")
    written = [tmp_path / one["annotated"] for one in json.loads(done.stdout)]
    assert [path.name for path in written] == ["chelsea.annotated.jpg", "chelsea-2.annotated.jpg"]
    assert (tmp_path / "other" / "chelsea.jpg").read_bytes() == CHELSEA.read_bytes()
    shown = cv2.imread(str(written[0]))
    assert shown.shape == cv2.imread(str(CHELSEA)).shape
    assert np.abs(shown.astype(int) - cv2.imread(str(CHELSEA))).max() > 100


EVERYTHING = """
import numpy as np


def everything(predictions):
    mask = np.zeros((4, 8), bool)
    mask[:, :4] = True
    return [
        {"label": "thing", "label_id": 0, "score": 0.9, "mask": mask, "parts": [{"text": "AB 12", "score": 0.8}],
         "box": {"x": 0.5, "y": 0.25, "width": 0.25, "height": 0.5}},
        {"label": "road", "label_id": 1, "mask": mask},
        {"vector": np.array([3, 4], np.float32), "name": "Ann", "similarity": 0.7},
        *predictions,
    ]
"""


@pytest.fixture
def everything(tmp_path):
    """A classifier behind which a step adds predictions of other kinds."""
    (tmp_path / "many").mkdir()
    onnx_constant(tmp_path / "many" / "model.onnx", {"scores": np.array([[0.1, 0.7, 0.2]])})
    (tmp_path / "many" / "step.py").write_text(EVERYTHING)
    manifest = 'file = "model.onnx"\ntask = "image-classification"\npostprocess = "step.py:everything"\n'
    (tmp_path / "many" / "manifest.toml").write_text(manifest)
    return tmp_path / "many"


def test_predictions_of_every_kind_are_told_in_80_columns(verge, everything):
    done = verge("infer", CHELSEA, "--model", everything, COLUMNS="80")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for words in ("mask of 50.0%", "AB 12 0.800", "road 50.0% █████", "Ann 0.700 2 numbers, norm 5", "3, 4"):
        assert words.split() in lines
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_all_that_answers_hold_is_written_as_arrays(verge, everything, tmp_path):
    done = verge("infer", CHELSEA, "--model", everything, "--out", "one.npz")
    assert "arrays: one.npz" in done.stdout
    with np.load(tmp_path / "one.npz", allow_pickle=False) as told:
        assert told["detection/masks"].sum() == 16
        assert told["detection/parts/0/text/texts"].tolist() == ["AB 12"]
        assert told["embedding/vectors"].tolist() == [[3, 4]]
        assert told["classification/scores"].tolist() == pytest.approx([0.7, 0.2, 0.1])
    done = verge("infer", CHELSEA, CHELSEA, "--model", everything, "--task", "tensors", "--out", "two.npz", "--json")
    with np.load(tmp_path / "two.npz", allow_pickle=False) as told:
        assert sorted(told.files) == ["chelsea-2/scores", "chelsea/scores"]
        assert told["chelsea/scores"].ravel().tolist() == pytest.approx([0.1, 0.7, 0.2])
    assert [one["predictions"][0]["name"] for one in json.loads(done.stdout)] == ["scores", "scores"]
    done = verge("infer", CHELSEA, "--model", everything, "--out", "nowhere/x.npz")
    assert (done.returncode, "name another file with --out" in done.stderr) == (2, True)


def test_how_a_picture_is_fed_is_said_by_options_and_told_with_who_says_it(verge):
    fed = ("--mean", 0, "--std", "255,255,255", "--color", "bgr", "--resize", "crop", "--crop", 0.875)
    done = verge("infer", CHELSEA, *fed, "-v", COLUMNS="80")
    assert done.returncode == 0, done.stderr
    facts = {line.split()[0]: line.rstrip().split(maxsplit=2)[1:] for line in done.stdout.splitlines() if line}
    assert facts["width"] == ["224", "the network's own shape"]
    assert facts["color"] == ["BGR", "the manifest, or an option"]
    assert (facts["mean"][0], facts["std"][0], facts["resize"][0], facts["crop"][0]) == ("0", "255", "crop", "0.875")
    assert facts["interpolation"] == ["linear", "usual: nobody says it"]
    assert facts["task"] == ["image-classification"]
    assert facts["why"][0]


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--size", "12x", "is not a side, or width x height"),
        ("--mean", "1,b", "is not a number, or one for each channel"),
        ("--tile", "3x", "says no tiles; give columns x rows"),
        ("--resize", "squash", "give one of stretch, crop, letterbox"),
        ("--size", "640", "but the file has the input"),
        ("--size", "640", "leave --size out"),
        ("--color", "pink", "is not one of"),
    ],
)
def test_what_no_input_can_be_is_refused_with_what_can(verge, option, value, words):
    done = verge("infer", CHELSEA, option, value)
    assert done.returncode == 2
    assert words in done.stderr


def test_a_wide_frame_may_be_looked_at_in_tiles(verge):
    done = verge("infer", IMAGES / "coffee.jpg", "--model", "detector", "--tile", "2x1,whole", "--json")
    (told,) = json.loads(done.stdout)
    assert told["decoder"] == "ssd-raw"
    assert told["predictions"][0]["label"] == "Coffee cup"


@pytest.mark.parametrize("make", [tflite_constant, onnx_constant], ids=["tflite", "onnx"])
def test_a_model_is_named_by_its_file_alone(verge, tmp_path, make):
    path = make(tmp_path / f"mine.{make.__name__.partition('_')[0]}", {"scores": np.array([[0.1, 0.7, 0.2]])})
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    (tmp_path / "x.jpg").write_bytes(picture())
    done = verge(
        "infer", "x.jpg", "--model", path.name, "--labels", "names.txt", "--top-k", 2, "--threshold", 0.15, "--json"
    )
    (told,) = json.loads(done.stdout)
    assert told["model"] == "mine"
    assert told["task"] == "image-classification"
    assert [(each["label"], round(each["score"], 3)) for each in told["predictions"]] == [("green", 0.7), ("blue", 0.2)]


def test_top_k_limits_what_a_detector_finds(verge):
    done = verge("infer", IMAGES / "astronaut.jpg", "--model", "detector", "--threshold", 0.01, "--top-k", 3, "--json")
    (told,) = json.loads(done.stdout)
    assert len(told["predictions"]) == 3


def test_a_backend_that_is_not_installed_is_told_with_how_to_install_it(verge, tmp_path, without):
    onnx_constant(tmp_path / "mine.onnx", {"scores": np.zeros((1, 3))})
    done = verge("infer", CHELSEA, "--model", "mine.onnx", "--backend", "onnx", PYTHONPATH=without("onnxruntime"))
    assert done.returncode == 2
    assert done.stdout == ""
    assert "pip install 'verge-edge[onnx]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_is_not_there_is_told_with_a_guess(verge):
    done = verge("infer", CHELSEA, "--model", "clasifier")
    assert done.returncode == 2
    assert "did you mean classifier?" in done.stderr


def test_a_file_that_no_backend_takes_is_told_with_the_option_that_names_one(verge, tmp_path):
    (tmp_path / "README.md").write_text("words")
    done = verge("infer", CHELSEA, "--model", "README.md")
    assert done.returncode == 2
    assert "name one with --backend; known: litert" in done.stderr


def test_an_unknown_command_is_refused_with_a_guess(verge):
    done = verge("infre", CHELSEA)
    assert done.returncode == 2
    assert "No such command 'infre'. did you mean infer?" in done.stderr
    assert "did you mean" not in verge("xyzzy").stderr


@pytest.mark.parametrize("name", ["components", "deployments", "rollback"])
def test_a_thing_is_named_with_to_as_for_deploy(name):
    command = importlib.import_module(f"agent.cli.{name}").command
    assert any({"--thing", "--to"} <= set(option.opts) for option in command.params)


@pytest.mark.parametrize("name", ["infer", "models", "watch", "doctor"])
def test_help_shows_each_example_on_a_line_of_its_own(name):
    command = importlib.import_module(f"agent.cli.{name}").command
    lines = command.get_help(click.Context(command, info_name=name)).splitlines()
    at = lines.index("  Examples:")
    assert lines[at + 1].startswith(f"    verge {name}")
    assert lines[at + 2].startswith(f"    verge {name} ")


def test_neither_numpy_nor_opencv_nor_a_table_is_loaded_for_json():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "agent", "infer", str(CHELSEA), "--json"],
        capture_output=True, text=True, cwd=ROOT, env=environment(), timeout=120, check=True,
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "msgspec" in imported
    assert imported.isdisjoint({"numpy", "cv2", "ai_edge_litert", "onnxruntime", "rich"})


def test_ctrl_c_while_a_model_loads_ends_cleanly(started, tmp_path):
    # A model file that is a pipe: opening it for writing waits until the worker reads, which then waits for us.
    os.mkfifo(tmp_path / "model.pb")
    (tmp_path / "manifest.toml").write_text('file = "model.pb"\nbackend = "opencv"\n')
    process = started("infer", CHELSEA, "--model", tmp_path)
    pipe = os.open(tmp_path / "model.pb", os.O_WRONLY)
    process.send_signal(signal.SIGINT)
    told, words = process.communicate(timeout=20)
    assert process.returncode == 130
    assert told == words == ""
    with pytest.raises(BrokenPipeError):  # the worker is gone too
        os.write(pipe, b"x")
    os.close(pipe)
