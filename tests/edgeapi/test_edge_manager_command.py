"""``verge edge-manager``: AWS's command line, its file, its signals; without a broker."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.edgeapi.protos import messages
from agent.inference.manifest import SAMPLES
from tests.support.edgeapi import client

PROTO = messages("edge_manager")


def configuration(folder: Path, **keys: object) -> None:
    said = {
        "core_device_name": "box-7", "core_device_fleet_name": "north", "core_capture_data_destination": "Disk",
        "core_capture_data_disk_path": str(folder / "out"), "core_capture_data_batch_size": "1",
        "core_capture_data_buffer_size": "64", "local_data_root_path": str(folder / "data"), **keys,
    }  # fmt: skip
    (folder / "c.json").write_text(json.dumps({f"sagemaker_edge_{key}": value for key, value in said.items()}))


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "agent", "edge-manager", "-a", "agent.sock", "-c", "c.json", *arguments]


@contextmanager
def agent(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The program, listening; it is ended when the context is left."""
    with subprocess.Popen(
        command(*arguments), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            assert child.stdout.readline() == f"listening at {folder / 'agent.sock'}\n", child.stderr.read()
            yield child
        finally:
            child.kill()


def refusal(folder: Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


async def test_clients_are_served_and_captures_written_by_the_file_of_the_old_agent(tmp_path: Path) -> None:
    configuration(tmp_path)
    with agent(tmp_path, "-f", "-m", "10000000") as child:
        async with client(PROTO, tmp_path / "agent.sock") as one:
            await one.call("LoadModel", name="net", url=str(SAMPLES / "classifier"))
            await one.call("CaptureData", model_name="net", capture_id="c1")
            (model,) = (await one.call("ListModels")).models
            given = PROTO.Tensor(tensor_metadata=model.input_tensor_metadatas[0], byte_data=bytes(4 * 224 * 224 * 3))
            assert (await one.call("Predict", name="net", tensors=[given])).tensors
            long = PROTO.Tensor(byte_data=bytes(10_000_001))
            assert await one.refused("Predict", name="net", tensors=[long]) == "RESOURCE_EXHAUSTED"
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == -signal.SIGTERM
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["c1.jsonl"]
    registration = json.loads((tmp_path / "data" / "edge-manager" / "registration.json").read_bytes())
    assert (registration["device"], registration["fleet"]) == ("box-7", "north")
    assert not (tmp_path / "agent.sock").exists()


def test_the_signal_of_the_old_unit_ends_it_in_order(tmp_path: Path) -> None:
    configuration(tmp_path)
    with agent(tmp_path) as child:
        child.send_signal(signal.SIGHUP)
        assert child.wait(30) == 0
    assert not (tmp_path / "agent.sock").exists()


def test_a_socket_that_a_dead_agent_left_is_taken_with_f_alone_and_a_living_ones_never(tmp_path: Path) -> None:
    configuration(tmp_path)
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "agent.sock"))
    status, said = refusal(tmp_path)
    assert (status, "exists already" in said, "-f" in said) == (2, True, True)
    with agent(tmp_path, "-f"):
        other = tmp_path / "other"
        other.mkdir()
        configuration(other)
        for arguments in ((), ("-f",)):
            status, said = refusal(other, "-a", str(tmp_path / "agent.sock"), *arguments)
            assert (status, "another server answers" in said) == (3, True)
        status, said = refusal(tmp_path, "-a", "second.sock")
        assert (status, "is in use" in said) == (3, True)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("no json", "is not JSON"),
        ('{"sagemaker_edge_core_capture_data_buffer_size": "many"}', "buffer_size"),
        ('{"sagemaker_edge_core_capture_data_destination": "Cloud"}', "no bucket"),
        ('{"sagemaker_edge_local_data_root_path": "/proc/none"}', "nothing can be kept"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_two_lines(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "c.json").write_text(text)
    status, said = refusal(tmp_path)
    assert (status, what in said, "Traceback" in said) == (2, True, False), said


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    status, said = refusal(tmp_path)
    assert (status, "cannot be read" in said) == (2, True)
