"""Zip archives that no honest tool would write."""

from __future__ import annotations

import io
import struct
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path


def write(path: Path, files: Sequence[tuple[str, bytes]], **facts: int) -> Path:
    """An archive with these names as they are: ``zipfile`` writes any name, twice if asked to."""
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore", UserWarning)
        for name, data in files:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.compress_type = zipfile.ZIP_DEFLATED
            for key, value in facts.items():
                setattr(info, key, value)
            with archive.open(info, "w") as file:
                file.write(data)
    return path


def edit(path: Path, *, field: str, value: int, entry: int = 0) -> Path:
    """Change a number in the archive's directory (not in the local header)."""
    data = bytearray(path.read_bytes())
    at = -1
    for _ in range(entry + 1):
        at = data.index(b"PK\x01\x02", at + 1)
    offset, form = {
        "flag_bits": (8, "<H"),
        "compress_type": (10, "<H"),
        "compress_size": (20, "<I"),
        "file_size": (24, "<I"),
        "external_attr": (38, "<I"),
        "header_offset": (42, "<I"),
    }[field]
    struct.pack_into(form, data, at + offset, value)
    path.write_bytes(data)
    return path


def packed(files: Sequence[tuple[str, bytes]]) -> bytes:
    """An honest archive's bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()
