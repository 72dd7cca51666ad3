"""Every component of the catalog, as a table: what it is, what it is configured with, which versions there are of it.

The versions are those that AWS's documentation lists, and room for the patches that came since: documents ask for
whatever was the latest when they were written, and behind each number stands the same agent.  AWS raised a patch
with every nucleus and narrowed the nucleus to that one; here every version takes any nucleus 2.x.

A recipe's configuration is AWS's own, key for key, and nothing of Verge's: it stays on a device when the owner puts a
component of the same name in place, and a model or a runtime that it named would then outlive its recipe.

A recipe is the catalog's by what it says, not by being the same object: one that an older agent wrote down, with other
words of description, is too.  What an owner publishes under a name of the catalog has files or scripts, or another
publisher.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from agent.errors import InvalidInputError
from agent.greengrass.catalog.families import FAMILIES, Family
from agent.greengrass.recipes.recipe import ComponentType, Dependency, Manifest, Recipe
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = [
    "ENTRIES",
    "PUBLISHER",
    "CatalogEntry",
    "Series",
    "completed",
    "is_ours",
    "names",
    "recipe",
    "versions",
]

_NEWEST: Final = 20
"""The last patch of a series that may still have grown."""
_EVERYWHERE: Final = ("arm", "aarch64", "amd64")
PUBLISHER: Final = "Verge"
_BLOCK: Final = "Verge"


@dataclass(frozen=True, slots=True)
class Series:
    """The versions ``major.minor.first`` to ``major.minor.last``."""

    major: int
    minor: int
    first: int = 0
    last: int = _NEWEST


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A component in one or more series of versions; ``block`` is the ``Verge`` block that stands for it."""

    type: ComponentType
    description: str
    series: tuple[Series, ...]
    configuration: Mapping[str, Any] = field(default_factory=dict)
    dependencies: Mapping[str, Dependency] = field(default_factory=dict)
    architectures: tuple[str, ...] = _EVERYWHERE
    """Empty: every one."""
    block: Mapping[str, Any] = field(default_factory=dict)

    @property
    def versions(self) -> tuple[Version, ...]:
        """Every version."""
        return tuple(
            Version(one.major, one.minor, patch) for one in self.series for patch in range(one.first, one.last + 1)
        )


def _hard(requirement: str) -> Dependency:
    return Dependency(Requirement.parse(requirement))


def _soft(requirement: str) -> Dependency:
    return Dependency(Requirement.parse(requirement), hard=False)


_NUCLEUS: Final = {"aws.greengrass.Nucleus": _soft(">=2.0.0 <3.0.0")}
_SERIES_21: Final = (Series(2, 1),)
_SERIES_20: Final = (Series(2, 0),)
_TASKS: Final = {"classifier": "Classifies pictures", "detector": "Finds objects in pictures"}
_OLD_STORES: Final = {
    "classifier": "variant.ImageClassification.ModelStore",
    "detector": "variant.ObjectDetection.ModelStore",
}
"""What the stores of DLR were called in 2.0.x, when there was no other runtime."""


def _inference(name: str, family: Family, series: tuple[Series, ...], needs: Mapping[str, Dependency]) -> CatalogEntry:
    policy = {
        "policyDescription": f"Lets the component publish its results on {family.topic}",
        "operations": ["aws.greengrass#PublishToIoTCore"],
        "resources": [family.topic],
    }
    return CatalogEntry(
        ComponentType.INFERENCE,
        f"{_TASKS[family.sample]} at an interval, with the model of {family.store}",
        series,
        configuration={
            "accessControl": {"aws.greengrass.ipc.mqttproxy": {f"{name}:mqttproxy:1": policy}},
            "PublishResultsOnTopic": family.topic,
            "ImageName": family.image,
            "InferenceInterval": "3600",
            "ModelResourceKey": dict(family.archives),
        },
        dependencies={**_NUCLEUS, **needs},
    )


