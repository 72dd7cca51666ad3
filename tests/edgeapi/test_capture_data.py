"""``CaptureData`` and shared memory over a real socket: what is taken, what becomes of it, and each refusal."""

from __future__ import annotations

import base64
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from agent.config.edgeapi import CaptureOptions, EdgeManagerOptions
from agent.edgeapi import wiring
from agent.edgeapi.protos import messages
from agent.errors import ConfigError
from tests.support.edgeapi import Client, client, surroundings
from tests.support.models import onnx_identity
from tests.support.systemv import Segment
from tests.support.until import until

PROTO = messages("edge_manager")
FLOAT32 = PROTO.number("DataType", "FLOAT32")
SUCCESS, IN_PROGRESS, NOT_FOUND = (
    PROTO.number("CaptureDataStatus", word) for word in ("SUCCESS", "IN_PROGRESS", "NOT_FOUND")
)
AT_ONCE = CaptureOptions(batch_size=1, prefix="pre")


@asynccontextmanager
async def serving(folder: Path, capture: CaptureOptions = AT_ONCE, **options) -> AsyncIterator[Client]:
    """A served model ``net``, that answers with its six numbers."""
    if not (folder / "model.onnx").exists():
        onnx_identity(folder / "model.onnx", (1, 6))
    options = {"device": "box-7", "fleet": "north", **options}
    async with (
        surroundings(folder) as here,
        wiring.edge_manager(here, EdgeManagerOptions(capture=capture, **options)),
        client(PROTO, folder / "edge-manager.sock") as agent,
    ):
        await agent.call("LoadModel", name="net", url=str(folder / "model.onnx"))
        yield agent


