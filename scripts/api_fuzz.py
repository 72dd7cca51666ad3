"""``scripts/check-apis``: what a client may send that is wrong, and whether the agent is there and no larger after it.

Requests are made from whole ones: as bytes they are cut, bits are turned, parts doubled and filled with noise; as
messages their fields get wild numbers and texts, so that they are requests still.  Some connections are no gRPC.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from agent.edgeapi.protos import Messages, messages
from agent.inference.manifest import SAMPLES
from scripts.benchmarks import rig
from scripts.benchmarks.verge import memory

_WILD = (0, 1, 2, 63, 64, 4096, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1)
_TEXTS = ("", "m", "/", "..", "/../etc/passwd", "/psm_none", "a" * 70_000, "\0", "é", "unix:///x")
_ABREAST = 8
_WARM_SHARE = 10
"""Of the messages a tenth comes before memory is looked at for the first time."""
_MOST_GROWTH_MB = 12.0
_DEADLINE_S = 20.0


@dataclass(frozen=True)
class Target:
    """An interface, where it is served, and whole requests to begin with."""

    messages: Messages
    address: str
    seeds: dict[str, list[Any]]


def main(arguments: list[str]) -> None:
    """Send, and say what came of it."""
    parser = argparse.ArgumentParser(prog="scripts/check-apis", description="Wrong requests, against a real agent.")
    parser.add_argument("--messages", type=int, default=100_000, help="in all (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of chance (%(default)s)")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    options = parser.parse_args(arguments)
    told = measure(options.messages, options.seed)
    print(json.dumps(told) if options.json else "\n".join(f"{name:<24}{value}" for name, value in told.items()))
    if not (
        told["answered_after"]
        and told["restarts"] == 0
        and not told["faults"]
        and told["rss_mb_more"] <= _MOST_GROWTH_MB
    ):
        raise SystemExit("check-apis: the agent did not come through as it was")


def measure(count: int, seed: int) -> dict[str, Any]:
    """Every figure of one run."""
    with rig.folder() as work, rig.mosquitto(work) as broker:
        config = work / "verge.toml"
        config.write_text(
            f'thing = "fuzzed"\ndata_dir = "{work}/data"\nlog_level = "error"\n'
            f"[transports.local]\nport = {broker.port}\n"
            f'[edge_manager]\nsocket = "{work}/edge-manager.sock"\nmodel_roots = ["{SAMPLES}"]\n'
            f'[lookout]\nsocket = "{work}/lookout.sock"\n[lookout.models.m]\nsource = "inspector"\n'
            f'[serving]\ngrpc = "127.0.0.1:{(port := rig.free_port())}"\nhttp = ""\n[models.m]\nsource = "classifier"\n'
        )
        command = [sys.executable, "-m", "agent", "run", "-c", str(config)]
        with rig.running(command, work / "agent.log") as agent:
            return asyncio.run(_Fuzz(work, port, count, random.Random(seed), agent.pid).run())


class _Fuzz:
    def __init__(self, work: Path, port: int, count: int, chance: random.Random, pid: int) -> None:
        self._chance, self._count, self._pid, self._work = chance, count, pid, work
        self._statuses: Counter[str] = Counter()
        self._left = count
        self._targets = [
            Target(messages("edge_manager"), f"unix:{work}/edge-manager.sock", _edge_manager()),
            Target(messages("lookout"), f"unix:{work}/lookout.sock", _lookout()),
            Target(messages("inference"), f"127.0.0.1:{port}", _inference()),
        ]

    async def run(self) -> dict[str, Any]:
        async with contextlib.AsyncExitStack() as stack:
            channels = [await stack.enter_async_context(_channel(target.address)) for target in self._targets]
            for channel in channels:
                await asyncio.wait_for(channel.channel_ready(), 60)
            await self._whole(channels)
            await self._send(channels, self._count // _WARM_SHARE)
            before = _rss(self._pid)
            await self._send(channels, self._count - self._count // _WARM_SHARE)
            await asyncio.sleep(2)
            after = _rss(self._pid)
            answered = await self._whole(channels)
        log = (self._work / "agent.log").read_text()
        return {
            "messages": self._count,
            "statuses": dict(sorted(self._statuses.items())),
            "faults": dict(
                Counter(re.findall(r"^(?!  )(\w[\w.]*(?:Error|Exception)\b.*)", log, re.MULTILINE)).most_common(9)
            ),
            "restarts": log.count("a worker was lost"),
            "rss_mb_before": round(before, 1),
            "rss_mb_after": round(after, 1),
            "rss_mb_more": round(after - before, 1),
            "answered_after": answered,
        }

    async def _whole(self, channels: list[grpc.aio.Channel]) -> bool:
        """Whether each interface answers a request that is as it should be."""
        first = [
            ("LoadModel", {"name": "m", "url": str(SAMPLES / "classifier")}),
            ("StartModel", {"model_component": "m"}),
            ("ModelMetadata", {"name": "m"}),
        ]
        for channel, target, (rpc, fields) in zip(channels, self._targets, first, strict=True):
            for path, request, _ in _rpcs(target):
                if path.endswith(f"/{rpc}"):
                    status = await _call(channel, path, request(**fields).SerializeToString())
                    if status not in {"OK", "ALREADY_EXISTS", "FAILED_PRECONDITION"}:
                        print(f"check-apis: {rpc}: {status}", file=sys.stderr)
                        return False
        return True

    async def _send(self, channels: list[grpc.aio.Channel], count: int) -> None:
        self._left = count

        async def one() -> None:
            while self._left > 0:
                self._left -= 1
                if self._chance.random() < 0.02:  # noqa: PLR2004 few: each is a connection
                    await asyncio.to_thread(_nonsense, self._chance.choice(self._targets).address, self._chance)
                    continue
                number = self._chance.randrange(len(channels))
                path, payload = self._request(self._targets[number])
                self._statuses[await _call(channels[number], path, payload)] += 1

        await asyncio.gather(*(one() for _ in range(_ABREAST)))

    def _request(self, target: Target) -> tuple[str, bytes]:
        path, request, rpc = self._chance.choice(list(_rpcs(target)))
        seeds = target.seeds.get(rpc) or [request()]
        made = type(self._chance.choice(seeds))()
        made.CopyFrom(self._chance.choice(seeds))
        if self._chance.random() < 0.5:  # noqa: PLR2004 half of them stay requests
            for _ in range(self._chance.randrange(1, 4)):
                _go_wild(made, self._chance)
            return path, made.SerializeToString()
        return path, _damaged(made.SerializeToString(), self._chance)


def _rpcs(target: Target) -> Iterator[tuple[str, Any, str]]:
    for service, rpcs in target.messages.services().items():
        for rpc, (request, _) in rpcs.items():
            if rpc not in {"UnLoadModel", "StopModel"}:  # what is to be there at the end
                yield f"/{service}/{rpc}", request, rpc


def _channel(address: str) -> grpc.aio.Channel:
    limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    return grpc.aio.insecure_channel(address, options=limits)


async def _call(channel: grpc.aio.Channel, path: str, payload: bytes) -> str:
    method = channel.unary_unary(path, request_serializer=bytes, response_deserializer=bytes)
    try:
        await method(payload, timeout=_DEADLINE_S)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return "OK"


def _nonsense(address: str, chance: random.Random) -> None:
    """A connection that says something else than gRPC, or gRPC's first words and then nothing."""
    data = chance.choice((b"", b"GET / HTTP/1.1\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")) + chance.randbytes(200)
    with contextlib.suppress(OSError):
        if address.startswith("unix:"):
            link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            place: Any = address.removeprefix("unix:")
        else:
            link, (host, _, port) = socket.socket(), address.partition(":")
            place = (host, int(port))
        with link:
            link.settimeout(2)
            link.connect(place)
            link.sendall(data[: chance.randrange(len(data))])


