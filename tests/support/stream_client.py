"""A client of the stream manager for tests: the wire by hand, one request after the other or many at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import cbor2

CREATE, DELETE, APPEND, READ, LIST, DESCRIBE, UPDATE = 2, 3, 4, 5, 11, 13, 15


def frame(operation: int, payload: Any) -> bytes:
    body = cbor2.dumps(payload)
    return (len(body) + 1).to_bytes(4, "big") + bytes([operation]) + body


class StreamClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self._number = 0

    async def connect(self, token: str | None, *, lead: int = 1, operation: int = 1, **members: Any) -> dict[str, Any]:
        asked = {"requestId": "connect", "protocolVersion": "1.1.0", "authToken": token, **members}
        self.writer.write(bytes([lead]) + frame(operation, asked))
        assert await self.reader.readexactly(1) == b"\x01"
        number, answer = await self.receive()
        assert number == 6
        return answer

    def send(self, operation: int, **members: Any) -> str:
        self._number += 1
        self.writer.write(frame(operation, {"requestId": str(self._number), **members}))
        return str(self._number)

    async def receive(self) -> tuple[int, dict[str, Any]]:
        async with asyncio.timeout(30):
            length = int.from_bytes(await self.reader.readexactly(4), "big")
            body = await self.reader.readexactly(length)
        return body[0], cbor2.loads(body[1:])

    async def ask(self, operation: int, **members: Any) -> dict[str, Any]:
        number = self.send(operation, **members)
        _, answer = await self.receive()
        assert answer.pop("requestId") == number
        return answer

    async def create(self, name: str, **members: Any) -> dict[str, Any]:
        return await self.ask(CREATE, definition={"name": name, "strategyOnFull": 0, **members})

    async def append(self, name: str, payload: bytes) -> dict[str, Any]:
        return await self.ask(APPEND, name=name, payload=payload)

    async def read(self, name: str, **options: Any) -> dict[str, Any]:
        return await self.ask(READ, streamName=name, readMessagesOptions=options)


@asynccontextmanager
async def connected(port: int, token: str | None = "token") -> AsyncIterator[StreamClient]:
    """A client that shook hands, or is about to where ``token`` is None."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    client = StreamClient(reader, writer)
    try:
        if token is not None:
            assert (await client.connect(token))["status"] == 0
        yield client
    finally:
        writer.close()
