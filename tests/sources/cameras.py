"""Cameras for tests: a video file that OpenCV writes, and an MJPEG-over-HTTP server that misbehaves on cue."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from tests.support.http import HttpServer, Request, Response

WIDTH, HEIGHT = 160, 120
LEFT_RED_RIGHT_BLUE = ((0, 0, 255), (255, 0, 0))
"""BGR."""


def pixels(number: int = 0, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Red on the left, blue on the right, and the number as grey levels of a bar at the bottom."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[:, : width // 2], picture[:, width // 2 :] = LEFT_RED_RIGHT_BLUE
    picture[height * 3 // 4 :] = (number % 16) * 16
    return picture


def number(picture: np.ndarray) -> int:
    """The number that a picture of ``pixels`` shows."""
    return round(float(picture[picture.shape[0] * 7 // 8].mean()) / 16)


def video(
    path: Path, pictures: int, *, fps: float = 30.0, fourcc: str = "MJPG", size: tuple[int, int] = (WIDTH, HEIGHT)
) -> Path:
    """A real video file; ``FFV1`` is lossless and no JPEG."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*fourcc), fps, size)
    assert writer.isOpened()
    for count in range(pictures):
        writer.write(pixels(count, *size))
    writer.release()
    return path


class Camera(HttpServer):
    """Serves Motion JPEG; ``stalled`` sends nothing more, ``drop`` ends all connections, ``refusing`` answers 503."""

    def __init__(self, *, fps: float = 50.0, credentials: str = "") -> None:
        super().__init__(self._answered)
        self.fps = fps
        self.stalled = threading.Event()
        self.refusing = threading.Event()
        self.generation = 0
        self.served = 0
        self.connections = 0
        self._wanted = f"Basic {base64.b64encode(credentials.encode()).decode()}" if credentials else None

    def drop(self) -> None:
        """End every connection."""
        self.generation += 1
        super().drop()

    def _answered(self, request: Request) -> Response:
        if self.refusing.is_set():
            return Response(503)
        if self._wanted and request.headers.get("authorization") != self._wanted:
            return Response(401, headers={"WWW-Authenticate": 'Basic realm="camera"'})
        self.connections += 1
        kind = {"Content-Type": "multipart/x-mixed-replace; boundary=frame"}
        return Response(body=self._pictures(self.generation), headers=kind, close=True)

    def _pictures(self, generation: int) -> Iterator[bytes]:
        while generation == self.generation:
            if not self.stalled.is_set():
                self.served += 1
                jpeg = cv2.imencode(".jpg", pixels(self.served))[1].tobytes()
                yield b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(jpeg), jpeg)
            time.sleep(1 / self.fps)
