"""The AWS keys of an inference component → the ``Verge`` block that says the same (``deployments.blocks``).

========================  =======================================================================================
key                       becomes
========================  =======================================================================================
``accessControl``         nothing: it must let the component publish on its topic (``access``)
``PublishResultsOnTopic`` the output's topic; blank: results are only logged
``Accelerator``           ``run.accelerator``: ``cpu`` (the default) or ``gpu``
``ImageDirectory``        ``input.directory.path``; by default the samples' folder, relative to the work folder
``ImageName``             ``input.directory.name``; ``*`` and ``?`` stand for more than one picture
``InferenceInterval``     ``input.interval_s``, fractions too; 3600 by default
``ModelResourceKey``      ``archive``: which of the model's archives is for this device
``UseCamera``             ``input.camera`` in place of the directory, whose keys are not looked at then
``MLRootPath``            (2.0.x) the folder whose ``images`` is the directory where no ``ImageDirectory`` is given
========================  =======================================================================================

Keys match in any case; a null is as if the key were absent.  What the keys do not know (thresholds, formats, topics
to read from) is AWS's constant, and the owner's own ``Verge`` block goes before all of it (``over``).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from agent.config.bounds import LONGEST_S
from agent.config.streams import SHORTEST_S
from agent.config.strict import nearest
from agent.errors import InvalidInputError
from agent.greengrass.catalog import access, parts, scalars
from agent.greengrass.catalog.entries import ENTRIES
from agent.greengrass.catalog.families import FAMILIES, PICTURES, Family
from agent.greengrass.recipes.errors import Level, LintFinding
from agent.greengrass.recipes.recipe import ComponentType
from agent.topics import valid_topic

__all__ = ["KEYS", "ComponentKeyError", "Device", "Translation", "over", "says", "stream"]

KEYS: Final = (
    "accessControl", "PublishResultsOnTopic", "Accelerator", "ImageDirectory", "ImageName", "InferenceInterval",
    "ModelResourceKey", "UseCamera", "MLRootPath",
)  # fmt: skip
_STREAM_KEYS: Final = frozenset(
    ("publishresultsontopic", "imagename", "imagedirectory", "inferenceinterval", "modelresourcekey", "usecamera")
)
"""Any of these makes a configuration one of an AWS inference component."""
_OTHERS: Final = frozenset(("verge", "windowsmlrootpath"))
_ACCELERATORS: Final = ("cpu", "gpu")
_SUFFIXES: Final = (".jpeg", ".jpg", ".png", ".npy")
_USUAL_S = 3600.0
_SHOWN = 60
_ADDRESS: Final = re.compile(r"(?<=://).*")
_PLACES: Final[Mapping[str, Sequence[str]]] = {
    "amd64": ("x86_64", "amd64", "model"),
    "aarch64": ("aarch64", "arm64", "model"),
    "arm": ("armv7l", "arm", "model"),
}
"""The device's architecture → its names in ``ModelResourceKey``, in the order in which they are looked for."""
_NO_MODELS: Final = parts.NAMES | {
    name for name, entries in ENTRIES.items() if any(entry.type is not ComponentType.MODEL for entry in entries)
}
_SOURCES: Final = ("topic", "directory", "camera")


class ComponentKeyError(InvalidInputError):
    """A key of a component's configuration cannot be used."""

    default_code = "COMPONENT_CONFIGURATION_NOT_VALID"


@dataclass(frozen=True, slots=True)
class Device:
    """What the keys depend on: the platform's ``architecture``, and folders.

    ``images`` are Verge's sample pictures; a relative ``ImageDirectory`` starts at ``work``, the component's folder.
    """

    architecture: str
    images: str
    work: str


@dataclass(frozen=True, slots=True)
class Translation:
    """The ``Verge`` block, in the canonical spelling of its keys, and what the owner should know."""

    block: Mapping[str, Any]
    findings: tuple[LintFinding, ...] = ()


def says(configuration: Mapping[str, Any]) -> bool:
    """Whether a configuration is one of an AWS inference component."""
    return any(key.lower() in _STREAM_KEYS for key in configuration)


