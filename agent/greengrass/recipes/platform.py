"""Which of a recipe's manifests is for this device: the first, in list order, whose every platform key matches."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from agent.greengrass.recipes.errors import NoManifestError
from agent.greengrass.recipes.recipe import Manifest, Recipe

__all__ = [
    "ARCHITECTURE_DETAILS",
    "Attributes",
    "attributes",
    "choose",
    "detect",
    "is_wild",
    "matches",
    "override",
    "regex",
]

Attributes = Mapping[str, str]
"""A device's platform attributes: ``os``, ``architecture``, ``architecture.detail`` and the owner's own."""

ARCHITECTURE_DETAILS: Final = frozenset(("armv6l", "armv7l", "armv8l", "armv6b", "armv7b", "armv8b"))

_WILD_KEYS = frozenset(("os", "architecture"))
_WILD = frozenset(("all", "any"))
_SYSTEMS = {"darwin": "darwin", "win32": "windows"}
_PLAIN = re.compile(r"[A-Za-z0-9]")
_X86 = re.compile(r"i[3-6]86|x86")


def detect(overrides: Mapping[str, object] | None = None) -> dict[str, str]:
    """This device's attributes; texts among ``overrides`` add or replace some."""
    # What the program was built for, not what the kernel could do: a 32-bit system on a 64-bit kernel is 32-bit.
    bits = 64 if sys.maxsize > 2**32 else 32
    device = attributes(sys.platform, platform.machine(), bits=bits, linux=Path("/proc").is_dir())
    return override(device, overrides or {})


def attributes(system: str, machine: str, *, bits: int = 64, linux: bool = False) -> dict[str, str]:
    """The attributes of a system: ``sys.platform``, ``uname -m``, the word size, and whether ``/proc`` is there."""
    architecture = _architecture(machine.lower(), bits)
    device = {"os": "linux" if linux else _SYSTEMS.get(system, "unknown"), "architecture": architecture}
    if architecture in {"arm", "aarch64"} and machine in ARCHITECTURE_DETAILS:
        device["architecture.detail"] = machine
    return device


def override(device: Attributes, overrides: Mapping[str, object]) -> dict[str, str]:
    """The attributes with the owner's (``platformOverride``); values that are no texts are ignored."""
    return {**device, **{key: value for key, value in overrides.items() if isinstance(value, str)}}


def matches(template: Mapping[str, str | None], device: Attributes) -> bool:
    """Whether every key of a manifest's platform matches; attributes that it does not name do not matter."""
    return all(_matches(key, value, device.get(key)) for key, value in template.items())


def choose(recipe: Recipe, device: Attributes) -> Manifest:
    """The first manifest that matches.  Raises ``NoManifestError`` with what there is and what the device is."""
    for manifest in recipe.manifests:
        if matches(manifest.platform, device):
            return manifest
    offered = "; ".join(dict.fromkeys(_spelled(manifest.platform) for manifest in recipe.manifests))
    raise NoManifestError(
        f"{recipe.name} {recipe.version} has no manifest for this device: it is for {offered}; "
        f"this is {_spelled(device)}",
        path="Manifests",
        hint="add a manifest for this platform, or override the device's attributes: platformOverride of the nucleus",
    )


def is_wild(key: str, value: str | None) -> bool:
    """Whether a template value matches every device, also one without the attribute."""
    return value is None or value == "*" or (key in _WILD_KEYS and value in _WILD)


def regex(value: str) -> str | None:
    """The expression in a template value ``/…/``; None when it is not one."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == "/" else None


def _matches(key: str, value: str | None, device: str | None) -> bool:
    if value is None or is_wild(key, value):
        return True
    if (expression := regex(value)) is not None:
        return _full_match(expression, device)
    return _PLAIN.match(value) is not None and value == device


def _full_match(expression: str, device: str | None) -> bool:
    try:
        return device is not None and re.fullmatch(expression, device) is not None
    except re.error:
        # Matches nothing; `lint` names the place.
        return False


def _architecture(machine: str, bits: int) -> str:
    if machine in {"x86_64", "amd64"}:
        return "amd64" if bits == 64 else "x86"  # noqa: PLR2004 bits of a word
    if machine in {"aarch64", "arm64"}:
        return "aarch64" if bits == 64 else "arm"  # noqa: PLR2004 bits of a word
    if _X86.fullmatch(machine):
        return "x86"
    return "arm" if "arm" in machine else "unknown"


def _spelled(template: Mapping[str, str | None]) -> str:
    return ", ".join(f"{key}={value or '*'}" for key, value in template.items()) or "every platform"
