"""Clients of the IPC: Amazon's own SDK in a process of its own, and a raw one that says what it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import textwrap
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.config.ipc import IpcOptions
from agent.eventstream.frames import Decoder, StreamMessage, encode, int32, text
from agent.eventstream.rpc import Flag, RpcType
from agent.greengrass.ipc.operations import Operation, Principal
from agent.greengrass.ipc.server import Server
from tests.support.until import PATIENCE_S

COMPONENT, TOKEN, CLI_TOKEN = "com.example.Component", "TOKEN123", "CLI456"
CALLERS = {
    TOKEN: Principal(COMPONENT),
    "OTHER": Principal("com.example.Other"),
    CLI_TOKEN: Principal("cli", is_cli=True),
}


@asynccontextmanager
async def serving(
    path: Path, operations: Iterable[Operation[Any]], options: IpcOptions | None = None
) -> AsyncIterator[Server]:
    """A server that knows ``CALLERS``."""
    async with Server(path, CALLERS.get, operations, options) as server:
        yield server


PRELUDE = """
import json, os, sys, threading, time
from awsiot.greengrasscoreipc import model
from awsiot.greengrasscoreipc.clientv2 import GreengrassCoreIPCClientV2
import awsiot.greengrasscoreipc

def say(*what):
    print(json.dumps(what), flush=True)

def said():
    return json.loads(sys.stdin.readline())

def failure(call, *args, **named):
    try:
        return ["no error", str(call(*args, **named))]
    except Exception as error:
        return [type(error).__name__, getattr(error, "message", str(error))]
"""


class Sdk:
    """A script that uses ``awsiotsdk`` as a component does; it says lines of JSON, and may be said some."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def next(self, timeout_s: float = PATIENCE_S) -> Any:
        """What it says next."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), timeout_s)
        assert line, f"the client has ended with {await self.process.wait()}"
        return json.loads(line)

    async def say(self, what: Any) -> None:
        """Have ``said()`` give it this."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(what).encode() + b"\n")
        await self.process.stdin.drain()

    async def end(self) -> int:
        """Wait until it has come to its end."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        return await asyncio.wait_for(self.process.wait(), PATIENCE_S)


@asynccontextmanager
async def sdk(path: Path, script: str, token: str = TOKEN) -> AsyncIterator[Sdk]:
    """Run a script in a process of its own that finds in its environment what a component does."""
    environment = {
        "PATH": os.environ["PATH"],
        "SVCUID": token,
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": str(path),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PRELUDE + textwrap.dedent(script),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment, limit=64 * 1024 * 1024,
    )  # fmt: skip
    try:
        yield Sdk(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def lines(path: Path, script: str, token: str = TOKEN) -> list[Any]:
    """All that a script says before it ends well."""
    async with sdk(path, script, token) as client:
        assert client.process.stdout is not None
        said = await asyncio.wait_for(client.process.stdout.read(), PATIENCE_S)
        assert await client.end() == 0
    return [json.loads(line) for line in said.splitlines()]


class Raw:
    """A client that sends what it is told to, byte by byte if need be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._decoder, self._messages = Decoder(), list[StreamMessage]()
        self._stream = 0

    async def send(self, message: StreamMessage | bytes) -> None:
        """Send a message, or bytes as they are."""
        self.writer.write(message if isinstance(message, bytes) else encode(message))
        await self.writer.drain()

    async def next(self) -> StreamMessage:
        """The next message."""
        while not self._messages:
            data = await asyncio.wait_for(self.reader.read(1 << 16), PATIENCE_S)
            if not data:
                raise EOFError
            self._messages += self._decoder.feed(data)
        return self._messages.pop(0)

    async def closed(self) -> bool:
        """Whether the server ends the connection, with nothing more said."""
        try:
            return not await asyncio.wait_for(self.reader.read(), PATIENCE_S)
        except ConnectionResetError:
            return True

    async def connect(self, token: str = TOKEN) -> StreamMessage:
        """Say who this is; the result is the answer."""
        await self.send(control(RpcType.CONNECT, json.dumps({"authToken": token}).encode(), version="0.1.0"))
        return await self.next()

    async def request(self, operation: str, payload: Any = None) -> int:
        """Ask for an operation; the result is the stream."""
        self._stream += 1
        headers = {
            ":content-type": text("application/json"),
            "service-model-type": text(f"aws.greengrass#{operation}StreamRequest"),
            ":message-type": int32(RpcType.APPLICATION_MESSAGE),
            ":message-flags": int32(Flag.NONE),
            ":stream-id": int32(self._stream),
            "operation": text(f"aws.greengrass#{operation}"),
        }
        await self.send(StreamMessage(headers, json.dumps(payload or {}).encode()))
        return self._stream

    async def call(self, operation: str, payload: Any = None) -> tuple[str, Any]:
        """Ask for an operation; the result is the model and the payload of what comes next."""
        await self.request(operation, payload)
        return shown(await self.next())


def control(
    kind: RpcType, payload: bytes = b"", *, version: str = "", flags: int = 0, stream: int = 0
) -> StreamMessage:
    """A message that is not of an application."""
    named = {":version": text(version)} if version else {}
    numbers = {":message-type": int32(kind), ":message-flags": int32(flags), ":stream-id": int32(stream)}
    return StreamMessage(named | numbers, payload)


def shown(message: StreamMessage) -> tuple[str, Any]:
    """The model of a message without its namespace, and its payload."""
    model = message.headers.get("service-model-type", text("")).value
    return model.removeprefix("aws.greengrass#"), json.loads(message.payload or b"null")


@asynccontextmanager
async def raw(path: Path) -> AsyncIterator[Raw]:
    """A raw client that has said nothing yet."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
