"""Greengrass's four inference components, deployed by their own names and keys: results on the documented topics.

All four run on one device, side by side, each with a folder of its own and a beat of two seconds.
"""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from agent.inference.runtime.backends.dlr_library import installed
from agent.inference.runtime.errors import UnavailableError
from tests.support import tvm
from tests.support.beats import Heard, Rhythm, heard
from tests.support.device import Owner, device

INTERVAL_S, TOLERANCE_S, BEATS = 2.0, 0.05, 9
NUMBER = r"-?\d+\.\d*"
SMALL = rf"{NUMBER}(?:e-\d\d)?"


@dataclass(frozen=True)
class Family:
    """A component as AWS documents it, a picture for it and another one, and what is on them."""

    name: str
    version: str
    topic: str
    runtime: str
    picture: str
    shows: str
    other: str
    other_shows: str

    @property
    def detects(self) -> bool:
        return "Detection" in self.name

    @property
    def type(self) -> str:
        return "object-detection" if self.detects else "image-classification"


CAT, CUP = ("chelsea.jpg", "cat"), ("coffee.jpg", "espresso|cup")
PERSON, PET = ("astronaut.jpg", "Person"), ("chelsea.jpg", "Cat")
TFLITE, DLR = "variant.TensorFlowLite", "variant.DLR"
FAMILIES = (
    Family(
        "aws.greengrass.TensorFlowLiteImageClassification", "2.1.4", "ml/tflite/image-classification", TFLITE,
        *CAT, *CUP,
    ),
    Family(
        "aws.greengrass.TensorFlowLiteObjectDetection", "2.1.4", "ml/tflite/object-detection", TFLITE, *PERSON, *PET
    ),
    Family("aws.greengrass.DLRImageClassification", "2.1.6", "ml/dlr/image-classification", DLR, *CAT, *CUP),
    Family("aws.greengrass.DLRObjectDetection", "2.1.6", "ml/dlr/object-detection", DLR, *PERSON, *PET),
)  # fmt: skip
OWN = {TFLITE: "2.5.8", DLR: "1.6.9"}
each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name.rpartition(".")[2])


class Shop:
    """A device with the four components, and the folder of each one's picture."""

    def __init__(self, owner: Owner, folder: Path) -> None:
        self.owner = owner
        self.folder = folder
        self.ready = 0.0

    def directory(self, family: Family) -> Path:
        return self.folder / family.name

    def show(self, family: Family, picture: str) -> float:
        """Put a picture under the name that is looked at; the result is when."""
        folder = self.directory(family)
        folder.mkdir(exist_ok=True)
        shutil.copy(tvm.IMAGES / picture, folder / "new")
        (folder / "new").replace(folder / "cat.jpg")
        return time.monotonic()

    def heard(self, family: Family, count: int, since: float = 0.0) -> list[Heard]:
        if family.runtime == DLR:
            tvm.require()
        return heard(self.owner.agent.peer, family.topic, count, since or self.ready)


