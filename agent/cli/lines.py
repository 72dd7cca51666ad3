"""One line for people from each payload of the agent: results, and what it says of itself.

Columns widen with the names that come, up to a bound, and never narrow again, so that the eye finds its place.
What is no native result is shown as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agent.inference.predictions import headline, read

__all__ = ["Lines", "as_json", "labels"]

_WIDEST = 20
_BEST = 4

_WRONG = (msgspec.DecodeError, UnicodeDecodeError, AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""What payloads raise that are none of ours."""

_decode = msgspec.json.Decoder().decode


class _Camera(msgspec.Struct):
    camera: str


class _Total(msgspec.Struct):
    total: float


class _Result(msgspec.Struct):
    """What a line shows of a native result."""

    thing: str
    stream: str
    frame: _Camera
    timing_ms: _Total
    predictions: list[dict[str, Any]]


_result = msgspec.json.Decoder(_Result).decode


class Lines:
    """Makes lines; ``clock`` is the time to show, as text."""

    def __init__(self) -> None:
        self._widths = [8, 8]
        self._things: set[str] = set()
        self._states: dict[str, object] = {}

    def result(self, topic: str, payload: bytes, clock: str) -> str:
        """Time, stream, camera, duration and best labels of a result."""
        try:
            told = _result(payload)
            seen = labels(told.predictions)
        except _WRONG:
            return _printable(f"{clock}  {topic}  {payload.decode(errors='replace').strip()}")
        self._things.add(told.thing)
        name = told.stream if len(self._things) == 1 else f"{told.thing}/{told.stream}"
        columns = f"{self._column(0, name)}  {self._column(1, told.frame.camera)}"
        return _printable(f"{clock}  {columns}  {told.timing_ms.total:7.1f} ms  {seen}")

    def status(self, topic: str, payload: bytes, clock: str) -> str | None:
        """What changed about an agent or one of its streams; None when nothing but numbers did."""
        try:
            told = _decode(payload)
            line, shape = _stream(told) if "stream" in told else _agent(told)
        except _WRONG:
            return None
        if self._states.get(topic) == shape:
            return None
        self._states[topic] = shape
        return _printable(f"{clock}  {line}")

    def _column(self, number: int, text: str) -> str:
        width = self._widths[number] = min(_WIDEST, max(self._widths[number], len(text)))
        return f"{text if len(text) <= width else text[: width - 1] + '…':{width}}"


def labels(predictions: Sequence[Mapping[str, Any]]) -> str:
    """The best labels with their best score and how often each was seen.

    >>> cat, dog = {"label": "Cat", "label_id": 8}, {"label": "Dog", "label_id": 12}
    >>> labels([{**cat, "score": 0.853}, {**cat, "score": 0.4}, {**dog, "score": 0.3}])
    'Cat 0.85 ×2, Dog 0.30'
    >>> labels([])
    '-'
    """
    seen: dict[str, list[float]] = {}
    for name, score in map(headline, read(predictions)):
        seen.setdefault(name, []).extend([] if score is None else [score])
    told = [_label(name, scores) for name, scores in list(seen.items())[:_BEST]]
    return ", ".join(told + ["…"] * (len(seen) > _BEST)) or "-"


def as_json(topic: str, payload: bytes) -> bytes:
    """The payload as one line of JSON; text that is none is wrapped with its topic."""
    try:
        return msgspec.json.encode(_decode(payload))
    except _WRONG:
        return msgspec.json.encode({"topic": topic, "payload": payload.decode(errors="replace")})


def _label(name: str, scores: Sequence[float]) -> str:
    best = f" {max(scores):.2f}" if scores else ""
    return name + best + (f" ×{len(scores)}" if len(scores) > 1 else "")


def _stream(told: Mapping[str, Any]) -> tuple[str, object]:
    model = told["model"] or {}
    name = f"{model.get('component', '')} {model.get('version', '')}".strip()
    runs = " on ".join(filter(None, (name, model.get("backend"))))
    line = f"stream {told['stream']}: {told['state']}"
    line += f", {runs}" if runs else ""
    line += f"; {told['answered']} of {told['received']} frames answered" if told["received"] else "; no frame yet"
    line += "".join(f", {count} {reason}" for reason, count in {**told["dropped"], **told["failed"]}.items())
    line += f"; {told['reason']}" if told.get("reason") else ""
    kinds = sorted({*told["dropped"], *told["failed"]})
    return line, (told["state"], runs, told.get("reason"), told["restarts"], kinds)


def _agent(told: Mapping[str, Any]) -> tuple[str, object]:
    return f"agent {told['thing']}: {told['state']}", told["state"]


def _printable(line: str) -> str:
    """The line without what would steer a terminal: payloads come from anyone."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)
