"""Clients of the Open Inference Protocol as bytes: what others' clients write, without them."""

from __future__ import annotations

import asyncio
import http.client
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from agent.config.models import ModelOptions
from agent.edgeapi.openinference.body import HEADER_LENGTH
from agent.edgeapi.openinference.http import HttpBounds, HttpServer
from agent.edgeapi.openinference.service import OpenInference
from agent.edgeapi.sockets import TcpPlace
from agent.inference.manifest import SAMPLES, resolve
from agent.inference.plane import InferencePlane
from tests.support.models import onnx_colours

CAT = SAMPLES.parent / "images" / "chelsea.jpg"
NUMBERS = np.arange(192, dtype=np.float32).reshape(1, 3, 8, 8)
"""For the model ``colours``, and what it answers:"""
MEANS = NUMBERS.mean(axis=(2, 3))


@dataclass(frozen=True)
class Said:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body[: int(self.headers.get(HEADER_LENGTH, len(self.body)))])

    @property
    def behind(self) -> bytes:
        """The data behind the JSON."""
        return self.body[int(self.headers[HEADER_LENGTH]) :]


async def ask(
    port: int, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Said:  # fmt: skip
    """One request over a connection of its own."""

    def asking() -> Said:
        link = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        if tls is not None:
            link = http.client.HTTPSConnection("localhost", port, timeout=20, context=tls)
        try:
            link.request(method, path, body or None, dict(headers or {}))
            answer = link.getresponse()
            return Said(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            link.close()

    return await asyncio.to_thread(asking)


def plain(name: str = "images", array: np.ndarray = NUMBERS, **more: Any) -> bytes:
    """A request of JSON alone, as KServe's client writes it."""
    tensor = {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}
    return json.dumps({"inputs": [tensor], **more}).encode()


def binary(
    name: str, datatype: str, shape: tuple[int, ...], data: bytes, **more: Any
) -> tuple[bytes, dict[str, str]]:  # fmt: skip
    """A request with binary data, as Triton's client writes it, and its headers."""
    tensor = {"name": name, "shape": shape, "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}} | more).encode()
    return head + data, {HEADER_LENGTH: str(len(head))}


async def load(plane: InferencePlane, name: str, source: Path | str, **more: Any) -> None:
    await plane.load(name, resolve(ModelOptions(source=str(source), **more), Path()))


@asynccontextmanager
async def plane_with_colours(folder: Path) -> AsyncIterator[InferencePlane]:
    """A plane with the model ``colours``: 1 × 3 × 8 × 8 numbers in, the means of the three out."""
    async with asyncio.TaskGroup() as tasks, InferencePlane(tasks, folder / "quarantine") as plane:
        await load(plane, "colours", onnx_colours(folder / "colours.onnx"))
        yield plane


@asynccontextmanager
async def http_server(plane: InferencePlane, bounds: HttpBounds | None = None, **how: Any) -> AsyncIterator[HttpServer]:
    """Served over HTTP on a free port."""
    async with HttpServer(TcpPlace("127.0.0.1", 0), OpenInference(plane), bounds=bounds, **how) as server:
        yield server
