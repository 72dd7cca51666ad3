"""Captures through kill -9, a full disk and a network that is gone; see ``scripts/check-capture``.

``verge edge-manager`` runs as a process of its own, and one client captures numbered records, one after the other: it
asks again for one whose answer it did not get, as a careful client would.  What is on the disk, or in the bucket of a
server of S3's protocol (moto), is then held against what was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc

from agent.edgeapi.protos import messages
from agent.inference.manifest import SAMPLES
from tests.support.cutter import Cutter
from tests.support.moto import Moto
from tests.support.until import until

BUCKET, FLEET = "sagemaker-captures", "north"
_PROTO = messages("edge_manager")
_SERVICE, _RPCS = next(iter(_PROTO.services().items()))
_PATIENCE_S = 120.0
_FULL_S = 1.0


@dataclass
class Proof:
    """What happened, and what was found."""

    destination: str
    records: int
    kills: int = 0
    full_disks: int = 0
    refused: int = 0
    outages: int = 0
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    out_of_order: int = 0
    files: int = 0

    @property
    def holds(self) -> bool:
        """Whether each record is there once, and in order."""
        return not (self.missing or self.twice or self.out_of_order)

    def __str__(self) -> str:
        found = "each is there once, in order" if self.holds else "NOT SO"
        return (
            f"{self.destination}: {self.records} records in {self.files} files through {self.kills} kills, "
            f"{self.full_disks} full disks and {self.outages} outages, {self.refused} requests refused, "
            f"{self.seconds:.0f} s: {found} ({len(self.missing)} missing, {len(self.twice)} twice, "
            f"{self.out_of_order} out of order)"
        )


class _Agent:
    """``verge edge-manager``, started again whenever it is killed."""

    def __init__(self, folder: Path, said: dict[str, Any], env: dict[str, str]) -> None:
        self._folder = folder
        (folder / "config.json").write_text(json.dumps({f"sagemaker_edge_{key}": value for key, value in said.items()}))
        self._env = os.environ | env
        self.socket = folder / "agent.sock"
        self._process: subprocess.Popen[str] | None = None

    async def start(self) -> None:
        command = [sys.executable, "-m", "agent", "edge-manager", "-f", "-a", str(self.socket), "-c", "config.json"]
        self._process = await asyncio.to_thread(self._begun, command)
        assert self._process.stdout is not None
        line = await asyncio.to_thread(self._process.stdout.readline)
        assert line.startswith("listening"), (self._folder / "log").read_text()

    def _begun(self, command: list[str]) -> subprocess.Popen[str]:
        with (self._folder / "log").open("a") as log:
            return subprocess.Popen(
                command, cwd=self._folder, env=self._env, stdout=subprocess.PIPE, stderr=log, text=True
            )

    async def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        await asyncio.to_thread(self._process.wait, 30)
        assert self._process.stdout is not None
        self._process.stdout.close()

    async def kill(self) -> None:
        await self.end(signal.SIGKILL)
        await self.start()


class _Client:
    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._channel: grpc.aio.Channel | None = None

    async def call(self, rpc: str, **fields: Any) -> Any:
        request, response = _RPCS[rpc]
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(f"unix://{self._socket}")
        method = self._channel.unary_unary(
            f"/{_SERVICE}/{rpc}", request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )  # fmt: skip
        try:
            return await method(request(**fields))
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                await self.close()  # a new channel does not wait before it connects
            raise

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        self._channel = None


async def prove(destination: str, records: int, *, kills: int, seed: int = 1, small_disk: Path | None = None) -> Proof:
    """Capture so many records through so many kills; with ``small_disk``, which fills up once, to that."""
    started, proof = time.monotonic(), Proof(destination, records)
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="verge-") as place:
        folder = Path(place)
        home = small_disk or folder
        async with _destination(destination, home) as (said, env, cutter, found):
            said |= {
                "core_device_name": "box", "core_device_fleet_name": FLEET, "core_folder_prefix": "captures",
                "core_capture_data_buffer_size": "64", "core_capture_data_batch_size": 10,
                "core_capture_data_push_period_seconds": 1, "local_data_root_path": str(home / "data"),
            }  # fmt: skip
            agent = _Agent(folder, said, env)
            await agent.start()
            try:
                await _capture(agent, records, proof, dice, kills, small_disk, cutter)
            finally:
                await agent.end(signal.SIGTERM)
            _judge(found(), proof)
    proof.seconds = time.monotonic() - started
    return proof


async def _capture(
    agent: _Agent, records: int, proof: Proof, dice: random.Random, kills: int, small_disk: Path | None,
    cutter: Cutter | None,
) -> None:  # fmt: skip
    """One record after the other, through the accidents; returns when all have arrived."""
    client = _Client(agent.socket)
    dying = {*dice.sample(range(1, records), kills)}
    bad = range(records // 3, records // 3 + records // 10)
    killing: asyncio.Task[None] | None = None
    accidents: list[asyncio.Task[None]] = []
    for number in range(records):
        if number in dying and (killing is None or killing.done()):
            killing = asyncio.create_task(_later(agent, dice.random() * 0.02))
            accidents.append(killing)
            proof.kills += 1
        if number == bad.start and small_disk is not None:
            accidents.append(asyncio.create_task(_full(small_disk)))
            proof.full_disks += 1
        if number == bad.start and cutter is not None:
            cutter.cut()
            proof.outages += 1
        if number == bad.stop and cutter is not None:
            cutter.restore()
        await _taken(client, number, proof)
    await asyncio.gather(*accidents)
    last = f"c{records - 1:06}"

    async def arrived() -> bool:
        return bool((await _asked(client, "GetCaptureDataStatus", capture_id=last)).status == _SUCCESS)

    await until(arrived, _PATIENCE_S)
    await client.close()


async def _taken(client: _Client, number: int, proof: Proof) -> None:
    """Ask until the agent has the record."""
    tensor = _PROTO.Tensor(
        tensor_metadata=_PROTO.TensorMetadata(name=b"in", data_type=_PROTO.number("DataType", "FLOAT32"), shape=[6]),
        byte_data=number.to_bytes(24, "little"),
    )
    async with asyncio.timeout(_PATIENCE_S):
        while True:
            try:
                await _asked(
                    client, "CaptureData", model_name="shop", capture_id=f"c{number:06}", input_tensors=[tensor]
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.ALREADY_EXISTS:
                    return  # it was taken, and the answer was lost
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
                proof.refused += 1
                await asyncio.sleep(0.02)
            else:
                return


async def _asked(client: _Client, rpc: str, **fields: Any) -> Any:
    """The answer of an agent that may be killed meanwhile, and then has no model any more."""
    while True:
        try:
            return await client.call(rpc, **fields)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                with suppress(grpc.aio.AioRpcError):
                    await client.call("LoadModel", name="shop", url=str(SAMPLES / "classifier"))
            elif error.code() is grpc.StatusCode.UNAVAILABLE:
                await asyncio.sleep(0.02)
            else:
                raise


_SUCCESS = _PROTO.number("CaptureDataStatus", "SUCCESS")


async def _later(agent: _Agent, pause_s: float) -> None:
    await asyncio.sleep(pause_s)
    await agent.kill()


async def _full(disk: Path) -> None:
    """Fill a disk to its last byte, for a moment."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    await asyncio.sleep(_FULL_S)
    filler.unlink()


