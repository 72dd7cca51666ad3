"""A camera's program: one thread plays the camera, the other reads when a picture is wanted.

Playing goes on all the time, so that a driver's or network's buffers never fill with old pictures; only the newest one
is kept, and written to the shared slot when the core asks.  Pixels cross as an ``.npy`` (RGB, as the recogniser takes
it), converted into the slot in one pass; what does not fit there crosses as a JPEG.  The program ends when the camera
does, when the core closes the socket, and when the core dies.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any, Dict, List, Mapping, Tuple

from agent.inference.runtime.ring import Ring

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_SEEN_S = 1.0
_QUALITY = 95
_ALIGNMENT = 64


def main(arguments: List[str]) -> None:
    """Serve the socket and the slot whose descriptors and size are given; does not return."""
    socket_fd, ring_fd, slot_bytes = (int(argument) for argument in arguments[:3])
    _settle()
    link = socket.socket(fileno=socket_fd)
    if not link.getblocking():
        link.setblocking(True)
    with link.makefile("rb") as lines:
        first = lines.readline()
        if first:
            program = _Program(link, Ring(ring_fd, 1, slot_bytes, writable=True), json.loads(first))
            threading.Thread(target=program.play, name="camera", daemon=True).start()
            for _ in lines:
                program.want()
    # A driver or decoder that hangs must not keep the process: nothing here needs to be put in order.
    os._exit(0)


class _Program:
    def __init__(self, link: socket.socket, ring: Ring, request: Mapping[str, Any]) -> None:
        from agent.sources.runtime.newest import Newest  # noqa: PLC0415

        self._link = link
        self._ring = ring
        self._request = request
        self._lock = threading.Lock()
        self._newest: Newest[Any] = Newest()
        self._wanted = False
        self._go = threading.Event()
        self._sent_at = 0.0

    def want(self) -> None:
        """The core asks for the newest picture."""
        with self._lock:
            self._wanted = True
            self._go.set()
            self._hand_over()

    def play(self) -> None:
        """Play the camera until it is lost."""
        lost: Dict[str, Any] = {"reason": "the file is over", "ended": True}
        try:
            self._play()
        except BaseException as error:  # noqa: BLE001 whatever a library raises ends this camera, and is its reason
            wrong = bool(getattr(error, "wrong", False))
            lost = {"reason": getattr(error, "reason", None) or f"{type(error).__name__}: {error}", "wrong": wrong}
            if not hasattr(error, "reason"):
                traceback.print_exc()
        with self._lock:
            self._send({"lost": lost})
        os._exit(0)

    def _play(self) -> None:
        # Imported here: what NumPy and OpenCV break at import is then an answer too.
        import cv2  # noqa: PLC0415

        from agent.sources.runtime.captures import open_camera  # noqa: PLC0415

        cv2.setNumThreads(1)
        with self._lock:
            self._send({"ready": True})
        facts, pictures = open_camera(self._request)
        with self._lock:
            self._send({"opened": facts._asdict()})
        while True:
            if self._request["asked"]:
                self._go.wait()
                self._go.clear()
            picture = next(pictures, None)
            if picture is None:
                return
            with self._lock:
                self._newest.put(picture, time.monotonic())
                self._hand_over()
                if time.monotonic() - self._sent_at > _SEEN_S:
                    self._send({"seen": self._newest.seen})

    def _hand_over(self) -> None:
        """Write the newest picture to the slot, if one is wanted and there is one."""
        captured = self._newest.take(time.monotonic()) if self._wanted else None
        if captured is None:
            return
        self._wanted = False
        encoding, length = _write(self._ring, captured.picture)
        self._send({"frame": {"length": length, "encoding": encoding, "captured_at": captured.captured_at}})

    def _send(self, message: Dict[str, Any]) -> None:
        self._sent_at = time.monotonic()
        message["skipped"] = self._newest.skipped
        try:
            self._link.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            os._exit(0)  # the core is gone


def _write(ring: Ring, picture: Any) -> Tuple[str, int]:
    """Put a picture into the slot; the result is its encoding and length."""
    import cv2  # noqa: PLC0415
    import numpy as np  # noqa: PLC0415

    if isinstance(picture, bytes):
        return "jpeg", _copied(ring, picture)
    height, width = picture.shape[:2]
    header = _npy_header(height, width)
    length = len(header) + picture.size
    if length > ring.slot_bytes:
        done, encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        if not done:
            raise ValueError(f"a picture of {width} × {height} cannot be encoded")
        return "jpeg", _copied(ring, encoded.tobytes())
    slot = ring.read(0, length)
    slot[: len(header)] = header
    into = np.frombuffer(slot, np.uint8, offset=len(header)).reshape(height, width, 3)
    cv2.cvtColor(picture, cv2.COLOR_BGR2RGB, dst=into)
    return "npy", length


def _copied(ring: Ring, data: bytes) -> int:
    if len(data) > ring.slot_bytes:
        raise ValueError(f"a picture of {len(data)} bytes is over the agent's limit of {ring.slot_bytes}")
    ring.read(0, len(data))[:] = data
    return len(data)


def _npy_header(height: int, width: int) -> bytes:
    """An ``.npy``'s begin for height × width × 3 bytes, as ``numpy.save`` writes it."""
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({height}, {width}, 3), }}"
    padding = -(10 + len(text) + 1) % _ALIGNMENT
    body = (text + " " * padding + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def _settle() -> None:
    """Be a good child: die with the core, leave signals of the terminal to it, print to standard error only."""
    os.dup2(2, 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
