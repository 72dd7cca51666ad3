"""What a set of components comes to on this device: models to load, streams to run, scripts to supervise.

*Models.*  A stream's model is found among its component's files.  It is loaded once for each way in which it is run;
its key names the component, the version and a digest of everything that makes a difference, so that two sets side by
side share what they have in common and nothing else.

A model that no stream uses is tried out when it is new or changed: it has to answer as any other before it is taken,
and is not kept loaded.  One with several archives, of which a stream would name one, cannot be.

*Environments.*  A model's own runtime (among its component's dependencies) goes before that of the stream.  A runtime
that is not for the model's format is passed over: a TFLite model of a stream that depends on DLR runs in the agent's
own interpreter.  A backend of the user's own may need any of them, for the packages that were installed there for it.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from agent.config.streams import StreamOptions
from agent.errors import VergeError
from agent.greengrass.artifacts.uri import file_name
from agent.greengrass.components.spec import ComponentSpec, Limits
from agent.greengrass.deployments.configurations import Configured
from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.plan import Action, Planned
from agent.greengrass.deployments.repository import TOKEN_EXCHANGE
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes import lifecycle
from agent.greengrass.recipes.recipe import Unarchive
from agent.greengrass.recipes.variables import Context, interpolate
from agent.inference import manifest
from agent.inference.environments.combinations import FAMILIES
from agent.inference.environments.provider import Provider
from agent.inference.environments.spec import Environment, RuntimeSpec
from agent.inference.environments.store import roots_below
from agent.inference.manifest import ModelSpec
from agent.users import ROOT, Identity, RunAs, give, look_up, worker_user

__all__ = [
    "DeploymentTarget",
    "EnvironmentManager",
    "ModelTarget",
    "model_alone",
    "model_target",
    "runtime_for",
    "target",
]


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """A model as a stream runs it."""

    component: str
    spec: ModelSpec
    golden: Path | None
    """The folder of golden frames, if the model brings one."""


@dataclass(frozen=True, slots=True)
class DeploymentTarget:
    """What is to be live; each stream's ``model`` is a key of ``models``."""

    models: Mapping[str, ModelTarget] = field(default_factory=dict)
    streams: Mapping[str, StreamOptions] = field(default_factory=dict)
    components: Mapping[str, ComponentSpec] = field(default_factory=dict)
    tried: Mapping[str, ModelTarget] = field(default_factory=dict)
    """Models that no stream uses, to be proved once before the set is live."""
    configurations: Mapping[str, Configured] = field(default_factory=dict)

    def without(self, damaged: Collection[str]) -> DeploymentTarget:
        """The same but for the streams that need the files of these components."""
        models = {key: model for key, model in self.models.items() if model.component not in damaged}
        streams = {
            name: stream for name, stream in self.streams.items() if name not in damaged and stream.model in models
        }
        return replace(self, models=models, streams=streams)


def target(
    components: Sequence[Planned], layout: Layout, thing: str, environments: Mapping[str, Environment],
    granted: Mapping[str, str], user: Identity | None = None, left_out: dict[str, VergeError] | None = None,
) -> DeploymentTarget:  # fmt: skip
    """What a set comes to; its files must be in place, and the environments of its runtime components.

    ``granted`` is the environment of components that depend on the token exchange, ``user`` whom workers run as where a
    deployment names nobody; the files of models are lent to them.  With ``left_out``, a stream whose model is not where
    it should be is put there with the reason, and the others are in the target.

    Raises ``ModelRefusedError``, ``ConfigError`` or ``DeploymentError`` for a model that is not where it should be.
    """
    known = {component.name: component for component in components}
    models: dict[str, ModelTarget] = {}
    streams: dict[str, StreamOptions] = {}
    for component in components:
        if component.inference is not None:
            try:
                key, model = model_target(component, known, layout, environments, user)
            except VergeError as error:
                if left_out is None:
                    raise
                left_out[component.name] = error
                continue
            models[key] = model
            streams[component.name] = msgspec.structs.replace(component.inference.stream, model=key)
    scripts = {
        component.name: _scripts(component, known, layout, thing, granted)
        for component in components
        if component.kind is ComponentKind.GENERIC
    }
    tried = dict(
        _model(component, layout, environments, user=user)
        for component in components
        if component.kind is ComponentKind.MODEL
        and component.action is not Action.KEEP
        and component.name not in {model.component for model in models.values()}
        and not _undecided(component)
    )
    configurations = {component.name: component.configured for component in components}
    return DeploymentTarget(models, streams, scripts, tried, configurations)


