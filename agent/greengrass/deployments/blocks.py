"""A component's ``Verge`` block in its configuration: the model it brings, the stream it runs, or the runtime it is.

::

    Verge:                                   Verge:
      Model: com.acme.Detector                 Manifest: {task: object-detection, labels: labels.txt}
      Input: {topic: cameras/+/frame}          Archive: detector.zip
      Options: {threshold: 0.4}
      Run: {workers: 2}

On the left a stream: ``Model`` is a component it depends on, ``Options`` the task's, ``Run`` how the model is run, and
the rest a stream's own (``agent.config.streams``).  On the right a model: ``Manifest`` adds to what the model's folder
tells of it (``agent.inference.manifest``), ``Archive`` names the ZIP artifact whose folder that is.

A runtime's block (``Verge: {Runtime: litert, Packages: [numpy<2]}``) names its family and may pin packages;
Greengrass's ``MLRootPath`` and ``UseInstaller`` stand beside it.

Keys match in any case and with or without underscores (``MaxAgeMs``, ``max_age_ms``); inside ``Options`` and the
tables of a manifest they are the worker's and stay as they are.  A whole number that the cloud wrote as a float is one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from agent.config.models import ModelOptions
from agent.config.results import FileSinkOptions, FilterOptions
from agent.config.sources import CameraOptions, DirectoryOptions
from agent.config.streams import InputOptions, OutputOptions, SnapshotOutput, StreamOptions, objection
from agent.config.strict import convert
from agent.errors import ConfigError
from agent.greengrass.catalog import keys
from agent.greengrass.catalog.keys import Device
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.field import whole

__all__ = [
    "ANYWHERE",
    "InferenceBlock",
    "ManifestBlock",
    "ModelBlock",
    "RunBlock",
    "RuntimeBlock",
    "Subject",
    "block",
    "inference",
    "is_runtime",
    "model",
    "runtime",
    "subject",
]

Value = TypeVar("Value")
Code = Callable[[str], str]
Count = Annotated[int, Meta(ge=1, le=64)]


class Subject(Enum):
    """What a block is about."""

    STREAM = "stream"
    MODEL = "model"
    RUNTIME = "runtime"


class RunBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a stream's model is run; each is as in ``ModelOptions``."""

    workers: Count = 1
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    accelerator: str = "auto"
    memory_mb: Annotated[int, Meta(ge=0)] = 0
    deadline_s: Annotated[float, Meta(gt=0, le=3600)] = 2.0
    load_timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 120.0
    autotune: bool | None = None


class ManifestBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model component says of its model; empty is what the model's folder says."""

    file: str = ""
    name: str = ""
    backend: str = ""
    task: str = ""
    labels: str = ""
    input: dict[str, Any] = {}
    preprocess: str = ""
    preprocess_options: dict[str, Any] = {}
    postprocess: str = ""
    postprocess_options: dict[str, Any] = {}
    options: dict[str, Any] = {}
    backend_options: dict[str, Any] = {}
    autotune: bool | None = None


class ModelBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model that a component brings."""

    manifest: ManifestBlock = ManifestBlock()
    archive: str = ""
    """The name of the artifact whose unpacked folder is the model's; empty where there is only one."""
    sample: str = ""
    """The name of a model that ships with the agent, in place of artifacts."""


class InferenceBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The stream that a component runs; ``stream.model`` is the model's component."""

    stream: StreamOptions
    options: dict[str, Any] = {}
    """The task's, before those of the model's manifest."""
    usual_options: dict[str, Any] = {}
    """The task's where nothing else is said: AWS's constants."""
    run: RunBlock = RunBlock()
    archive: str = ""
    """Which of the model's archives, where it has several and does not say it itself."""
    backend: str = ""
    task: str = ""
    preprocess: str = ""
    postprocess: str = ""
    """Code in place of the model's own; ``file.py:Name`` is among this component's files."""
    preprocess_options: dict[str, Any] = {}
    postprocess_options: dict[str, Any] = {}
    notes: tuple[str, ...] = ()
    """What the owner should know of the configuration though it can be used."""

    def model_options(self, source: str, model: ModelBlock, code: Code) -> ModelOptions:
        """What the inference plane is told: the model in the folder or file ``source``, as both blocks want it.

        ``code`` finds the file in a name ``file.py:Name`` of this component.
        """
        told = model.manifest
        run = msgspec.structs.asdict(self.run)
        run["autotune"] = told.autotune if self.run.autotune is None else self.run.autotune
        return ModelOptions(
            source=source,
            backend=code(self.backend) or told.backend,
            task=code(self.task) or told.task,
            preprocess=code(self.preprocess) or told.preprocess,
            preprocess_options=_step_options(self.preprocess, told.preprocess_options, self.preprocess_options),
            postprocess=code(self.postprocess) or told.postprocess,
            postprocess_options=_step_options(self.postprocess, told.postprocess_options, self.postprocess_options),
            labels=told.labels,
            input=told.input,
            options=told.options | self.options,
            usual_options=self.usual_options,
            backend_options=told.backend_options,
            **run,
        )


class RuntimeBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An environment in which workers run models."""

    runtime: Literal["litert", "onnx", "opencv", "dlr"]
    """The backend that it is for."""
    packages: tuple[str, ...] = ()
    """Requirements that it must keep to, as pip writes them."""
    wheelhouse: str = ""
    """A folder of wheels on the device; empty is the component's own archives, if it has any."""
    index: bool = True
    """Whether the package index may be asked."""
    interpreter: str = ""
    """A certain Python; empty is the one that suits best."""
    root: str = ""
    """``MLRootPath``: where environments are kept, relative to the component's work folder."""
    install: bool = True
    """``UseInstaller``: False takes what is there."""


