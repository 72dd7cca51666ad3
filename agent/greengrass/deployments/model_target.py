"""The model that a stream runs, as the inference plane is told: found among a component's files, keyed by what it is.

A model is loaded once for each way in which it is run; its key names the component, the version and a digest of
everything that makes a difference, so that two sets side by side share what they have in common and nothing else.
"""

from __future__ import annotations

import glob
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from agent.greengrass.artifacts.uri import file_name
from agent.greengrass.deployments.environments import runtime_for
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.plan import Planned
from agent.greengrass.recipes.recipe import Unarchive
from agent.inference import manifest
from agent.inference.environments.spec import Environment
from agent.inference.manifest import ModelSpec

__all__ = ["ModelTarget", "model_target"]


@dataclass(frozen=True, slots=True)
class ModelTarget:
    """A model as a stream runs it."""

    component: str
    spec: ModelSpec
    golden: Path | None
    """The folder of golden frames, if the model brings one."""


def model_target(
    each: Planned, known: Mapping[str, Planned], layout: Layout, environments: Mapping[str, Environment]
) -> tuple[str, ModelTarget]:
    """The model of the stream ``each`` and its key; ``known`` is the set.

    Raises ``ModelRefusedError``, ``ConfigError`` or ``DeploymentError`` for a model that is not where it should be.
    """
    assert each.inference is not None  # noqa: S101 the caller asked
    component = known[each.inference.stream.model]
    if component.model is None:
        raise _wrong(
            f"{each.name}: Verge.Model is {component.name}, which brings no model",
            "a model component has ComponentType: verge.model, or a Verge block with an Archive",
        )
    folder = _folder(component, layout, each.inference.archive)
    described = component.model.options(component.name, str(folder))
    options = each.inference.model_options(described, partial(_code, each, layout))
    spec = manifest.resolve(options, folder)
    named = msgspec.structs.replace(spec.manifest, name=component.name, version=str(component.new))
    environment = runtime_for(spec, environments, component.recipe.dependencies, each.recipe.dependencies)
    interpreter = environment.python if environment is not None and not environment.own else ""
    spec = msgspec.structs.replace(spec, manifest=named, run=msgspec.structs.replace(spec.run, interpreter=interpreter))
    golden = folder / "golden"
    key = f"{component.name}@{component.new}#{_difference(spec)}"
    return key, ModelTarget(component.name, spec, golden if golden.is_dir() else None)


def _code(each: Planned, layout: Layout, name: str) -> str:
    """``file.py:Name`` with the file's place among the component's artifacts; any other name as it is."""
    file, _, attribute = name.partition(":")
    if not file.endswith(".py"):
        return name
    folders = layout.folders(each.name, each.new)
    places = [folders[0] / file, *sorted(folders[1].glob(f"*/{glob.escape(file)}"))]
    for place in places:
        if place.is_file() and any(place.resolve().is_relative_to(folder.resolve()) for folder in folders):
            return f"{place.resolve()}:{attribute}"
    raise _wrong(f"{each.name}: there is no {file} among its artifacts", "add it to the recipe's Artifacts")


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
    names = [file_name(each.uri) for each in artifacts if each.unarchive is Unarchive.ZIP]
    archive, _, inside = asked.partition("/")
    named = next((name for name in names if archive in {name, Path(name).stem}), "")
    wanted = component.model.archive or named or (names[0] if len(names) == 1 else "")
    if not wanted and (not names or len(names) < len(artifacts)):
        return layout.artifacts(component.name, component.new)
    unpacked = layout.unarchived(component.name, component.new) / Path(wanted).stem
    folder = unpacked / inside if wanted == named else unpacked
    if wanted not in names or not folder.is_dir() or not folder.resolve().is_relative_to(unpacked.resolve()):
        told = component.model.archive or asked
        raise _wrong(
            f"{component.name} has {f'no archive {told!r}' if told else 'several archives, and none of them is named'}",
            f"there are: {', '.join(names) or 'none'}; name one with ModelResourceKey or Verge.Archive",
        )
    return manifest.unwrapped(folder)


def _wrong(message: str, hint: str) -> DeploymentError:
    return DeploymentError(message, hint=hint, code="COMPONENT_CONFIGURATION_NOT_VALID")


def _difference(spec: ModelSpec) -> str:
    """Everything that makes a loaded model another one, the file itself included."""
    place = Path(spec.manifest.file)
    files = sorted(each for each in place.iterdir() if each.is_file()) if place.is_dir() else [place]
    files += [Path(name) for name in _code_files(spec)]
    found = [(each.name, told.st_ino, told.st_size, told.st_mtime_ns) for each in files for told in (each.stat(),)]
    told = msgspec.json.encode([spec, found])
    return hashlib.sha256(told).hexdigest()[:8]


def _code_files(spec: ModelSpec) -> list[str]:
    """The files of the user's own code."""
    told = spec.manifest
    named = (told.backend, told.task, told.preprocess, told.postprocess)
    files = (name.rpartition(":")[0] for name in named)
    return [file for file in files if file.endswith(".py")]
