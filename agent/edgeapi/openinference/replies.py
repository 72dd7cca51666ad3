"""An answer with a status, as HTTP has it and MQTT borrows it: JSON, with binary data behind it, or an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.edgeapi.openinference import body
from agent.edgeapi.openinference.service import OpenInference
from agent.errors import InvalidInputError, UnreachableError, VergeError

__all__ = ["Reply", "infer", "refused", "status_of"]

_STATUSES: Final = {
    "model-not-loaded": 404, "version-unknown": 404, "model-unloaded": 404, "path-unknown": 404,
    "too-many-bytes": 413,
}  # fmt: skip
"""By an error's code, where its family does not say it."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back."""

    status: int
    parts: Sequence[bytes | memoryview]
    """The body, one part behind the other."""
    json_length: int | None = None
    """How much of it is JSON, where there is data behind it."""

    @classmethod
    def of(cls, value: Any, status: int = 200) -> Reply:
        """A value as JSON."""
        return cls(status, (body.encode(value),))

    @property
    def content_type(self) -> str:
        """What the body is."""
        return "application/json" if self.json_length is None else "application/octet-stream"


async def infer(
    service: OpenInference,
    name: str,
    version: str,
    content: bytes | memoryview,
    json_length: int | None,
    most_json: int,
) -> Reply:
    """Have a model answer the request in a body; raises what refuses it, as ``OpenInference.infer``."""
    request = body.asked(content, json_length, most_json)
    length, parts = body.answered(await service.infer(name, version, request), request)
    return Reply(200, parts, length)


def refused(error: VergeError) -> Reply:
    """The answer to a request that is refused."""
    return Reply.of({"error": str(error)}, status_of(error))


def status_of(error: VergeError) -> int:
    """What HTTP calls an error of ours."""
    family = 400 if isinstance(error, InvalidInputError) else 503 if isinstance(error, UnreachableError) else 500
    return _STATUSES.get(error.code, family)
