"""Small real pictures in every encoding, made by OpenCV and NumPy, and the wrappings in which they travel."""

from __future__ import annotations

import base64
import gzip
import io
import json
import pickle
import struct
import urllib.parse
import zlib
from collections.abc import Callable

import cv2
import msgspec
import numpy as np

ENCODINGS = ("jpeg", "png", "webp", "bmp", "npy")


def pixels(width: int = 64, height: int = 48, channels: int = 3, seed: int = 0) -> np.ndarray:
    """A smooth picture with a bright disc: it compresses like a photograph, and its parts can be told apart."""
    rows, columns = np.mgrid[0:height, 0:width]
    tint = np.random.default_rng(seed).integers(40, 160, channels)
    picture = np.empty((height, width, channels), np.uint8)
    for channel in range(channels):
        ramp = (columns if channel % 2 else rows) * 90 // max(width, height)
        picture[..., channel] = np.clip(tint[channel] + ramp, 0, 255)
    disc = (rows - height // 3) ** 2 + (columns - width // 3) ** 2 < (min(width, height) // 5) ** 2
    picture[disc] = 250
    return picture


def encode(picture: np.ndarray, encoding: str, *options: int) -> bytes:
    """The picture's bytes in one of ``ENCODINGS``; ``options`` are OpenCV's encoder flags (WebP: lossy unless told)."""
    if encoding == "npy":
        buffer = io.BytesIO()
        np.save(buffer, picture)
        return buffer.getvalue()
    flags = options or ((cv2.IMWRITE_WEBP_QUALITY, 80) if encoding == "webp" else ())
    done, encoded = cv2.imencode({"jpeg": ".jpg"}.get(encoding, f".{encoding}"), picture, flags)
    assert done, encoding
    return encoded.tobytes()


def picture(encoding: str = "jpeg", width: int = 64, height: int = 48, channels: int = 3, seed: int = 0) -> bytes:
    """A small real picture in one of ``ENCODINGS``."""
    return encode(pixels(width, height, channels, seed), encoding)


def decoded_size(data: bytes) -> tuple[int, int]:
    """Width and height as OpenCV decodes them, EXIF orientation followed."""
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded.shape[1], decoded.shape[0]


def exif(orientation: int, order: str = "<") -> bytes:
    """A TIFF block that holds a maker's name and the orientation."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    maker = struct.pack(f"{order}HHI4s", 0x010F, 2, 4, b"cam\0")
    turned = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, orientation, 0)
    return mark + struct.pack(f"{order}IH", 8, 2) + maker + turned + struct.pack(f"{order}I", 0)


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """One JPEG segment, to be inserted after the first two bytes."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def turned(data: bytes, orientation: int, order: str = "<") -> bytes:
    """A JPEG, PNG or WebP of ``picture()`` with an EXIF orientation."""
    block = exif(orientation, order)
    if data.startswith(b"\xff\xd8"):
        return data[:2] + jpeg_segment(0xE1, b"Exif\0\0" + block) + data[2:]
    if data.startswith(b"\x89PNG"):
        return data[:33] + png_chunk(b"eXIf", block) + data[33:]
    width, height = decoded_size(data)
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = riff_chunk(b"VP8X", b"\x08\0\0\0" + sides) + data[12:] + riff_chunk(b"EXIF", block)
    return b"RIFF" + struct.pack("<I", len(chunks) + 4) + b"WEBP" + chunks


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def riff_chunk(kind: bytes, body: bytes) -> bytes:
    """One RIFF chunk, padded to an even length."""
    return kind + struct.pack("<I", len(body)) + body + b"\0" * (len(body) % 2)


def png_bomb(width: int = 40_000, height: int = 25_000) -> bytes:
    """A PNG of a few bytes whose header promises ``width`` × ``height`` pixels."""
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + png_chunk(b"IDAT", zlib.compress(b"\0" * 4096)) + png_chunk(b"IEND", b"")


def npy(
    shape: tuple[int, ...], dtype: str = "|u1", *, version: int = 1, fortran: bool = False, body: int = -1
) -> bytes:
    """An ``.npy`` file with any header; ``body`` bytes follow it (-1: as many as a uint8 array has)."""
    header = repr({"descr": dtype, "fortran_order": fortran, "shape": shape}).encode() + b"\n"
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes((version, 0)) + length + header + bytes(int(np.prod(shape)) if body < 0 else body)


def as_text(data: bytes) -> str:
    """Standard base64."""
    return base64.b64encode(data).decode()


def as_lines(data: bytes) -> bytes:
    """Base64 in lines of 76 characters, with the carriage returns of mail."""
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def as_json(message: object) -> bytes:
    """JSON as most libraries write it."""
    return json.dumps(message).encode()


def as_number(length: int) -> bytes:
    """A length as most protocols write it: four bytes, the highest first."""
    return struct.pack(">I", length)


def as_multipart(data: bytes) -> bytes:
    """A form with a field and a file, as browsers and curl send it."""
    return (
        b'--x7MA4\r\nContent-Disposition: form-data; name="camera"\r\n\r\nline-3\r\n--x7MA4\r\n'
        b'Content-Disposition: form-data; name="image"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
        + data
        + b"\r\n--x7MA4--\r\n"
    )


def as_part(data: bytes) -> bytes:
    """One part of a MJPEG stream."""
    return b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data)


