"""The payload of the AWS Greengrass samples for DLR: as ``aws``, with a box as their detector gives it.

That is x_min, y_min, x_max, y_max in pixels of the 512 by 512 picture that it looks at, whatever the frame's size.
"""

from __future__ import annotations

from agent.inference.predictions import Box
from agent.results.formats import Context, Format, aws
from agent.results.formats.numpy_text import row
from agent.results.result import Result

__all__ = ["FORMAT", "encode"]

_SIDE = 512


def encode(result: Result, context: Context) -> bytes:
    """The result as the samples publish it; raises ``ConfigError`` where none of it has a form here."""
    return aws.payload(result, context, _pixels)


def _pixels(box: Box) -> str:
    corners = box.x, box.y, box.x + box.width, box.y + box.height
    return row([fraction * _SIDE for fraction in corners])


FORMAT = Format(encode, schema="aws", carries=aws.carries)