def _judge(found: list[tuple[str, bytes]], proof: Proof) -> None:
    """``found`` are files in the order in which they were written."""
    names = [
        json.loads(line)["eventMetadata"]["eventId"] for path, data in found if path.endswith(".jsonl")
        for line in data.splitlines()
    ]  # fmt: skip
    proof.files = len(found)
    wanted = [f"c{number:06}" for number in range(proof.records)]
    proof.missing = sorted({*wanted} - {*names})
    proof.twice = sorted(name for name in {*names} if names.count(name) > 1) if len(names) > len({*names}) else []
    proof.out_of_order = sum(earlier > later for earlier, later in pairwise(names))


@asynccontextmanager
async def _destination(kind: str, home: Path) -> AsyncIterator[tuple[dict[str, Any], dict[str, str], Any, Any]]:
    """What the agent is told, its environment, a link to be cut, and what reads what arrived."""
    if kind == "disk":
        folder = home / "out"
        said = {"core_capture_data_destination": "Disk", "core_capture_data_disk_path": str(folder)}

        def read() -> list[tuple[str, bytes]]:
            files = [(path.stat().st_mtime_ns, path) for path in folder.rglob("*") if path.is_file()]
            return [(str(path), path.read_bytes()) for _, path in sorted(files, key=lambda one: (one[0], one[1].name))]

        yield said, {}, None, read
        return
    with Moto() as moto:
        async with Cutter(moto.port) as cutter:
            s3 = moto.client("s3")
            s3.create_bucket(Bucket=BUCKET)
            said = {"core_capture_data_destination": "Cloud", "provider_s3_bucket_name": BUCKET}
            env = {
                "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{cutter.port}", "AWS_ACCESS_KEY_ID": "root",
                "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1", "NO_PROXY": "127.0.0.1",
            }  # fmt: skip

            def objects() -> list[tuple[str, bytes]]:
                pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
                keys = sorted(one["Key"] for page in pages for one in page.get("Contents", ()))
                return [(key, s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()) for key in keys]

            yield said, env, cutter, objects
            s3.close()


@contextmanager
def small_disk(size: str) -> Iterator[Path | None]:
    """A disk of its own, which only root can have; None for others."""
    folder = Path(tempfile.mkdtemp(prefix="verge-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    mounted = bool(shutil.which("mount")) and not subprocess.run(mount, capture_output=True, check=False).returncode
    try:
        yield folder if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


async def _main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/check-capture", description=__doc__)
    parser.add_argument("records", nargs="?", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    kills = max(2, chosen.records // 400)
    with small_disk("64m") as disk:
        if disk is None:
            print("no disk can be mounted: only root proves what becomes of a full one")
        proofs = [
            await prove("disk", chosen.records, kills=kills, seed=chosen.seed, small_disk=disk),
            await prove("cloud", chosen.records, kills=kills, seed=chosen.seed),
        ]
    for proof in proofs:
        print(proof)
    return 0 if all(proof.holds for proof in proofs) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(_main()))