def tensor(data: bytes, shape: list[int] | None = None, name: str = "input", dtype: int = FLOAT32):
    shape = [len(data) // 4] if shape is None else shape
    return PROTO.Tensor(
        tensor_metadata=PROTO.TensorMetadata(name=name.encode(), data_type=dtype, shape=shape), byte_data=data
    )


def shared(segment: Segment, size: int = 0, offset: int = 0, shape: tuple[int, ...] = (1, 6)):
    handle = PROTO.SharedMemoryHandle(size=size, offset=offset, segment_id=segment.identity)
    metadata = PROTO.TensorMetadata(data_type=FLOAT32, shape=shape)
    return PROTO.Tensor(tensor_metadata=metadata, shared_memory_handle=handle)


async def arrived(agent: Client, identity: str) -> None:
    async def there() -> bool:
        return (await agent.call("GetCaptureDataStatus", capture_id=identity)).status == SUCCESS

    await until(there)


def lines(folder: Path) -> list[dict]:
    found = sorted((folder / "edge-manager" / "captures").rglob("*.jsonl"))
    return [json.loads(line) for path in found for line in path.read_text().splitlines()]


async def test_a_capture_is_a_file_of_json_lines_once_its_status_is_success(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float32).tobytes()
    async with serving(tmp_path) as agent:
        stamp = PROTO.Timestamp(seconds=1_700_000_000, nanos=5)
        await agent.call(
            "CaptureData", model_name="net", capture_id="capture1700000000", inference_timestamp=stamp,
            input_tensors=[tensor(numbers)], output_tensors=[tensor(bytes(4 * 150_528), name="output")],
            inputs=[PROTO.AuxilaryData(name="picture", encoding=2, byte_data=b"\xff\xd8\xff" + bytes(9))],
            outputs=[
                PROTO.AuxilaryData(name="result.json", encoding=1, byte_data=b'{"0": 1}'),
                PROTO.AuxilaryData(name="mask", encoding=3, byte_data=base64.b64encode(b"\x89PNG")),
            ],
        )  # fmt: skip
        await arrived(agent, "capture1700000000")
        folder = tmp_path / "edge-manager" / "captures" / "pre/north/net/2023/11/14/22"
        assert sorted(path.name for path in folder.iterdir()) == [
            "capture1700000000-0.tensor", "capture1700000000.jsonl",
        ]  # fmt: skip
        (line,) = lines(tmp_path)
    assert line["eventMetadata"] == {
        "deviceId": "box-7", "deviceFleetName": "north", "eventId": "capture1700000000",
        "inferenceTime": "2023-11-14T22:13:20", "modelName": "net", "modelVersion": "",
    }  # fmt: skip
    (given,), (large,) = line["deviceFleetInputs"], line["deviceFleetOutputs"]
    assert given["observedContentType"] == "Tensor[float32; 6]"
    assert np.frombuffer(base64.b64decode(given["data"]), np.float32).tolist() == [0, 1, 2, 3, 4, 5]
    assert (large["observedContentType"], large["encoding"]) == ("Tensor[float32; 150528]", "NONE")
    assert large["data-ref"] == (folder / "capture1700000000-0.tensor").as_uri()
    assert [one["observedContentType"] for one in line["deviceFleetAuxiliaryInputs"]] == ["jpg"]
    more = {one["name"]: one for one in line["deviceFleetAuxiliaryOutputs"]}
    assert {name: one["observedContentType"] for name, one in more.items()} == {"result.json": "json", "mask": "png"}
    assert base64.b64decode(more["mask"]["data"]) == b"\x89PNG"


async def test_a_capture_without_a_time_is_of_now_and_its_id_may_be_a_uuid(tmp_path: Path) -> None:
    identity = str(uuid.uuid4())
    before = time.gmtime()
    async with serving(tmp_path) as agent:
        await agent.call("CaptureData", model_handle="net", capture_id=identity, input_tensors=[tensor(bytes(24))])
        await arrived(agent, identity)
    when = time.strptime(lines(tmp_path)[0]["eventMetadata"]["inferenceTime"], "%Y-%m-%dT%H:%M:%S")
    assert before[:6] <= when[:6] <= time.gmtime()[:6]


async def test_the_name_and_version_of_a_capture_are_the_packages(tmp_path: Path) -> None:
    (tmp_path / "sagemaker_edge_manifest").write_text('{"metadata": {"model_name": "shop", "model_version": "2.0"}}')
    async with serving(tmp_path) as agent:
        await agent.call("CaptureData", model_name="net", capture_id="c1")
        await arrived(agent, "c1")
    metadata = lines(tmp_path)[0]["eventMetadata"]
    assert (metadata["modelName"], metadata["modelVersion"]) == ("shop", "2.0")


async def test_the_disk_without_a_prefix_has_each_capture_by_its_id_in_one_folder(tmp_path: Path) -> None:
    options = CaptureOptions(batch_size=1, folder="out")
    async with serving(tmp_path, options) as agent:
        await agent.call(
            "CaptureData", model_name="net", capture_id="line-1a2b",
            inputs=[PROTO.AuxilaryData(name="x", encoding=2, byte_data=b"\xff\xd8\xff" + bytes(5000))],
        )  # fmt: skip
        await arrived(agent, "line-1a2b")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["line-1a2b-0.jpg", "line-1a2b.jsonl"]


async def test_a_tensor_is_captured_as_it_came_though_its_shape_is_of_other_bytes(tmp_path: Path) -> None:
    options = CaptureOptions(batch_size=1, folder="out")
    sent = [tensor(bytes(1001), [1, 257]), tensor(bytes(range(7)), [2, 3], "strange")]
    async with serving(tmp_path, options) as agent:
        await agent.call("CaptureData", model_name="net", capture_id="c1", output_tensors=sent)
        await arrived(agent, "c1")
    told = json.loads((tmp_path / "out" / "c1.jsonl").read_bytes())["deviceFleetOutputs"]
    assert [base64.b64decode(one["data"]) for one in told] == [bytes(1001), bytes(range(7))]
    assert [one["observedContentType"] for one in told] == ["Tensor[float32; 1, 257]", "Tensor[float32; 2, 3]"]


async def test_what_is_refused_is_refused_with_the_documented_status(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        await agent.call("CaptureData", model_name="net", capture_id="c1")

        async def refused(**fields) -> str:
            return await agent.refused("CaptureData", **{"model_name": "net", "capture_id": "c2", **fields})

        assert await refused(capture_id="c1") == "ALREADY_EXISTS"
        assert await refused(model_name="none") == "NOT_FOUND"
        for identity in ("", "../up", "a/b", "a b", ".hidden", "a\n", "ä", "x" * 129, "-"):
            assert await refused(capture_id=identity) == "INVALID_ARGUMENT", identity
        soon = PROTO.Timestamp(seconds=int(time.time()) + 60)
        assert await refused(inference_timestamp=soon) == "OUT_OF_RANGE"
        for seconds, nanos in ((2**62, 0), (-1, 0), (0, -1), (0, 2**31 - 1), (-(2**63), 0)):
            stamp = PROTO.Timestamp(seconds=seconds, nanos=nanos)
            assert await refused(inference_timestamp=stamp) == "INVALID_ARGUMENT"
        for wrong in (
            tensor(bytes(24), [-6]), tensor(bytes(24), dtype=99),
            PROTO.Tensor(tensor_metadata=PROTO.TensorMetadata(shape=[6])),
        ):  # fmt: skip
            assert await refused(output_tensors=[wrong]) == "INVALID_ARGUMENT"
        assert await refused(inputs=[PROTO.AuxilaryData(name="x", encoding=3, byte_data=b"no base64!")]) == (
            "INVALID_ARGUMENT"
        )
        for identity in ("c2", "../up", ""):
            assert (await agent.call("GetCaptureDataStatus", capture_id=identity)).status == NOT_FOUND


async def test_a_full_buffer_is_refused_and_is_captured_later(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("no folder")
    options = CaptureOptions(batch_size=2, buffer_size=3, folder="out", push_period_s=0.05)
    async with serving(tmp_path, options) as agent:
        for number in range(3):
            await agent.call("CaptureData", model_name="net", capture_id=f"c{number}")
        assert await agent.refused("CaptureData", model_name="net", capture_id="c3") == "RESOURCE_EXHAUSTED"
        assert (await agent.call("GetCaptureDataStatus", capture_id="c2")).status == IN_PROGRESS
        (tmp_path / "out").unlink()
        await arrived(agent, "c2")
        await agent.call("CaptureData", model_name="net", capture_id="c3")


async def test_a_cloud_without_a_bucket_is_refused_before_anything_runs(tmp_path: Path) -> None:
    async with surroundings(tmp_path) as here:
        for capture in (CaptureOptions(destination="cloud"), CaptureOptions(periodic_upload=True)):
            with pytest.raises(ConfigError, match="no bucket"):
                async with wiring.edge_manager(here, EdgeManagerOptions(capture=capture)):
                    pass


async def test_without_a_network_captures_for_the_cloud_wait_and_nothing_is_refused(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(key, "nobodys")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    options = CaptureOptions(destination="cloud", bucket="sagemaker-x", buffer_size=2, batch_size=1)
    async with serving(tmp_path, options) as agent:
        for number in range(20):
            await agent.call("CaptureData", model_name="net", capture_id=f"c{number}")
        assert (await agent.call("GetCaptureDataStatus", capture_id="c0")).status == IN_PROGRESS


# -- shared memory -----------------------------------------------------------------------------------------------------


async def test_tensors_come_through_shared_memory_with_or_without_a_size(tmp_path: Path) -> None:
    numbers = np.arange(8, dtype=np.float32)
    async with serving(tmp_path) as agent:
        with Segment(numbers.tobytes()) as segment:
            for given, first in ((shared(segment), 0), (shared(segment, 24), 0), (shared(segment, 0, 8), 2)):
                (output,) = (await agent.call("Predict", name="net", tensors=[given])).tensors
                assert np.frombuffer(output.byte_data, np.float32).tolist() == numbers[first : first + 6].tolist()
            handle = PROTO.SharedMemoryHandle(size=9, segment_id=segment.identity)
            await agent.call(
                "CaptureData", model_name="net", capture_id="c1", input_tensors=[shared(segment)],
                inputs=[PROTO.AuxilaryData(name="x.bin", encoding=2, shared_memory_handle=handle)],
            )  # fmt: skip
        await arrived(agent, "c1")
    (line,) = lines(tmp_path)
    assert base64.b64decode(line["deviceFleetInputs"][0]["data"]) == numbers[:6].tobytes()
    assert base64.b64decode(line["deviceFleetAuxiliaryInputs"][0]["data"]) == numbers.tobytes()[:9]


async def test_a_handle_that_lies_is_refused_and_the_agent_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as agent:
        with Segment(bytes(24)) as segment:
            wild = [
                shared(segment, 2**64 - 1), shared(segment, 25), shared(segment, 20), shared(segment, 24, 1),
                shared(segment, 24, 2**64 - 1), shared(segment, 0, 2**63), shared(segment, shape=(2**31 - 1, 6)),
                shared(segment, shape=(1, -6)),
            ]  # fmt: skip
            for number in (2**31 - 1, 2**32 + segment.identity, 2**64 - 1):
                wild.append(shared(segment))
                wild[-1].shared_memory_handle.segment_id = number
            for tensors in wild:
                assert await agent.refused("Predict", name="net", tensors=[tensors]) == "INVALID_ARGUMENT"
                request = {"model_name": "net", "capture_id": "c", "input_tensors": [tensors]}
                if tensors.shared_memory_handle.size != 20:
                    assert await agent.refused("CaptureData", **request) == "INVALID_ARGUMENT"
            aux = PROTO.AuxilaryData(shared_memory_handle=PROTO.SharedMemoryHandle(segment_id=segment.identity))
            assert await agent.refused("CaptureData", model_name="net", capture_id="c", inputs=[aux]) == (
                "INVALID_ARGUMENT"
            )
            assert (await agent.call("Predict", name="net", tensors=[shared(segment)])).tensors


async def test_a_writable_segment_is_refused_where_the_owner_wants_that(tmp_path: Path) -> None:
    async with serving(tmp_path, writable_segments=False) as agent:
        with Segment(bytes(24), 0o600) as segment:
            assert await agent.refused("Predict", name="net", tensors=[shared(segment)]) == "INVALID_ARGUMENT"
        with Segment(bytes(24), 0o400) as segment:
            assert (await agent.call("Predict", name="net", tensors=[shared(segment)])).tensors
