"""Cameras opened, and their pictures one after the other.

OpenCV plays devices (V4L2), URLs and files (FFmpeg) and pipelines (GStreamer, where it was built with it); picamera2
plays a Raspberry Pi's ribbon cameras.  Each way is named, so that OpenCV does not try others: its fallback reads a URL
as the pattern of numbered files, and complains with the whole address.

*Motion JPEG* is passed on as the camera made it: taking it out of its container costs 0.3 ms for a 1080p picture,
decoding it 8 ms, and most pictures are never asked for; what is asked for is decoded once, by the worker, at the scale
the model needs.  Everything else is decoded here, because only the whole stream can be.

A picture is a JPEG (bytes) or pixels (height × width × 3, uint8, BGR as OpenCV has them).
"""

from __future__ import annotations

import os
import time
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

import cv2
import numpy as np

__all__ = ["CameraError", "Captured", "Facts", "Pixels", "open_camera"]

Pixels = np.ndarray
_MJPEG = ("MJPG", "JPEG", "mjpg", "jpeg")
_JPEG_BEGINS, _JPEG_ENDS = b"\xff\xd8", b"\xff\xd9"
_USUAL_FPS = 25.0
_MOST_FPS = 1000.0


class CameraError(Exception):
    """A camera cannot be played; ``wrong`` says that only a person can mend it."""

    def __init__(self, reason: str, wrong: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wrong = wrong


class Facts(NamedTuple):
    """What a camera says of itself; 0 is unknown."""

    width: int
    height: int
    fps: float


class Captured(NamedTuple):
    """A picture and when it was taken: seconds since the epoch."""

    picture: Union[bytes, Pixels]
    captured_at: float


Camera = Tuple[Facts, Iterator[Captured]]


def open_camera(request: Mapping[str, Any]) -> Camera:
    """Open the camera that ``request`` names; the iterator ends where a file ends.  Both raise ``CameraError``."""
    kind = request["kind"]
    if kind == "picamera2":
        return _picamera(request)
    if kind == "file":
        return _file(request)
    if kind == "gstreamer" and "GStreamer" not in _built_with():
        raise CameraError(
            "this interpreter's OpenCV was built without GStreamer: name an interpreter whose cv2 has it, "
            "such as the system's (apt install python3-opencv)",
            wrong=True,
        )
    capture = _opened(request)
    return _facts(capture), _live(capture)


def _built_with() -> List[str]:
    """What OpenCV's videos can come from: the lines of its build information that say YES."""
    return [
        line.split(":")[0].strip() for line in cv2.getBuildInformation().splitlines() if ": " in line and "YES" in line
    ]


def _opened(request: Mapping[str, Any]) -> Any:
    kind = request["kind"]
    backend = {"device": cv2.CAP_V4L2, "gstreamer": cv2.CAP_GSTREAMER}.get(kind, cv2.CAP_FFMPEG)
    limit_ms = max(1, int(request["timeout_s"] * 1000))
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms]
    try:
        capture = cv2.VideoCapture(request["address"], backend, limits if kind == "url" else [])
    except cv2.error as error:
        raise CameraError(f"it cannot be opened: {error.err or error}") from error
    if not capture.isOpened():
        raise CameraError(_unopened(kind, request["address"]))
    if kind == "device":
        _ask_for(capture, request)
    if _is_mjpeg(capture):
        capture.set(*((cv2.CAP_PROP_CONVERT_RGB, 0) if kind == "device" else (cv2.CAP_PROP_FORMAT, -1)))
    return capture


def _unopened(kind: str, address: Union[str, int]) -> str:
    path = f"/dev/video{address}" if isinstance(address, int) else address
    if kind not in ("device", "file"):
        return "it cannot be opened"
    if not os.path.exists(path):
        return f"there is no {path}"
    if not os.access(path, os.R_OK):
        return f"the agent may not read {path}" + (": add its user to the group video" if kind == "device" else "")
    return f"{path} cannot be opened" + (": another program may use it" if kind == "device" else ": is it a video?")


