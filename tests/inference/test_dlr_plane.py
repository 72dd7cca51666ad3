"""DLR through the one door to inference: pictures in, predictions out; no crash reaches further than its worker."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from msgspec.structs import astuple

from agent.config.models import ModelOptions
from agent.errors import BackendUnavailableError, ModelRefusedError, WorkerLostError
from agent.frames.frame import Picture
from agent.inference.manifest import ModelSpec, resolve
from agent.inference.plane import InferencePlane
from agent.inference.values import TensorMetadata
from tests.support import tvm

WATCH = """
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>
static void note(const char *what) {
  int file = open(getenv("WATCH_FILE"), O_WRONLY | O_APPEND | O_CREAT, 0600);
  if (file >= 0) { dprintf(file, "%s\\n", what); close(file); }
}
int connect(int fd, const struct sockaddr *to, socklen_t size) {
  int (*real)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
  if (to->sa_family == AF_UNIX) return real(fd, to, size);
  note("connect"); errno = ENETUNREACH; return -1;
}
ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length) {
  if (to == NULL) return send(fd, data, size, flags);
  note("sendto"); errno = ENETUNREACH; return -1;
}
int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  note(host ? host : "getaddrinfo"); return EAI_FAIL;
}
"""
"""Whatever a process asks of the network through libc, Python or not, is written down and denied."""


@asynccontextmanager
async def plane_in(folder: Path) -> AsyncIterator[InferencePlane]:
    async with asyncio.TaskGroup() as tasks, InferencePlane(tasks, folder / "quarantine") as plane:
        yield plane


def spec(model: Path, **options) -> ModelSpec:
    return resolve(ModelOptions(source=str(model), threads=1, **options), model)


def picture(pixels: np.ndarray) -> Picture:
    return Picture(cv2.imencode(".png", pixels)[1].tobytes(), "png", pixels.shape[1], pixels.shape[0])


def plain(value: int) -> Picture:
    return picture(np.full((16, 16, 3), value, np.uint8))


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """The environment of a process whose network is watched and denied, and the file in which its attempts stand."""
    library, file = tmp_path / "watch.so", tmp_path / "wishes"
    library.write_bytes(tvm.shared_object(WATCH))
    return {"LD_PRELOAD": str(library), "WATCH_FILE": str(file)}, file


# Answers


@pytest.mark.parametrize(("label", "image"), tvm.SAMPLES.items())
async def test_a_neo_folder_of_a_classifier_is_a_model_as_it_is(tmp_path: Path, label: str, image: str) -> None:
    made = tvm.classifier(tmp_path / "DLR-resnet50-x86_64-cpu-ImageClassification")
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load("m", spec(made.folder, input=made.input))
        data = (tvm.IMAGES / image).read_bytes()
        answer = await plane.infer("m", Picture(data, "jpeg", 0, 0))
    assert (metadata.backend, metadata.accelerator, metadata.task, metadata.labels) == (
        "dlr 1.6.0",
        "cpu",
        "image-classification",
        4,
    )
    assert metadata.inputs == (TensorMetadata("data", (1, 3, 224, 224), "float32"),)
    best = answer.predictions[0]
    assert best.label == label
    assert best.score > 0.9
    assert sum(one.score for one in answer.predictions) == pytest.approx(1, abs=1e-4)


async def test_gluoncvs_three_outputs_become_boxes_of_the_frame(tmp_path: Path) -> None:
    made = tvm.yolo_triple(tmp_path / "DLR-yolo3-x86_64-cpu-ObjectDetection")
    blobs = (("red", (64, 48, 192, 144)), ("blue", (320, 240, 480, 432)))
    async with plane_in(tmp_path) as plane:
        metadata = await plane.load("m", spec(made.folder, input=made.input))
        answer = await plane.infer("m", picture(tvm.scene(*blobs)))
        nothing = await plane.infer("m", picture(tvm.scene()))
    assert (metadata.task, metadata.labels) == ("object-detection", 3)
    assert nothing.predictions == ()
    found = {one.label: one.box for one in answer.predictions}
    assert set(found) == {"red", "blue"}
    for name, (left, top, right, bottom) in blobs:
        expected = [left / 640, top / 480, (right - left) / 640, (bottom - top) / 480]
        assert astuple(found[name]) == pytest.approx(expected, abs=0.005)


async def test_a_model_of_raw_outputs_is_fed_planes(tmp_path: Path) -> None:
    folder = tvm.colours(tmp_path / "m")
    async with plane_in(tmp_path) as plane:
        await plane.load("m", spec(folder, task="tensors", input={"scale": 1}))
        answer = await plane.infer("m", picture(np.full((9, 7, 3), (10, 20, 200), np.uint8)))
    assert answer.predictions[0].data == [[200, 20, 10]]


# Failures


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:860] + bytes(byte ^ 0xFF for byte in data[860:1060]) + data[1060:])


def promise(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:16] + (1 << 40).to_bytes(8, "little") + data[24:])


def point_beyond(path: Path) -> None:
    path.write_text(path.read_text().replace('"heads": [[1, 0, 0]]', '"heads": [[99, 0, 0]]'))


@pytest.mark.parametrize(
    ("name", "spoil", "reason"),
    [
        ("compiled.so", cut, "SIGBUS"),
        ("compiled.so", flip, r"Inconsistency detected by ld\.so"),
        ("compiled.params", promise, r"SIGABRT.*bad_alloc"),
        ("compiled_model.json", point_beyond, "contradicts itself"),
    ],
)
async def test_a_model_that_crashes_libdlr_as_it_loads_is_refused_with_the_cause(
    tmp_path: Path, name: str, spoil, reason: str
) -> None:
    broken, sound = tvm.colours(tmp_path / "broken"), tvm.colours(tmp_path / "sound")
    spoil(broken / name)
    async with plane_in(tmp_path) as plane:
        with pytest.raises(ModelRefusedError, match=reason) as refused:
            await plane.load("broken", spec(broken, task="tensors"))
        await plane.load("sound", spec(sound, task="tensors"))
        assert (await plane.infer("sound", plain(7))).predictions
    assert refused.value.code == "model-broken"


async def test_a_model_for_another_device_is_unavailable_with_what_to_do(tmp_path: Path) -> None:
    folder = tvm.colours(tmp_path / "m", meta=tvm.metadata(device="gpu"))
    async with plane_in(tmp_path) as plane:
        with pytest.raises(BackendUnavailableError, match="compiled for the cpu") as refused:
            await plane.load("m", spec(folder))
    assert refused.value.code == "accelerator-unavailable"


def wild(folder: Path, condition: str) -> Path:
    """A model whose operator writes to nowhere when ``condition`` holds for the first pixel."""
    source = (
        f"OP(wild) {{ float p = FLOATS(0)[0]; FLOATS(1)[0] = p; if ({condition}) *(volatile int *)0 = 1; return 0; }}"
    )
    graph = tvm.Graph()
    heads = graph.op("wild", [graph.input("data", (1, 3, 8, 8))], ((1, 3), "float32"))
    return graph.save(folder, source, heads)


async def test_an_operator_that_writes_to_nowhere_ends_its_worker_and_is_told(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        with pytest.raises(WorkerLostError, match="killed by SIGSEGV"):
            await plane.load("m", spec(wild(tmp_path / "m", "1"), task="tensors"))
        assert plane.models == ()


async def test_a_picture_that_crashes_the_network_costs_itself_and_the_next_is_answered(tmp_path: Path) -> None:
    async with plane_in(tmp_path) as plane:
        await plane.load("m", spec(wild(tmp_path / "m", "p > 250"), task="tensors", input={"scale": 1}))
        with pytest.raises(WorkerLostError, match="SIGSEGV"):
            await plane.infer("m", plain(255))
        answer = await plane.infer("m", plain(3))
        assert answer.predictions[0].data[0][0] == 3
        assert plane.status("m").restarts >= 1


async def test_workers_leave_no_staged_files(tmp_path: Path) -> None:
    (tmp_path / "temporary").mkdir()
    environment = {"TMPDIR": str(tmp_path / "temporary")}
    async with plane_in(tmp_path) as plane:
        broken = tvm.colours(tmp_path / "broken")
        cut(broken / "compiled.so")
        with pytest.raises(ModelRefusedError):
            await plane.load("broken", spec(broken, task="tensors", environment=environment))
        await plane.load("m", spec(tvm.colours(tmp_path / "m"), task="tensors", environment=environment))
        assert list((tmp_path / "temporary").iterdir()) == []


# Silence


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


async def test_a_worker_asks_nothing_of_the_network_and_writes_nothing_into_the_installation(
    tmp_path: Path, watched
) -> None:
    environment, attempts = watched
    before = files(package())
    async with plane_in(tmp_path) as plane:
        await plane.load("m", spec(tvm.colours(tmp_path / "m"), task="tensors", environment=environment))
        await plane.infer("m", plain(7))
    assert not attempts.exists()
    assert files(package()) == before


def test_the_watch_sees_what_the_packages_own_wrapper_does(tmp_path: Path, watched) -> None:
    environment, attempts = watched
    shutil.copytree(package(), tmp_path / "dlr", ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-c", f"import dlr; dlr.DLRModel({str(tvm.colours(tmp_path / 'm'))!r})"]
    environment = {**os.environ, **environment, "PYTHONPATH": str(tmp_path)}
    subprocess.run(command, env=environment, capture_output=True, check=True)
    assert attempts.read_text().split()
    assert (tmp_path / "dlr" / "counter" / "ccm_config.json").exists()


def package() -> Path:
    """The folder of the installed ``dlr``, which finding does not import."""
    found = find_spec("dlr")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent
