"""One line for people from each payload of the agent: results, and the states of agents and streams.

Columns widen with the names that come, up to a bound, and never narrow again, so that the eye finds its place.
What is no native result is shown as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agent.inference.predictions import Detection, Prediction, headline, read
from agent.text import shown

__all__ = ["Lines", "as_json", "labels"]

_WIDEST = 20
_BEST = 4

_WRONG = (msgspec.DecodeError, UnicodeDecodeError, AttributeError, KeyError, RecursionError, TypeError, ValueError)
"""The errors that payloads of others raise."""

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
    """Makes lines; ``clock`` is the time that a line begins with, as text."""

    def __init__(self) -> None:
        self._widths = [8, 8]
        self._things: set[str] = set()
        self._states: dict[str, object] = {}

    def result(self, topic: str, payload: bytes, clock: str) -> str:
        """Time, stream, camera, duration and best labels of a result."""
        try:
            result = _result(payload)
            best = labels(result.predictions)
        except _WRONG:
            return shown(f"{clock}  {topic}  {payload.decode(errors='replace').strip()}")
        self._things.add(result.thing)
        name = result.stream if len(self._things) == 1 else f"{result.thing}/{result.stream}"
        columns = f"{self._column(0, name)}  {self._column(1, result.frame.camera)}"
        return shown(f"{clock}  {columns}  {result.timing_ms.total:7.1f} ms  {best}")

    def status(self, topic: str, payload: bytes, clock: str) -> str | None:
        """The change of an agent's or a stream's state; None when nothing but numbers changed."""
        try:
            status = _decode(payload)
            line, shape = _stream(status) if "stream" in status else _agent(status)
        except _WRONG:
            return None
        if self._states.get(topic) == shape:
            return None
        self._states[topic] = shape
        return shown(f"{clock}  {line}")

    def _column(self, number: int, text: str) -> str:
        width = self._widths[number] = min(_WIDEST, max(self._widths[number], len(text)))
        return f"{text if len(text) <= width else text[: width - 1] + '…':{width}}"


def labels(predictions: Sequence[Mapping[str, Any]]) -> str:
    """The best labels with their best score and how often each was seen; what a second model says in brackets.

    >>> cat, dog = {"label": "Cat", "label_id": 8}, {"label": "Dog", "label_id": 12}
    >>> labels([{**cat, "score": 0.853}, {**cat, "score": 0.4}, {**dog, "score": 0.3}])
    'Cat 0.85 ×2, Dog 0.30'
    >>> box = {"x": 0, "y": 0, "width": 1, "height": 1}
    >>> labels([{**cat, "score": 0.853, "box": box, "parts": [{"label": "tabby", "label_id": 1, "score": 0.7}]}])
    'Cat (tabby) 0.85'
    >>> labels([])
    '-'
    """
    seen: dict[str, list[float]] = {}
    for prediction in read(predictions):
        score = headline(prediction)[1]
        seen.setdefault(_name(prediction), []).extend([] if score is None else [score])
    best = [_label(name, scores) for name, scores in list(seen.items())[:_BEST]]
    return ", ".join(best + ["…"] * (len(seen) > _BEST)) or "-"


def as_json(topic: str, payload: bytes) -> bytes:
    """The payload as one line of JSON; text that is none is wrapped with its topic."""
    try:
        return msgspec.json.encode(_decode(payload))
    except _WRONG:
        return msgspec.json.encode({"topic": topic, "payload": payload.decode(errors="replace")})


def _name(prediction: Prediction) -> str:
    """What it is, and in brackets what its parts are, each once."""
    parts = prediction.parts if isinstance(prediction, Detection) else ()
    names = list(dict.fromkeys(map(_name, parts)))
    within = ", ".join(names[:_BEST] + ["…"] * (len(names) > _BEST))
    return headline(prediction)[0] + (f" ({within})" if within else "")


def _label(name: str, scores: Sequence[float]) -> str:
    best = f" {max(scores):.2f}" if scores else ""
    return name + best + (f" ×{len(scores)}" if len(scores) > 1 else "")


def _stream(status: Mapping[str, Any]) -> tuple[str, object]:
    model = status["model"] or {}
    name = f"{model.get('component', '')} {model.get('version', '')}".strip()
    runs = " on ".join(filter(None, (name, model.get("backend"))))
    line = f"stream {status['stream']}: {status['state']}"
    line += f", {runs}" if runs else ""
    line += (
        f"; {status['answered']} of {status['received']} frames answered" if status["received"] else "; no frame yet"
    )
    line += "".join(f", {count} {reason}" for reason, count in {**status["dropped"], **status["failed"]}.items())
    line += f"; {status['reason']}" if status.get("reason") else ""
    kinds = sorted({*status["dropped"], *status["failed"]})
    return line, (status["state"], runs, status.get("reason"), status["restarts"], kinds)


def _agent(status: Mapping[str, Any]) -> tuple[str, object]:
    return f"agent {status['thing']}: {status['state']}", status["state"]
