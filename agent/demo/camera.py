"""Cameras that publish what they see: ``python -m agent.demo.camera``.

They pan over real pictures and send JPEG, or stand above a belt of parts and send the truth about each beside its
picture, as an inspection that is being tried out would.

A program of its own, because it draws (OpenCV, NumPy).  The schedule is absolute: frame n leaves at
start + n / rate, camera after camera, so that neither drawing nor the broker makes it drift.  Frames leave
with QoS 1 and a bound on those unacknowledged.  On leaving, by SIGTERM or after the last frame, it prints
one JSON object: how many frames of each camera the broker has acknowledged.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import math
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from paho.mqtt.client import Client, MQTTMessageInfo, MQTTv5
from paho.mqtt.enums import CallbackAPIVersion

from agent.demo import belt

__all__ = ["TOPIC", "Pan", "main"]

Image: TypeAlias = NDArray[np.uint8]

TOPIC = "cameras/{camera}/frame"
WIDTH, HEIGHT = 640, 480
_QUALITY = 85
_TURN_S = 4.0
_UNACKNOWLEDGED = 32
_PATIENCE_S = 10.0
_LOOK_S = 0.1
_SERIES = 1000
"""Of the first belt; the sample model is made with others."""
_SCRATCHED = 0.25
"""The share of parts that are, on the long run."""


class Scene(Protocol):
    """What one camera is in front of."""

    def message(self, seconds: float) -> bytes:
        """What the camera publishes at a time since the start."""


class Pan:
    """What one camera sees: a window that wanders over a picture, and turns to the next every few seconds."""

    def __init__(self, pictures: Sequence[Image], first: int) -> None:
        self._pictures = pictures
        self._first = first

    def message(self, seconds: float) -> bytes:
        """What it sees, as JPEG."""
        return _jpeg(self.look(seconds))

    def look(self, seconds: float) -> Image:
        """The picture at a time since the start: BGR, 640 × 480."""
        picture = self._pictures[(self._first + int(seconds / _TURN_S)) % len(self._pictures)]
        height, width = picture.shape[:2]
        phase = seconds + self._first
        zoom = 0.88 + 0.10 * math.sin(phase * 0.9)
        scale = max(WIDTH / width, HEIGHT / height) / zoom
        # How far the window may wander on each side without leaving the picture.
        free_x, free_y = width - WIDTH / scale, height - HEIGHT / scale
        left = free_x * (0.5 + 0.5 * math.sin(phase * 0.7))
        top = free_y * (0.5 - 0.5 * math.cos(phase * 0.5))
        window = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
        seen = cv2.warpAffine(picture, window, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return seen.astype(np.uint8, copy=False)


class Line:
    """What a camera above a belt sends: JSON with the next part's picture and the truth about it."""

    def __init__(self, number: int) -> None:
        self._series = _SERIES + number
        self._parts = itertools.count(1)
        self._random = np.random.default_rng(self._series)

    def message(self, seconds: float) -> bytes:
        """The next part, whenever it is; the same ones pass in the same order each time."""
        del seconds
        number = next(self._parts)
        scratched = bool(self._random.random() < _SCRATCHED)
        seen = belt.part(self._series, number, scratched=scratched)
        picture = base64.b64encode(_jpeg(seen.pixels)).decode()
        return json.dumps({"part": number, "scratched": scratched, "image": picture}).encode()