def _step_options(own_step: str, model: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """What a step is told: what was said to the model's step is nothing to another one."""
    return dict(own) if own_step else {**model, **own}


ANYWHERE: Final = Device("", "", "")
"""No device in particular: what is said is checked, and leads to no folder."""
_FREE: Final = frozenset(("options", "backend_options", "preprocess_options", "postprocess_options"))
"""Tables whose keys belong to the worker; a manifest's ``input`` is one too."""


def _folded(key: str) -> str:
    return key.replace("_", "").lower()


def _spelled(*kinds: type[Struct]) -> Mapping[str, str]:
    return {_folded(name): name for kind in kinds for name in kind.__struct_fields__}


_STREAM_KEYS = _spelled(
    StreamOptions, InputOptions, DirectoryOptions, CameraOptions, OutputOptions, SnapshotOutput, FilterOptions,
    FileSinkOptions, InferenceBlock, RunBlock,
)  # fmt: skip
_MODEL_KEYS = _spelled(ModelBlock, ManifestBlock)
_RUNTIME_KEYS = _spelled(RuntimeBlock)
_TABLES: Final = ("options", "preprocess_options", "postprocess_options")
_NAMES: Final = ("archive", "backend", "task", "preprocess", "postprocess")
"""What of a stream's block is not the stream's own."""
_RUNTIME_SAYS: Final = {"MLRootPath": "root", "UseInstaller": "install"}
"""Greengrass's keys of a runtime."""


def block(configuration: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The ``Verge`` block of a configuration, or None."""
    found = next((value for key, value in configuration.items() if key.lower() == "verge"), None)
    return found if isinstance(found, Mapping) else None


def subject(component: str, configuration: Mapping[str, Any]) -> Subject | None:
    """What a component's block is about; None where there is no block.

    Raises ``DeploymentError`` for a block that is about neither: it would be ignored.
    """
    said = {_folded(key) for key in block(configuration) or ()}
    if not said:
        return None
    if "input" in said:
        return Subject.STREAM
    if is_runtime(configuration):
        return Subject.RUNTIME
    if said & {"manifest", "archive", "sample"}:
        return Subject.MODEL
    raise DeploymentError(
        f"{component}: the Verge block is no stream (it has no Input), no model (no Manifest, no Archive), no runtime",
        hint="give Input: {topic: …} for a stream, Manifest: {…} for a model, Runtime: litert for a runtime",
        code="COMPONENT_CONFIGURATION_NOT_VALID",
    )


def is_runtime(configuration: Mapping[str, Any]) -> bool:
    """Whether a configuration has a runtime's block."""
    return any(_folded(key) == "runtime" for key in block(configuration) or ())


def inference(
    component: str,
    configuration: Mapping[str, Any],
    dependencies: Mapping[str, Any],
    device: Device = ANYWHERE,
    no_models: Collection[str] = (),
) -> InferenceBlock:
    """The stream of an inference component; AWS's keys in its configuration (``catalog.keys``) say it too.

    ``no_models`` are components that are runtimes.  Raises ``DeploymentError`` with the component and the path, and
    ``ComponentKeyError`` for a key of AWS's.
    """
    told = _respelled(block(configuration) or {}, _STREAM_KEYS, _FREE)
    notes: tuple[str, ...] = ()
    own: dict[str, Any] = {}
    if keys.says(configuration):
        said = keys.stream(component, configuration, dependencies, device, no_models)
        notes = tuple(each.message for each in said.findings)
        told = keys.over({key: value for key, value in said.block.items() if key != "options"}, told)
        own["usual_options"] = dict(said.block["options"])
    run = told.pop("run", {})
    for kind, names in ((dict[str, Any], _TABLES), (str, _NAMES)):
        own |= {key: _converted(kind, told.pop(key), f"Verge.{key} of {component}") for key in names if key in told}
    found = InferenceBlock(
        stream=_converted(StreamOptions, told, f"the Verge block of {component}"),
        run=_converted(RunBlock, run, f"Verge.Run of {component}"),
        notes=notes,
        **own,
    )
    if wrong := objection(found.stream.input):
        place = ".".join(filter(None, ("Verge.Input", wrong.key)))
        raise DeploymentError(
            f"{component}: {place} {wrong.said}", hint=wrong.hint, code="COMPONENT_CONFIGURATION_NOT_VALID"
        )
    if found.stream.model not in dependencies:
        raise DeploymentError(
            f"{component}: Verge.Model is {found.stream.model!r}, which is not among the component's dependencies",
            hint=f"add it to ComponentDependencies; there are {', '.join(sorted(dependencies)) or 'none'}",
            code="COMPONENT_CONFIGURATION_NOT_VALID",
        )
    return found


def model(component: str, configuration: Mapping[str, Any]) -> ModelBlock:
    """The model of a model component; all defaults where it has no block.  Raises as ``inference``."""
    told = _respelled(block(configuration) or {}, _MODEL_KEYS, _FREE | {"input"})
    return _converted(ModelBlock, told, f"the Verge block of {component}")


def runtime(component: str, configuration: Mapping[str, Any]) -> RuntimeBlock:
    """The runtime that a component is.  Raises as ``inference``."""
    told = _respelled(block(configuration) or {}, _RUNTIME_KEYS, frozenset())
    told |= {field: configuration[key] for key, field in _RUNTIME_SAYS.items() if configuration.get(key) is not None}
    if isinstance(install := told.get("install"), str):
        # Greengrass takes any other text for no.
        told["install"] = install.strip().lower() == "true"
    return _converted(RuntimeBlock, told, f"the Verge block of {component}")


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
    except ConfigError as error:
        raise DeploymentError(error.message, hint=error.hint, code="COMPONENT_CONFIGURATION_NOT_VALID") from error
