"""Records which files of the project run, in each Python process that has this folder on its ``PYTHONPATH``.

``WALKS`` names a folder that ``scripts.walking.tracer`` made.  Its ``window`` is one shared byte: 0 while nothing is
recorded, ``VALUES`` while values are followed, and otherwise the number of the open window.  Each process appends lines
to a file of its own: ``[window, ns, file, what]``, where ``ns`` is of the monotonic clock, which processes share.

* In a window there is a line for each function of the project at its first call; ``what`` is its name.  The bodies of
  modules and classes do not count, nor what runs while a module is imported.
* While values are followed there is a line for each file and key, where a function is given the key's value, returns it
  or has it in a local variable, alone or within a container, a text, or a value of named fields; and for the file that
  defines those fields.  ``what`` is the key.

Python 3.9 is enough: a worker may run in an older interpreter than the agent.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import sys
import threading
import time
from collections import deque
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

VALUES = 255
CO_OPTIMIZED = 1
"""Flag of a function's code; those of modules and classes do not have it."""
DEEPEST, LONGEST = 8, 1000
"""How far values are looked into."""


class Recorder:
    def __init__(self, folder: Path) -> None:
        about = json.loads((folder / "about.json").read_text())
        self.agent: str = about["agent"]
        self.keys: dict[float, str] = {value: key for key, value in about["values"].items()}
        numbers = "|".join(re.escape(str(value)) for value in self.keys)
        self.numbers = re.compile(rf"(?<![\d.])(?:{numbers})(?![\d.])")
        with (folder / "window").open("rb") as file:
            self.window = mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)
        self.lines = os.open(folder / f"{os.getpid()}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.current = 0
        self.seen: set[object] = set()
        self.files: dict[CodeType, str] = {}

    def __call__(self, frame: FrameType, event: str, result: object) -> None:
        number = self.window[0]
        if number != self.current:
            self.seen.clear()
            self.current = number
        if number == VALUES:
            if event in {"call", "return"} and self.file_of(frame):
                self.look(frame, result)
        elif number and event == "call" and frame.f_code not in self.seen and not importing(frame):
            self.seen.add(frame.f_code)
            if file := self.file_of(frame):
                self.write(file, frame.f_code.co_name)

    def look(self, frame: FrameType, result: object) -> None:
        for value in (*frame.f_locals.values(), result):
            for key in self.held(value, DEEPEST):
                self.write_once(self.file_of(frame), key)

    def held(self, value: Any, depth: int) -> set[str]:
        """The keys whose values this one is, or holds."""
        kind: Any = type(value)
        if kind is int or kind is float:
            return {self.keys[value]} if value in self.keys else set()
        if kind is bytes:
            value = value.decode("latin-1")
        if isinstance(value, str):
            return {self.keys[float(number)] for number in self.numbers.findall(value)}
        if not depth or isinstance(value, type):
            return set()
        if isinstance(value, dict):
            value = value.values()
        elif not isinstance(value, (list, tuple, set, frozenset, deque)):
            fields = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", ())
            keys = self.held([getattr(value, field, None) for field in fields], depth)
            for key in keys:
                self.write_once(self.inside(getattr(sys.modules.get(kind.__module__), "__file__", None) or ""), key)
            return keys
        # A copy: another thread may change it meanwhile.
        return set().union(*(self.held(item, depth - 1) for item in islice(tuple(value), LONGEST)))

    def file_of(self, frame: FrameType) -> str:
        """The project's file of a function; empty where it is not the project's."""
        code = frame.f_code
        if code not in self.files:
            # What a decorator generated (``<string>``) belongs to the file of its class.
            generated = code.co_filename.startswith("<")
            file = str(frame.f_globals.get("__file__") or "") if generated else code.co_filename
            self.files[code] = self.inside(file) if code.co_flags & CO_OPTIMIZED else ""
        return self.files[code]

    def inside(self, file: str) -> str:
        return file[len(self.agent) :] if file.startswith(self.agent) else ""

    def write_once(self, file: str, key: str) -> None:
        if file and (file, key) not in self.seen:
            self.seen.add((file, key))
            self.write(file, key)

    def write(self, file: str, what: str) -> None:
        os.write(self.lines, json.dumps([self.current, time.monotonic_ns(), file, what]).encode() + b"\n")


def importing(frame: FrameType | None) -> bool:
    """Whether this runs because a module is imported; the program itself (``__main__``) is a module too."""
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            return True
        frame = frame.f_back
    return False


if "WALKS" in os.environ:
    recorder = Recorder(Path(os.environ["WALKS"]))
    threading.setprofile(recorder)
    sys.setprofile(recorder)