def as_cbor(data: bytes) -> bytes:
    """CBOR's map {"ts": 1, "image": bytes}."""
    return b"\xa2\x62ts\x01\x65image\x5a" + as_number(len(data)) + data


def as_protobuf(data: bytes) -> bytes:
    """A message with a text as its first field and bytes as its second."""
    length, rest = bytearray(), len(data)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    return b"\x0a\x06line-3\x12" + bytes((*length, rest)) + data


WRAPPINGS: dict[str, Callable[[bytes], bytes]] = {
    "raw bytes": lambda data: data,
    "base64": lambda data: as_text(data).encode(),
    "base64 for URLs": base64.urlsafe_b64encode,
    "base64 without padding": lambda data: as_text(data).rstrip("=").encode(),
    "base64 in lines": as_lines,
    "base64 between blanks": lambda data: b" \n" + base64.b64encode(data) + b"\r\n\t",
    "data URI": lambda data: f"data:image/jpeg;base64,{as_text(data)}".encode(),
    "data URI, base64 with percent signs": lambda data: (
        f"data:image/jpeg;base64,{urllib.parse.quote(as_text(data), safe='')}".encode()
    ),
    "data URI with percent signs": lambda data: b"data:image/jpeg," + urllib.parse.quote_from_bytes(data).encode(),
    "JSON text": lambda data: as_json(as_text(data)),
    "JSON object": lambda data: as_json({"camera": "line-3", "image": as_text(data)}),
    "JSON object with a byte order mark": lambda data: b"\xef\xbb\xbf" + as_json({"image": as_text(data)}),
    "JSON with escaped slashes": lambda data: as_json({"image": as_text(data)}).replace(b"/", b"\\/"),
    "JSON with lines of base64": lambda data: as_json({"image": as_lines(data).decode()}),
    "JSON with a data URI": lambda data: as_json({"img": f"data:;base64,{as_text(data)}"}),
    "JSON one object deeper": lambda data: as_json({"id": 7, "frame": {"data": as_text(data)}}),
    "JSON with numbers": lambda data: as_json({"data": list(data)}),
    "Node.js buffer": lambda data: as_json({"payload": {"type": "Buffer", "data": list(data)}}),
    "metadata and blob": lambda data: as_json({"metadata": {"frame_id": 9}, "blob": as_text(data)}),
    "array of metadata and blob": lambda data: as_json([{"frame_id": 9}, as_text(data)]),
    "format beside data": lambda data: as_json({"image": "jpeg", "data": as_text(data)}),
    "a line's end before it": lambda data: b"\r\n" + data,
    "base64 with the NUL of C": lambda data: base64.b64encode(data) + b"\0",
    "data URI with the NUL of C": lambda data: f"data:image/jpeg;base64,{as_text(data)}\0".encode(),
    "JSON with the NUL of C": lambda data: as_json({"image": as_text(data)}) + b"\0\r\n",
    "base64 with a byte order mark": lambda data: b"\xef\xbb\xbf" + base64.b64encode(data),
    "data URI with a charset, for URLs, in lines": lambda data: (
        b"data:image/jpeg;charset=utf-8;base64,\r\n" + as_lines(data).translate(bytes.maketrans(b"+/", b"-_"))
    ),
    "base64 in UTF-16": lambda data: as_text(data).encode("utf-16"),
    "JSON in UTF-16": lambda data: json.dumps({"image": as_text(data)}).encode("utf-16-le"),
    "JSON in UTF-16, the other way round": lambda data: json.dumps({"image": as_text(data)}).encode("utf-16-be"),
    "hexadecimal": lambda data: data.hex().encode(),
    "JSON with hexadecimal": lambda data: as_json({"jpg": f"0x{data.hex().upper()}"}),
    "what Python prints": lambda data: str(base64.b64encode(data)).encode(),
    "JSON with what Python prints": lambda data: as_json({"image": str(base64.b64encode(data))}),
    "numbers alone": lambda data: as_json(list(data)),
    "numbers with a sign": lambda data: as_json({"bytes": [byte - 256 if byte > 127 else byte for byte in data]}),
    "any key": lambda data: as_json({"n": 1, "Überwachungsbild": as_text(data)}),
    "JSON two objects deeper": lambda data: as_json({"event": {"id": 7, "values": {"shot": as_text(data)}}}),
    "IBM Watson": lambda data: as_json({"d": {"cam": "a", "pic": as_text(data)}}),
    "Frigate": lambda data: as_json({"before": {"id": "a"}, "after": {"label": "dog", "thumbnail": as_text(data)}}),
    "rosbridge": lambda data: as_json(
        {"op": "publish", "topic": "/cam", "msg": {"header": {"seq": 1}, "format": "jpeg", "data": as_text(data)}}
    ),
    "TensorFlow Serving": lambda data: as_json({"instances": [{"image_bytes": {"b64": as_text(data)}}]}),
    "KServe": lambda data: as_json(
        {"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES", "data": [as_text(data)]}]}
    ),
    "KServe, binary": lambda data: (
        as_json({"inputs": [{"name": "x", "shape": [1], "datatype": "BYTES"}]}) + struct.pack("<I", len(data)) + data
    ),
    "JSON in a JSON text": lambda data: as_json(json.dumps({"image": as_text(data)})),
    "JSON in a text in JSON": lambda data: as_json({"payload": json.dumps({"image": as_text(data)}), "qos": 0}),
    "JSON in base64 in JSON": lambda data: as_json({"message": {"data": as_text(as_json({"image": as_text(data)}))}}),
    "base64 in base64": lambda data: base64.b64encode(base64.b64encode(data)),
    "length and picture": lambda data: as_number(len(data)) + data,
    "length, JSON and picture": lambda data: as_number(300) + as_json({"ts": 1}).ljust(300) + data,
    "JSON, a line's end and picture": lambda data: as_json({"ts": 1}) + b"\n" + data,
    "JSON in lines": lambda data: as_json({"ts": 1}) + b"\n" + as_json({"image": as_text(data)}),
    "multipart/form-data": as_multipart,
    "a part of MJPEG": as_part,
    "HTTP": lambda data: b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + data,
    "MessagePack": lambda data: msgspec.msgpack.encode({"ts": 1, "image": data}),
    "CBOR": as_cbor,
    "protobuf": as_protobuf,
    "a pickle": pickle.dumps,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "JSON in gzip": lambda data: gzip.compress(as_json({"image": as_text(data)})),
    "gzip in JSON": lambda data: as_json({"z": as_text(gzip.compress(data))}),
    "XML": lambda data: f"<shot><ts>1</ts><image>\n{as_text(data)}\n</image></shot>".encode(),
    "YAML": lambda data: f"ts: 1\nimage: {as_text(data)}\n".encode(),
    "a line of CSV": lambda data: f"line-3,2026-11-28,{as_text(data)},ok".encode(),
}
"""How a picture travels: the name of the wrapping and what puts a picture's bytes into it."""