def stream(
    component: str,
    configuration: Mapping[str, Any],
    dependencies: Collection[str],
    device: Device,
    no_models: Collection[str] = (),
) -> Translation:
    """What the keys of an inference component say.

    ``no_models`` are dependencies that are known to be something else (runtimes, mostly), besides the catalog's own
    and the agent's parts.  Raises ``ComponentKeyError`` with the key, its value and what is accepted.
    """
    keys = _Keys(component, configuration)
    family = FAMILIES.get(component)
    block: dict[str, Any] = {
        "model": _model(keys, dependencies, no_models),
        "input": _input(keys, family, device),
        "outputs": _outputs(keys, family),
        "options": dict(family.options) if family else {},
        "run": {"accelerator": _accelerator(keys)},
    }
    archive, findings = _archive(keys, device.architecture)
    block["archive"] = archive
    # What nobody said is Verge's own default.
    return Translation({key: value for key, value in block.items() if value}, (*keys.unknown(), *findings))


class _Keys:
    """A component's configuration by its keys in any case."""

    def __init__(self, component: str, configuration: Mapping[str, Any]) -> None:
        self.component = component
        self._spelled = {key.lower(): key for key in configuration}
        self._found = {key.lower(): value for key, value in configuration.items() if value is not None}

    def get(self, key: str) -> Any:
        return self._found.get(key.lower())

    def own(self, key: str) -> Any:
        """What the owner's ``Verge`` block has under a key."""
        block = self.get("Verge")
        found = block.items() if isinstance(block, Mapping) else ()
        return next((value for name, value in found if name.lower() == key), None)

    def path(self, key: str) -> str:
        """A text in which nothing is like blank."""
        value = self.get(key)
        found = "" if value is None else scalars.text(value)
        if found is None:
            raise self.wrong(key, "a text")
        return found

    def wrong(self, key: str, accepted: str, hint: str | None = None) -> ComponentKeyError:
        # What stands here reaches logs and topics, and a camera's address may hold a password.
        shown = _ADDRESS.sub("…", repr(self.get(key)))
        shown = shown if len(shown) <= _SHOWN else shown[: _SHOWN - 1] + "…"
        return ComponentKeyError(f"{self.component}: {key} is {shown}; accepted is {accepted}", hint=hint)

    def unknown(self) -> tuple[LintFinding, ...]:
        known = {key.lower() for key in KEYS} | _OTHERS
        return tuple(
            LintFinding(
                Level.WARNING,
                spelled,
                f"{self.component} has no key {spelled}: it is kept and ignored",
                nearest(spelled, KEYS) or f"known: {', '.join(KEYS)}",
            )
            for folded, spelled in self._spelled.items()
            if folded not in known
        )


def _model(keys: _Keys, dependencies: Collection[str], no_models: Collection[str]) -> str:
    if named := keys.own("model"):
        return str(named)
    found = sorted(set(dependencies) - _NO_MODELS - set(no_models))
    if len(found) == 1:
        return found[0]
    message = f"which of {', '.join(found)} is its model" if found else "none of its dependencies is a model"
    raise ComponentKeyError(
        f"{keys.component}: it is not clear which model it runs: {message}",
        hint="name it with Verge: {Model: …}, and have it among ComponentDependencies",
    )


def _input(keys: _Keys, family: Family | None, device: Device) -> dict[str, Any]:
    interval = _interval(keys)
    if _camera(keys):
        return {"camera": {"source": 0}, "interval_s": interval}
    if family is None and keys.get("ImageName") is None and keys.own("input"):
        return {"interval_s": interval}
    path, name = _picture(keys, family, device)
    return {"directory": {"path": path, "name": name}, "interval_s": interval}


def _interval(keys: _Keys) -> float:
    key = "InferenceInterval"
    if keys.get(key) is None:
        return _USUAL_S
    found = scalars.number(keys.get(key))
    if found is None or not SHORTEST_S <= found <= LONGEST_S:
        accepted = f"a number of seconds from {SHORTEST_S:g} to {LONGEST_S}, as a number or a text"
        hint = "for every picture as it comes, give Verge: {Input: {Directory: {Path: …}, IntervalS: 0}}"
        raise keys.wrong(key, accepted, hint)
    return found


def _camera(keys: _Keys) -> bool:
    if keys.get("UseCamera") is None:
        return False
    found = scalars.boolean(keys.get("UseCamera"))
    if found is None:
        hint = "for another camera than the first, give Verge: {Input: {Camera: {Source: …}}}"
        raise keys.wrong("UseCamera", "true or false, as a boolean or a text", hint)
    return found