class Post:
    """Publishes frames and counts those that the broker acknowledged."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._open: deque[tuple[str, MQTTMessageInfo]] = deque()
        self.acknowledged: Counter[str] = Counter()

    def send(self, camera: str, payload: bytes) -> None:
        """Publish a frame; waits where too many are unacknowledged."""
        if len(self._open) >= _UNACKNOWLEDGED:
            self._confirm()
        self._open.append((camera, self._client.publish(TOPIC.format(camera=camera), payload, qos=1)))

    def flush(self) -> None:
        """Wait for every acknowledgement; raises ``TimeoutError`` when one does not come."""
        while self._open:
            self._confirm()

    def _confirm(self) -> None:
        camera, sent = self._open.popleft()
        if not self._arrived(sent):
            raise TimeoutError(f"the broker did not acknowledge a frame of {camera}")
        self.acknowledged[camera] += 1

    def _arrived(self, sent: MQTTMessageInfo) -> bool:
        """Wait for one acknowledgement, as long as there is hope for it."""
        deadline = time.monotonic() + _PATIENCE_S
        try:
            while not sent.is_published() and self._client.is_connected() and time.monotonic() < deadline:
                sent.wait_for_publish(_LOOK_S)
            return sent.is_published()
        except RuntimeError:  # paho's word for a message that it could not even send
            return False


def main(arguments: Sequence[str] | None = None) -> int:
    """Publish until SIGTERM or the last frame; the exit status is 1 when the broker took less than was sent."""
    asked = _parser().parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    scenes = _scenes(asked)
    client = _connect(asked.port, asked.username, asked.password_file)
    post = Post(client)
    try:
        for camera, seconds in itertools.islice(_schedule(asked.cameras, asked.fps, stop), asked.frames):
            post.send(camera, scenes[camera].message(seconds))
        post.flush()
    except TimeoutError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        client.disconnect()
        client.loop_stop()
        print(json.dumps({"published": {camera: post.acknowledged[camera] for camera in asked.cameras}}), flush=True)
    return 0


def _scenes(asked: argparse.Namespace) -> dict[str, Scene]:
    if asked.belt:
        return {camera: Line(n) for n, camera in enumerate(asked.cameras)}
    pictures = [_read(path) for path in sorted(asked.pictures.glob("*.jpg"))]
    return {camera: Pan(pictures, 2 * n + n // 2) for n, camera in enumerate(asked.cameras)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m agent.demo.camera", description="Simulated cameras.")
    parser.add_argument("--port", type=int, required=True, help="of the broker on this machine")
    parser.add_argument("--username", help="for the broker")
    parser.add_argument("--password-file", type=Path, help="where the password is")
    parser.add_argument("--fps", type=float, required=True, help="of each camera")
    parser.add_argument("--frames", type=int, help="of all cameras together; without it until SIGTERM")
    scene = parser.add_mutually_exclusive_group(required=True)
    scene.add_argument("--pictures", type=Path, help="folder with .jpg files to pan over")
    scene.add_argument("--belt", action="store_true", help="parts on a belt, and the truth about each")
    parser.add_argument("cameras", nargs="+")
    return parser


def _schedule(cameras: Sequence[str], fps: float, stop: threading.Event) -> Iterator[tuple[str, float]]:
    """Camera after camera, each when its time has come, and the seconds since the start."""
    start = time.monotonic()
    interval = 1 / (fps * len(cameras))
    for number, camera in enumerate(itertools.cycle(cameras)):
        seconds = number * interval
        if stop.wait(max(0.0, start + seconds - time.monotonic())):
            return
        yield camera, seconds


def _connect(port: int, username: str | None, password_file: Path | None) -> Client:
    client = Client(CallbackAPIVersion.VERSION2, client_id=f"verge-demo-cameras-{port}", protocol=MQTTv5)
    if username is not None:
        client.username_pw_set(username, password_file.read_text() if password_file else None)
    connected = threading.Event()

    def on_connect(*_: Any) -> None:
        connected.set()

    client.on_connect = on_connect
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not connected.wait(_PATIENCE_S):
        raise TimeoutError(f"no broker answers on port {port}")
    return client


def _read(path: Path) -> Image:
    picture = cv2.imread(str(path))
    if picture is None:
        raise OSError(f"{path} is no picture")
    return picture.astype(np.uint8, copy=False)


def _jpeg(picture: Image) -> bytes:
    _, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    return encoded.tobytes()


if __name__ == "__main__":
    sys.exit(main())