def _damaged(payload: bytes, chance: random.Random) -> bytes:
    data = bytearray(payload[:20_000])
    for _ in range(chance.randrange(1, 5)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                del data[at:]
            case 1:
                data[at:at] = chance.randbytes(chance.randrange(1, 40))
            case 2 if data:
                data[at % len(data)] ^= 1 << chance.randrange(8)
            case 3:
                data[at:at] = data[:at]
            case _:
                data[at:] = b"\xff" * chance.randrange(20)
        del data[60_000:]
    return bytes(data)


def _go_wild(message: Any, chance: random.Random) -> None:
    """One field of a message, or of one inside it, as no client would have it."""
    described = chance.choice(message.DESCRIPTOR.fields or [None])
    if described is None:
        return
    value, repeated = getattr(message, described.name), described.is_repeated
    if described.message_type is not None:
        if repeated:
            if described.message_type.GetOptions().map_entry:
                return
            _go_wild(value.add() if not value or chance.random() < 0.3 else chance.choice(value), chance)  # noqa: PLR2004
        else:
            value.SetInParent()
            _go_wild(value, chance)
        return
    with contextlib.suppress(ValueError):  # a number that the field cannot hold
        wild = _value(described, chance)
        if repeated:
            value.extend([wild] * chance.randrange(1, 5))
        else:
            setattr(message, described.name, wild)


def _value(described: Any, chance: random.Random) -> Any:
    kinds = type(described)
    if described.type == kinds.TYPE_STRING:
        return chance.choice(_TEXTS)
    if described.type == kinds.TYPE_BYTES:
        return chance.randbytes(chance.choice((0, 1, 3, 1000, 64 * 64 * 3)))
    if described.type == kinds.TYPE_BOOL:
        return chance.choice((True, False))
    number = chance.choice(_WILD) * chance.choice((1, 1, -1))
    return float(number) if described.cpp_type in {kinds.CPPTYPE_FLOAT, kinds.CPPTYPE_DOUBLE} else number


def _edge_manager() -> dict[str, list[Any]]:
    proto = messages("edge_manager")
    facts = proto.TensorMetadata(name=b"x", data_type=5, shape=[1, 224, 224, 3])
    handle = proto.SharedMemoryHandle(size=0, offset=0, segment_id=7)
    tensors = [proto.Tensor(tensor_metadata=facts, shared_memory_handle=handle), proto.Tensor(byte_data=b"1234")]
    return {
        "Predict": [proto.PredictRequest(name="m", tensors=[tensor]) for tensor in tensors],
        "LoadModel": [proto.LoadModelRequest(name="n", url=str(SAMPLES / "none"))],
        "DescribeModel": [proto.DescribeModelRequest(name="m")],
        "CaptureData": [
            proto.CaptureDataRequest(model_name="m", capture_id="c", input_tensors=tensors, output_tensors=tensors)
        ],
        "GetCaptureDataStatus": [proto.GetCaptureDataStatusRequest(capture_id="c")],
    }


def _lookout() -> dict[str, list[Any]]:
    proto = messages("lookout")
    handle = proto.SharedMemoryHandle(name="/psm_none", size=64 * 64 * 3)
    params = proto.AnomalyMaskParams(shared_memory_handle=handle)
    bitmaps = [
        proto.Bitmap(width=64, height=64, byte_data=bytes(64 * 64 * 3)),
        proto.Bitmap(width=64, height=64, shared_memory_handle=handle),
    ]
    return {
        "DetectAnomalies": [
            *(proto.DetectAnomaliesRequest(model_component="m", bitmap=bitmap) for bitmap in bitmaps),
            proto.DetectAnomaliesRequest(model_component="m", bitmap=bitmaps[0], anomaly_mask_params=params),
        ],
        "StartModel": [proto.StartModelRequest(model_component="m")],
        "DescribeModel": [proto.DescribeModelRequest(model_component="m")],
    }


def _inference() -> dict[str, list[Any]]:
    proto = messages("inference")
    given = proto.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, 4])
    typed = proto.ModelInferRequest(model_name="m", inputs=[given])
    typed.inputs[0].contents.fp32_contents.extend([1, 2, 3, 4])
    return {
        "ModelInfer": [typed, proto.ModelInferRequest(model_name="m", inputs=[given], raw_input_contents=[bytes(16)])],
        "ModelMetadata": [proto.ModelMetadataRequest(name="m")],
        "ModelReady": [proto.ModelReadyRequest(name="m")],
    }


def _rss(pid: int) -> float:
    return float(memory(pid)["Rss"])


if __name__ == "__main__":
    main(sys.argv[1:])