def _picture(keys: _Keys, family: Family | None, device: Device) -> tuple[str, str]:
    """The folder and the name in it; a name with a path leads further from the folder."""
    folder, root, name = (keys.path(key) for key in ("ImageDirectory", "MLRootPath", "ImageName"))
    name = name or (family.image if family else "")
    if not name.lower().endswith(_SUFFIXES) or posixpath.basename(name).lower() in _SUFFIXES:
        hint = "for other names, give Verge: {Input: {Directory: {Path: …, Name: …}}}"
        raise keys.wrong("ImageName", f"the name of a picture that ends in {', '.join(_SUFFIXES)}", hint)
    if not folder and root:
        folder = posixpath.join(root, "images")
    if not folder:
        folder, name = device.images, PICTURES.get(name.lower(), name)
    if not folder.startswith("~"):
        folder = posixpath.join(device.work, folder)
    path, name = posixpath.split(posixpath.normpath(posixpath.join(folder, name)))
    # Brackets are letters of a name as AWS reads it.
    return path, name.replace("[", "[[]")


def _outputs(keys: _Keys, family: Family | None) -> list[dict[str, Any]]:
    key = "PublishResultsOnTopic"
    value = keys.get(key)
    if value is None and family is None:
        return []
    topic = family.topic if value is None and family else scalars.text(value)
    form = family.format if family else "aws"
    if topic == "":
        return [{"log": True, "format": form}]
    if topic is None or not valid_topic(topic):
        raise keys.wrong(key, "a topic without wildcards, or nothing for results in the log only")
    if refused := access.publishing_refused(keys.get("accessControl"), topic):
        raise ComponentKeyError(
            f"{keys.component}: it may not publish on {topic!r}: {refused}",
            hint=f"add {topic} to the resources of its accessControl, or set {key} to a topic that is among them",
        )
    # Braces are fields of a topic's template here.
    return [{"topic": topic.replace("{", "{{").replace("}", "}}"), "format": form, "qos": 1}]


def _accelerator(keys: _Keys) -> str:
    key = "Accelerator"
    value = keys.get(key)
    found = _ACCELERATORS[0] if value is None else (scalars.text(value) or "").lower()
    if found not in _ACCELERATORS:
        hint = "another accelerator that a backend knows goes into Verge: {Run: {Accelerator: …}}"
        raise keys.wrong(key, " or ".join(_ACCELERATORS), hint)
    return found


def _archive(keys: _Keys, architecture: str) -> tuple[str, tuple[LintFinding, ...]]:
    """The archive for this device, empty where none is named."""
    key = "ModelResourceKey"
    value = keys.get(key)
    named = scalars.mapping(value)
    if named is None:
        named = {"model": value} if isinstance(value, str) else {}
        if value is not None and not named:
            raise keys.wrong(key, "the name of an archive, or names of archives by processor")
    entries = {str(place).lower(): name for place, name in named.items() if name is not None}
    places = _PLACES.get(architecture, (architecture, "model"))
    place = next((place for place in places if place in entries), None)
    if place is None:
        message = f"ModelResourceKey names no archive for this device ({places[0]}): it has {', '.join(entries)}"
        finding = LintFinding(Level.WARNING, key, message, f"add {places[0]}, if the model has several archives")
        return "", (finding,) if entries else ()
    return _archive_name(keys, entries[place]), ()


def _archive_name(keys: _Keys, value: Any) -> str:
    name = scalars.text(value)
    if name is None or name.startswith("/") or ".." in name.split("/"):
        raise keys.wrong("ModelResourceKey", "names of archives as the model's recipe has them")
    # AWS names the folder that the archive is unpacked into.
    name = name.rstrip("/")
    return name[: -len(".zip")] if name.lower().endswith(".zip") else name


def over(block: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The owner's own block over that of the keys, both in canonical spelling.

    ``options`` and ``run`` are merged key by key, where a null takes a key away.  So is an input of the same kind; one
    of another kind replaces the keys' input as a whole, interval included.  Everything else is replaced.

    >>> over({"input": {"camera": {"source": 0}, "interval_s": 9.0}}, {"input": {"topic": "cameras/+/frame"}})
    {'input': {'topic': 'cameras/+/frame'}}
    """
    merged = {**block, **own}
    for key in ("options", "run"):
        merged[key] = _merged(block.get(key), own.get(key))
    if "input" in own:
        merged["input"] = _inputs(block.get("input"), own["input"])
    return {key: value for key, value in merged.items() if value is not None}


def _merged(one: Any, other: Any) -> Any:
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return {key: value for key, value in {**one, **other}.items() if value is not None}
    return one if other is None else other


def _inputs(one: Any, other: Any) -> Any:
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return other
    kinds = [kind for kind in _SOURCES if other.get(kind) is not None]
    if any(kind in one for kind in _SOURCES) and any(kind not in one for kind in kinds):
        return dict(other)
    return {**one, **other, **{kind: _merged(one.get(kind), other[kind]) for kind in kinds}}