def _scripts(
    component: Planned, known: Mapping[str, Planned], layout: Layout, thing: str, granted: Mapping[str, str]
) -> ComponentSpec:
    values = {name: layout.values(name, other.new, other.values) for name, other in known.items()}
    context = Context(
        component=values[component.name],
        dependencies={name: values[name] for name in component.hard | component.soft if name in values},
        root=str(layout.root),
        thing_name=thing,
    )
    chosen = lifecycle.select(component.recipe, component.manifest)
    steps = lifecycle.parse(interpolate(chosen, context).lifecycle, component.name)
    run_with = component.runs_with
    return ComponentSpec(
        name=component.name,
        version=str(component.new),
        lifecycle=steps,
        work=layout.work(component.name),
        # What runs inside the agent is there when scripts start.
        hard=frozenset(name for name in component.hard if known[name].kind is ComponentKind.GENERIC),
        soft=frozenset(name for name in component.soft if name in known and known[name].kind is ComponentKind.GENERIC),
        run_as=RunAs.parse(run_with.posix_user) if run_with.posix_user else None,
        limits=Limits(run_with.memory_kb, run_with.cpus),
        shell=component.nucleus.shell,
        env=granted if TOKEN_EXCHANGE in component.hard | component.soft else {},
        owned=(layout.artifacts(component.name, component.new), layout.unarchived(component.name, component.new)),
    )


# -- models ------------------------------------------------------------------------------------------------------------


def model_target(
    stream: Planned, known: Mapping[str, Planned], layout: Layout, environments: Mapping[str, Environment],
    user: Identity | None = None,
) -> tuple[str, ModelTarget]:  # fmt: skip
    """The model of the stream ``stream`` and its key; ``known`` is the set.

    Raises ``ModelRefusedError``, ``ConfigError`` or ``DeploymentError`` for a model that is not where it should be.
    """
    assert stream.inference is not None  # noqa: S101 the caller asked
    component = known[stream.inference.stream.model]
    if component.model is None:
        raise _wrong(
            f"{stream.name}: Verge.Model is {component.name}, which brings no model",
            "a model component has ComponentType: verge.model, or a Verge block with an Archive",
        )
    return _model(component, layout, environments, stream, user)


def model_alone(
    component: Planned, layout: Layout, environments: Mapping[str, Environment], user: Identity | None = None
) -> ModelSpec:
    """A component's model as the component itself describes it; raises as ``model_target``."""
    return _model(component, layout, environments, user=user)[1].spec


def _model(
    component: Planned, layout: Layout, environments: Mapping[str, Environment], stream: Planned | None = None,
    user: Identity | None = None,
) -> tuple[str, ModelTarget]:  # fmt: skip
    """A model as the stream runs it, or as its own component describes it, and its key."""
    assert component.model is not None  # noqa: S101 the caller asked
    block = stream.inference if stream is not None else None
    folder = _folder(component, layout, block.archive if block else "")
    options = component.model.options(component.name, str(folder))
    if stream is not None and block is not None:
        options = block.model_options(options, partial(_code, stream, layout))
    spec = manifest.resolve(options, folder)
    manifest.keep_within(spec, folder, *layout.folders(component.name, component.new))
    named = msgspec.structs.replace(spec.manifest, name=component.name, version=str(component.new))
    users = (component, stream) if stream is not None else (component,)
    environment = runtime_for(spec, environments, *(user.recipe.dependencies for user in users))
    interpreter = environment.python if environment is not None and not environment.own else ""
    run = msgspec.structs.replace(spec.run, interpreter=interpreter)
    runner = _lent([folder for one in users for folder in layout.folders(one.name, one.new)], users[-1], user)
    spec = msgspec.structs.replace(spec, manifest=named, run=run, user=runner)
    golden = folder / "golden"
    key = f"{component.name}@{component.new}#{_difference(spec)}"
    return key, ModelTarget(component.name, spec, golden if golden.is_dir() else None)


