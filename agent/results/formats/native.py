"""The native format: the result value as it is."""

from __future__ import annotations

import msgspec

from agent.results.formats import Context, Format
from agent.results.result import Result

__all__ = ["FORMAT", "encode"]

_ENCODER = msgspec.json.Encoder()


def encode(result: Result, context: Context) -> bytes:
    """The result as JSON, field by field."""
    del context
    return _ENCODER.encode(result)


FORMAT = Format(encode, schema="native", attaches=True)
