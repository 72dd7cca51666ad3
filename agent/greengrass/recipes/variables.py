"""Recipe variables: ``{namespace:key}`` of the component itself, ``{component:namespace:key}`` of direct dependencies.

They are replaced in every text value of a lifecycle, literally and without any quoting; keys stay as they are.
First the component's own in one pass, then those of others in a second pass over the result; inserted text is not
read again by the same pass.  What has no value stays as it was written and is reported; braces that only look like
a variable (a shell's ``${NAME:-default}``) stay without a report.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from agent.greengrass.recipes.configuration import MISSING, Tree, find

__all__ = ["NAMESPACES", "Context", "Interpolated", "Placeholder", "Values", "completed", "interpolate", "placeholders"]

NAMESPACES: Mapping[str, tuple[str, ...] | None] = {
    "configuration": None,
    "artifacts": ("path", "decompressedPath"),
    "work": ("path",),
    "kernel": ("rootPath",),
    "iot": ("thingName",),
}
"""The keys of each namespace; a configuration's are JSON pointers."""

_OWN = re.compile(r"(?P<dollar>\$?)\{(?P<namespace>[.\w-]+):(?P<key>[^:}]*)\}", re.ASCII)
_CROSS = re.compile(r"(?P<dollar>\$?)\{(?P<component>[.\w-]+):(?P<namespace>[.\w-]+):(?P<key>[^:}]*)\}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Values:
    """What a component's variables stand for: its configuration as plain data, and its folders."""

    configuration: Mapping[str, Any] = field(default_factory=dict)
    artifacts: str = ""
    decompressed: str = ""
    work: str = ""

    @classmethod
    def under(cls, root: str, name: str, version: object, configuration: Mapping[str, Any]) -> Values:
        """The values of a component in Greengrass's folders below ``root``."""
        return cls(
            configuration=configuration,
            artifacts=f"{root}/packages/artifacts/{name}/{version}",
            decompressed=f"{root}/packages/artifacts-unarchived/{name}/{version}",
            work=f"{root}/work/{name}",
        )

    def get(self, namespace: str, key: str) -> Any:
        """The value of one variable, or ``MISSING``."""
        if namespace == "configuration":
            return find(self.configuration, key)
        folders = {
            ("artifacts", "path"): self.artifacts,
            ("artifacts", "decompressedPath"): self.decompressed,
            ("work", "path"): self.work,
        }
        return folders.get((namespace, key), MISSING)


@dataclass(frozen=True, slots=True)
class Context:
    """Everything that the variables of one component can stand for; ``dependencies`` are the direct ones."""

    component: Values
    dependencies: Mapping[str, Values] = field(default_factory=dict)
    root: str = ""
    thing_name: str = ""

    def get(self, variable: Placeholder) -> Any:
        """The value of a variable, or ``MISSING``."""
        if variable.component is not None:
            values = self.dependencies.get(variable.component)
            return values.get(variable.namespace, variable.key) if values else MISSING
        system = {("kernel", "rootPath"): self.root, ("iot", "thingName"): self.thing_name}
        own = self.component.get(variable.namespace, variable.key)
        return system.get((variable.namespace, variable.key), own)


@dataclass(frozen=True, slots=True)
class Placeholder:
    """A variable as it stands in a text; ``component`` is None for the component's own."""

    text: str
    namespace: str
    key: str
    component: str | None = None


@dataclass(frozen=True, slots=True)
class Interpolated:
    """A lifecycle with its variables replaced, and those that have no value, as they are written."""

    lifecycle: dict[str, Any]
    unknown: tuple[str, ...] = ()


def interpolate(lifecycle: Mapping[str, Any], context: Context) -> Interpolated:
    """Replace the variables in every text value of a lifecycle."""
    unknown: dict[str, None] = {}

    def replaced(match: re.Match[str]) -> str:
        variable = _placeholder(match)
        value = context.get(variable)
        if value is not MISSING:
            return match["dollar"] + _text(value)
        if variable.namespace in NAMESPACES and not match["dollar"]:
            unknown[variable.text] = None
        return match[0]

    made = _walked(lifecycle, lambda text: _CROSS.sub(replaced, _OWN.sub(replaced, text)))
    return Interpolated(made, tuple(unknown))


def completed(configuration: Tree, context: Context) -> Tree:
    """A configuration with the system's variables in its texts replaced; those of configurations stay as they are."""

    def replaced(match: re.Match[str]) -> str:
        variable = _placeholder(match)
        value = MISSING if variable.namespace == "configuration" else context.get(variable)
        return match[0] if value is MISSING else match["dollar"] + _text(value)

    return configuration.mapped(lambda value: _walked(value, lambda text: _OWN.sub(replaced, text)))


def _walked(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _walked(inner, change) for key, inner in value.items()}
    return [_walked(inner, change) for inner in value] if isinstance(value, list) else value


def placeholders(text: str) -> Iterator[Placeholder]:
    """What looks like a variable in a text and is none of the shell's."""
    for pattern in (_OWN, _CROSS):
        yield from (_placeholder(match) for match in pattern.finditer(text) if not match["dollar"])


def _placeholder(match: re.Match[str]) -> Placeholder:
    parts = match.groupdict()
    return Placeholder(match[0][len(match["dollar"]) :], match["namespace"], match["key"], parts.get("component"))


def _text(value: Any) -> str:
    """A scalar as it reads; null and containers as compact JSON with sorted keys."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
