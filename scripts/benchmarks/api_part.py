"""A client of one interface, or the plain loop, in a process of its own: requests made beforehand, answers looked at.

Prints ``per_s`` and ``ms_p50``.  With more than one request on their way each has a thread, and where the interface is
HTTP/1.1 a connection.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any, Final

import numpy as np

from scripts.benchmarks import WARM, cpu, http

SHAPE: Final = (1, 224, 224, 3)
INPUT: Final = "serving_default_args_0"
ANSWER_BYTES: Final = 4000
SIDES: Final = (1472, 828)
"""Of the picture that Lookout's clients send."""
_RUNNING: Final = 2
_PATIENCE_S: Final = 120
_SEGMENT_MODE: Final = 0o1000 | 0o600
_REMOVE: Final = 0

Once = Callable[[], None]


def _tensor() -> np.ndarray:
    return np.random.default_rng(1).random(SHAPE, dtype=np.float32)


def _pixels() -> bytes:
    return np.random.default_rng(1).integers(0, 255, (SIDES[1], SIDES[0], 3), np.uint8).tobytes()


def _loop(model: str, seconds: float, *, picture: bool) -> dict[str, Any]:
    from agent.config.models import ModelOptions  # noqa: PLC0415 a client does without
    from agent.inference.manifest import resolve  # noqa: PLC0415
    from agent.inference.runtime.session import Session  # noqa: PLC0415

    session = Session(resolve(ModelOptions(source=model), Path.cwd()).request(threads=1)["model"])
    if picture:
        pixels = _pixels()
        return _timed([lambda: session.infer(pixels, "rgb", size=SIDES)], seconds)
    array = _tensor()
    return _timed([lambda: session.backend.run([array])], seconds)


def _timed(calls: list[Callable[[], Any]], seconds: float, core: int = 0) -> dict[str, Any]:
    """Each call over and over in a thread of its own; ``cpu_ms`` a call of this process, the core and its workers."""
    took: list[list[float]] = [[] for _ in calls]
    begin = threading.Barrier(len(calls) + 1)

    def over_and_over(call: Callable[[], Any], mine: list[float]) -> None:
        try:
            for _ in range(WARM):
                call()
            begin.wait()
            end = time.perf_counter() + seconds
            while (now := time.perf_counter()) < end:
                call()
                mine.append(time.perf_counter() - now)
        except BaseException:
            begin.abort()
            raise

    threads = [threading.Thread(target=over_and_over, args=pair) for pair in zip(calls, took, strict=True)]
    for thread in threads:
        thread.start()
    begin.wait(_PATIENCE_S)
    # Looked for now: a model that the client loaded has a worker of its own.
    watched = [[core], cpu.tree(core)[1:]] if core else []
    used = [process_time(), *map(cpu.seconds, watched)]
    for thread in threads:
        thread.join()
    spent = [after - before for after, before in zip([process_time(), *map(cpu.seconds, watched)], used, strict=True)]
    all_of_them = [one for mine in took for one in mine]
    # Each thread's own time: the last answers come behind the end.
    return {
        "per_s": sum(len(mine) / sum(mine) for mine in took),
        "ms_p50": 1e3 * median(all_of_them),
        "cpu_ms": [1e3 * one / len(all_of_them) for one in spent],
    }


# -- clients -----------------------------------------------------------------------------------------------------------


@contextmanager
def _rpc(address: str, path: str, request: bytes, least: int = ANSWER_BYTES) -> Iterator[Callable[[], Once]]:
    import grpc  # noqa: PLC0415 others do without

    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options=limits) as channel:
        method = channel.unary_unary(path)

        def once() -> None:
            answer = method(request, timeout=30)
            if len(answer) < least:
                raise ConnectionError(f"{path} answered {answer[:200]!r}")

        yield lambda: once


@contextmanager
def _edge_manager(address: str, **data: Any) -> Iterator[Callable[[], Once]]:
    import grpc  # noqa: PLC0415

    from agent.edgeapi.protos import messages  # noqa: PLC0415

    proto = messages("edge_manager")
    service = "/AWS.SageMaker.Edge.Agent"
    load = proto.LoadModelRequest(name="bench", url=_sample()).SerializeToString()
    with grpc.insecure_channel(address) as channel, suppress(grpc.RpcError):  # it is loaded already
        channel.unary_unary(f"{service}/LoadModel")(load, timeout=60)
    facts = proto.TensorMetadata(name=INPUT.encode(), data_type=5, shape=SHAPE)
    request = proto.PredictRequest(name="bench", tensors=[proto.Tensor(tensor_metadata=facts, **data)])
    with _rpc(address, f"{service}/Predict", request.SerializeToString()) as calls:
        yield calls


@contextmanager
def _edge_manager_bytes(address: str) -> Iterator[Callable[[], Once]]:
    with _edge_manager(address, byte_data=_tensor().tobytes()) as calls:
        yield calls


@contextmanager
def _edge_manager_shm(address: str) -> Iterator[Callable[[], Once]]:
    data = _tensor().tobytes()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(0, ctypes.c_size_t(len(data)), _SEGMENT_MODE)
    at = libc.shmat(segment, None, 0)
    ctypes.memmove(at, data, len(data))
    try:
        with _edge_manager(address, shared_memory_handle={"segment_id": segment}) as calls:
            yield calls
    finally:
        libc.shmctl(segment, _REMOVE, None)


