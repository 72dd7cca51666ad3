"""The defects of Greengrass's sample components, in the order of their list: for each, that Verge does not have it.

Two agents serve all tests.  ``site`` has the four components, each over a network that tells colours.  ``bare`` is
started as a service is at its worst: in the root folder, with no home, no right that root has, and a broker that goes
away; its classifier does what a picture's colour tells it.
"""

from __future__ import annotations

import ast
import getpass
import json
import os
import shutil
import statistics
import sys
import time
import venv
from collections.abc import Iterator
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import agent as package
from agent.config.models import ModelOptions
from agent.frames.frame import Picture
from agent.greengrass import catalog
from agent.greengrass.catalog import keys
from agent.greengrass.catalog.families import FAMILIES
from agent.greengrass.recipes.recipe import ComponentType
from agent.inference.alone import MODEL, loaded
from agent.inference.manifest import SAMPLES, resolve
from tests.inference.environments import house
from tests.support import agent as agents
from tests.support import models, pictures, unruly
from tests.support.beats import Rhythm
from tests.support.broker import Broker
from tests.support.fleet import Fleet, deploy, outcome, send
from tests.support.samples import (
    CLASSIFIER,
    COLOURS,
    DETECTOR,
    DLR_CLASSIFIER,
    DLR_DETECTOR,
    STORE_VERSION,
    TOPICS,
    Pictures,
    Site,
    film,
    stores,
)
from tests.support.until import until_sync

TFLITE, DLR = "variant.TensorFlowLite", "variant.DLR"
IMAGES = SAMPLES.parent / "images"
BARELY = """
import ctypes, os, sys
os.chdir("/")
for name in ("HOME", "PWD", "OLDPWD", "USER", "LOGNAME"):
    os.environ.pop(name, None)
drop_from_bounding_set, no_new_privileges = 24, 38
libc = ctypes.CDLL(None)
for capability in range(64):
    libc.prctl(drop_from_bounding_set, capability, 0, 0, 0)
libc.prctl(no_new_privileges, 1, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "agent", *sys.argv[1:]])
"""
"""Gives away whatever root may do besides being the owner of its files, and then becomes the agent."""


def configuration(port: int, folder: Path, **transport: Any) -> dict[str, Any]:
    made = agents.configuration("samples", port, folder, {})
    made["transports"]["local"] |= {"backoff_base_s": 0.05, "backoff_cap_s": 0.2} | transport
    return made | {
        "models": {},
        "streams": {},
        "deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()},
    }


