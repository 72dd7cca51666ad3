"""The words of ``verge jobs create``: short on the command line, AWS's CreateJob in the request."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

__all__ = ["abort", "document", "increase", "minutes", "retry"]

_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}
_TYPES = ("FAILED", "REJECTED", "TIMED_OUT", "ALL")
_CRITERIA = {"notified": "numberOfNotifiedThings", "succeeded": "numberOfSucceededThings"}


def document(_ctx: click.Context, _param: click.Parameter, value: str) -> msgspec.Raw:
    """A document from JSON text, a file, or ``-`` for standard input."""
    if value.lstrip().startswith("{"):
        text = value.encode()
    else:
        try:
            text = sys.stdin.buffer.read() if value == "-" else Path(value).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"{value} cannot be read: {error.strerror}") from error
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"the document is no JSON: {error}") from error
    return msgspec.Raw(text)


def minutes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """``30`` is minutes; ``90s``, ``5m``, ``2h`` and ``1d`` name their unit.

    >>> minutes(None, None, "90s")
    1.5
    """
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is no time; write 30 for minutes, or 90s, 5m, 2h")
    return float(found[1]) * _UNITS[found[2] or "m"]


def increase(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[float, dict[str, int]] | None:
    """``2:succeeded:10``: the factor and the criterion.

    >>> increase(None, None, "2:succeeded:10")
    (2.0, {'numberOfSucceededThings': 10})
    """
    if value is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?):(notified|succeeded):(\d+)", value)
    if found is None:
        raise click.BadParameter(f"{value!r} is not FACTOR:notified:N or FACTOR:succeeded:N")
    return float(found[1]), {_CRITERIA[found[2]]: int(found[3])}


def abort(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[dict[str, Any]]:
    """``failed:20%:5``: of at least 5 things that are done, 20 per cent failed.

    >>> abort(None, None, ("failed:20%:5",))[0]["thresholdPercentage"]
    20.0
    """
    criteria = []
    for value in values:
        found = re.fullmatch(r"([a-z_]+):(\d+(?:\.\d+)?)%(?::(\d+))?", value.lower())
        if found is None or found[1].upper() not in _TYPES:
            raise click.BadParameter(f"{value!r} is not TYPE:PERCENT%:MINIMUM; types: {', '.join(_TYPES).lower()}")
        criteria.append(
            {
                "failureType": found[1].upper(),
                "action": "CANCEL",
                "thresholdPercentage": float(found[2]),
                "minNumberOfExecutedThings": int(found[3] or 1),
            }
        )
    return criteria


def retry(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[dict[str, Any]]:
    """``2`` for any failure, ``timed_out:3`` for one type.

    >>> retry(None, None, ("timed_out:3",))
    [{'failureType': 'TIMED_OUT', 'numberOfRetries': 3}]
    """
    criteria = []
    for value in values:
        found = re.fullmatch(r"(?:(failed|timed_out|all):)?(\d+)", value.lower())
        if found is None:
            raise click.BadParameter(f"{value!r} is not N, failed:N or timed_out:N")
        criteria.append({"failureType": (found[1] or "all").upper(), "numberOfRetries": int(found[2])})
    return criteria
