"""``scripts/bench kinds``: how many bytes a result of each kind is, and what its way from task to payload costs.

The predictions are made up, and as many as a busy frame has.  Masks are blobs with rough edges.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import msgspec
import numpy as np

from agent.config.streams import MaskForm
from agent.inference.predictions import Prediction
from agent.inference.runtime import messages
from agent.inference.runtime.answers import WorkerAnswer
from agent.inference.values import AnswerMessage
from agent.results.attachments import Detacher
from agent.results.formats import Context, load
from agent.results.result import FrameFacts, ModelFacts, Result, Timing

__all__ = ["main"]

FPS = 30
_RANDOM = np.random.default_rng(11)
_SECONDS = 0.2
_EDGE = 0.5
_BODY = (
    "nose",
    *(
        f"{side}_{part}"
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")
        for side in ("left", "right")
    ),
)


def main(arguments: Sequence[str]) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="scripts/bench kinds", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    asked = parser.parse_args(arguments)
    told = {name: measured(made) for name, made in frames().items()}
    print(json.dumps(told) if asked.json else table(told))


def measured(predictions: list[dict[str, Any]]) -> dict[str, float]:
    """Bytes of the result in each form, and the milliseconds of each step, the least of many."""
    answer = WorkerAnswer(predictions, {}, 640, 480)
    (envelope,) = messages.MessageDecoder().feed(answer.message(1))
    decoder = msgspec.json.Decoder(AnswerMessage)
    kept = decoder.decode(envelope.text).answer(envelope.body).predictions
    usual, attached = sizes(kept, "rle", attach=True)
    _, as_png = sizes(kept, "png", attach=True)
    inline, _ = sizes(kept, "png", attach=False)
    return {
        "predictions": len(predictions),
        "result_bytes": usual,
        "attached_bytes": attached,
        "kb_per_s": round((usual + attached) * FPS / 1e3, 1),
        "masks_png_bytes": as_png - attached,
        "base64_bytes": inline,
        "pack_ms": least_ms(lambda: answer.message(1)),
        "read_ms": least_ms(lambda: decoder.decode(envelope.text).answer(envelope.body)),
        "write_ms": least_ms(lambda: sizes(kept, "rle", attach=True)),
    }


def sizes(predictions: tuple[Prediction, ...], form: MaskForm, *, attach: bool) -> tuple[int, int]:
    """Bytes of the result, and of its attachments."""
    attached = 0

    def place(number: int, data: bytes, content_type: str) -> bool:
        nonlocal attached
        del number, content_type
        attached += len(data)
        return True

    result = _result(Detacher(form, place if attach else None).predictions(predictions))
    return len(load("native").encode(result, Context())), attached


def table(told: dict[str, dict[str, float]]) -> str:
    """For people."""
    columns = list(next(iter(told.values())))
    lines = [" | ".join(["", "frame", *columns, ""]).strip(), "|---" * (len(columns) + 1) + "|"]
    lines += [
        " | ".join(["", name, *[f"{value:,}" for value in row.values()], ""]).strip() for name, row in told.items()
    ]
    return "\n".join(lines)


def frames() -> dict[str, list[dict[str, Any]]]:
    """What a task gives for a busy frame, by what it is."""
    return {
        "classes, 5": [_labelled(n) for n in range(5)],
        "boxes, 10": [_boxed(n) for n in range(10)],
        "turned boxes, 10": [_turned(n) for n in range(10)],
        "boxes with masks 160×160, 10": [{**_boxed(n), "mask": _blob(160, 160)} for n in range(10)],
        "boxes with masks 640×480, 10": [{**_boxed(n), "mask": _blob(480, 640)} for n in range(10)],
        "bodies of 17 points, 5": [{**_boxed(0), "keypoints": _points(_BODY)} for _ in range(5)],
        "hand of 21 points": [{**_labelled(0), "keypoints": _points([""] * 21, depth=True)}],
        "face of 478 points": [{"score": 0.987654, "keypoints": _points([""] * 478, depth=True)}],
        "segments 513×513, 8": _segments(8, 513),
        "anomaly with map 256×256": [{**_ANOMALY, "map": _levels(256, 256)}],
        "depth map 256×256": [{"map": _levels(256, 256), "minimum": 0.25, "maximum": 12.5, "unit": "m"}],
        "lines of text, 20": [_line(n) for n in range(20)],
        "vector of 512": [{"vector": _vector(512)}],
        "faces with names, 5": [{**_boxed(0), "parts": [_named()]} for _ in range(5)],
        "tensor 84×8400": [_tensor(1, 84, 8400)],
    }


_ANOMALY = {"anomalous": True, "score": 0.912345, "threshold": 0.5}


def _labelled(number: int) -> dict[str, Any]:
    return {"label": f"class {number}", "label_id": number, "score": round(float(_RANDOM.random()), 6)}


def _boxed(number: int) -> dict[str, Any]:
    x, y = (round(float(place), 6) for place in _RANDOM.random(2) * 0.7)
    return {**_labelled(number), "box": {"x": x, "y": y, "width": 0.234567, "height": 0.187654}}


def _turned(number: int) -> dict[str, Any]:
    return {**_boxed(number), "corners": _RANDOM.random((4, 2)).round(6).tolist(), "angle": 12.34}


def _points(names: Sequence[str], *, depth: bool = False) -> list[dict[str, Any]]:
    points = []
    for name in names:
        x, y, z = (round(float(place), 6) for place in _RANDOM.random(3))
        points.append({"x": x, "y": y, **({"z": z} if depth else {"score": z}), **({"name": name} if name else {})})
    return points


def _blob(height: int, width: int) -> np.ndarray:
    """An object of about a sixth of the frame's width and a third of its height, with a rough edge."""
    mask = np.zeros((height, width), np.float32)
    middle = tuple(int(side * (0.3 + 0.4 * _RANDOM.random())) for side in (width, height))
    cv2.ellipse(mask, middle, (width // 12, height // 6), 20, 0, 360, 1, -1)
    rough = cv2.GaussianBlur(_RANDOM.random((height, width)).astype(np.float32), (0, 0), 2) - 0.5
    return cv2.GaussianBlur(mask, (0, 0), 3) + rough > _EDGE


def _segments(count: int, side: int) -> list[dict[str, Any]]:
    noise = [cv2.GaussianBlur(_RANDOM.random((side, side)), (0, 0), side / 12) for _ in range(count)]
    classes = np.argmax(noise, axis=0)
    return [{**_labelled(number), "mask": classes == number} for number in range(count)]


def _levels(height: int, width: int) -> np.ndarray:
    smooth = cv2.GaussianBlur(_RANDOM.random((height, width)), (0, 0), 8)
    return np.asarray(cv2.normalize(smooth, np.zeros_like(smooth), 0, 255, cv2.NORM_MINMAX), np.uint8)


def _line(number: int) -> dict[str, Any]:
    text = f"The quick brown fox jumps, line {number:2}"
    scores = (0.9 + 0.1 * _RANDOM.random(len(text))).round(4).tolist()
    return {
        "text": text,
        "score": 0.987654,
        "corners": _RANDOM.random((4, 2)).round(6).tolist(),
        "character_scores": scores,
    }


def _vector(size: int) -> np.ndarray:
    return _RANDOM.standard_normal(size).astype(np.float32)


def _named() -> dict[str, Any]:
    return {"vector": _vector(512), "name": "Ada Lovelace", "similarity": 0.812345}


def _tensor(*shape: int) -> dict[str, Any]:
    data = _RANDOM.standard_normal(shape).astype(np.float32)
    return {"name": "output0", "shape": list(shape), "dtype": "float32", "data": data, "encoding": "base64"}


def _result(predictions: tuple[Prediction, ...]) -> Result:
    return Result(
        id="01M81XGS3Y795NFPA6W5VEEN3A",
        thing="edge-1",
        stream="cameras",
        task="object-detection",
        frame=FrameFacts(
            topic="cameras/door/frame",
            sequence=17,
            width=640,
            height=480,
            received_at="2026-11-22T15:20:42.836Z",
            camera="door",
        ),
        model=ModelFacts("model", "1.0.0", "sha256:" + "d0" * 32, "litert 2.3.0"),
        predictions=predictions,
        timing_ms=Timing(queue=0.4, decode=1.1, preprocess=0.2, infer=17.4, postprocess=0.2, total=19.3),
    )


def least_ms(act: Callable[[], object]) -> float:
    """The least milliseconds that something takes, tried for a fifth of a second and at least three times."""
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < _SECONDS:  # noqa: PLR2004 - a few
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return round(min(taken) * 1e3, 3)