@contextmanager
def _lookout_bytes(address: str) -> Iterator[Callable[[], Once]]:
    with _lookout(address, {"byte_data": _pixels()}, None) as calls:
        yield calls


@contextmanager
def _lookout_shm(address: str) -> Iterator[Callable[[], Once]]:
    """The picture and its mask in segments that the client shares."""
    pixels, names = _pixels(), [f"verge-bench-{os.getpid()}-{what}" for what in ("picture", "mask")]
    files = [Path("/dev/shm", name) for name in names]
    handles = [{"name": f"/{name}", "size": len(pixels)} for name in names]
    try:
        for file in files:
            file.write_bytes(pixels)
        params = {"shared_memory_handle": handles[1]}
        with _lookout(address, {"shared_memory_handle": handles[0]}, params) as calls:
            yield calls
    finally:
        for file in files:
            file.unlink(missing_ok=True)


@contextmanager
def _lookout(address: str, data: dict[str, Any], mask: dict[str, Any] | None) -> Iterator[Callable[[], Once]]:
    import grpc  # noqa: PLC0415

    from agent.edgeapi.protos import messages  # noqa: PLC0415

    proto = messages("lookout")
    service = "/AWS.LookoutVision.EdgeAgent"
    named = proto.DescribeModelRequest(model_component="inspector").SerializeToString()
    with grpc.insecure_channel(address) as channel:
        with suppress(grpc.RpcError):  # it is started already
            channel.unary_unary(f"{service}/StartModel")(named, timeout=60)
        describe = channel.unary_unary(f"{service}/DescribeModel")
        while proto.DescribeModelResponse.FromString(describe(named)).model_description.status != _RUNNING:
            time.sleep(0.05)
    bitmap = proto.Bitmap(width=SIDES[0], height=SIDES[1], **data)
    request = proto.DetectAnomaliesRequest(model_component="inspector", bitmap=bitmap, anomaly_mask_params=mask)
    with _rpc(address, f"{service}/DetectAnomalies", request.SerializeToString(), 1) as calls:
        yield calls


@contextmanager
def _v2_grpc(address: str, model: str = "classifier", name: str = INPUT) -> Iterator[Callable[[], Once]]:
    from agent.edgeapi.protos import messages  # noqa: PLC0415

    proto = messages("inference")
    request = proto.ModelInferRequest(
        model_name=model,
        inputs=[{"name": name, "datatype": "FP32", "shape": SHAPE}],
        raw_input_contents=[_tensor().tobytes()],
    )
    path = "/inference.GRPCInferenceService/ModelInfer"
    with _rpc(address, path, request.SerializeToString()) as calls:
        yield calls


@contextmanager
def _v2_http(address: str) -> Iterator[Callable[[], Once]]:
    data = _tensor().tobytes()
    given = {"name": INPUT, "datatype": "FP32", "shape": SHAPE, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
    told = f"POST /v2/models/classifier/infer HTTP/1.1\r\nHost: {address}\r\n"
    told += f"Inference-Header-Content-Length: {len(head)}\r\nContent-Length: {len(head) + len(data)}\r\n\r\n"
    yield lambda: _kept(address, told.encode() + head + data)


@contextmanager
def _litserve(address: str) -> Iterator[Callable[[], Once]]:
    body = json.dumps({"tensor": base64.b64encode(_tensor().tobytes()).decode(), "shape": SHAPE}).encode()
    yield lambda: _kept(address, http.request("POST", "/predict", body))


def _kept(address: str, request: bytes) -> Once:
    """Over a connection of its own."""
    link = http.Connection(int(address.rpartition(":")[2]))

    def once() -> None:
        link.send(request)
        answer = link.receive()
        if len(answer) < ANSWER_BYTES:
            raise ConnectionError(f"{address} answered {answer[:200]!r}")

    return once


@contextmanager
def _mlserver(address: str) -> Iterator[Callable[[], Once]]:
    with _v2_grpc(address, "bench", "tensor") as calls:
        yield calls


def _sample() -> str:
    from agent.inference.manifest import SAMPLES  # noqa: PLC0415

    return str(SAMPLES / "classifier")


CLIENTS: Final[dict[str, Any]] = {
    "edge_manager": _edge_manager_bytes,
    "edge_manager_shm": _edge_manager_shm,
    "lookout": _lookout_bytes,
    "lookout_shm": _lookout_shm,
    "v2_grpc": _v2_grpc,
    "v2_http": _v2_http,
    "litserve": _litserve,
    "mlserver": _mlserver,
}


def main(kind: str, where: str, seconds: str, window: str = "1", core: str = "0") -> None:
    """Measure and print."""
    if kind.startswith("loop"):
        print(json.dumps(_loop(where, float(seconds), picture=kind == "loop_picture")))
        return
    with CLIENTS[kind](where) as calls:
        print(json.dumps(_timed([calls() for _ in range(int(window))], float(seconds), int(core))))


if __name__ == "__main__":
    main(*sys.argv[1:])
