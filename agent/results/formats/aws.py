"""The payload of the AWS Greengrass sample components, to the letter.

Each leaf is text: scores as Python prints them, boxes as NumPy prints a row of float32, the local time without a
zone, and a description that ends in a blank.  The description is true: at most ``top_k`` predictions are listed, none
below ``threshold``.  What reads these payloads today goes on reading them.

They know classes and boxes.  What has a name and a score is written as they write a class, and its box beside it:
segments, key points, an anomaly, a text, the nearest one to a vector.  The rest has no form here and is left out: maps
and tensors, vectors and key points without a name, and of a detection its mask, key points, corners and parts.

The samples for TensorFlow Lite print a box as ymin, xmin, ymax, xmax in fractions of the frame: that is this format.
Those for DLR print another one (``aws_dlr``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeAlias

from agent.errors import ConfigError
from agent.inference.predictions import KINDS, Box, Detection, Prediction, Text, label_of, score_of
from agent.results.formats import Context, Format
from agent.results.formats.numpy_text import row
from agent.results.result import Result

__all__ = ["FORMAT", "Boundaries", "carries", "encode", "payload"]

Boundaries: TypeAlias = Callable[[Box], str]
"""How a box is printed."""

_KINDS = {of: kind for kind, of in KINDS.items()}


def encode(result: Result, context: Context) -> bytes:
    """The result as the samples publish it; raises ``ConfigError`` where none of it has a form here."""
    return payload(result, context, _fractions)


def carries(prediction: Prediction) -> bool:
    """Whether a prediction has a form here."""
    return _name(prediction) is not None and score_of(prediction) is not None


def payload(result: Result, context: Context, boundaries: Boundaries) -> bytes:
    """As ``encode``, with boxes printed by ``boundaries``."""
    best = [one for one in _carried(result) if (score_of(one) or 0.0) >= context.threshold][: context.top_k]
    return json.dumps(
        {
            "timestamp": str(context.now()),
            "inference-type": result.task,
            "inference-description": f"Top {context.top_k} predictions with score {context.threshold} or above ",
            "inference-results": [_leaves(prediction, boundaries) for prediction in best],
        }
    ).encode()


def _carried(result: Result) -> list[Prediction]:
    carried = [one for one in result.predictions if carries(one)]
    if not carried and result.predictions:
        kinds = sorted({_KINDS[type(one)] for one in result.predictions})
        raise ConfigError(
            f"the aws formats cannot carry predictions of {' and '.join(kinds)}",
            hint='set format = "native" on the outputs of this stream',
            code="format-unsuited",
        )
    return carried


def _leaves(prediction: Prediction, boundaries: Boundaries) -> dict[str, str]:
    leaves = {"Label": _name(prediction) or "", "Score": str(score_of(prediction))}
    if isinstance(prediction, Detection | Text) and prediction.box is not None:
        leaves["Boundaries"] = boundaries(prediction.box)
    return leaves


def _name(prediction: Prediction) -> str | None:
    return prediction.text if isinstance(prediction, Text) else label_of(prediction)


def _fractions(box: Box) -> str:
    return row((box.y, box.x, box.y + box.height, box.x + box.width))


FORMAT = Format(encode, schema="aws", carries=carries)