def _undecided(component: Planned) -> bool:
    """Whether only a stream could say which of a model's archives is meant."""
    assert component.model is not None  # noqa: S101 the caller asked
    archives = [artifact for artifact in component.manifest.artifacts if artifact.unarchive is Unarchive.ZIP]
    return len(archives) > 1 and not component.model.archive and not component.model.sample


def _lent(folders: Iterable[Path], component: Planned, default: Identity | None) -> Identity | None:
    """Whom a model's workers run as, who may read its files from now on and write none of them."""
    named = component.runs_with.posix_user
    user = worker_user(named) if named else default
    if user is None:
        return None
    lent_to = (default or user).gid
    give((folder for folder in folders if folder.exists()), replace(look_up(ROOT), gid=lent_to))
    return replace(user, groups=tuple(sorted({*user.groups, lent_to})))


def _code(stream: Planned, layout: Layout, name: str) -> str:
    """``file.py:Name`` with the file's place among the component's artifacts; any other name as it is."""
    file, _, attribute = name.partition(":")
    if not file.endswith(".py"):
        return name
    folders = layout.folders(stream.name, stream.new)
    places = [folders[0] / file, *sorted(folders[1].glob(f"*/{glob.escape(file)}"))]
    for place in places:
        if place.is_file() and any(place.resolve().is_relative_to(folder.resolve()) for folder in folders):
            return f"{place.resolve()}:{attribute}"
    raise _wrong(f"{stream.name}: there is no {file} among its artifacts", "add it to the recipe's Artifacts")


def _folder(component: Planned, layout: Layout, asked: str) -> Path:
    """Where the model's files are: its archive's folder, that of its plain artifacts, or a sample's.

    ``asked`` is the archive that the stream names, for a component with several; what follows a slash is a folder in
    the archive, as AWS has it.
    """
    assert component.model is not None  # noqa: S101 the caller asked
    if sample := component.model.sample:
        if sample not in manifest.sample_names():
            raise _wrong(
                f"{component.name}: Verge.Sample is {sample!r}, and no model of that name ships with the agent",
                f"there are {', '.join(manifest.sample_names())}",
            )
        return manifest.SAMPLES / sample
    artifacts = component.manifest.artifacts
    names = [file_name(artifact.uri) for artifact in artifacts if artifact.unarchive is Unarchive.ZIP]
    archive, _, inside = asked.partition("/")
    named = next((name for name in names if archive in {name, Path(name).stem}), "")
    wanted = component.model.archive or named or (names[0] if len(names) == 1 else "")
    if not wanted and (not names or len(names) < len(artifacts)):
        return layout.artifacts(component.name, component.new)
    unpacked = layout.unarchived(component.name, component.new) / Path(wanted).stem
    folder = unpacked / inside if wanted == named else unpacked
    if wanted not in names or not folder.is_dir() or not folder.resolve().is_relative_to(unpacked.resolve()):
        name = component.model.archive or asked
        raise _wrong(
            f"{component.name} has {f'no archive {name!r}' if name else 'several archives, and none of them is named'}",
            f"there are: {', '.join(names) or 'none'}; name one with ModelResourceKey or Verge.Archive",
        )
    return manifest.unwrapped(folder)


def _wrong(message: str, hint: str) -> DeploymentError:
    return DeploymentError(message, hint=hint, code="COMPONENT_CONFIGURATION_NOT_VALID")