def _of_family(name: str, family: Family) -> tuple[CatalogEntry, ...]:
    needs = {family.store: _hard(family.store_range), family.runtime: _hard(family.runtime_range)}
    entries = [_inference(name, family, _SERIES_21, needs)]
    if family.runtime == "variant.DLR":
        older = {_OLD_STORES[family.sample]: _hard("~2.0.0"), family.runtime: _soft("~1.3.0")}
        entries.append(_inference(name, family, _SERIES_20, older))
    return tuple(entries)


def _store(sample: str, series: tuple[Series, ...]) -> tuple[CatalogEntry, ...]:
    what = f"The {sample} that ships with the agent; a component of this name and of your own brings another model"
    return (CatalogEntry(ComponentType.MODEL, what, series, dependencies=_NUCLEUS, block={"Sample": sample}),)


def _runtime(name: str, family: str, series: tuple[Series, ...], *, aws: bool) -> tuple[CatalogEntry, ...]:
    return (
        CatalogEntry(
            ComponentType.RUNTIME,
            f"An environment of its own in which workers run models with {family}",
            series,
            configuration={
                "MLRootPath": f"../{name}/{'greengrass_ml' if aws else 'environments'}",
                "UseInstaller": "true",
            },
            dependencies=_NUCLEUS,
            architectures=_EVERYWHERE if aws else (),
            block={"Runtime": family},
        ),
    )


def _edge_manager() -> tuple[CatalogEntry, ...]:
    capture = {
        "CaptureDataBatchSize": "10",
        "CaptureDataBufferSize": "30",
        "CaptureDataDestination": "Cloud",
        "CaptureDataPeriodicUpload": "false",
        "CaptureDataPeriodicUploadPeriodSeconds": "8",
        "CaptureDataPushPeriodSeconds": "4",
        "CaptureDataBase64EmbedLimit": "3072",
        "FolderPrefix": "sme-capture",
    }
    common = {
        **capture,
        "SagemakerEdgeLogVerbose": "false",
        "UnixSocketName": "/tmp/aws.greengrass.SageMakerEdgeManager.sock",  # noqa: S108 where clients look for it
    }
    deploying = {"DbEnable": "false", "DeploymentEnable": "false", "DeploymentPollInterval": "1440"}
    what = "SageMaker Edge Manager's agent: models over gRPC on a local socket"
    needs = {**_NUCLEUS, "aws.greengrass.TokenExchangeService": _hard(">=0.0.0")}
    sixty_four = ("aarch64", "amd64")
    return (
        CatalogEntry(ComponentType.SERVER, what, (Series(1, 2), Series(1, 3)), common | deploying, needs, sixty_four),
        CatalogEntry(ComponentType.SERVER, what, (Series(1, 0), Series(1, 1)), common, needs, sixty_four),
    )


def _edge_agent() -> tuple[CatalogEntry, ...]:
    return (
        CatalogEntry(
            ComponentType.SERVER,
            "Lookout for Vision's edge agent: anomaly models over gRPC on a local socket",
            (Series(0, 1, 36, 60), Series(1, 0), Series(1, 1), Series(1, 2)),
            configuration={"Socket": "unix:///tmp/aws.iot.lookoutvision.EdgeAgent.sock"},
            architectures=("aarch64", "amd64"),
        ),
    )


def _service(what: str, major: int, minors: range, *, tokens: bool = False) -> tuple[CatalogEntry, ...]:
    series = tuple(Series(major, minor) for minor in reversed(minors))
    needs = {"aws.greengrass.TokenExchangeService": _hard(">=2.0.0 <3.0.0")} if tokens else {}
    return (CatalogEntry(ComponentType.SERVICE, what, series, dependencies={**_NUCLEUS, **needs}, architectures=()),)


_STORES: Final = {family.store: family.sample for family in FAMILIES.values()}

