"""Which path of HTTP means what.

A model's name in a path is percent-encoded, but a ``/`` in it need not be: what a path ends in is looked at first.
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

__all__ = ["Asked", "Path", "read"]

_MODEL: Final = re.compile(r"/v2/models/(?P<name>.+?)(?:/versions/(?P<version>[^/]+))?(?:/(?P<rest>ready|infer))?/?")


class Asked(enum.Enum):
    """What is asked for."""

    LIVE = "live"
    READY = "ready"
    SERVER = "server"
    MODEL = "model"
    MODEL_READY = "model ready"
    INFER = "infer"


_PLAIN: Final = {"/v2/health/live": Asked.LIVE, "/v2/health/ready": Asked.READY, "/v2": Asked.SERVER}
_OF_MODEL: Final = {None: Asked.MODEL, "ready": Asked.MODEL_READY, "infer": Asked.INFER}


@dataclass(frozen=True, slots=True)
class Path:
    """A path that means something."""

    asked: Asked
    name: str = ""
    version: str = ""

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods of HTTP that it takes."""
        return ("POST",) if self.asked is Asked.INFER else ("GET", "HEAD")


def read(target: str) -> Path | None:
    """What a request's target means; None for nothing.

    >>> read("/v2/models/shop.Cats%401.0/versions/2/infer")
    Path(asked=<Asked.INFER: 'infer'>, name='shop.Cats@1.0', version='2')
    """
    path = target.partition("?")[0]
    if (plain := _PLAIN.get(path.rstrip("/"))) is not None:
        return Path(plain)
    found = _MODEL.fullmatch(path)
    if found is None:
        return None
    return Path(_OF_MODEL[found["rest"]], unquote(found["name"]), unquote(found["version"] or ""))
