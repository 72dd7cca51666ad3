"""A user's own code beside the model: files named, loaded, held to their contract; mistakes told by their line."""

from __future__ import annotations

import shutil
import sys
import textwrap
import types
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from msgspec.structs import asdict

from agent.config.models import ModelOptions
from agent.errors import ConfigError, ModelRefusedError, VergeError
from agent.frames.frame import Picture
from agent.inference import masks
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.predictions import Detection, Keypoint, Tensor
from agent.inference.runtime import plugins
from agent.inference.runtime.base import Backend, Labels, Network, TensorInfo
from agent.inference.values import Answer, Snapshot
from tests.support.unruly import PLUGINS

MANIFEST = 'file = "model.bin"\nbackend = "spot.py:Spot"\ntask = "spot.py:Where"\n'


def model(folder: Path, code: str = "", said: str = "", **files: str) -> Path:
    """A model that finds a spot, with a file ``code.py`` and what else the manifest is to say."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.bin").write_bytes(b"network")
    shutil.copy(PLUGINS / "spot.py", folder)
    (folder / "manifest.toml").write_text(MANIFEST + said)
    (folder / "code.py").write_text(textwrap.dedent(code))
    for name, text in files.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    return folder


def pixels(x: int = 40, y: int = 20, value: int = 255) -> np.ndarray:
    """A dark frame of 160 × 80 with a spot of 20 × 10."""
    frame = np.zeros((80, 160, 3), np.uint8)
    frame[y : y + 10, x : x + 20] = value
    return frame


def picture(frame: np.ndarray | None = None) -> Picture:
    frame = pixels() if frame is None else frame
    return Picture(cv2.imencode(".png", frame)[1].tobytes(), "png", frame.shape[1], frame.shape[0])


def spec(folder: Path, **options: Any) -> ModelSpec:
    return resolve(ModelOptions(source=str(folder), **options), folder)


async def answer(folder: Path, frame: np.ndarray | None = None, **options: Any) -> Answer:
    async with loaded(spec(folder, **options)) as (plane, _):
        return await plane.infer(MODEL, picture(frame))


async def refused(folder: Path, **options: Any) -> VergeError:
    """Why the model cannot be loaded."""
    with pytest.raises(VergeError) as raised:
        await answer(folder, **options)
    return raised.value


SPOT = {"x": 0.25, "y": 0.25, "width": 0.125, "height": 0.125}


async def test_a_backend_and_a_task_are_files_beside_the_model(tmp_path) -> None:
    async with loaded(spec(model(tmp_path / "m"))) as (plane, told):
        found = await plane.infer(MODEL, picture())
    assert (told.backend, told.task) == ("Spot", "Where")
    (spot,) = msgspec.to_builtins(found.predictions)
    assert spot == {"label": "spot", "label_id": 0, "score": 1.0, "box": pytest.approx(SPOT, abs=0.02)}
    assert not list((tmp_path / "m").glob("__pycache__"))


async def test_a_folder_is_a_model_and_its_digest_is_that_of_its_files(tmp_path) -> None:
    digests = []
    for name, content in [("a", b"1"), ("b", b"1"), ("c", b"2")]:
        folder = model(tmp_path / name, said="")
        (folder / "manifest.toml").write_text(MANIFEST.replace("model.bin", "."))
        (folder / "deeper").mkdir()
        (folder / "deeper" / "weights").write_bytes(content)
        async with loaded(spec(folder)) as (plane, description):
            assert (await plane.infer(MODEL, picture())).predictions
            digests.append(description.digest)
    assert digests[0] == digests[1] != digests[2]


CROP = """
    def crop(picture, x=0.125, y=0.125, width=0.5, height=0.5):
        return picture.crop(x, y, width, height)
