"""The configuration that is written for a new thing: the shipped one, with its own values in it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

__all__ = ["configuration"]

_SHIPPED = Path(__file__).with_name("iot-core.toml")
_TABLE = "[transports.cloud]"


def configuration(thing: str, cloud: Mapping[str, str | int]) -> str:
    """TOML for ``thing``, with these values in ``[transports.cloud]``; each has a line there, maybe a commented one."""
    before, table, after = _SHIPPED.read_text().partition(_TABLE)
    for key, value in cloud.items():
        after = _with(after, key, value)
    return _with(before, "thing", thing) + table + after


def _with(text: str, key: str, value: str | int) -> str:
    line = f"{key} = {json.dumps(value)}"  # JSON's strings and numbers are TOML's
    changed, count = re.subn(rf'^(?:# )?{key} = (?:"[^"]*"|\d+)', lambda _: line, text, count=1, flags=re.MULTILINE)
    assert count == 1, key  # noqa: S101 the shipped file is ours, and a test looks at every key
    return changed
