"""What bytes are that are no picture we take: their format by name, or what can be said of them.

A sender who reads "HEIC" or "the text 'offline'" knows what to change; one who reads eight bytes in hexadecimal does
not.  Formats are told by their first bytes.  Those of ``_MAGIC`` cannot be mistaken and are refused at once.  Those of
``_UNSURE`` are short, and a message of some other kind may begin with them too: they only name what held no picture.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.text import shown, trimmed

__all__ = ["Likeness", "is_text", "likeness", "sure_format"]

_SHOWN = 40
_HEAD = 512

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"II\xbc\x01", "JPEG XR"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS\0\x01", "Photoshop"),
    (b"qoif", "QOI"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"SIMPLE  =", "FITS"),
    (b"\x89HDF\r\n\x1a\n", "HDF5"),
    (b"\x1a\x45\xdf\xa3", "a WebM or Matroska video"),
    (b"FLV\x01", "a Flash video"),
    (b"DKIF\0\0", "an IVF video"),
    (b"OggS\0", "Ogg"),
    (b"ID3\x02", "MP3 audio"),
    (b"ID3\x03", "MP3 audio"),
    (b"ID3\x04", "MP3 audio"),
    (b"fLaC\0", "FLAC audio"),
    (b"#!AMR", "AMR audio"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!\x1a\x07", "a RAR archive"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"\x04\x22\x4d\x18", "LZ4"),
    (b"\x7fELF", "a program"),
)  # fmt: skip

_MAGIC_BEHIND: tuple[tuple[int, bytes, str], ...] = (
    (4, b"1AY&SY", "bzip2"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (8, b"AVI ", "an AVI video"),
    (8, b"WAVE", "WAV audio"),
    (128, b"DICM", "DICOM"),
    (257, b"ustar", "a tar archive"),
)
"""The same for formats that announce themselves further behind."""
_BY_FIRST: Mapping[int, list[tuple[bytes, str]]] = {
    magic[0]: [(other, told) for other, told in _MAGIC if other[0] == magic[0]] for magic, _ in _MAGIC
}

_ISO_BRANDS: Mapping[bytes, str] = {
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"), "HEIC"),
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"mif1", b"msf1"), "HEIF"),
    b"jxl ": "JPEG XL",
    b"crx ": "Canon CR3",
    b"qt  ": "a QuickTime video",
}
_ISO_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"moof", b"mdat"})
_ICON = re.compile(rb"\0\0([\x01\x02])\0[\x01-\xff]\0", re.DOTALL)

_UNSURE: tuple[tuple[re.Pattern[bytes], str], ...] = (
    (re.compile(rb"\0?\0\0\x01[\x00\x02\x26\x28\x2a\x40\x42\x44\x46\x4e]\x01"), "a H.265 stream"),
    (re.compile(rb"\0?\0\0\x01[\x01\x05-\x09\x21\x25-\x29\x41\x45-\x49\x61\x65-\x69]"), "a H.264 stream"),
    (re.compile(rb"\0?\0\0\x01[\xb0-\xef]"), "an MPEG stream"),
    (re.compile(rb"\x47.{187}\x47", re.DOTALL), "an MPEG transport stream"),
    (re.compile(rb"\x12\0\x0a[\x0a-\x1f]"), "an AV1 stream"),
    (re.compile(rb"\xff\x0a"), "JPEG XL"),
    (re.compile(rb"\xff[\xf1\xf9]"), "AAC audio"),
    (re.compile(rb"P[1-7]\s+[#\dW]"), "PNM (PPM, PGM)"),
    (re.compile(rb"\xef?\xbb?\xbf?\s*(?:<\?xml[^>]{0,200}>\s*)?(?:<!--.{0,200}?-->\s*)?<svg", re.DOTALL), "SVG"),
    (re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE), "a web page"),
    (re.compile(rb"\x80[\x02-\x05]"), "a Python pickle"),
    (re.compile(rb"""b(['"])\\x"""), "Python's way to print bytes"),
    (re.compile(rb"\xd9\xd9\xf7"), "CBOR"),
)

_VIDEO = re.compile("video|stream|MP4")
_SIZES = (
    (96, 96), (160, 120), (176, 144), (240, 240), (320, 240), (400, 296), (480, 320), (640, 360), (640, 480),
    (800, 600), (1024, 768), (1280, 720), (1280, 960), (1280, 1024), (1600, 1200), (1920, 1080), (2048, 1536),
    (2592, 1944), (3840, 2160), (224, 224), (299, 299), (300, 300), (416, 416), (512, 512), (640, 640),
)  # fmt: skip
_BYTES_A_PIXEL = {3: "3 bytes (RGB)", 1: "1 byte (grey)", 2: "2 bytes (YUYV, RGB565)", 4: "4 bytes (RGBA)"}
_RAW = {
    width * height * each: f"{width} × {height} with {told}"
    for each, told in reversed(_BYTES_A_PIXEL.items())
    for width, height in reversed(_SIZES)
}


@dataclass(frozen=True, slots=True)
class Likeness:
    """What bytes look like: a clause that follows "this", what to do about it, and whether it is a known format."""

    told: str
    advice: str = ""
    known: bool = False


def sure_format(data: bytes | memoryview) -> str | None:
    """The name of a known format that the agent does not take and that nothing else looks like, or None."""
    head = bytes(data[:_HEAD])
    if head[4:8] in _ISO_BOXES:
        return _iso(head)
    if icon := _ICON.match(head):
        return "an icon (ICO)" if icon[1] == b"\x01" else "a cursor (CUR)"
    for magic, name in _BY_FIRST.get(head[0], ()) if head else ():
        if head.startswith(magic):
            return name
    for at, magic, name in _MAGIC_BEHIND:
        if head.startswith(magic, at):
            return name
    return None


def likeness(data: bytes | memoryview) -> Likeness | None:
    """What bytes that hold no picture look like; None where nothing can be said of them."""
    name = sure_format(data) or _unsure(bytes(data[:_HEAD]))
    if name:
        advice = "or play the video by a stream whose input is a camera" if _VIDEO.search(name) else ""
        return Likeness(f"looks like {name}", advice, known=True)
    if is_text(data):
        return Likeness(f"is the text {_quoted(data)}", "have such messages on another topic")
    if data and not any(data[:_HEAD]) and not any(data):
        return Likeness(f"is {len(data)} zero bytes")
    raw = _RAW.get(len(data))
    if raw:
        return Likeness(f"has as many bytes as raw pixels of {raw} each", "raw pixels do not say their size")
    return None


def is_text(data: bytes | memoryview) -> bool:
    """Whether the bytes are words that somebody could read: printable UTF-8."""
    text = _words(data)
    return bool(text) and all(one.isprintable() or one in "\r\n\t" for one in text)


def _iso(head: bytes) -> str:
    """By the brand of an ISO media file, its main one or the first known one of those it is compatible with."""
    brands = [head[8:12]]
    if head[4:8] == b"ftyp":
        end = min(int.from_bytes(head[:4], "big"), len(head))
        brands += [head[at : at + 4] for at in range(16, end - 3, 4)]
    known = [_ISO_BRANDS[brand] for brand in brands if brand in _ISO_BRANDS]
    return next((name for name in known if name != "HEIF"), known[0] if known else "an MP4 video")


def _unsure(head: bytes) -> str | None:
    return next((name for pattern, name in _UNSURE if pattern.match(head)), None)


def _words(data: bytes | memoryview) -> str:
    """The beginning as text, empty where it is none; the last character may be cut in two."""
    head = trimmed(bytes(data[:_HEAD]))
    try:
        return head.decode(errors="strict" if len(data) <= _HEAD else "ignore")
    except UnicodeDecodeError:
        return ""


def _quoted(data: bytes | memoryview) -> str:
    text = _words(data)
    return repr(shown(text[:_SHOWN])) + ("…" if len(text) > _SHOWN else "")