"""


@pytest.mark.parametrize("resize", ["stretch", "crop", "letterbox"])
async def test_a_box_behind_a_crop_is_a_fraction_of_the_frame(tmp_path, resize) -> None:
    said = f'preprocess = "code.py:crop"\ninput.resize = "{resize}"\n'
    found = await answer(model(tmp_path / "m", CROP, said))
    assert asdict(found.predictions[0].box) == pytest.approx(SPOT, abs=0.02)
    assert (found.width, found.height) == (160, 80)


async def test_what_is_cropped_away_is_not_found(tmp_path) -> None:
    said = 'preprocess = "code.py:crop"\n[preprocess_options]\nx = 0.5\n'
    assert (await answer(model(tmp_path / "m", CROP, said))).predictions == ()


async def test_a_step_gets_the_frame_in_opencvs_colours_at_its_full_size(tmp_path) -> None:
    code = """
        def look(picture):
            assert picture.pixels.shape == (1200, 1600, 3) or picture.pixels.shape == (480, 640, 3)
            if picture.pixels.shape[0] == 1200:
                assert picture.pixels[600, 800].tolist() == [250, 120, 10], picture.pixels[600, 800]
            return picture
    """
    folder = model(tmp_path / "m", code, 'preprocess = "code.py:look"\n')
    await answer(folder, np.full((1200, 1600, 3), (250, 120, 10), np.uint8))


async def test_other_pixels_may_stand_for_the_same_part(tmp_path) -> None:
    code = """
        import cv2

        class Lighten:
            def __init__(self, factor):
                self.factor = factor

            def __call__(self, picture):
                lighter = cv2.convertScaleAbs(picture.pixels, alpha=self.factor)
                return picture.replace(lighter[::2, ::2])
    """
    said = 'preprocess = "code.py:Lighten"\npreprocess_options.factor = {}\n'
    dark = pixels(value=60)
    assert (await answer(model(tmp_path / "a", code, said.format(1)), dark)).predictions == ()
    found = await answer(model(tmp_path / "b", code, said.format("4.0")), dark)
    assert asdict(found.predictions[0].box) == pytest.approx(SPOT, abs=0.02)


async def test_a_turned_picture_becomes_the_frame_and_is_what_is_drawn_on(tmp_path) -> None:
    code = """
        import cv2

        def upright(picture):
            return picture.reframe(cv2.rotate(picture.pixels, cv2.ROTATE_90_CLOCKWISE))
    """
    async with loaded(spec(model(tmp_path / "m", code, 'preprocess = "code.py:upright"\n'))) as (plane, _):
        found = await plane.infer(MODEL, picture(), snapshot=Snapshot())
    assert (found.width, found.height) == (80, 160)
    turned = {"x": 0.625, "y": 0.25, "width": 0.125, "height": 0.125}
    assert asdict(found.predictions[0].box) == pytest.approx(turned, abs=0.02)
    drawn = cv2.imdecode(np.frombuffer(found.snapshot, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (160, 80, 3)


async def test_predictions_may_be_renamed_filtered_and_merged(tmp_path) -> None:
    code = """
        def german(predictions, names):
            return [{**each, "label": names.get(each["label"], each["label"])} for each in predictions]

        class Only:
            def __init__(self, wanted="spot"):
                self.wanted = wanted

            def __call__(self, predictions):
                return [each for each in predictions if each["label"] == self.wanted]
    """
    renamed = 'postprocess = "code.py:german"\npostprocess_options.names = {spot = "Fleck"}\n'
    assert (await answer(model(tmp_path / "a", code, renamed))).predictions[0].label == "Fleck"
    only = 'postprocess = "code.py:Only"\npostprocess_options.wanted = "hole"\n'
    assert (await answer(model(tmp_path / "b", code, only))).predictions == ()


async def test_the_configuration_puts_its_own_steps_in_place_of_the_manifests(tmp_path) -> None:
    folder = model(tmp_path / "m", CROP, 'preprocess = "code.py:crop"\npreprocess_options.x = 0.5\n')
    (tmp_path / "other.py").write_text("def last(predictions):\n    return predictions[:0]\n")
    (tmp_path / "whole.py").write_text("def whole(picture):\n    return picture\n")
    plain = resolve(ModelOptions(source="m", preprocess="whole.py:whole"), tmp_path).manifest
    assert (plain.preprocess, plain.preprocess_options) == (f"{tmp_path}/whole.py:whole", {})
    assert (await answer(folder, preprocess=f"{tmp_path}/whole.py:whole")).predictions
    kept = {"preprocess_options": {"x": 0.125}}
    assert (await answer(folder, **kept)).predictions
    assert (await answer(folder, **kept, postprocess=f"{tmp_path}/other.py:last")).predictions == ()


async def test_a_file_finds_its_neighbours_and_hides_nobodys(tmp_path) -> None:
    code = """
        import json
        import labels_of_mine
        from . import colorsys as mine
        import colorsys

        def name(predictions):
            assert hasattr(json, "loads") and hasattr(colorsys, "rgb_to_hsv")
            return [{**each, "label": labels_of_mine.NAME + mine.NAME} for each in predictions]
    """
    folder = model(
        tmp_path / "m",
        code,
        'postprocess = "code.py:name"\n',
        labels_of_mine='NAME = "a"\n',
        json="raise SystemExit(9)\n",
        cv2="raise SystemExit(9)\n",
        colorsys='NAME = "b"\n',
    )
    assert (await answer(folder)).predictions[0].label == "ab"


async def test_models_with_files_of_one_name_do_not_meet(tmp_path) -> None:
    said = 'postprocess = "code.py:name"\n'
    code = 'def name(predictions):\n    return [{{**each, "label": "{}"}} for each in predictions]\n'
    both = [model(tmp_path / name, code.format(name), said) for name in ("a", "b")]
    # A model's folder may be reached by the step of another one as well.
    first = await answer(both[0], preprocess=f"{model(tmp_path / 'c', CROP)}/code.py:crop")
    second = await answer(both[1])
    assert [each.predictions[0].label for each in (first, second)] == ["a", "b"]


# -- what is wrong is told --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        ("def crop(picture)\n    return picture\n", "code.py:crop", "SyntaxError: expected ':' (code.py, line 1)"),
        ("x = 1\n\nraise ValueError('no camera')\n", "code.py:crop", "ValueError: no camera (code.py, line 3, in <mod"),
        ("import torchvision_of_mine\n", "code.py:crop", "No module named 'torchvision_of_mine' (code.py, line 1"),
        ("import sys\nsys.exit('usage')\n", "code.py:crop", "SystemExit: usage (code.py, line 2"),
        ("from .neighbour import x\n", "code.py:crop", "NameError: name 'y' is not defined (neighbour.py, line 2"),
    ],
)
async def test_a_file_that_cannot_be_run_is_told_with_the_line(tmp_path, code, said, words) -> None:
    folder = model(tmp_path / "m", code, f'preprocess = "{said}"\n', neighbour="\nx = y\n")
    error = await refused(folder)
    assert (error.code, type(error)) == ("code-broken", ModelRefusedError)
    assert words in error.message
    assert str(folder) in (error.hint or "") or "install" in (error.hint or "")


@pytest.mark.parametrize(
    ("code", "said", "wanted", "words", "hint"),
    [
        ("def crop(p): return p", "preprocess = 'code.py:corp'", "code-missing", "has no 'corp'", "did you mean crop?"),
        ("import json", "preprocess = 'code.py:Crop'", "code-missing", "has no 'Crop'", "no class and no function"),
        ("x = 1", "preprocess = 'code.py:x'", "code-wrong", "code.py:x cannot be called", "def preprocess(…)"),
        ("class X: pass", "postprocess = 'code.py:X'", "code-wrong", "code.py:X cannot be called", "__call__"),
        (
            CROP,
            "preprocess = 'code.py:crop'\npreprocess_options.z = 1",
            "options-wrong",
            "argument 'z'",
            "(picture, x=",
        ),
        ("def f(p, k): return p", "preprocess = 'code.py:f'", "options-wrong", "'k'", "code.py:f(p, k)"),
        ("def f(): return 1", "preprocess = 'code.py:f'", "options-wrong", "positional", "code.py:f()"),
        ("", "preprocess = 'sharpen'", "preprocess-unknown", "no preprocess is called 'sharpen'", "file.py:Name"),
        ("", "preprocess = 'nowhere_at_all:f'", "preprocess-unavailable", "cannot be imported", "installed?"),
        ("", "preprocess = 'colorsys:f'", "preprocess-unavailable", "has no 'f'", "preprocess"),
    ],
)
async def test_a_step_that_cannot_be_made_is_told(tmp_path, code, said, wanted, words, hint) -> None:
    error = await refused(model(tmp_path / "m", code, said + "\n"))
    assert error.code == wanted
    assert words in error.message
    assert hint in (error.hint or "")


BAD_BACKEND = """
    import numpy as np
    from agent.inference.runtime.base import Backend, Task, TensorInfo

    class Abstract(Backend):
        def __init__(self, path, threads, accelerator, options): pass

    class Raising(Backend):
        def __init__(self, path, threads, accelerator, options):
            self.net = open(path + ".weights")
        def run(self, arrays): return []

    class Untold(Backend):
        inputs = ["picture"]
        def __init__(self, path, threads, accelerator, options): pass
        def run(self, arrays): return []

    class Listing(Backend):
        inputs = [TensorInfo("p", (1, 4, 4, 3), "uint8")]
        outputs = [TensorInfo("o", (1, 4), "float32")]
        def __init__(self, path, threads, accelerator, options): pass
        def run(self, arrays): return [[0.1, 0.2]]

    class Backwards(Task):
        def __init__(self, options, labels, inputs, outputs): pass
        def predictions(self, outputs, geometry):
            return {"label": "x"}

    def Function(path): pass