def _difference(spec: ModelSpec) -> str:
    """Everything that makes a loaded model another one, the file itself included."""
    contents = [
        (path.name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for path in _files(spec) for stat in (path.stat(),)
    ]
    return hashlib.sha256(msgspec.json.encode([spec, contents])).hexdigest()[:8]


def _files(spec: ModelSpec) -> list[Path]:
    """The files of a model and of those behind it, and their code."""
    behind = [name for _, stage in spec.stages for name in _code_files(stage)]
    return manifest.files(spec) + [Path(name) for name in (*_code_files(spec), *behind)]


def _code_files(spec: ModelSpec) -> list[str]:
    """The files of the user's own code."""
    model = spec.manifest
    named = (model.backend, model.task, model.preprocess, model.postprocess)
    files = (name.rpartition(":")[0] for name in named)
    return [file for file in files if file.endswith(".py")]


# -- environments ------------------------------------------------------------------------------------------------------

_RUN_BY: Final[Mapping[str, tuple[str, ...]]] = {
    ".tflite": ("litert",),
    ".onnx": ("onnx", "opencv"),
    ".pb": ("opencv",),
    ".caffemodel": ("opencv",),
    ".xml": ("opencv",),
}
"""A model file's suffix → the families of runtimes that run it, the best first."""
_RUN_FOLDERS: Final = ("dlr",)
"""Those that run a model which is a folder, whatever its name ends in."""


Report: TypeAlias = Callable[[str, str], None]
"""Takes a component's name and what is being done for it."""


class EnvironmentManager:
    """The environments of runtime components: built before anything changes, found again at every start."""

    def __init__(self, provider: Provider, layout: Layout) -> None:
        self._provider = provider
        self._layout = layout

    @property
    def timeout_s(self) -> float:
        """How long one of them may take."""
        return self._provider.timeout_s

    async def provide(self, components: Iterable[Planned], report: Report) -> dict[str, Environment]:
        """What a set needs by component, found or built.

        A component that is kept as it is goes on with the environment that served it.  Raises
        ``UnsupportedRuntimeError``, or what could not be reached.
        """
        planned = {component.name: component for component in components}
        environments: dict[str, Environment] = {}
        specs = {name: _runtime(component, self._layout) for name, component in planned.items() if component.runtime}
        for name, spec in specs.items():
            kept = await self._provider.recall(spec) if planned[name].action is Action.KEEP else None
            environments[name] = kept or await self._provider.provide(spec, partial(report, name))
        return environments

    def prune(self, kept: Iterable[Mapping[str, Environment]]) -> None:
        """Remove every environment but these; also what an earlier run of the agent left."""
        roots = roots_below(self._layout.root / "work")
        self._provider.prune((environment for by_component in kept for environment in by_component.values()), roots)


def runtime_for(
    spec: ModelSpec, environments: Mapping[str, Environment], *dependencies: Iterable[str]
) -> Environment | None:
    """The environment that runs a model; ``dependencies`` are the model's, then the stream's; None: the agent's own."""
    families = _families(spec)
    for names in dependencies:
        offered = {environments[name].family: environments[name] for name in sorted(names) if name in environments}
        for family in families:
            if family in offered:
                return offered[family]
    return None


def _families(spec: ModelSpec) -> tuple[str, ...]:
    """The families of runtimes that a model may run in, the best first."""
    backend, model = spec.manifest.backend, Path(spec.manifest.file)
    by_format = _RUN_FOLDERS if model.is_dir() else _RUN_BY.get(model.suffix, ())
    if backend in {"", "auto"}:
        return by_format
    return (backend,) if backend in FAMILIES else (*by_format, *FAMILIES)


def _runtime(component: Planned, layout: Layout) -> RuntimeSpec:
    block = component.runtime
    assert block is not None  # noqa: S101 the caller asked
    unpacked = layout.unarchived(component.name, component.new)
    has_archives = any(artifact.unarchive is Unarchive.ZIP for artifact in component.manifest.artifacts)
    wheelhouse = Path(block.wheelhouse) if block.wheelhouse else (unpacked if has_archives else None)
    return RuntimeSpec(
        component=component.name,
        family=block.runtime,
        root=(layout.work(component.name) / (block.root or "environments")).resolve(),
        install=block.install,
        packages=block.packages,
        wheelhouse=wheelhouse,
        index=block.index,
        interpreter=block.interpreter,
    )
