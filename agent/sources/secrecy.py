"""What may be said of a camera's address: no user, no password, no token.

Addresses carry credentials in three places: before the ``@`` of a URL, in its query, and as properties of a pipeline.
What people see of a camera is ``shown``; what its process prints is ``scrubbed``, since libraries repeat addresses in
their messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePath
from urllib.parse import parse_qsl, unquote, urlsplit

from agent.config.streams import CameraAddress

__all__ = ["label", "scrubber", "shown"]

_USER = re.compile(r"(?<=://)[^\s/?#\"']*@")
_QUERY = re.compile(r"(?<=://)([^\s?#\"']*)[?#][^\s\"']*")
_PROPERTY = re.compile(r"((?:user|pass|token|secret|auth|key)[\w-]*\s*=\s*)(?:\"[^\"]*\"|\S+)", re.IGNORECASE)
_SHORT = 3
"""A secret of fewer characters is not looked for in text: too much else looks like it."""


def shown(target: CameraAddress) -> str:
    """The camera as people may see it.

    >>> shown(CameraAddress("url", "rtsp://admin:hunter2@door.local:554/live?token=a1b2"))
    'rtsp://door.local:554/live'
    """
    if target.kind == "url":
        return _QUERY.sub(r"\1", _USER.sub("", str(target.address)))
    if target.kind == "gstreamer":
        return "gstreamer pipeline"
    if target.kind == "picamera2":
        return f"picamera2:{target.address}"
    return f"number {target.address}" if isinstance(target.address, int) else target.address


def label(target: CameraAddress) -> str:
    """A short name for the camera.

    >>> label(CameraAddress("device", "/dev/video2")), label(CameraAddress("url", "http://u:p@10.0.0.7/mjpeg"))
    ('video2', '10.0.0.7')
    """
    if target.kind in {"gstreamer", "picamera2"}:
        return target.kind
    if target.kind == "url":
        return _host(str(target.address)) or "camera"
    return f"camera-{target.address}" if isinstance(target.address, int) else PurePath(target.address).stem or "camera"


def scrubber(target: CameraAddress) -> Callable[[str], str]:
    """A function that takes the camera's credentials, and what looks like some, out of a text."""
    secrets = sorted(_secrets(str(target.address)), key=len, reverse=True)

    def scrub(text: str) -> str:
        text = _QUERY.sub(r"\1", _USER.sub("", text))
        for secret in secrets:
            text = text.replace(secret, "…")
        return _PROPERTY.sub(r"\1…", text)

    return scrub


def _host(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _secrets(address: str) -> set[str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        return set()
    secrets = set(parts.netloc.rpartition("@")[0].split(":", 1)) | {value for _, value in parse_qsl(parts.query)}
    secrets |= {unquote(secret) for secret in secrets} | ({parts.query} if parts.query else set())
    secrets |= {match[0].partition("=")[2].strip(' "') for match in _PROPERTY.finditer(address)}
    return {secret for secret in secrets if len(secret) > _SHORT}
