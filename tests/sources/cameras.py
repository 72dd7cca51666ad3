"""Cameras for tests: a video file that OpenCV writes, and an MJPEG-over-HTTP server that misbehaves on cue."""

from __future__ import annotations

import base64
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np

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


class Server(ThreadingHTTPServer):
    """Serves Motion JPEG; ``stalled`` sends nothing more, ``drop`` ends all connections, ``refusing`` answers 503."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, *, fps: float = 50.0, credentials: str = "") -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.fps = fps
        self.credentials = credentials
        self.stalled = threading.Event()
        self.refusing = threading.Event()
        self.generation = 0
        self.served = 0
        self.connections = 0
        self.sockets: list[socket.socket] = []

    @property
    def port(self) -> int:
        return self.server_address[1]

    def drop(self) -> None:
        """End every connection."""
        self.generation += 1
        for link in self.sockets:
            try:
                link.shutdown(socket.SHUT_RDWR)
            except OSError as error:
                print(f"closed already: {error}")
        self.sockets.clear()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        if server.refusing.is_set():
            self.send_error(503)
            return
        if server.credentials:
            wanted = "Basic " + base64.b64encode(server.credentials.encode()).decode()
            if self.headers.get("Authorization") != wanted:
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="camera"')
                self.end_headers()
                return
        server.sockets.append(self.connection)
        server.connections += 1
        generation = server.generation
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            while generation == server.generation:
                if not server.stalled.is_set():
                    server.served += 1
                    self._part(cv2.imencode(".jpg", pixels(server.served))[1].tobytes())
                time.sleep(1 / server.fps)
        except OSError as error:
            print(f"the camera's client left: {error}")

    def _part(self, jpeg: bytes) -> None:
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
        self.wfile.write(head.encode() + jpeg + b"\r\n")

    def log_message(self, *told: object) -> None:
        print(*told)


@contextmanager
def serving(port: int = 0, **how: float | str) -> Iterator[Server]:
    """A camera on the network until the context is left."""
    server = Server(port, **how)  # type: ignore[arg-type]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.drop()
        server.shutdown()
        server.server_close()
        thread.join()
