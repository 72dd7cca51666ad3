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
tables of a manifest they are the worker's and stay as they are.  Errors write keys as recipes do (``MaxAgeMs``).  A
whole number that the cloud wrote as a float is one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from enum import Enum
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from agent.config.bounds import Name, OptionalPath, Text
from agent.config.models import CODE, RUN_KEYS, ModelOptions, ModelSettings, Then
from agent.config.streams import (
    CameraOptions,
    DirectoryOptions,
    FileSinkOptions,
    FilterOptions,
    InputOptions,
    OutputOptions,
    SnapshotOptions,
    StreamOptions,
    problems,
)
from agent.config.strict import convert
from agent.errors import ConfigError
from agent.greengrass.catalog import keys
from agent.greengrass.catalog.keys import Device
from agent.greengrass.deployments.document import whole
from agent.greengrass.errors import DeploymentError

__all__ = [
    "ANYWHERE",
    "InferenceBlock",
    "ManifestBlock",
    "ModelBlock",
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
_CODE: Final = "COMPONENT_CONFIGURATION_NOT_VALID"


class Subject(Enum):
    """What a block is about."""

    STREAM = "stream"
    MODEL = "model"
    RUNTIME = "runtime"


class ManifestBlock(ModelSettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a model component says of its model; empty is what the model's folder says."""

    file: OptionalPath = ""
    name: Text = ""


class ModelBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The model that a component brings."""

    manifest: ManifestBlock = ManifestBlock()
    archive: Text = ""
    """The name of the artifact whose unpacked folder is the model's; empty where there is only one."""
    sample: Text = ""
    """The name of a model that ships with the agent, in place of artifacts."""

    def options(self, component: str, folder: str) -> ModelOptions:
        """The model in ``folder`` as the block describes it.

        Raises ``DeploymentError`` for a file that is not in the folder.
        """
        for place, name in _named(self.manifest, "Verge.Manifest"):
            if name.startswith("/") or ".." in name.split("/"):
                raise DeploymentError(
                    f"{component}: {place} is {name!r}, which leads out of the model's folder",
                    hint="name a file that the component brings",
                    code=_CODE,
                    path=place,
                )
        file = self.manifest.file
        return ModelOptions(source=f"{folder}/{file}" if file else folder, **self.manifest.settings())


def _named(settings: ModelSettings, place: str) -> Iterator[tuple[str, str]]:
    """The files and folders that a model and those behind it name, and where."""
    for key in ("file", "model", "labels", "gallery"):
        if name := getattr(settings, key, ""):
            yield f"{place}.{key.title()}", name
    for number, stage in enumerate(settings.then):
        yield from _named(stage, f"{place}.Then[{number}]")


class InferenceBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The stream that a component runs; ``stream.model`` is the model's component."""

    stream: StreamOptions
    model: ModelOptions = ModelOptions(source="")
    """What it says of its model, whose source is not known yet.

    ``options`` are the task's, before those of the model's manifest; ``usual_options`` are AWS's constants; code in
    place of the model's own, ``file.py:Name``, is among this component's files.
    """
    archive: Text = ""
    """Which of the model's archives, where it has several and does not say it itself."""
    notes: tuple[str, ...] = ()
    """What the owner should know of the configuration though it can be used."""

    def model_options(self, model: ModelOptions, code: Code) -> ModelOptions:
        """What the inference plane loads: ``model`` as its component describes it, with what this block says over it.

        ``code`` finds the file in a name ``file.py:Name`` of this component.
        """
        own = {key: code(getattr(self.model, key)) for key in CODE}
        return replace(self.model, source=model.source, **own).over(model)


class RuntimeBlock(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An environment in which workers run models."""

    runtime: Literal["litert", "onnx", "opencv", "dlr"]
    """The backend that it is for."""
    packages: tuple[Name, ...] = ()
    """Requirements that it must keep to, as pip writes them."""
    wheelhouse: OptionalPath = ""
    """A folder of wheels on the device; empty is the component's own archives, if it has any."""
    index: bool = True
    """Whether the package index may be asked."""
    interpreter: OptionalPath = ""
    """A certain Python; empty is the one that suits best."""
    root: OptionalPath = ""
    """``MLRootPath``: where environments are kept, relative to the component's work folder."""
    install: bool = True
    """``UseInstaller``: False takes what is there."""


ANYWHERE: Final = Device("", "", "")
"""No device in particular: what is given is checked, and leads to no folder."""
_FREE: Final = frozenset(("options", "anomaly", "backend_options", "preprocess_options", "postprocess_options"))
"""Tables whose keys belong to the worker; a manifest's ``input`` is one too."""


def _folded(key: str) -> str:
    return key.replace("_", "").lower()


def _pascal(key: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in key.split("_"))


def _spelled(*kinds: type[Struct]) -> dict[str, str]:
    return {_folded(name): name for kind in kinds for name in kind.__struct_fields__}


_STREAM_KEYS = _spelled(
    StreamOptions, InputOptions, DirectoryOptions, CameraOptions, OutputOptions, SnapshotOptions, FilterOptions,
    FileSinkOptions, InferenceBlock, ModelOptions,
) | {"run": "run"}  # fmt: skip
_MODEL_KEYS = _spelled(ModelBlock, ManifestBlock, Then)
_RUNTIME_KEYS = _spelled(RuntimeBlock)
_OF_MODEL: Final = ("options", "preprocess_options", "postprocess_options", *CODE)
"""What of a stream's block is its model's."""
_PASCAL: Final = {key: _pascal(key) for keys in (_STREAM_KEYS, _MODEL_KEYS, _RUNTIME_KEYS) for key in keys.values()}


def _fields(names: Collection[str]) -> list[tuple[str, Any, Any]]:
    """Fields of ``ModelOptions`` for a struct of their own."""
    fields = [field for field in msgspec.structs.fields(ModelOptions) if field.name in names]
    return [(field.name, field.type, {} if field.default is msgspec.NODEFAULT else field.default) for field in fields]


_RUN_BLOCK: Final = msgspec.defstruct("RunBlock", _fields(RUN_KEYS), forbid_unknown_fields=True, kw_only=True)
_STREAM_BLOCK: Final = msgspec.defstruct(
    "StreamBlock",
    [*_fields(_OF_MODEL), ("run", _RUN_BLOCK | None, None), ("archive", Text, "")],
    bases=(StreamOptions,),
    forbid_unknown_fields=True,
    kw_only=True,
    frozen=True,
)
"""Everything that may stand in a stream's block: a key that none of it is, is refused with one that is."""
_RUNTIME_SAYS: Final = {"MLRootPath": "root", "UseInstaller": "install"}
"""Greengrass's keys of a runtime."""


def block(configuration: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The ``Verge`` block of a configuration, or None."""
    values = next((value for key, value in configuration.items() if key.lower() == "verge"), None)
    return values if isinstance(values, Mapping) else None


def subject(component: str, configuration: Mapping[str, Any]) -> Subject | None:
    """What a component's block is about; None where there is no block.

    Raises ``DeploymentError`` for a block that is about neither: it would be ignored.
    """
    given = {_folded(key) for key in block(configuration) or ()}
    if not given:
        return None
    if "input" in given:
        return Subject.STREAM
    if is_runtime(configuration):
        return Subject.RUNTIME
    if given & {"manifest", "archive", "sample"}:
        return Subject.MODEL
    raise DeploymentError(
        f"{component}: the Verge block is no stream (it has no Input), no model (no Manifest, no Archive), no runtime",
        hint="give Input: {topic: …} for a stream, Manifest: {…} for a model, Runtime: litert for a runtime",
        code=_CODE,
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
    values = _respelled(block(configuration) or {}, _STREAM_KEYS, _FREE)
    notes: tuple[str, ...] = ()
    usual: Mapping[str, Any] = {}
    if keys.says(configuration):
        of_aws = keys.stream(component, configuration, dependencies, device, no_models)
        notes = tuple("; ".join(filter(None, (each.message, each.hint))) for each in of_aws.findings)
        values = keys.over({key: value for key, value in of_aws.block.items() if key != "options"}, values)
        usual = of_aws.block.get("options", {})
    place = f"the Verge block of {component}"
    _converted(_STREAM_BLOCK, values, place)
    made = InferenceBlock(
        archive=values.pop("archive", ""),
        model=_model_options(values, usual, place),
        stream=_converted(StreamOptions, values, place),
        notes=notes,
    )
    for problem in problems(made.stream):
        path = f"Verge.{problem.path[:1].upper()}{problem.path[1:]}"
        raise DeploymentError(f"{component}: {path} {problem.message}", hint=problem.hint, code=_CODE, path=path)
    if made.stream.model not in dependencies:
        raise DeploymentError(
            f"{component}: Verge.Model is {made.stream.model!r}, which is not among the component's dependencies",
            hint=f"add it to ComponentDependencies; there are {', '.join(sorted(dependencies)) or 'none'}",
            code=_CODE,
        )
    return made


def _model_options(values: dict[str, Any], usual: Mapping[str, Any], place: str) -> ModelOptions:
    """What of a stream's block is its model's, taken out of ``values``."""
    run: dict[str, Any] = values.pop("run", {})
    settings: dict[str, Any] = {key: values.pop(key) for key in _OF_MODEL if key in values}
    return _converted(ModelOptions, {"source": "", "usual_options": dict(usual), **settings, **run}, place)


def model(component: str, configuration: Mapping[str, Any]) -> ModelBlock:
    """The model of a model component; all defaults where it has no block.  Raises as ``inference``."""
    values = _respelled(block(configuration) or {}, _MODEL_KEYS, _FREE | {"input"})
    return _converted(ModelBlock, values, f"the Verge block of {component}")


def runtime(component: str, configuration: Mapping[str, Any]) -> RuntimeBlock:
    """The runtime that a component is.  Raises as ``inference``."""
    values = _respelled(block(configuration) or {}, _RUNTIME_KEYS, frozenset())
    values |= {field: configuration[key] for key, field in _RUNTIME_SAYS.items() if configuration.get(key) is not None}
    if isinstance(install := values.get("install"), str):
        # Greengrass takes any other text for no.
        values["install"] = install.strip().lower() == "true"
    return _converted(RuntimeBlock, values, f"the Verge block of {component}")


def _respelled(values: Mapping[str, Any], known: Mapping[str, str], free: frozenset[str]) -> dict[str, Any]:
    """The same with known keys as our structs spell them, without nulls; unknown ones stay, to be refused by name."""
    respelled: dict[str, Any] = {}
    for key, value in values.items():
        name = known.get(_folded(key), key)
        if value is not None:
            respelled[name] = whole(value) if name in free else _deeper(value, known, free)
    return respelled


def _deeper(value: Any, known: Mapping[str, str], free: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return _respelled(value, known, free)
    return [_deeper(item, known, free) for item in value] if isinstance(value, list) else whole(value)


def _converted(kind: type[Value], values: object, origin: str) -> Value:
    try:
        return convert(kind, values, origin, lambda key: _PASCAL.get(key, key))
    except ConfigError as error:
        path = f"Verge.{error.path[:1].upper()}{error.path[1:]}" if error.path else "Verge"
        raise DeploymentError(error.message, hint=error.hint, code=_CODE, path=path) from error