@pytest.fixture(scope="module")
def shop(broker, tmp_path_factory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    with device(f"shop-{uuid.uuid4().hex[:8]}", broker.port, folder) as agent:
        agent.peer.subscribe("ml/#")
        shop = Shop(Owner(agent, broker.port), folder)
        here = dict(OWN) if _dlr_is_here() else {TFLITE: OWN[TFLITE]}
        # What is installed beside the agent does: building environments is another scenario's.
        shop.owner.deploy(here, {name: {"MERGE": {"UseInstaller": "false"}} for name in here})
        for family in FAMILIES:
            if family.runtime in here:
                shop.show(family, family.picture)
                directory = str(shop.directory(family))
                update = {"InferenceInterval": "2", "ImageDirectory": directory, "ImageName": "cat.jpg"}
                shop.owner.deploy({family.name: family.version}, update)
        shop.ready = time.monotonic()
        yield shop


def _dlr_is_here() -> bool:
    try:
        installed()
    except UnavailableError:
        return False
    return True


# -- beats -------------------------------------------------------------------------------------------------


@each_family
def test_a_payload_comes_at_every_beat_of_two_seconds_and_the_beats_do_not_drift(shop: Shop, family: Family):
    rhythm = Rhythm.of([each.at for each in shop.heard(family, BEATS)], INTERVAL_S)
    print(f"{family.topic}: {rhythm}")
    assert rhythm.keeps(INTERVAL_S, TOLERANCE_S), rhythm


# -- payloads ----------------------------------------------------------------------------------------------


@each_family
def test_payloads_are_field_by_field_what_the_components_document(shop: Shop, family: Family):
    for each in shop.heard(family, BEATS):
        told = each.told
        assert list(told) == ["timestamp", "inference-type", "inference-description", "inference-results"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{6})?", told["timestamp"])
        # Local time without a zone, as the samples write it.
        age = (datetime.now() - datetime.fromisoformat(told["timestamp"])).total_seconds()  # noqa: DTZ005
        assert -1 < age < 600
        assert told["inference-type"] == family.type
        assert told["inference-description"] == "Top 5 predictions with score 0.3 or above "
        results = told["inference-results"]
        assert 1 <= len(results) <= 5
        fields = ["Label", "Score", "Boundaries"] if family.detects else ["Label", "Score"]
        for result in results:
            assert list(result) == fields
            assert all(isinstance(value, str) for value in result.values())
            assert re.fullmatch(r"(0\.\d+|1\.0)", result["Score"])
        scores = [float(result["Score"]) for result in results]
        assert scores == sorted(scores, reverse=True)
        assert scores[-1] >= 0.3
        assert re.search(family.shows, results[0]["Label"])


def corners(told: dict[str, Any]) -> list[list[float]]:
    """The numbers of each result's box; NumPy's text is apart by blanks and is no JSON."""
    texts = [result["Boundaries"] for result in told["inference-results"]]
    assert all(re.fullmatch(rf"\[ *{SMALL}(?: +{SMALL}){{3}} *\]", text) for text in texts), texts
    return [[float(number) for number in text[1:-1].split()] for text in texts]


def test_boxes_are_fractions_from_the_top_for_tensorflow_lite_and_pixels_of_512_from_the_left_for_dlr(shop: Shop):
    tflite, dlr = (corners(shop.heard(family, 1)[0].told) for family in FAMILIES if family.detects)
    assert tflite
    for top, left, bottom, right in tflite:
        assert -0.1 < top < bottom < 1.1
        assert -0.1 < left < right < 1.1
    # Both stores hold the detector that ships with the agent, and both folders the same picture.
    pixels = [[512 * number for number in (left, top, right, bottom)] for top, left, bottom, right in tflite]
    assert dlr == [pytest.approx(box, abs=0.01) for box in pixels]
    assert dlr != [pytest.approx([y, x, y_max, x_max], abs=1) for x, y, x_max, y_max in pixels]


# -- changes -----------------------------------------------------------------------------------------------


@each_family
def test_a_new_picture_under_the_same_name_is_seen_at_the_next_beat(shop: Shop, family: Family):
    # Right after a payload there are two seconds until the folder is looked at again.
    before = shop.heard(family, 1, time.monotonic())[0]
    changed = shop.show(family, family.other)
    assert changed - before.at < INTERVAL_S
    after = shop.heard(family, 1, changed)[0]
    assert re.search(family.shows, before.told["inference-results"][0]["Label"])
    assert re.search(family.other_shows, after.told["inference-results"][0]["Label"])


@pytest.mark.parametrize(
    ("family", "update", "interval_s"),
    [
        (FAMILIES[0], {"InferenceInterval": "0.5", "UseCamera": "false", "Accelerator": "cpu"}, 0.5),
        (FAMILIES[2], {"InferenceInterval": 1.5, "UseCamera": False, "Accelerator": "CPU"}, 1.5),
        *((family, {"InferenceInterval": 1}, 1) for family in FAMILIES),
    ],
    ids=["text", "native", *(f"the rest left out, {family.topic}" for family in FAMILIES)],
)
def test_keys_are_text_or_what_they_are_and_may_be_left_out(shop: Shop, family: Family, update, interval_s):
    if family.runtime == DLR:
        tvm.require()
    agent = shop.owner.agent
    shop.owner.deploy({family.name: family.version}, {family.name: {"RESET": [""], "MERGE": update}})
    told = agent.peer.wait(
        agent.topic(f"streams/{family.name}"), lambda told: told["source"].get("interval_s") == interval_s
    )
    # Without a folder it is a picture of ours that stands for AWS's.
    assert Path(told["source"]["name"]).parent == tvm.IMAGES
    first = shop.heard(family, 1, time.monotonic())[0].told["inference-results"][0]
    assert re.search(family.shows, first["Label"])
