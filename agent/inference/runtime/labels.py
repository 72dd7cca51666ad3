"""The names of a model's classes, read from every form that label files have.

Four forms are distinguished by their first characters:

=====================================  ============================================================
``tench`` ⏎ ``goldfish`` ⏎ …           one name per line; a blank line inside is a class without name
``0 person`` ⏎ ``1 bicycle`` ⏎ …       numbered lines, increasing from 0 or 1; ``7: cat`` in any order
``["a", "b"]``, ``{"0": "a"}``         JSON; an object may also map names to numbers
``['a', 'b']``, ``{0: 'a'}``           a Python literal, as the Greengrass samples ship them; parsed,
                                       never evaluated
=====================================  ============================================================

A file whose names happen to begin with increasing numbers (``1 euro``, ``2 euro``) is better given as JSON.
"""

from __future__ import annotations

import ast
import json
import re
import warnings
from pathlib import Path
from typing import Any, Dict, Iterable, List, NoReturn, Optional, Tuple, Union

from agent.inference.runtime.base import Labels
from agent.inference.runtime.errors import ModelError

__all__ = ["BACKGROUND", "of", "parse", "read", "shift"]

BACKGROUND = frozenset({"???", "background", "__background__", "_background_"})
"""Names that label files give to the class that is no class."""

MAX_BYTES = 1 << 20
MAX_ID = 999_999

_IMAGENET = 1000

_LITERAL = re.compile(r"""[\[{]\s*(?:[uU]?["']|[0-9]|[\[\]{}(])""")
_COLON = re.compile(r"\s*([0-9]{1,6})\s*:\s*(.*)")
_SPACE = re.compile(r"\s*([0-9]{1,6})\s+(\S.*)")
_NUMBER = re.compile(r"[0-9]{1,6}")


def read(path: Union[str, Path]) -> Labels:
    """The labels of a file of at most 1 MiB in UTF-8; raises ``ModelError`` naming the file and the line."""
    name = Path(path).name
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(
            "labels-unreadable", f"{name}: {error.strerror or error}", "name the model's label file"
        ) from error
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ModelError("labels-unreadable", f"{name}: line {line} is not UTF-8", "save the file as UTF-8") from error
    return parse(text, name)


def parse(text: str, source: str = "labels") -> Labels:
    """The labels in ``text``, whatever its form; raises ``ModelError`` naming ``source`` and the line."""
    if len(text) > MAX_BYTES:
        _refuse(source, f"is longer than {MAX_BYTES} bytes")
    text = text.lstrip("\ufeff")
    names = _literal(text.strip(), source) if _LITERAL.match(text.strip()) else _lines(text, source)
    if not names:
        _refuse(source, "holds no label")
    return Labels(names)


def of(names: Iterable[Optional[str]]) -> Labels:
    """The labels of a list of names in the order of the classes, as a model's metadata holds them."""
    return Labels({number: name.strip() for number, name in enumerate(names) if name and name.strip()})


def shift(labels: Labels, classes: int, background: Optional[bool]) -> Tuple[int, int]:
    """How a network's ``classes`` columns and the labels lie beside each other: (columns to skip, id of column 0).

    ``background`` says whether column 0 stands for "nothing"; None finds out from the labels: their first
    name is one of ``BACKGROUND``, or they are ImageNet's 1000 and the network has 1001 classes.  Any other
    difference of one may as well be a label file that lost a line, and is left alone.
    """
    count = max(labels.names, default=-1) + 1
    unlisted = count == classes - 1
    if background is None:
        background = labels.names.get(0, "").lower() in BACKGROUND or (unlisted and count == _IMAGENET)
    return int(background), -1 if background and unlisted else 0


def _literal(text: str, source: str) -> Dict[int, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _python(text, source)
    if isinstance(value, dict):
        return _table(value, source)
    if isinstance(value, (list, tuple)):
        return _table(dict(enumerate(value)), source)
    _refuse(source, f"holds a {type(value).__name__}")


def _python(text: str, source: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a stray backslash in a name is no concern of the log
            return ast.literal_eval(text)
    except SyntaxError as error:
        _refuse(source, f"line {error.lineno or 1}: {error.msg}")
    except (ValueError, TypeError, MemoryError, RecursionError) as error:
        _refuse(source, f"is neither JSON nor a plain Python list or dict ({type(error).__name__})")


def _table(value: Dict[Any, Any], source: str) -> Dict[int, str]:
    """{number: name} from entries in either direction; null and empty names are classes without name."""
    names: Dict[int, str] = {}
    for key, entry in value.items():
        number, name = (_number(key), entry) if _number(key) is not None else (_number(entry), key)
        if number is None or not (name is None or isinstance(name, str)) or number in names:
            shown = repr({key: entry})
            _refuse(source, f"entry {shown if len(shown) <= 80 else shown[:79] + '…'} is no number with one name")  # noqa: PLR2004 - a line
        names[number] = (name or "").strip()
    return {number: name for number, name in names.items() if name}


def _number(value: object) -> Optional[int]:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_ID:
        return value
    return None


def _lines(text: str, source: str) -> Dict[int, str]:
    lines = [line.strip() for line in text.splitlines()]
    return _colons(lines, source) or _numbered(lines) or {n: line for n, line in enumerate(lines) if line}


def _colons(lines: List[str], source: str) -> Optional[Dict[int, str]]:
    """``7: cat`` on every line; a number said twice is a mistake."""
    names: Dict[int, str] = {}
    for at, line in enumerate(lines, 1):
        match = _COLON.fullmatch(line)
        if line and not match:
            return None
        if match:
            number = int(match[1])
            if number in names:
                _refuse(source, f"line {at}: class {number} has a name already")
            names[number] = match[2].strip()
    return {number: name for number, name in names.items() if name}


def _numbered(lines: List[str]) -> Optional[Dict[int, str]]:
    """``7 cat`` on every line, numbers increasing from 0 or 1 with few gaps; anything else is plain names."""
    matches = [_SPACE.fullmatch(line) for line in lines if line]
    if not matches or None in matches:
        return None
    pairs = [(int(match[1]), match[2].strip()) for match in matches if match]
    numbers = [number for number, _ in pairs]
    increasing = all(low < high for low, high in zip(numbers, numbers[1:]))
    return dict(pairs) if numbers[0] <= 1 and increasing and numbers[-1] <= 2 * len(numbers) else None


def _refuse(source: str, what: str) -> NoReturn:
    raise ModelError(
        "labels-unreadable",
        f"{source}: {what}",
        hint='write one name per line, or JSON: ["cat", "dog"] or {"0": "cat", "1": "dog"}',
    )
