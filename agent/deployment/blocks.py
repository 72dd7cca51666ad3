"""A component's ``Verge`` block in its configuration: the model it brings, or the stream it runs.

::

    Verge:                                   Verge:
      Model: com.acme.Detector                 Manifest: {task: object-detection, labels: labels.txt}
      Input: {topic: cameras/+/frame}          Archive: detector.zip
      Options: {threshold: 0.4}
      Run: {workers: 2}

On the left a stream: ``Model`` is a component it depends on, ``Options`` the task's, ``Run`` how the model is run, and
the rest a stream's own (``agent.streams.options``).  On the right a model: ``Manifest`` adds to what the model's folder
tells of it (``agent.inference.manifest``), ``Archive`` names the ZIP artifact whose folder that is.

Keys match in any case and with or without underscores (``MaxAgeMs``, ``max_age_ms``); inside ``Options`` and the
tables of a manifest they are the worker's and stay as they are.  A whole number that the cloud wrote as a float is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from agent.deployment.errors import DeploymentWrong
from agent.deployment.field import whole
from agent.errors import ConfigWrong
from agent.inference.manifest import ModelOptions
from agent.results.options import FileSinkOptions, FilterOptions
from agent.streams.options import InputOptions, OutputOptions, SnapshotOutput, StreamOptions
from agent.strict import convert

__all__ = [
    "InferenceBlock",
    "ManifestBlock",
    "ModelBlock",
    "RunBlock",
    "Subject",
    "block",
    "inference",
    "model",
    "subject",
]

Value = TypeVar("Value")
Count = Annotated[int, Meta(ge=1, le=64)]


class Subject(Enum):
    """What a block is about."""

    STREAM = "stream"
    MODEL = "model"


class RunBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a stream's model is run; each is as in ``ModelOptions``."""

    workers: Count = 1
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    accelerator: str = "auto"
    memory_mb: Annotated[int, Meta(ge=0)] = 0
    deadline_s: Annotated[float, Meta(gt=0, le=3600)] = 2.0
    load_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 120.0


class ManifestBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model component says of its model; empty is what the model's folder says."""

    file: str = ""
    name: str = ""
    backend: str = ""
    task: str = ""
    labels: str = ""
    input: dict[str, Any] = {}
    options: dict[str, Any] = {}
    backend_options: dict[str, Any] = {}


class ModelBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model that a component brings."""

    manifest: ManifestBlock = ManifestBlock()
    archive: str = ""
    """The name of the artifact whose unpacked folder is the model's; empty where there is only one."""


class InferenceBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The stream that a component runs; ``stream.model`` is the model's component."""

    stream: StreamOptions
    options: dict[str, Any] = {}
    """The task's, before those of the model's manifest."""
    run: RunBlock = RunBlock()

    def model_options(self, source: str, model: ModelBlock) -> ModelOptions:
        """What the inference plane is told: the model in the folder or file ``source``, as both blocks want it."""
        told = model.manifest
        return ModelOptions(
            source=source,
            backend=told.backend,
            task=told.task,
            labels=told.labels,
            input=told.input,
            options=told.options | self.options,
            backend_options=told.backend_options,
            **msgspec.structs.asdict(self.run),
        )


_FREE: Final = frozenset(("options", "backend_options"))
"""Tables whose keys belong to the worker; a manifest's ``input`` is one too."""


def _folded(key: str) -> str:
    return key.replace("_", "").lower()


def _spelled(*kinds: type[Struct]) -> Mapping[str, str]:
    return {_folded(name): name for kind in kinds for name in kind.__struct_fields__}


_STREAM_KEYS = _spelled(
    StreamOptions, InputOptions, OutputOptions, SnapshotOutput, FilterOptions, FileSinkOptions, InferenceBlock, RunBlock
)
_MODEL_KEYS = _spelled(ModelBlock, ManifestBlock)


def block(configuration: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The ``Verge`` block of a configuration, or None."""
    found = next((value for key, value in configuration.items() if key.lower() == "verge"), None)
    return found if isinstance(found, Mapping) else None


def subject(component: str, configuration: Mapping[str, Any]) -> Subject | None:
    """What a component's block is about; None where there is no block.

    Raises ``DeploymentWrong`` for a block that is about neither: it would be ignored.
    """
    keys = {_folded(key) for key in block(configuration) or ()}
    if not keys:
        return None
    if "input" in keys:
        return Subject.STREAM
    if keys & {"manifest", "archive"}:
        return Subject.MODEL
    raise DeploymentWrong(
        f"{component}: the Verge block is neither a stream (it has no Input) nor a model (no Manifest, no Archive)",
        hint="give Input: {topic: …} for a stream, Manifest: {…} for a model",
        code="COMPONENT_CONFIGURATION_NOT_VALID",
    )


def inference(component: str, configuration: Mapping[str, Any], dependencies: Mapping[str, Any]) -> InferenceBlock:
    """The stream of an inference component.  Raises ``DeploymentWrong`` with the component and the path."""
    told = _respelled(block(configuration) or {}, _STREAM_KEYS, _FREE)
    options, run = told.pop("options", {}), told.pop("run", {})
    found = InferenceBlock(
        stream=_converted(StreamOptions, told, f"the Verge block of {component}"),
        options=_converted(dict[str, Any], options, f"Verge.Options of {component}"),
        run=_converted(RunBlock, run, f"Verge.Run of {component}"),
    )
    if found.stream.model not in dependencies:
        raise DeploymentWrong(
            f"{component}: Verge.Model is {found.stream.model!r}, which is not among the component's dependencies",
            hint=f"add it to ComponentDependencies; there are {', '.join(sorted(dependencies)) or 'none'}",
            code="COMPONENT_CONFIGURATION_NOT_VALID",
        )
    return found


def model(component: str, configuration: Mapping[str, Any]) -> ModelBlock:
    """The model of a model component; all defaults where it has no block.  Raises as ``inference``."""
    told = _respelled(block(configuration) or {}, _MODEL_KEYS, _FREE | {"input"})
    return _converted(ModelBlock, told, f"the Verge block of {component}")


def _respelled(told: Mapping[str, Any], known: Mapping[str, str], free: frozenset[str]) -> dict[str, Any]:
    """The same with known keys as our structs spell them, without nulls; unknown ones stay, to be refused by name."""
    respelled: dict[str, Any] = {}
    for key, value in told.items():
        name = known.get(_folded(key), key)
        if value is not None:
            respelled[name] = whole(value) if name in free else _deeper(value, known, free)
    return respelled


def _deeper(value: Any, known: Mapping[str, str], free: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return _respelled(value, known, free)
    return [_deeper(item, known, free) for item in value] if isinstance(value, list) else whole(value)


def _converted(kind: type[Value], told: object, name: str) -> Value:
    try:
        return convert(kind, told, name)
    except ConfigWrong as error:
        raise DeploymentWrong(error.message, hint=error.hint, code="COMPONENT_CONFIGURATION_NOT_VALID") from error
