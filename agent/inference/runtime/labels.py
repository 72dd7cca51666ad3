"""The names of a model's classes: read from a file of any usual form, and laid beside a network's columns.

===========================================  ======================================================
``tench`` ⏎ ``goldfish`` ⏎ …                 one name per line; a blank line inside is a class
                                             without name; ``.names``, ``labels.txt``, ``synset.txt``
``3 cat``, ``3: cat``, ``3,cat``, ``cat,3``  numbered lines, in any order and with gaps
``n01440764 tench``                          WordNet's number is left out
``cat;dog;bird``                             all on one line
``id,name`` ⏎ ``0,cat`` ⏎ …                  columns with heads, parted by commas, semicolons or tabs
``["a", "b"]``, ``{"0": "a"}``, ``{"a": 0}``  JSON, and Python literals
``{"id2label": {…}}``, ``{"classes": […]}``  JSON that says more: Hugging Face's, COCO's ``categories``
``{"0": ["n01440764", "tench"]}``            Keras' class index
``names: {0: a}``, ``label_list:`` ⏎ ``- a``  YAML: Ultralytics' data.yaml, Paddle's inference.yml
``item { id: 1 name: "a" }``                 text protobuf: TensorFlow's and Caffe's label maps
===========================================  ======================================================

The numbers in a file are kept: a label map from 1 to 90 with gaps gives those numbers.  ``labelforms.py`` has the
forms; nothing is evaluated.  What is none of them is refused rather than guessed.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import replace
from pathlib import Path
from typing import Iterable, Mapping, NoReturn, Optional, Tuple, Union

from agent.inference.runtime import labelforms
from agent.inference.runtime.base import Labels
from agent.inference.runtime.errors import ModelError

__all__ = ["BACKGROUND", "MAX_BYTES", "begin_at_one", "of", "parse", "read", "shift", "wrong_count"]

BACKGROUND = frozenset({"???", "background", "__background__", "_background_"})
"""Names that label files give to the class that is no class."""

MAX_BYTES = 4 << 20
_IMAGENET = 1000
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
"""Byte order marks, and how what begins with one is encoded."""
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")
_HINT = 'write one name per line, or JSON: ["cat", "dog"] or {"0": "cat", "1": "dog"}'


def read(path: Union[str, Path]) -> Labels:
    """The labels of a file of at most 4 MiB in UTF-8, or UTF-16 with its mark.

    Raises ``ModelError`` (``labels-unreadable``) that names the file and the line.
    """
    name = Path(path).name
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ModelError(
            "labels-unreadable", f"{name}: {error.strerror or error}", "name the model's label file"
        ) from error
    if len(data) > MAX_BYTES:
        _refuse(name, f"is longer than {MAX_BYTES} bytes")
    encoding = next((encoding for mark, encoding in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return parse(data.decode(encoding), name)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        told = encoding[:6].upper()
        raise ModelError("labels-unreadable", f"{name}: line {line} is not {told}", "save the file as UTF-8") from error


def parse(text: str, source: str = "labels") -> Labels:
    """The labels in ``text``, whatever its form; raises ``ModelError`` naming ``source`` and the line."""
    if len(text) > MAX_BYTES:
        _refuse(source, f"is longer than {MAX_BYTES} bytes")
    text = re.sub(r"\r\n?", "\n", text.strip("\ufeff\x00"))
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        _refuse(source, f"line {line} holds the byte {ord(control[0]):#04x}: is it text, in UTF-8?")
    try:
        found = next(filter(None, (form(text, source) for form in labelforms.FORMS)))
    except ValueError as error:
        raise ModelError("labels-unreadable", f"{source}: {error}", _HINT) from error
    if not found.names:
        _refuse(source, "holds no label")
    return replace(found, source=source)


def of(names: Union[Iterable[Optional[str]], Mapping[int, str]], source: str = "the model's file") -> Labels:
    """The labels that a model's metadata holds: names in the order of the classes, or by number."""
    if isinstance(names, Mapping):
        return Labels(dict(names), source=source)
    listed = list(names)
    return replace(labelforms.listed(listed), count=len(listed), source=source)


def shift(labels: Labels, classes: int, background: Optional[bool]) -> Tuple[int, int]:
    """How a network's ``classes`` columns and the labels lie beside each other: (columns to skip, id of column 0).

    ``background`` says whether column 0 stands for "nothing"; None finds out from the labels: their first
    name is one of ``BACKGROUND``, or they are ImageNet's 1000 and the network has 1001 classes.  Labels
    whose numbers go from 1 to ``classes``, or whose background the network does not have, begin at 1.

    Raises ``ModelError`` (``labels-count-wrong``) for labels that are fewer or more than the columns.
    """
    if not labels.names:
        return int(bool(background)), 0
    if background is None and labels.size == classes - 1 == _IMAGENET:
        background = True
    if background and labels.size == classes - 1:
        return 1, -1
    if not background and labels.size == classes + 1 and begin_at_one(labels):
        return 0, 1
    if labels.size != classes and (labels.count is not None or labels.size > classes):
        raise wrong_count(labels, f"the network has {classes}", near=abs(labels.size - classes) == 1)
    return int(labels.names.get(0, "").lower() in BACKGROUND if background is None else background), 0


def begin_at_one(labels: Labels) -> bool:
    """Whether the first of the labels is that of number 1: 0 stands for the background, or for nothing."""
    return bool(labels.names) and labels.names.get(0, "").lower() in BACKGROUND | {""}


def wrong_count(labels: Labels, network: str, *, near: bool = False) -> ModelError:
    """The error (``labels-count-wrong``) of labels that are not those of a network, which is a clause."""
    said = (
        f"names {labels.size} classes" if labels.count is not None else f"numbers its classes up to {labels.size - 1}"
    )
    hint = "take the labels of this model, one for each class (in a JSON list, null is a class without name)"
    background = "; options.background says whether the network's first class is the background" if near else ""
    return ModelError(
        "labels-count-wrong", f"{labels.source or 'the label file'} {said}, and {network}", hint + background
    )


def _refuse(source: str, what: str) -> NoReturn:
    raise ModelError("labels-unreadable", f"{source}: {what}", _HINT)
