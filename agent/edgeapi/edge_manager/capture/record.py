"""A capture, and the files that it becomes: one JSON object on a line, large data in files beside it.

The layout is that of SageMaker Edge Manager's agent; what is not documented is settled here, by what clients read:
each capture has a file of its own name, in a folder by the name that the client gave the model.  The hour of a path is
UTC's, and a tensor's type has NumPy's name.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

__all__ = ["CapturePlace", "File", "Item", "Record", "files"]

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.=@+-]")
_VERSION: Final = "0"
_RECORD: Final = ".jsonl"
_MOST_LETTERS: Final = 100


class Item(msgspec.Struct, frozen=True, array_like=True):
    """A tensor, or data beside the tensors."""

    name: str
    kind: str
    """``Tensor[float32; 1, 6]``, or like a file's suffix: ``jpg``, ``json``."""
    data: bytes


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What one request captures."""

    capture_id: str
    model: str
    version: str
    seconds: int
    """When the inference was, since 1970."""
    inputs: tuple[Item, ...] = ()
    outputs: tuple[Item, ...] = ()
    more_inputs: tuple[Item, ...] = ()
    more_outputs: tuple[Item, ...] = ()
    called: str = ""
    """The client's name of the model, where its package has another."""

    @property
    def nbytes(self) -> int:
        """Bytes of data."""
        items = (*self.inputs, *self.outputs, *self.more_inputs, *self.more_outputs)
        return sum(len(item.data) for item in items)


@dataclass(frozen=True, slots=True)
class CapturePlace:
    """Where files lie, and what they say of the device."""

    device: str
    fleet: str
    base: str
    """What URLs begin with: ``s3://bucket``, ``file:///folder``."""
    prefix: str = ""
    embed_limit: int = 3072
    flat: bool = False
    """Whether files lie in one folder."""

    def folder(self, record: Record) -> str:
        """``prefix/fleet/model/2026/01/31/23``."""
        parts = [part for part in self.prefix.split("/") if part not in {"", ".", ".."}]
        if not self.flat:
            hour = f"{_when(record):%Y/%m/%d/%H}"
            parts += [_safe(self.fleet or "fleet"), _safe(record.called or record.model), hour]
        return "/".join(parts)


@dataclass(frozen=True, slots=True)
class File:
    """A file below the place's base."""

    path: str
    data: bytes = field(repr=False)


def files(records: Sequence[Record], place: CapturePlace) -> list[File]:
    """A batch's files: of each record its own, behind those that it refers to."""
    made: list[File] = []
    for record in records:
        folder = place.folder(record)
        beside: list[File] = []
        line = msgspec.json.encode(_object(record, place, folder, beside)) + b"\n"
        made += [*beside, File(_join(folder, f"{record.capture_id}{_RECORD}"), line)]
    return made


def _object(record: Record, place: CapturePlace, folder: str, beside: list[File]) -> dict[str, Any]:
    """A line; ``beside`` takes the files that it refers to."""

    def entries(items: Sequence[Item], mode: str) -> list[dict[str, str]]:
        return list(_entries(items, mode))

    def _entries(items: Sequence[Item], mode: str) -> Iterator[dict[str, str]]:
        for item in items:
            entry = {"name": item.name, "mode": mode, "observedContentType": item.kind}
            if len(item.data) <= place.embed_limit:
                yield {**entry, "encoding": "BASE64", "data": base64.b64encode(item.data).decode()}
                continue
            path = _join(folder, f"{record.capture_id}-{len(beside)}.{_suffix(item.kind)}")
            beside.append(File(path, item.data))
            yield {**entry, "encoding": "NONE", "data-ref": f"{place.base}/{path}"}

    return {
        "eventVersion": _VERSION,
        "eventMetadata": {
            "deviceId": place.device,
            "deviceFleetName": place.fleet,
            "eventId": record.capture_id,
            "inferenceTime": f"{_when(record):%Y-%m-%dT%H:%M:%S}",
            "modelName": record.model,
            "modelVersion": record.version,
        },
        "deviceFleetInputs": entries(record.inputs, "Input"),
        "deviceFleetOutputs": entries(record.outputs, "Output"),
        "deviceFleetAuxiliaryInputs": entries(record.more_inputs, "Input"),
        "deviceFleetAuxiliaryOutputs": entries(record.more_outputs, "Output"),
    }


def _when(record: Record) -> datetime:
    return datetime.fromtimestamp(record.seconds, UTC)


def _suffix(kind: str) -> str:
    suffix = "tensor" if kind.startswith("Tensor[") else _safe(kind)
    # What is beside a record is never taken for one.
    return f"{suffix}.bin" if f".{suffix}".endswith(_RECORD) else suffix


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _safe(name: str) -> str:
    """A name as one part of a path.

    >>> _safe("../up"), _safe("")
    ('_._up', '_')
    """
    plain = _UNSAFE.sub("_", name)[:_MOST_LETTERS]
    return f"_{plain[1:]}" if plain.startswith(".") else plain or "_"
