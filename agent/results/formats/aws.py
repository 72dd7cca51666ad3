"""The payload of the AWS Greengrass sample components, to the letter.

Each leaf is text: scores as Python prints them, boxes as NumPy prints a row of float32, the local time without a
zone, and a description that ends in a blank.  The description is true: at most ``top_k`` predictions are listed, none
below ``threshold``.  What reads these payloads today goes on reading them.

The samples for TensorFlow Lite print a box as ymin, xmin, ymax, xmax in fractions of the frame: that is this format.
Those for DLR print another one (``aws_dlr``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeAlias

from agent.errors import ConfigError
from agent.inference.predictions import Box, Classification, Detection
from agent.results.formats import Context, Format
from agent.results.formats.numpy_text import row
from agent.results.result import Result

__all__ = ["FORMAT", "Boundaries", "encode", "payload"]

Boundaries: TypeAlias = Callable[[Box], str]
"""How a box is printed."""


def encode(result: Result, context: Context) -> bytes:
    """The result as the samples publish it; raises ``ConfigError`` for what is neither class nor box."""
    return payload(result, context, _fractions)


def payload(result: Result, context: Context, boundaries: Boundaries) -> bytes:
    """As ``encode``, with boxes printed by ``boundaries``."""
    best = [one for one in _classes(result) if one.score >= context.threshold][: context.top_k]
    return json.dumps(
        {
            "timestamp": str(context.now()),
            "inference-type": result.task,
            "inference-description": f"Top {context.top_k} predictions with score {context.threshold} or above ",
            "inference-results": [_leaves(prediction, boundaries) for prediction in best],
        }
    ).encode()


def _classes(result: Result) -> list[Classification | Detection]:
    classes = [one for one in result.predictions if isinstance(one, Classification | Detection)]
    if len(classes) < len(result.predictions):
        others = {type(one).__name__.lower() for one in result.predictions} - {"classification", "detection"}
        what = "raw tensors" if others == {"tensor"} else f"predictions of {', '.join(sorted(others))}"
        raise ConfigError(
            f"the aws formats cannot carry {what}",
            hint='set format = "native" on the outputs of this stream',
            code="format-unsuited",
        )
    return classes


def _leaves(prediction: Classification | Detection, boundaries: Boundaries) -> dict[str, str]:
    leaves = {"Label": prediction.label, "Score": str(prediction.score)}
    if isinstance(prediction, Detection):
        leaves["Boundaries"] = boundaries(prediction.box)
    return leaves


def _fractions(box: Box) -> str:
    return row((box.y, box.x, box.y + box.height, box.x + box.width))


FORMAT = Format(encode, schema="aws")
