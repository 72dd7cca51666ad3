"""A WebSocket in front of a broker that speaks TCP only: many builds of mosquitto have no WebSockets."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.support.tcp import GONE, connection, serving

_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_BINARY, _CLOSE = 0x2, 0x8


@asynccontextmanager
async def bridge(broker_port: int, *, path: str = "/mqtt") -> AsyncIterator[int]:
    """Serve WebSockets on ``path`` in front of the broker; gives the port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await _handshake(reader, writer, path):
            await _relay(reader, writer, broker_port)

    async with serving(serve) as port:
        yield port


async def _handshake(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bool:
    request = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in request[1:] if b": " in line)
    keys = dict(line.split(b": ", 1) for line in request[1:] if b": " in line)
    key = next(value for name, value in keys.items() if name.lower() == b"sec-websocket-key")
    if request[0].split()[1] != path.encode() or headers.get(b"sec-websocket-protocol") != b"mqtt":
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return False
    accept = base64.b64encode(hashlib.sha1(key + _KEY).digest())
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    return True


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int) -> None:
    async with connection(port) as (from_broker, to_broker), asyncio.TaskGroup() as tasks:
        up = tasks.create_task(_up(reader, to_broker))
        down = tasks.create_task(_down(from_broker, writer))
        await asyncio.wait((up, down), return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        down.cancel()


async def _up(reader: asyncio.StreamReader, to_broker: asyncio.StreamWriter) -> None:
    with suppress(*GONE):
        while True:
            first, second = await reader.readexactly(2)
            length = second & 0x7F
            if length >= 126:
                size = 2 if length == 126 else 8
                length = int.from_bytes(await reader.readexactly(size))
            mask = await reader.readexactly(4) if second & 0x80 else b"\0\0\0\0"
            data = await reader.readexactly(length)
            if first & 0x0F == _CLOSE:
                return
            to_broker.write(_unmasked(data, mask))
            await to_broker.drain()


async def _down(from_broker: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(*GONE):
        while data := await from_broker.read(65_535):
            header = bytes([0x80 | _BINARY])
            header += bytes([len(data)]) if len(data) < 126 else struct.pack("!BH", 126, len(data))
            writer.write(header + data)
            await writer.drain()


def _unmasked(data: bytes, mask: bytes) -> bytes:
    whole = mask * (len(data) // 4 + 1)
    return (int.from_bytes(data) ^ int.from_bytes(whole[: len(data)])).to_bytes(len(data))
