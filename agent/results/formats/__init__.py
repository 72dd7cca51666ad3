"""How a result is written: a table of formats, each one module, loaded when it is asked for.

A format is a pure function from result to bytes and what a reader has to know of the bytes.  A user's format comes by
entry point: group ``verge.formats``, name the format's, value a ``Format``.

==============  ====================================================================================
``native``      the result field by field, as JSON
``aws``         the payload of the Greengrass samples for TensorFlow Lite
``aws_dlr``     the same with boxes as the samples for DLR print them
``numpy_text``  how NumPy prints a row of numbers, which readers of these payloads parse
==============  ====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Self

from agent.config.strict import nearest
from agent.errors import ConfigError
from agent.inference.predictions import Prediction
from agent.results.result import Result

__all__ = ["FORMATS", "GROUP", "Context", "Format", "load", "names"]

GROUP = "verge.formats"
FORMATS = {
    "native": "agent.results.formats.native",
    "aws": "agent.results.formats.aws",
    "aws-dlr": "agent.results.formats.aws_dlr",
}
"""Name → module, whose ``FORMAT`` is the format."""


def local_time() -> datetime:
    """The wall clock of this place, without a zone."""
    return datetime.now(UTC).astimezone().replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class Context:
    """What a format may say beyond the result: the limits in force, and the local time."""

    top_k: int = 5
    threshold: float = 0.3
    now: Callable[[], datetime] = local_time

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Self:
        """What is in force for a task with these options: a detector's limit is ``max_detections``."""
        usual = cls()
        top_k = options.get("max_detections", options.get("top_k", usual.top_k))
        return cls(top_k, options.get("threshold", usual.threshold))


@dataclass(frozen=True, slots=True)
class Format:
    """A way to write results; ``schema`` names the JSON Schema its payloads keep to, if the package has it.

    ``attaches`` says whether its payloads speak of attachments (``results/attachments.py``): a result then comes
    without what is large in it, and with masks in the form that the output asks for.  ``carries`` says which
    predictions have a form in them, where not all have; what is left out is counted.

    >>> load("native").content_type
    'application/json'
    """

    encode: Callable[[Result, Context], bytes]
    content_type: str = "application/json"
    schema: str | None = None
    attaches: bool = False
    carries: Callable[[Prediction], bool] | None = None


@cache
def load(name: str) -> Format:
    """The format of that name; raises ``ConfigError`` with a guess where there is none."""
    if name in FORMATS:
        form: object = import_module(FORMATS[name]).FORMAT
    else:
        form = next((entry.load() for entry in entry_points(group=GROUP, name=name)), None)
        if form is None:
            raise _unknown(name)
    if not isinstance(form, Format):
        raise ConfigError(
            f"the entry point {name!r} of {GROUP} is no Format but {type(form).__name__}",
            hint="mend or remove the package that brings it",
            code="format-unknown",
        )
    return form


def names() -> list[str]:
    """The formats that can be had here."""
    return sorted({*FORMATS, *(entry.name for entry in entry_points(group=GROUP))})


def _unknown(name: str) -> ConfigError:
    known = names()
    return ConfigError(
        f"there is no result format {name!r}",
        hint=nearest(name, known) or f"known: {', '.join(known)}",
        code="format-unknown",
    )