def _ask_for(capture: Any, request: Mapping[str, Any]) -> None:
    """A device's format, size and pace: it takes what is nearest to what it is asked for."""
    if request["fourcc"]:
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*request["fourcc"]))
    settings = {"width": cv2.CAP_PROP_FRAME_WIDTH, "height": cv2.CAP_PROP_FRAME_HEIGHT, "fps": cv2.CAP_PROP_FPS}
    for name, setting in settings.items():
        if request[name]:
            capture.set(setting, request[name])


def _is_mjpeg(capture: Any) -> bool:
    code = int(capture.get(cv2.CAP_PROP_FOURCC))
    return code > 0 and code.to_bytes(4, "little").decode("latin-1") in _MJPEG


def _facts(capture: Any) -> Facts:
    fps = capture.get(cv2.CAP_PROP_FPS)
    return Facts(
        max(0, int(capture.get(cv2.CAP_PROP_FRAME_WIDTH))),
        max(0, int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))),
        round(fps, 3) if 0 < fps <= _MOST_FPS else 0.0,
    )


def _live(capture: Any) -> Iterator[Captured]:
    while True:
        done, pixels = capture.read()
        captured_at = time.time()
        if not done:
            raise CameraError("it gives no more pictures")
        picture = _picture(pixels)
        if picture is not None:
            yield Captured(picture, captured_at)


def _picture(pixels: Optional[Pixels]) -> Optional[Union[bytes, Pixels]]:
    """What OpenCV read as a picture; None for a JPEG that lost its begin or end on the way."""
    if pixels is None or pixels.dtype != np.uint8:
        raise CameraError(f"it gives {'nothing' if pixels is None else pixels.dtype} in place of pictures", wrong=True)
    if pixels.ndim == 2 and 1 in pixels.shape:  # noqa: PLR2004 - bytes, not pixels
        data = pixels.tobytes()
        end = data.rfind(_JPEG_ENDS)  # a device's buffer may be longer than its picture
        return data[: end + len(_JPEG_ENDS)] if data.startswith(_JPEG_BEGINS) and end > 0 else None
    if pixels.ndim == 2:  # noqa: PLR2004 - a grey camera
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return pixels if pixels.shape[2] == 3 else cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR)  # noqa: PLR2004 - channels


def _file(request: Mapping[str, Any]) -> Camera:
    """A file: at its own pace, by an absolute grid, or as fast as it is read."""
    capture = _opened(request)
    facts = _facts(capture)
    return facts, _played(request, capture, 0.0 if request["asked"] else 1.0 / (facts.fps or _USUAL_FPS))


def _played(request: Mapping[str, Any], capture: Any, period_s: float) -> Iterator[Captured]:
    began, shown = time.monotonic(), 0
    while True:
        some = False
        while True:
            done, pixels = capture.read()
            if not done:
                break
            some = True
            time.sleep(max(0.0, began + shown * period_s - time.monotonic()))
            shown += 1
            picture = _picture(pixels)
            if picture is not None:
                yield Captured(picture, time.time())
        if not some:
            raise CameraError("the file holds no picture", wrong=True)
        if not request["loop"]:
            return
        capture = _opened(request)


def _picamera(request: Mapping[str, Any]) -> Camera:
    """A Raspberry Pi's camera; what picamera2 calls RGB888 lies in memory as blue, green, red."""
    try:
        from picamera2 import Picamera2  # noqa: PLC0415
    except ImportError as error:
        raise CameraError(
            f'picamera2 cannot be imported here ({error}): apt install it, and name interpreter = "/usr/bin/python3"',
            wrong=True,
        ) from error
    try:
        camera = Picamera2(request["address"])
        main: Dict[str, Any] = {"format": "RGB888"}
        if request["width"] and request["height"]:
            main["size"] = (request["width"], request["height"])
        controls = {"FrameRate": request["fps"]} if request["fps"] else {}
        camera.configure(camera.create_video_configuration(main=main, controls=controls))
        camera.start()
        width, height = camera.camera_configuration()["main"]["size"]
    except (RuntimeError, IndexError, OSError) as error:
        raise CameraError(f"it cannot be opened: {error}") from error
    return Facts(width, height, float(request["fps"])), _shots(camera)


def _shots(camera: Any) -> Iterator[Captured]:
    while True:
        pixels = camera.capture_array("main")
        picture = _picture(np.ascontiguousarray(pixels))
        if picture is not None:
            yield Captured(picture, time.time())
