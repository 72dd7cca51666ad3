"""Two copies of a shadow, here and in IoT Core, and what they last had in common: who takes over what.

Between device and cloud, each value that only one side changed is that side's.  Where both changed one, the cloud
decides in ``desired`` and the device in ``reported``.  A side that deleted the shadow has it deleted on the other,
unless that was changed meanwhile: then it is made anew.

One way only (``deviceToCloud``, ``cloudToDevice``), what the source says and what it removed since goes over what is
there; what only the other side knows stays.

Source: AWS's developer guide, "Sync local device shadows with AWS IoT Core", and the behaviour of its shadow manager,
which in a first meeting keeps only the decider's section; here both are joined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from agent.greengrass.services.shadows.document import SECTIONS, State, merged, same

__all__ = ["Base", "Copy", "Direction", "Merge", "decide", "patch"]

_MISSING: Final = object()


class Direction(StrEnum):
    """Which side takes over from which."""

    BOTH = "betweenDeviceAndCloud"
    TO_CLOUD = "deviceToCloud"
    TO_DEVICE = "cloudToDevice"


@dataclass(frozen=True, slots=True)
class Copy:
    """One side's shadow."""

    version: int
    state: State


@dataclass(frozen=True, slots=True)
class Base:
    """What both sides last had in common: the state that one took over from the other."""

    state: State
    cloud_version: int


@dataclass(frozen=True, slots=True)
class Merge:
    """What both sides should be; None is deleted.  A side that need not change is as it was."""

    device: State | None
    cloud: State | None


def decide(device: Copy | None, cloud: Copy | None, base: Base | None, direction: Direction = Direction.BOTH) -> Merge:
    """What the sides should be; None is a shadow that is not there."""
    there, here = cloud.state if cloud else None, device.state if device else None
    common = base.state if base else None
    if direction is Direction.TO_CLOUD:
        return Merge(here, there if _alike(here, common) else _overlaid(here, there, common))
    if direction is Direction.TO_DEVICE:
        return Merge(here if _alike(there, common) else _overlaid(there, here, common), there)
    both = _joined(here, there, common)
    return Merge(both, both)


def patch(before: State, after: State) -> dict[str, Any]:
    """What has to be merged into ``before`` for it to become ``after``.

    >>> patch({"a": 1, "b": {"c": 2}}, {"b": {"c": 3}})
    {'a': None, 'b': {'c': 3}}
    """
    found: dict[str, Any] = dict.fromkeys(key for key in before if key not in after)
    for key, value in after.items():
        old = before.get(key, _MISSING)
        if isinstance(old, dict) and isinstance(value, dict):
            if inner := patch(old, value):
                found[key] = inner
        elif not same(old, value):
            found[key] = value
    return found


def _alike(one: State | None, other: State | None) -> bool:
    return one is other or (one is not None and other is not None and same(one, other))


def _joined(here: State | None, there: State | None, common: State | None) -> State | None:
    if here is None or there is None:
        left = here if there is None else there
        if left is None or common is None:
            return left
        return None if same(left, common) else left
    sections = {
        section: _three_way(
            here.get(section, _MISSING), there.get(section, _MISSING), (common or {}).get(section, _MISSING),
            cloud_decides=section == "desired",
        )
        for section in SECTIONS
    }  # fmt: skip
    return {section: value for section, value in sections.items() if value is not _MISSING}


def _three_way(here: Any, there: Any, common: Any, *, cloud_decides: bool) -> Any:
    if isinstance(here, dict) and isinstance(there, dict):
        old: Mapping[str, Any] = common if isinstance(common, dict) else {}
        keys = dict.fromkeys((*here, *there))
        values = {
            key: _three_way(
                here.get(key, _MISSING), there.get(key, _MISSING), old.get(key, _MISSING), cloud_decides=cloud_decides
            )
            for key in keys
        }
        return {key: value for key, value in values.items() if value is not _MISSING} or _MISSING
    if same(here, common):
        return there
    if same(there, common):
        return here
    return there if cloud_decides else here


def _overlaid(source: State | None, target: State | None, common: State | None) -> State | None:
    if source is None:
        return target if common is None else None
    removed = patch(common or {}, source) if target is not None else {}
    return merged(merged(target or {}, removed), source)