"""


@pytest.mark.parametrize(
    ("said", "code", "words"),
    [
        ("backend = 'code.py:Abstract'", "backend-unavailable", "code.py:Abstract does not define run"),
        ("backend = 'code.py:Raising'", "model-failed", "FileNotFoundError: [Errno 2]"),
        ("backend = 'code.py:Raising'", "model-failed", "(code.py, line 10, in __init__)"),
        ("backend = 'code.py:Untold'", "code-wrong", "Untold: its inputs are ['picture']"),
        ("backend = 'code.py:Listing'", "code-wrong", "Listing: run gave [[0.1, 0.2]]"),
        ("backend = 'code.py:Function'", "backend-unavailable", "code.py:Function is not a Backend"),
        ("task = 'code.py:Backwards'", "code-wrong", "Backwards: it returned {'label': 'x'}"),
        ("task = 'code.py:Raising'", "task-unavailable", "code.py:Raising is not a Task"),
    ],
)
async def test_a_backend_or_task_that_is_none_is_told(tmp_path, said, code, words) -> None:
    folder = model(tmp_path / "m", BAD_BACKEND)
    key = said.partition(" ")[0]
    kept = "\n".join(line for line in MANIFEST.splitlines() if not line.startswith(key))
    (folder / "manifest.toml").write_text(f"{kept}\n{said}\n")
    error = await refused(folder)
    assert error.code == code
    assert words in error.message


MOODY = """
    class Moody:
        def __init__(self):
            self.warm = False

        def __call__(self, given):
            if not self.warm:
                self.warm = True
                return given
            {act}
