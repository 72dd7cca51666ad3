"""A folder of known pictures: what each shows is the name of its folder, or of the file without its number.

::

    people/anna.jpg        anna            people/clara/1.jpg     clara
    people/anna-2.jpg      anna            people/clara/2.jpg     clara
"""

from __future__ import annotations

import os
import re
from typing import Callable, List, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import decode
from agent.inference.runtime.errors import ModelError

__all__ = ["learned", "pictures"]

_ENCODINGS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png", ".webp": "webp", ".bmp": "bmp"}
_MOST = 10_000
_LARGEST = 32 << 20
_NUMBER = re.compile(r"[-_ ]?\(?\d+\)?\Z")


def pictures(folder: str) -> List[Tuple[str, str]]:
    """(name, path) of each picture, in order; raises ``ModelError`` for a folder without any, or with too many."""
    found: List[Tuple[str, str]] = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        for file in sorted(files):
            stem, ending = os.path.splitext(file)
            path = os.path.join(place, file)
            # Nothing but files: reading a pipe would wait for ever.
            if ending.lower() in _ENCODINGS and not file.startswith(".") and os.path.isfile(path):
                is_inside = os.path.realpath(place) != os.path.realpath(folder)
                name = os.path.basename(place) if is_inside else _NUMBER.sub("", stem) or stem
                found.append((name, path))
        if len(found) > _MOST:
            raise ModelError("gallery-too-large", f"the gallery {folder} has more than {_MOST} pictures", "split it")
    if not found:
        hint = f"put pictures into it: {', '.join(_ENCODINGS)}; NAME.jpg, or a folder NAME with several"
        raise ModelError("gallery-empty", f"the gallery {folder} has no pictures", hint)
    return found


def learned(
    folder: str, vector: Callable[[np.ndarray], Optional[np.ndarray]]
) -> Tuple[Sequence[str], Sequence[np.ndarray]]:
    """The names, and what ``vector`` makes of each picture's pixels.

    Raises ``ModelError`` naming the file that cannot be read, or in which it sees nothing.
    """
    names: List[str] = []
    vectors: List[np.ndarray] = []
    for name, path in pictures(folder):
        try:
            with open(path, "rb") as file:
                data = file.read(_LARGEST + 1)
        except OSError as error:
            raise ModelError("gallery-unreadable", f"{path}: {error.strerror}", "let the agent read it") from error
        if len(data) > _LARGEST:
            raise ModelError("gallery-too-large", f"{path} has more than {_LARGEST} bytes", "save it smaller")
        try:
            seen = vector(decode.decode(data, _ENCODINGS[os.path.splitext(path)[1].lower()], None).pixels)
        except ModelError as error:
            raise ModelError(error.code, f"{path}: {error.message}", error.hint) from error
        if seen is None:
            hint = "take a picture in which the first model detects it, or take this one out"
            raise ModelError("gallery-unclear", f"{path} shows nothing that the model looks for", hint)
        names.append(name)
        vectors.append(seen)
    return names, vectors
