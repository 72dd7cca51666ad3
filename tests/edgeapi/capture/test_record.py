"""The layout of captures: JSON lines, embedded data up to the limit, larger data in files beside."""

from __future__ import annotations

import base64
import json

from hypothesis import given
from hypothesis import strategies as st

from agent.edgeapi.edge_manager.capture.record import CapturePlace, Item, Record, files

PLACE = CapturePlace("box-7", "north", "s3://bucket-sagemaker", "sme-capture")
WHEN = 1_700_000_000  # 2023-11-14T22:13:20Z
HOUR = "sme-capture/north/shop/2023/11/14/22"


def record(identity: str = "c1", seconds: int = WHEN, **items: tuple[Item, ...]) -> Record:
    return Record(identity, "shop", "2.0", seconds, **items)


def test_one_capture_is_one_object_in_a_file_of_its_own_name() -> None:
    made = files([record(inputs=(Item("input", "Tensor[float32; 6]", bytes(24)),))], PLACE)
    assert [one.path for one in made] == [f"{HOUR}/c1.jsonl"]
    (line,) = made[0].data.splitlines()
    assert json.loads(line) == {
        "eventVersion": "0",
        "eventMetadata": {
            "deviceId": "box-7",
            "deviceFleetName": "north",
            "eventId": "c1",
            "inferenceTime": "2023-11-14T22:13:20",
            "modelName": "shop",
            "modelVersion": "2.0",
        },
        "deviceFleetInputs": [
            {
                "name": "input",
                "mode": "Input",
                "observedContentType": "Tensor[float32; 6]",
                "encoding": "BASE64",
                "data": base64.b64encode(bytes(24)).decode(),
            }
        ],
        "deviceFleetOutputs": [],
        "deviceFleetAuxiliaryInputs": [],
        "deviceFleetAuxiliaryOutputs": [],
    }


def test_data_is_embedded_up_to_the_limit_and_beside_the_record_beyond_it() -> None:
    fits, large = Item("a", "Tensor[uint8; 3072]", b"a" * 3072), Item("b", "Tensor[uint8; 3073]", b"b" * 3073)
    picture = Item("c", "jpg", b"c" * 4000)
    side, picture_file, lines = files([record(inputs=(fits, large), more_outputs=(picture,))], PLACE)
    assert (side.path, side.data) == (f"{HOUR}/c1-0.tensor", large.data)
    assert (picture_file.path, picture_file.data) == (f"{HOUR}/c1-1.jpg", picture.data)
    written = json.loads(lines.data)
    first, second = written["deviceFleetInputs"]
    assert base64.b64decode(first["data"]) == fits.data
    assert (second["encoding"], second["data-ref"]) == ("NONE", f"s3://bucket-sagemaker/{HOUR}/c1-0.tensor")
    (entry,) = written["deviceFleetAuxiliaryOutputs"]
    assert (entry["mode"], entry["data-ref"]) == ("Output", f"s3://bucket-sagemaker/{HOUR}/c1-1.jpg")


def test_each_capture_of_a_batch_has_a_file_in_the_folder_of_its_hour() -> None:
    batch = [record("c1"), record("c2"), record("c3", WHEN + 3600)]
    assert [(one.path, one.data.count(b"\n")) for one in files(batch, PLACE)] == [
        (f"{HOUR}/c1.jsonl", 1),
        (f"{HOUR}/c2.jsonl", 1),
        ("sme-capture/north/shop/2023/11/14/23/c3.jsonl", 1),
    ]


def test_a_path_has_the_name_that_the_client_gave_and_the_event_that_of_the_package() -> None:
    (made,) = files([Record("c1", "packaged", "2.0", WHEN, called="shop")], PLACE)
    assert made.path == f"{HOUR}/c1.jsonl"
    assert json.loads(made.data)["eventMetadata"]["modelName"] == "packaged"


def test_what_is_beside_a_record_is_never_in_the_place_of_another() -> None:
    place = CapturePlace("box", "", "file:///out", flat=True, embed_limit=0)
    made = files([record("x", more_inputs=(Item("i", "jsonl", b"1"),)), record("x-0")], place)
    assert len({one.path for one in made}) == len(made) == 3


def test_a_flat_place_has_every_file_in_one_folder() -> None:
    place = CapturePlace("box", "", "file:///out", flat=True, embed_limit=1)
    made = files([record(more_inputs=(Item("picture", "jpg", b"12"),))], place)
    assert [one.path for one in made] == ["c1-0.jpg", "c1.jsonl"]


@given(st.text(), st.text(), st.text(), st.text())
def test_no_name_leads_out_of_the_folder(fleet: str, model: str, prefix: str, kind: str) -> None:
    place = CapturePlace("box", fleet, "file:///out", prefix, embed_limit=0)
    for file in files([Record("c1", model, "", WHEN, (Item("x", kind, b"1"),))], place):
        parts = file.path.split("/")
        assert not {"", ".", ".."} & {*parts}
        assert not file.path.startswith("/")