@pytest.fixture(scope="module")
def site(broker, tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    made = stores(folder)
    shown = Pictures(folder / "pictures")
    shown.colour("red")
    with agents.running(configuration(broker.port, folder), folder) as agent:
        told = Site(agent, made)
        told.wanted |= {name: shows(shown) for name in TOPICS}
        ended = deploy(agent, told.document())
        assert ended["status"] == "SUCCEEDED", ended
        yield told


@pytest.fixture(scope="module")
def away() -> Iterator[Broker]:
    """A broker that may be stopped."""
    with Broker() as running:
        yield running


@pytest.fixture(scope="module")
def bare(away, tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("bare")
    model = Fleet(folder / "fleet").model(f"{TFLITE}.ImageClassification.ModelStore", STORE_VERSION)
    config = configuration(away.port, folder, max_queued_messages=30)
    with agents.running(config, folder, ("-c", BARELY)) as agent:
        told = Site(agent, [model])
        del told.wanted[DLR]
        told.configure(CLASSIFIER, ImageDirectory="pictures", ImageName="cat.png", InferenceInterval="0.2")
        yield told


@pytest.fixture
def shown(tmp_path) -> Pictures:
    return Pictures(tmp_path / "pictures")


@pytest.fixture
def cues(bare) -> Iterator[Pictures]:
    """The folder that the classifier of ``bare`` looks at when nothing else is said."""
    folder = Pictures(bare.agent.folder / "data" / "work" / CLASSIFIER / "pictures")
    folder.put(unruly.jpeg("answer"))
    bare.configure(CLASSIFIER, ImageDirectory="pictures", ImageName="cat.png", InferenceInterval="0.2")
    yield folder
    folder.put(unruly.jpeg("answer"))


def shows(pictures: Pictures, name: str = "cat.png", interval: Any = "0.2", **more: Any) -> dict[str, Any]:
    """The keys with which a component looks at a picture."""
    return {"ImageDirectory": str(pictures.folder), "ImageName": name, "InferenceInterval": interval} | more


def says(label: str) -> Any:
    return lambda told: [each["Label"] for each in told["inference-results"]][:1] == [label]


def processes(parent: int, program: str) -> list[int]:
    """A process's children of which the command line holds this."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                is_child = int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == parent
                if is_child and program in (entry / "cmdline").read_text():
                    found.append(int(entry.name))
            except OSError:  # it ended meanwhile
                continue
    return found


# -- the picture -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", TOPICS)
def test_1_colours_reach_the_model_in_the_order_it_was_trained_on(site, shown, component):
    shown.colour("red")
    site.configure(component, **shows(shown))
    for colour in ("red", "blue"):
        shown.colour(colour)
        site.next(TOPICS[component], says(colour))


@pytest.mark.parametrize("codec", ["MJPG", "FFV1"])
def test_1_colours_of_a_camera_are_in_that_order_too(site, tmp_path, codec):
    """Motion JPEG crosses as the camera made it, everything else as pixels."""
    for colour in ("red", "blue"):
        source = str(film(tmp_path / f"{colour}.avi", colour, codec))
        camera = {"Input": {"Camera": {"Source": source, "Loop": True}}}
        site.configure(CLASSIFIER, UseCamera=True, InferenceInterval=0.2, Verge=camera)
        site.next(TOPICS[CLASSIFIER], says(colour))


def test_2_a_new_file_under_the_same_name_is_what_the_next_beat_sees(site, shown):
    at = 1_700_000_000
    os.utime(shown.colour("red"), (at, at))
    site.configure(CLASSIFIER, **shows(shown))
    site.next(TOPICS[CLASSIFIER], says("red"))
    for colour in ("green", "blue", "red"):
        # Not even another time or size tells the two apart.
        os.utime(shown.colour(colour, "cat.part"), (at, at))
        (shown.folder / "cat.part").replace(shown.folder / "cat.png")
        second = site.next(TOPICS[CLASSIFIER], count=2)[1]  # the first may have been on its way
        assert says(colour)(second), second


def test_3_boxes_are_never_drawn_into_the_picture_that_is_inferred_on(site, shown, tmp_path):
    original = shown.put(pictures.pixels(640, 480))
    before, drawn = original.read_bytes(), tmp_path / "drawn"
    site.configure(DETECTOR, **shows(shown))
    clean = site.next(TOPICS[DETECTOR], count=2)[1]["inference-results"]
    site.configure(DETECTOR, **shows(shown, Verge={"Snapshots": {"Folder": str(drawn), "MaxRateHz": 100}}))
    # The score is the mean of a channel: one pixel of a box would change its last digits.
    assert [each["inference-results"] for each in site.next(TOPICS[DETECTOR], count=6)] == [clean] * 6
    kept = sorted(drawn.glob("**/*.jpg"))
    assert len(kept) >= 4
    changed = cv2.absdiff(cv2.imread(str(kept[-1])), cv2.imread(str(original)))
    assert (changed.max(axis=2) > 100).sum() > 200, "no box is in the snapshot"
    assert original.read_bytes() == before
    assert not list((site.agent.folder / "data" / "work").glob("**/bounded_output*"))


def test_4_an_unreadable_picture_is_a_counted_failure_and_the_schedule_goes_on(site, shown):
    shown.colour("red")
    site.configure(CLASSIFIER, **shows(shown))
    site.next(TOPICS[CLASSIFIER], says("red"))
    jpeg = pictures.picture("jpeg", 256, 256)
    for junk in (b"", b"no picture at all", jpeg[:40], b"\x93NUMPY\x01\x00"):
        failed = sum(site.report(CLASSIFIER)["failed"].values())
        shown.put(junk)
        report = site.report(CLASSIFIER, lambda told, failed=failed: sum(told["failed"].values()) >= failed + 2)
        assert report["source"]["state"] == "running"
        assert report["received"] == report["answered"] + sum(report["failed"].values()) + report["pending"]
    shown.colour("blue")
    site.next(TOPICS[CLASSIFIER], says("blue"))
    assert site.status(CLASSIFIER)["state"] == "RUNNING"
    assert site.report(CLASSIFIER)["restarts"] == 0


# -- what goes wrong -------------------------------------------------------------------------------------------

BAD_VALUES = {
    "an interval that is no number": ({"InferenceInterval": "soon"}, "InferenceInterval is 'soon'"),
    "an interval of nothing": ({"InferenceInterval": 0}, "InferenceInterval is 0"),
    "a picture of a kind that is not read": ({"ImageName": "cat.gif"}, "ImageName is 'cat.gif'"),
    "a topic that accessControl does not allow": ({"PublishResultsOnTopic": "ml/mine"}, "may not publish on 'ml/mine'"),
    "a camera that is neither": ({"UseCamera": "perhaps"}, "UseCamera is 'perhaps'"),
    "an accelerator that there is not": ({"Accelerator": "tpu"}, "Accelerator is 'tpu'"),
    "a setting of Verge's that there is not": ({"Verge": {"Inptu": {}}}, "Inptu"),
}


@pytest.mark.parametrize(("wrong", "told"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_5_a_bad_value_keeps_the_last_good_configuration_running_and_says_so(site, shown, wrong, told):
    shown.colour("green")
    site.configure(CLASSIFIER, **shows(shown))
    ended = site.try_out(CLASSIFIER, shows(shown) | wrong)
    assert (ended["status"], ended["detailedStatus"]) == ("FAILED", "FAILED_NO_STATE_CHANGE")
    assert "COMPONENT_CONFIGURATION_NOT_VALID" in ended["errorStack"]
    assert told in ended["failureCause"]
    status = site.status(CLASSIFIER, lambda found: told in found["reason"])
    assert status["state"] == "RUNNING"
    site.next(TOPICS[CLASSIFIER], says("green"))
    assert site.report(CLASSIFIER)["source"]["interval_s"] == 0.2
    site.configure(CLASSIFIER, **shows(shown, interval=0.25))
    assert site.status(CLASSIFIER, lambda found: not found["reason"])["state"] == "RUNNING"
    site.report(CLASSIFIER, lambda found: found["source"]["interval_s"] == 0.25)


def test_5_a_missing_picture_or_folder_is_a_status_that_heals_when_the_file_appears(site, tmp_path):
    absent = tmp_path / "not" / "there"
    site.configure(CLASSIFIER, ImageDirectory=str(absent), ImageName="cat.png", InferenceInterval=0.2)
    status = site.status(CLASSIFIER, lambda told: "No such file" in told["reason"])
    assert str(absent) in status["reason"]
    assert status["state"] == "RUNNING"
    there = Pictures(absent)
    site.report(CLASSIFIER, lambda told: told["source"]["state"] == "waiting")
    there.colour("blue")
    site.next(TOPICS[CLASSIFIER], says("blue"))
    assert site.status(CLASSIFIER, lambda told: not told["reason"])["state"] == "RUNNING"
    (absent / "cat.png").unlink()
    site.status(CLASSIFIER, lambda told: "No such file" in told["reason"])
    there.colour("red")
    site.next(TOPICS[CLASSIFIER], says("red"))


def test_6_an_error_in_the_inference_is_a_counted_failure_and_the_schedule_goes_on(bare, cues):
    bare.next(TOPICS[CLASSIFIER])
    cues.put(unruly.jpeg("raise"))
    report = bare.report(CLASSIFIER, lambda told: sum(told["failed"].values()) >= 3)
    assert (report["state"], report["restarts"]) == ("running", 0)
    cues.put(unruly.jpeg("answer"))
    assert bare.next(TOPICS[CLASSIFIER], count=2)[1]["inference-results"] == [{"Label": "fine", "Score": "0.7"}]


def test_6_a_model_that_dies_costs_its_worker_and_the_schedule_goes_on(bare, cues):
    before = bare.report(CLASSIFIER)
    bare.configure(CLASSIFIER, ImageDirectory="pictures", ImageName="cat.png", InferenceInterval=0.6)
    bare.next(TOPICS[CLASSIFIER])
    cues.put(unruly.jpeg("crash"))
    bare.report(CLASSIFIER, lambda told: told["restarts"] > before["restarts"])
    cues.put(unruly.jpeg("answer"))
    assert bare.next(TOPICS[CLASSIFIER], says("fine"), count=2)
    assert bare.agent.process.poll() is None


def test_7_a_camera_needs_no_picture_and_no_certain_host_and_is_opened_again_without_a_leak(site, tmp_path):
    def playing(count: int) -> list[int]:
        def cameras() -> list[int]:
            return processes(site.agent.process.pid, "agent/sources/runtime")

        until_sync(lambda: len(cameras()) == count, why=cameras)
        return cameras()

    absent, taken = str(tmp_path / "absent"), film(tmp_path / "film.avi", "red")
    site.configure(CLASSIFIER, UseCamera="true", ImageDirectory=absent, InferenceInterval=0.2)
    if not Path("/dev/video0").exists():
        assert "there is no /dev/video0" in site.status(CLASSIFIER, lambda told: "video" in told["reason"])["reason"]
    assert site.status(CLASSIFIER)["state"] == "RUNNING"
    served: set[int] = set()
    for interval, copy in ((0.2, "one"), (0.25, "one"), (0.25, "other"), (0.2, "one")):
        source = shutil.copy(taken, tmp_path / f"{copy}.avi")
        camera = {"Input": {"Camera": {"Source": str(source), "Loop": True}}}
        site.configure(CLASSIFIER, UseCamera=True, ImageName="no.gif", InferenceInterval=interval, Verge=camera)
        site.next(TOPICS[CLASSIFIER], count=2)
        served.update(playing(1))
    assert len(served) == 3, "a change of the interval alone opened the camera again"
    site.configure(CLASSIFIER, UseCamera="false", InferenceInterval=0.5)
    playing(0)


# -- the keys --------------------------------------------------------------------------------------------------


def test_8_every_value_may_be_text_or_what_it_is(site, shown):
    shown.colour("red")
    for interval, seconds in (("0.25", 0.25), (0.3, 0.3), (" 0.35 ", 0.35), (1, 1.0), ("0.4", 0.4)):
        for camera in (False, "false", "False"):
            site.configure(CLASSIFIER, **shows(shown, interval=interval, UseCamera=camera))
        report = site.report(CLASSIFIER, lambda told, wanted=seconds: told["source"].get("interval_s") == wanted)
        assert report["source"]["kind"] == "directory"
    for camera in (True, "true", "TRUE"):
        site.configure(CLASSIFIER, UseCamera=camera, InferenceInterval="15.5")
        site.report(CLASSIFIER, lambda told: told["source"]["kind"] == "camera")
    texts = {"ModelResourceKey": '{"model": "TensorFlowLite-Mobilenet"}', "Accelerator": "CPU"}
    site.configure(CLASSIFIER, **shows(shown, **texts))
    site.next(TOPICS[CLASSIFIER], says("red"))


def test_9_the_accelerator_is_honoured_or_refused_by_name(site, shown):
    shown.colour("red")
    site.configure(CLASSIFIER, **shows(shown, Accelerator="cpu"))
    assert site.report(CLASSIFIER, lambda told: told["model"])["model"]["accelerator"] == "cpu"
    ended = site.try_out(CLASSIFIER, shows(shown, Accelerator="gpu"))
    if ended["status"] == "SUCCEEDED":  # this machine has one
        assert site.report(CLASSIFIER)["model"]["accelerator"] == "gpu"
    else:
        assert "gpu" in ended["failureCause"]
        assert "gpu" in site.status(CLASSIFIER, lambda told: told["reason"])["reason"]
    site.next(TOPICS[CLASSIFIER], says("red"))


def test_9_thresholds_and_counts_are_settings(site, shown):
    shown.put(np.full((64, 64, 3), (60, 120, 200), np.uint8))
    for options, labels in (({}, 2), ({"threshold": 0.1}, 3), ({"threshold": 0.1, "top_k": 1}, 1)):
        site.configure(CLASSIFIER, **shows(shown, Verge={"Options": options}))
        least, most = options.get("threshold", 0.3), options.get("top_k", 5)
        said = f"Top {most} predictions with score {least} or above "
        told = site.next(TOPICS[CLASSIFIER], lambda told, said=said: told["inference-description"] == said)[0]
        assert [each["Label"] for each in told["inference-results"]] == ["red", "green", "blue"][:labels]


NETWORKS = {
    "uint8": {"dtype": "uint8", "scale": 1 / 255},
    "int8": {"dtype": "int8", "scale": 1 / 128, "size": (12, 20)},
    "float32": {"size": (10, 6)},
    "planes": {"layout": "NCHW", "size": (7, 9)},
    "named in the file": {"metadata": models.Metadata(mean=(127.5,), std=(127.5,))},
}


@pytest.mark.parametrize("how", NETWORKS.values(), ids=NETWORKS)
async def test_9_shape_type_and_normalisation_are_read_from_the_model(tmp_path, how):
    models.tflite_colours(tmp_path / "model.tflite", **how)
    (tmp_path / "labels.txt").write_text(repr(list(COLOURS)))
    frame = cv2.imencode(".png", np.full((48, 64, 3), (255, 0, 0), np.uint8))[1].tobytes()
    options = ModelOptions(source=str(tmp_path / "model.tflite"), task="tensors")
    async with loaded(resolve(options, tmp_path)) as (plane, _):
        answer = await plane.infer(MODEL, Picture(frame, "png", 64, 48))
    red, green, blue = np.ravel(answer.predictions[0].data)
    assert red == green
    assert red in {0, -1}
    assert blue == pytest.approx(1, abs=0.01)


# -- the schedule ----------------------------------------------------------------------------------------------


def test_10_the_time_that_an_inference_takes_does_not_stretch_the_interval(bare, cues):
    cues.put(unruly.jpeg("slow"))  # it takes half a second
    bare.configure(CLASSIFIER, ImageDirectory="pictures", ImageName="cat.png", InferenceInterval=0.7)
    heard = bare.heard(TOPICS[CLASSIFIER], count=5)
    rhythm = Rhythm.of([message.timestamp for message in heard], 0.7)
    assert rhythm.interval_s == pytest.approx(0.7, abs=0.2), rhythm
    assert abs(rhythm.drift_s) < 0.1, rhythm


def test_10_a_change_during_an_inference_leaves_one_schedule(bare, cues):
    cues.put(unruly.jpeg("slow"))
    bare.configure(CLASSIFIER, ImageDirectory="pictures", ImageName="cat.png", InferenceInterval=0.7)
    for interval in (0.8, 0.6, 0.9):
        bare.report(CLASSIFIER, lambda told: told["pending"])
        bare.configure(CLASSIFIER, ImageDirectory="pictures", ImageName="cat.png", InferenceInterval=interval)
    cues.put(unruly.jpeg("answer"))
    told = bare.heard(TOPICS[CLASSIFIER], count=5)[1:]
    gaps = [later.timestamp - sooner.timestamp for sooner, later in pairwise(told)]
    assert statistics.median(gaps) == pytest.approx(0.9, abs=0.2), gaps


def test_11_of_two_changes_in_quick_succession_the_last_one_wins(bare, cues):
    allowed = {"p": {"operations": ["*"], "resources": ["ml/*"]}}
    common = {"ImageDirectory": "pictures", "ImageName": "cat.png", "InferenceInterval": 0.1}
    common["accessControl"] = {"aws.greengrass.ipc.mqttproxy": allowed}
    for turn in range(3):
        documents = []
        for place in ("first", "second", "last"):
            bare.wanted[CLASSIFIER] = common | {"PublishResultsOnTopic": f"ml/{turn}/{place}"}
            documents.append(bare.document())
            send(bare.agent, documents[-1])
        ended = [outcome(bare.agent, each["deploymentId"])["status"] for each in documents]
        assert ended[-1] == "SUCCEEDED"
        bare.next(f"ml/{turn}/last")
        since = len(bare.agent.peer.heard)
        bare.next(f"ml/{turn}/last", count=3)
        topics = {message.topic for message in bare.agent.peer.heard[since:] if message.topic.startswith("ml/")}
        assert topics == {f"ml/{turn}/last"}


# -- what is told ----------------------------------------------------------------------------------------------


def test_12_results_come_again_after_an_outage_and_what_was_lost_is_counted(bare, cues, away):
    bare.configure(CLASSIFIER, ImageDirectory="pictures", ImageName="cat.png", InferenceInterval=0.02)
    began = time.monotonic()
    bare.next(TOPICS[CLASSIFIER], count=40)  # more than may wait
    enough_s = time.monotonic() - began
    before = sum(bare.report(CLASSIFIER)["held_back"].values())
    away.stop()
    time.sleep(2 * enough_s)  # as long as the outage is
    away.start()
    bare.next(TOPICS[CLASSIFIER], says("fine"), count=3)
    report = bare.report(CLASSIFIER, lambda told: sum(told["held_back"].values()) > before)
    assert report["received"] == report["answered"] + sum(report["failed"].values()) + report["pending"] + sum(
        report["dropped"].values()
    )
    assert bare.agent.process.poll() is None


def test_12_a_topic_that_is_not_allowed_is_refused_before_anything_changes(site, shown):
    shown.colour("red")
    site.configure(CLASSIFIER, **shows(shown))
    ended = site.try_out(CLASSIFIER, shows(shown, PublishResultsOnTopic="ml/mine"))
    for part in (CLASSIFIER, "may not publish on 'ml/mine'", TOPICS[CLASSIFIER], "add ml/mine to the resources"):
        assert part in ended["failureCause"]
    policy = {"p": {"operations": ["aws.greengrass#PublishToIoTCore"], "resources": ["ml/mine"]}}
    access = {"aws.greengrass.ipc.mqttproxy": policy}
    site.configure(CLASSIFIER, **shows(shown, PublishResultsOnTopic="ml/mine", accessControl=access))
    site.next("ml/mine", says("red"))


def test_13_a_result_may_be_told_with_numbers_utc_ids_the_model_s_version_and_times(site, shown):
    written = 1_700_000_000.25
    os.utime(shown.colour("red"), (written, written))
    outputs = [{"Topic": TOPICS[DETECTOR], "Format": "aws"}, {"Topic": "ml/native", "Format": "native"}]
    site.configure(DETECTOR, **shows(shown, Verge={"Outputs": outputs}))
    one, other = site.next("ml/native", lambda told: told["frame"]["captured_at"].startswith("2023"), count=2)
    (found,) = one["predictions"]
    assert isinstance(found["score"], float)
    assert found["box"] == {"x": 0.25, "y": 0.25, "width": 0.5, "height": 0.5}
    assert len(one["id"]) == 26
    assert one["id"] < other["id"]
    assert (one["frame"]["captured_at"], one["frame"]["camera"]) == ("2023-11-14T22:13:20.250Z", "pictures")
    assert one["frame"]["received_at"].endswith("Z")
    assert (one["model"]["component"], one["model"]["version"]) == (f"{TFLITE}.ObjectDetection.ModelStore", "2.1.99")
    assert one["model"]["digest"].startswith("sha256:")
    assert all(isinstance(spent, float) for spent in one["timing_ms"].values())
    assert one["timing_ms"]["total"] >= one["timing_ms"]["infer"] > 0
    assert (one["thing"], one["stream"]) == (site.agent.thing, DETECTOR)
    assert says("red")(site.next(TOPICS[DETECTOR])[0])


# -- places ----------------------------------------------------------------------------------------------------


def first_look(site: Site, component: str, **named: Any) -> Path:
    """The picture that is looked at when no folder is said; the first beat is at once, not in an hour."""
    before = site.report(component)
    site.configure(component, InferenceInterval=3600, **named)
    report = site.report(
        component, lambda told: told["source"].get("delivered") == 1 and told["answered"] > before["answered"]
    )
    assert (report["source"]["state"], report["failed"]) == ("running", before["failed"])
    return Path(report["source"]["name"])


@pytest.mark.parametrize("component", TOPICS)
def test_14_the_picture_that_is_looked_at_by_default_exists(site, component):
    assert first_look(site, component).parent == IMAGES


@pytest.mark.parametrize("name", ["objects.jpg", "objects.jpeg", "OBJECTS.JPEG"])
def test_14_both_spellings_of_the_picture_of_objects_exist(site, shown, name):
    site.configure(DLR_DETECTOR, **shows(shown))
    assert first_look(site, DLR_DETECTOR, ImageName=name).parent == IMAGES


def test_15_no_path_depends_on_where_or_by_whom_the_agent_was_started(bare, cues):
    process = Path("/proc") / str(bare.agent.process.pid)
    assert (process / "cwd").resolve() == Path("/")
    names = {line.partition(b"=")[0] for line in (process / "environ").read_bytes().split(b"\0")}
    assert not names & {b"PWD", b"HOME", b"DEFAULT_TFLITE_IC_IMAGE_DIR"}
    work = cues.folder.parent
    for folder in ("pictures", "../" + work.name + "/pictures", str(cues.folder)):
        bare.configure(CLASSIFIER, ImageDirectory=folder, ImageName="cat.png", InferenceInterval=0.2)
        bare.next(TOPICS[CLASSIFIER], says("fine"))
    assert not [path for path in Path("/").iterdir() if path.name in {"bounded_output", "pictures"}]


# -- runtimes --------------------------------------------------------------------------------------------------


def lent(folder: Path) -> Path:
    """A wheelhouse for TensorFlow Lite that installs in a moment."""
    wheels = house.opencv_house(folder)
    needs = ("ai_edge_litert", "flatbuffers", "backports", "ml_dtypes", "google", "tqdm", "typing_extensions.py")
    house.lend(wheels, "ai-edge-litert", folder / "litert", needs)
    return wheels


@pytest.fixture
def alone() -> Iterator[Broker]:
    """A broker on which no other agent publishes to the same topics."""
    with Broker() as running:
        yield running


def test_16_a_runtime_is_installed_offline_without_root_pinned_and_not_again_at_the_next_start(alone, tmp_path):
    pins = [f"ai-edge-litert=={metadata.version('ai-edge-litert')}"]
    block = {"Wheelhouse": str(lent(tmp_path)), "Index": False, "Interpreter": sys.executable, "Packages": pins}
    shown, config = Pictures(tmp_path / "pictures"), configuration(alone.port, tmp_path)
    shown.colour("red")
    with agents.running(config, tmp_path, ("-c", BARELY)) as agent:
        site = Site(agent, stores(tmp_path / "stores"))
        site.wanted = {TFLITE: {"UseInstaller": "true", "Verge": block}}
        site.configure(CLASSIFIER, **shows(shown))
        site.next(TOPICS[CLASSIFIER], says("red"))
        assert pins[0].replace("==", " ") in site.status(TFLITE)["reason"]
        folder = (tmp_path / "data" / "work" / TFLITE / "greengrass_ml" / "greengrass_ml_tflite_venv").resolve()
        record = json.loads((folder / ".proved").read_bytes())
        assert all(len(digest) == 64 for digest in record["wheels"].values())
        assert {"ai-edge-litert", "numpy", "opencv-python-headless"} <= record["packages"].keys()
        built = (folder / ".proved").stat()
    with agents.running(config, tmp_path, ("-c", BARELY)) as agent:
        site = Site(agent)
        site.next(TOPICS[CLASSIFIER], says("red"))
        assert processes(agent.process.pid, str(folder)), "the worker runs in another environment"
        again = (folder / ".proved").stat()
    assert (again.st_ino, again.st_mtime_ns) == (built.st_ino, built.st_mtime_ns)


ARCHIVES = {
    CLASSIFIER: {"model": "TensorFlowLite-Mobilenet"},
    DETECTOR: {"model": "TensorFlowLite-SSD"},
    DLR_CLASSIFIER: {
        "armv7l": "DLR-resnet50-armv7l-cpu-ImageClassification",
        "aarch64": "DLR-resnet50-aarch64-cpu-ImageClassification",
        "x86_64": "DLR-resnet50-x86_64-cpu-ImageClassification",
        "windows": "DLR-resnet50-win-cpu-ImageClassification",
    },
    DLR_DETECTOR: {
        "armv7l": "DLR-yolo3-armv7l-cpu-ObjectDetection",
        "aarch64": "DLR-yolo3-aarch64-cpu-ObjectDetection",
        "x86_64": "DLR-yolo3-x86_64-cpu-ObjectDetection",
        "windows": "DLR-yolo3-win-cpu-ObjectDetection",
    },
}


@pytest.mark.parametrize("component", FAMILIES)
def test_17_models_are_called_the_same_in_recipes_stores_and_code(component):
    family = FAMILIES[component]
    newest = catalog.recipe(component, catalog.versions(component)[-1])
    documented = component.replace("TensorFlowlite", "TensorFlowLite")
    assert newest.configuration["ModelResourceKey"] == family.archives == ARCHIVES[documented]
    assert family.store in newest.dependencies
    model = catalog.recipe(family.store, catalog.versions(family.store)[-1])
    assert model.type is ComponentType.MODEL
    for architecture in ("amd64", "aarch64", "arm"):
        device = keys.Device(architecture, str(IMAGES), "/work")
        told = keys.stream(component, newest.configuration, newest.dependencies, device)
        assert told.block["archive"] in family.archives.values()
        assert told.block["model"] == family.store
        assert not told.findings
    for name in (*family.archives.values(), family.image):
        assert name == name.strip()
    assert resolve(ModelOptions(source=str(SAMPLES / family.sample)), SAMPLES).manifest.file


def test_17_a_store_whose_archive_is_called_otherwise_than_the_key_says_is_found(site, shown, tmp_path):
    shown.colour("blue")
    names = {"x86_64": " DLR-yolo3-x86_64-gpu-ObjectDetection", "aarch64": "DLR-yolo3-aarch64-gpu-ObjectDetection"}
    site.configure(DLR_DETECTOR, **shows(shown, ModelResourceKey=names))
    site.next(TOPICS[DLR_DETECTOR], says("blue"))


# -- rights ----------------------------------------------------------------------------------------------------


def test_18_nothing_runs_with_the_rights_of_root(bare, cues):
    bare.next(TOPICS[CLASSIFIER], says("fine"))
    workers = bare.agent.workers()
    assert workers
    for process in (bare.agent.process.pid, *workers):
        told = (Path("/proc") / str(process) / "status").read_text()
        rights = dict(line.split(":\t", 1) for line in told.splitlines() if ":\t" in line)
        assert (int(rights["CapEff"], 16), rights["NoNewPrivs"]) == (0, "1")


def test_18_no_recipe_of_the_catalog_asks_for_privileges():
    for name in catalog.names():
        for version in catalog.versions(name):
            told = catalog.recipe(name, version)
            assert "requiresprivilege" not in repr(told).lower()
            assert not told.lifecycle


def test_18_numpy_is_not_asked_for_what_it_does_not_have_any_more(site, shown):
    for path in Path(package.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            named = getattr(node, "attr", getattr(node, "id", ""))
            assert named != "fromstring" or "numpy" not in path.read_text(), path
    red = np.full((64, 48, 3), (230, 0, 0), np.uint8)  # arrays are RGB
    shown.put(pictures.encode(red, "npy"), "cat.npy")
    site.configure(CLASSIFIER, **shows(shown, "cat.npy"))
    site.next(TOPICS[CLASSIFIER], says("red"))


def test_19_the_runtimes_folder_may_be_anywhere_and_may_move(site, shown, tmp_path):
    shown.colour("red")
    site.configure(CLASSIFIER, **shows(shown))
    for place in ("here", "there"):
        folder = tmp_path / place / "greengrass_ml_tflite_venv"
        venv.create(folder, symlinks=True)
        (next(folder.glob("lib/python*/site-packages")) / "all.pth").write_text(f"{house.SITE}\n")
        site.configure(TFLITE, MLRootPath=str(folder.parent), UseInstaller="false")
        assert str(folder) in site.status(TFLITE)["reason"]
        site.next(TOPICS[CLASSIFIER], says("red"), count=2)
        assert processes(site.agent.process.pid, f"{folder}/bin/"), "the worker runs in another environment"