ENTRIES: Final[Mapping[str, tuple[CatalogEntry, ...]]] = {
    **{name: _of_family(name, family) for name, family in FAMILIES.items()},
    **{name: _store(sample, _SERIES_21) for name, sample in _STORES.items()},
    **{name: _store(sample, _SERIES_20) for sample, name in _OLD_STORES.items()},
    "variant.TensorFlowLite": _runtime("variant.TensorFlowLite", "litert", (Series(2, 5),), aws=True),
    "variant.DLR": _runtime("variant.DLR", "dlr", (Series(1, 3), Series(1, 6)), aws=True),
    **{
        f"verge.runtime.{family}": _runtime(f"verge.runtime.{family}", family, (Series(1, 0, 0, 0),), aws=False)
        for family in ("litert", "onnx", "opencv", "dlr")
    },
    "aws.greengrass.ShadowManager": _service("Local shadows, and their sync with the cloud", 2, range(4)),
    "aws.greengrass.SecretManager": _service("Secrets for components", 2, range(3)),
    "aws.greengrass.StreamManager": _service("Streams on the device, exported to the cloud", 2, range(3), tokens=True),
    "aws.greengrass.DockerApplicationManager": _service("Pulls images for components", 2, range(1)),
    "aws.greengrass.LogManager": _service("Uploads components' logs, and bounds them on the disk", 2, range(4)),
    "aws.greengrass.SageMakerEdgeManager": _edge_manager(),
    "aws.iot.lookoutvision.EdgeAgent": _edge_agent(),
}
"""Name → what it is, in each of its series."""


def names() -> list[str]:
    """Every component of the catalog.

    >>> "variant.DLR" in names()
    True
    """
    return sorted(ENTRIES)


@cache
def versions(name: str) -> tuple[Version, ...]:
    """Every version of a component, the oldest first; none where the catalog does not have it."""
    return tuple(sorted(version for entry in ENTRIES.get(name, ()) for version in entry.versions))


@cache
def recipe(name: str, version: Version) -> Recipe:
    """One of those versions; raises ``InvalidInputError`` for any other."""
    entry = _entry(name, version)
    if entry is None:
        message = f"the catalog has no {name} {version}"
        raise InvalidInputError(message, hint=_offered(name), code="NO_AVAILABLE_COMPONENT_VERSION")
    return Recipe(
        name=name,
        version=version,
        type=entry.type,
        description=entry.description,
        publisher=PUBLISHER,
        configuration=entry.configuration,
        dependencies=entry.dependencies,
        manifests=_manifests(entry),
    )


def is_ours(candidate: Recipe) -> bool:
    """Whether a recipe comes from the catalog, of this agent or of an older one."""
    entry = _entry(candidate.name, candidate.version)
    if entry is None or candidate.type is not entry.type or candidate.publisher != PUBLISHER:
        return False
    acts = candidate.lifecycle or any(manifest.artifacts or manifest.lifecycle for manifest in candidate.manifests)
    return not acts


def completed(candidate: Recipe, configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A component's configuration with the ``Verge`` block that the catalog stands behind; the owner's keys win.

    It is not stored with the component: see ``entries``.  Recipes of others are left as they are.

    >>> completed(recipe("variant.DLR", Version(1, 6, 9)), {"UseInstaller": "true"})
    {'UseInstaller': 'true', 'Verge': {'Runtime': 'dlr'}}
    """
    entry = _entry(candidate.name, candidate.version) if is_ours(candidate) else None
    if entry is None or not entry.block:
        return dict(configuration)
    spelled = next((key for key in configuration if key.lower() == _BLOCK.lower()), _BLOCK)
    own = configuration.get(spelled)
    if own is not None and not isinstance(own, Mapping):
        return dict(configuration)
    said = {key.lower() for key, value in (own or {}).items() if value is not None}
    base = {key: value for key, value in entry.block.items() if key.lower() not in said}
    return {**configuration, spelled: {**(own or {}), **base}}


def _entry(name: str, version: Version) -> CatalogEntry | None:
    return next((entry for entry in ENTRIES.get(name, ()) if version in entry.versions), None)


def _manifests(entry: CatalogEntry) -> tuple[Manifest, ...]:
    if not entry.architectures:
        return (Manifest(platform={"os": "linux"}),)
    return tuple(
        Manifest(name=f"Linux, {name}", platform={"os": "linux", "architecture": name}) for name in entry.architectures
    )


def _offered(name: str) -> str:
    offered = versions(name)
    return f"it has {offered[0]} to {offered[-1]}" if offered else "known: " + ", ".join(names())
