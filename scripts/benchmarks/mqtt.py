"""As much MQTT 3.1.1 as a measurement needs, QoS 0, on one plain socket with nothing in between.

A load generator takes processor time from what it measures, and a client library would take several times more.
"""

from __future__ import annotations

import socket
import struct
from collections import deque

CONNECT, CONNACK, PUBLISH, SUBSCRIBE, SUBACK = 0x10, 0x20, 0x30, 0x82, 0x90
QOS_1 = 0x02


class Connection:
    """A client of the broker on a loopback port; reading raises ``TimeoutError`` after ``timeout`` seconds."""

    def __init__(self, port: int, timeout: float = 30.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = self._socket.makefile("rb", buffering=1 << 17)
        self._heard: deque[tuple[str, bytes]] = deque()
        self.send(_packet(CONNECT, _text("MQTT") + bytes((4, 2)) + struct.pack("!H", 0) + _text("")))
        self._until(CONNACK)

    def close(self) -> None:
        """Hang up."""
        self._reader.close()
        self._socket.close()

    def subscribe(self, topic: str) -> None:
        """Hear what is published on a topic; the broker has confirmed it."""
        self.send(_packet(SUBSCRIBE, struct.pack("!H", 1) + _text(topic) + b"\0"))
        self._until(SUBACK)

    def send(self, packet: bytes) -> None:
        """Send a whole packet."""
        self._socket.sendall(packet)

    def receive(self) -> tuple[str, bytes]:
        """The next message: topic and payload."""
        if not self._heard:
            self._until(PUBLISH)
        return self._heard.popleft()

    def _until(self, wanted: int) -> None:
        while True:
            first = self._exactly(1)[0]
            length = shift = 0
            while True:
                byte = self._exactly(1)[0]
                length |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:  # noqa: PLR2004 the last byte of a length has no top bit
                    break
            body = self._exactly(length)
            if first & 0xF0 == PUBLISH:
                end = 2 + int.from_bytes(body[:2], "big")
                self._heard.append((body[2:end].decode(), body[end:]))
            if first & 0xF0 == wanted:
                return

    def _exactly(self, count: int) -> bytes:
        data = self._reader.read(count)
        if len(data) < count:
            raise ConnectionError("the broker hung up")
        return data


def publish(topic: str, payload: bytes, packet_id: int = 0) -> bytes:
    """A PUBLISH packet: QoS 0, or 1 with a packet id."""
    if packet_id:
        return _packet(PUBLISH | QOS_1, _text(topic) + struct.pack("!H", packet_id) + payload)
    return _packet(PUBLISH, _text(topic) + payload)


def _packet(first: int, body: bytes) -> bytes:
    length, rest = bytearray(), len(body)
    while True:
        rest, low = divmod(rest, 128)
        length.append(low | (0x80 if rest else 0))
        if not rest:
            return bytes((first,)) + bytes(length) + body


def _text(text: str) -> bytes:
    return struct.pack("!H", len(text)) + text.encode()