"""


@pytest.mark.parametrize(
    ("step", "act", "code", "words"),
    [
        (
            "preprocess",
            "return picture",
            "model-failed",
            "NameError: name 'picture' is not defined (code.py, line 10, in",
        ),
        ("preprocess", "raise SystemExit(2)", "model-failed", "SystemExit: 2 (code.py, line 10"),
        ("preprocess", "return given.crop(100, 50, 640, 480)", "model-failed", "give fractions of it"),
        ("preprocess", "return None", "code-wrong", "code.py:Moody: it returned None"),
        ("preprocess", "return given.pixels[:10]", "code-wrong", "it returned an array of uint8 [10, 160, 3]"),
        ("preprocess", "return given.replace(given.pixels / 255)", "code-wrong", "an array of float64 [80, 160, 3]"),
        ("preprocess", "return given.replace(given.pixels[:, :, 0])", "code-wrong", "an array of uint8 [80, 160]"),
        ("preprocess", "return given.reframe(given.pixels[:0])", "code-wrong", "an array of uint8 [0, 160, 3]"),
        ("postprocess", "return 1 / 0", "model-failed", "ZeroDivisionError: division by zero (code.py, line 10"),
        ("postprocess", "return None", "code-wrong", "it returned None"),
        ("postprocess", "return ['spot']", "code-wrong", "prediction 0 is 'spot'"),
        ("postprocess", "return [{'label': 'x'}]", "code-wrong", "prediction 0 has no label_id"),
        ("postprocess", "return [dict(given[0], plate='B')]", "code-wrong", "prediction 0 has 'plate'"),
        ("postprocess", "return [dict(given[0], score='1')]", "code-wrong", "the score of prediction 0 is '1'"),
        (
            "postprocess",
            "return [dict(given[0], score=float('nan'))]",
            "code-wrong",
            "the score of prediction 0 is nan",
        ),
        ("postprocess", "return [dict(given[0], label=7)]", "code-wrong", "the label of prediction 0 is 7"),
        ("postprocess", "return [dict(given[0], label_id=1.5)]", "code-wrong", "the label_id of prediction 0 is 1.5"),
        (
            "postprocess",
            "return [dict(given[0], box={'x': 10, 'y': 20, 'width': 5, 'height': 5})]",
            "code-wrong",
            "the box of prediction 0 is",
        ),
        ("postprocess", "return [dict(given[0], box=[0, 0, 1, 1])]", "code-wrong", "the box of prediction 0 is [0, 0"),
    ],
)
async def test_a_step_that_fails_fails_its_picture_and_the_worker_lives(tmp_path, step, act, code, words) -> None:
    folder = model(tmp_path / "m", MOODY.format(act=act), f'{step} = "code.py:Moody"\n')
    async with loaded(spec(folder)) as (plane, _):
        for _ in range(2):
            with pytest.raises(ModelRefusedError) as raised:
                await plane.infer(MODEL, picture())
        assert plane.status(MODEL).restarts == 0
    assert raised.value.code == code
    assert words in raised.value.message
    assert raised.value.hint


async def test_numpys_numbers_are_numbers_and_a_box_ends_at_the_frame(tmp_path) -> None:
    code = """
        import numpy as np

        def near(predictions):
            box = {key: np.float32(value) for key, value in zip(("x", "y", "width", "height"), (-0.1, 0.5, 0.4, 0.75))}
            return [{"label": "edge", "label_id": np.int32(3), "score": np.float16(0.5), "box": box}]
    """
    found = await answer(model(tmp_path / "m", code, 'postprocess = "code.py:near"\n'))
    expected = {"x": 0.0, "y": 0.5, "width": pytest.approx(0.3), "height": 0.5}
    (edge,) = msgspec.to_builtins(found.predictions)
    assert edge == {"label": "edge", "label_id": 3, "score": 0.5, "box": expected}


async def test_tensors_pass_a_step_too(tmp_path) -> None:
    code = """
        import numpy as np

        def halve(tensors):
            return [{**each, "shape": (2,), "data": np.asarray(each["data"])[:2] / 2} for each in tensors]
    """
    folder = model(tmp_path / "m", code, "")
    found = await answer(folder, task="tensors", postprocess=f"{folder}/code.py:halve")
    assert found.predictions == (Tensor("corners", (2,), "float32", [0.125, 0.125]),)


async def test_a_step_may_add_what_a_detection_may_have(tmp_path) -> None:
    code = """
        import numpy as np

        def add(predictions):
            mask = np.zeros((8, 16), bool)
            mask[2:4, 4:6] = True
            return [{**each, "keypoints": [{"x": 0.25, "y": 0.5}], "mask": mask, "track_id": 7} for each in predictions]
    """
    async with loaded(spec(model(tmp_path / "m", code, 'postprocess = "code.py:add"\n'))) as (plane, _):
        plain = await plane.infer(MODEL, picture())
        drawn = await plane.infer(MODEL, picture(), snapshot=Snapshot())
    assert plain.predictions == drawn.predictions
    assert drawn.snapshot.startswith(b"\xff\xd8")
    (spot,) = plain.predictions
    assert isinstance(spot, Detection)
    assert (spot.keypoints, spot.track_id) == ((Keypoint(0.25, 0.5),), 7)
    assert masks.runs(spot.mask) == [4 * 8 + 2, 2, 6, 2, 10 * 8 + 4]


# -- names ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../code.py:crop", "/tmp/code.py:crop", "inner/../../code.py:crop", "link.py:crop"])
def test_a_manifests_code_lies_in_the_models_folder(tmp_path, name) -> None:
    (tmp_path / "code.py").write_text("def crop(picture): return picture\n")
    folder = model(tmp_path / "m", said=f'preprocess = "{name}"\n')
    (folder / "inner").mkdir()
    (folder / "link.py").symlink_to(tmp_path / "code.py")
    with pytest.raises(ConfigError, match="outside") as raised:
        resolve(ModelOptions(source=str(folder)), tmp_path)
    assert raised.value.code == "code-outside"


def test_a_file_of_code_that_is_not_there_is_refused_before_anything_is_started(tmp_path) -> None:
    folder = model(tmp_path / "m", said='postprocess = "taks.py:Where"\n')
    with pytest.raises(ModelRefusedError, match=r"there is no file .*taks\.py"):
        resolve(ModelOptions(source=str(folder)), tmp_path)


@pytest.mark.parametrize("name", ["code.py", "code.py:"])
def test_a_file_of_code_needs_the_name_in_it(tmp_path, name) -> None:
    folder = model(tmp_path / "m", said=f'preprocess = "{name}"\n')
    with pytest.raises(ConfigError) as raised:
        resolve(ModelOptions(source=str(folder)), tmp_path)
    assert "code.py:Name" in (raised.value.hint or "")


def test_a_model_may_ask_to_be_tuned_and_the_configuration_has_the_last_word(tmp_path) -> None:
    folder = model(tmp_path / "m", said="autotune = true\n")
    asked = [
        resolve(ModelOptions(source=str(folder), autotune=wish), tmp_path).manifest.autotune
        for wish in (None, True, False)
    ]
    assert asked == [True, True, False]
    assert not resolve(ModelOptions(source="classifier"), tmp_path).manifest.autotune


async def test_steps_come_by_entry_points_too(tmp_path) -> None:
    site = tmp_path / "site"
    (site / "verge_steps-1.dist-info").mkdir(parents=True)
    (site / "verge_steps-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: verge-steps\nVersion: 1\n")
    (site / "verge_steps-1.dist-info" / "entry_points.txt").write_text(
        "[verge.backends]\nspot = verge_spot:Spot\n[verge.tasks]\nwhere = verge_spot:Where\n"
        "[verge.preprocess]\ncrop = verge_steps:crop\n[verge.postprocess]\nnone = verge_steps:none\n"
    )
    shutil.copy(PLUGINS / "spot.py", site / "verge_spot.py")
    (site / "verge_steps.py").write_text(
        textwrap.dedent(CROP) + "\n\ndef none(predictions):\n    raise KeyError('no')\n"
    )
    options: dict[str, Any] = {"backend": "spot", "task": "where", "python_path": (str(site),)}
    folder = model(tmp_path / "m")
    found = await answer(folder, preprocess="crop", **options)
    assert asdict(found.predictions[0].box) == pytest.approx(SPOT, abs=0.02)
    error = await refused(folder, postprocess="none", **options)
    assert error.message == "KeyError: 'no' (verge_steps.py, line 7, in none)"


class Blind(Backend):
    """A stranger's backend that cannot look at a file."""

    name = "blind"

    def __init__(self, path, threads, accelerator, options): ...

    def run(self, arrays):
        return list(arrays)

    @classmethod
    def accepts(cls, path):
        raise ValueError(path)


class Taking(Blind):
    @classmethod
    def accepts(cls, path):
        return path.endswith(".mine")


def test_a_strangers_plug_in_that_cannot_look_stands_in_nobodys_way(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "model.mine").write_bytes(b"x")
    found = {"a": f"{__name__}:Blind", "b": f"{__name__}:Taking", "c": "nowhere_at_all:Task"}
    monkeypatch.setitem(sys.modules, __name__, types.SimpleNamespace(Blind=Blind, Taking=Taking))
    monkeypatch.setattr(plugins, "_entry_points", lambda _group: found)
    assert plugins.backend_for(str(tmp_path / "model.mine")) is Taking
    odd = [TensorInfo("x", (2, 3, 5), "float32"), TensorInfo("y", (7, 3, 5), "float32")]
    network = Network(odd[:1], odd, Labels())
    assert not any(plugins.claims(name, network) for name in plugins.task_names())
    said = capsys.readouterr().err
    assert "the backend 'blind' cannot look at" in said
    assert "the task 'c' cannot look at the outputs" in said
