"""Requirements → one version of every component that is needed, or a sentence that says why there is none.

The search is pip's: ``resolvelib`` pins one component after the other, pins anew what a later constraint excludes,
drops what nobody needs any more, and jumps back to the cause of a dead end.  It is chosen over a search of our own
because its corner cases were met by others; it is small, typed and without dependencies.  What is ours is the order:

- of versions: the running one first, then the highest;
- of components: dependers before what they depend on, then by name.  So all constraints on a component are usually
  known when its version is chosen, and nothing depends on the order in which requirements or versions are given.

It ends: each round of the search pins a component or excludes a version, and there are at most ``MAX_ROUNDS``; real
sets take about as many rounds as they have components.  Versions that have no manifest for this device are no
candidates.  SOFT dependencies resolve as HARD ones do.  A set whose dependencies go in a circle is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Final, NoReturn, Protocol, TypeAlias

from resolvelib import AbstractProvider, BaseReporter, Resolver
from resolvelib.resolvers import RequirementInformation, ResolutionImpossible, ResolutionTooDeep

from agent.greengrass.catalog import parts
from agent.greengrass.catalog.absent import absent
from agent.greengrass.deployments.request import Requirements, group_label
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes import platform
from agent.greengrass.recipes.errors import NoManifestError
from agent.greengrass.recipes.platform import Attributes
from agent.greengrass.recipes.recipe import ComponentType, Recipe
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = ["MAX_ROUNDS", "Offers", "Resolution", "resolve"]

MAX_ROUNDS: Final = 2_000
_MANY = 8
"""More versions than these are not listed one by one."""


class Offers(Protocol):
    """Where component versions come from."""

    def versions(self, name: str) -> Sequence[Version]:
        """Every version of a component, in any order; none where it is unknown."""

    def recipe(self, name: str, version: Version) -> Recipe:
        """The recipe of one of those versions; raises ``InvalidInputError`` where it cannot be read."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """One recipe of every component that is needed; ``order`` has dependencies before their dependers."""

    components: Mapping[str, Recipe]
    order: tuple[str, ...]


def resolve(
    requirements: Requirements,
    offers: Offers,
    running: Mapping[str, Version],
    attributes: Attributes | None = None,
) -> Resolution:
    """Choose versions: component → group → requirement are the roots, ``attributes`` this device (None is any).

    Raises:
        DeploymentError: NO_AVAILABLE_COMPONENT_VERSION, COMPONENT_VERSION_REQUIREMENTS_NOT_MET,
            COMPONENT_CIRCULAR_DEPENDENCY_ERROR or MULTIPLE_NUCLEUS_RESOLVED_ERROR, with everybody involved.
        InvalidInputError: as ``offers`` raises it.
    """
    shelf = _Shelf(offers, running, attributes)
    roots = [
        _Need(name, requirement, group_label(group))
        for name, groups in sorted(requirements.items())
        for group, requirement in sorted(groups.items())
    ]
    provider = _Provider(shelf, _ranks(roots, shelf))
    try:
        result = Resolver(provider, BaseReporter[_Need, _Pin, str]()).resolve(roots, max_rounds=MAX_ROUNDS)
    except ResolutionImpossible as error:
        _refuse(error.causes, shelf)
    except ResolutionTooDeep as error:
        raise DeploymentError(
            f"no set of versions was found in {MAX_ROUNDS} steps",
            hint="want fewer versions: give exact ones",
            code="COMPONENT_VERSION_REQUIREMENTS_NOT_MET",
        ) from error
    chosen = {name: shelf.recipe(pin) for name, pin in sorted(result.mapping.items())}
    _one_nucleus(chosen)
    return Resolution(chosen, _order(chosen))


@dataclass(frozen=True, slots=True)
class _Need:
    """Somebody (``by``: a group, or a component and its version) needs a version of a component."""

    name: str
    requirement: Requirement
    by: str
    root: bool = True

    def __str__(self) -> str:
        return f"{self.by} {'wants' if self.root else 'needs'} {self.name} {self.requirement}"


@dataclass(frozen=True, slots=True)
class _Pin:
    """A component at a version."""

    name: str
    version: Version

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


_Information: TypeAlias = RequirementInformation[_Need, _Pin]


class _Shelf:
    """What is offered, in order of preference, read once."""

    def __init__(self, offers: Offers, running: Mapping[str, Version], attributes: Attributes | None) -> None:
        self._offers = offers
        self._running = running
        self._attributes = attributes
        self._pins: dict[str, tuple[_Pin, ...]] = {}
        self._recipes: dict[_Pin, Recipe] = {}

    def pins(self, name: str) -> tuple[_Pin, ...]:
        """Every version: the running one, then the highest."""
        if name not in self._pins:
            versions = sorted(set(self._offers.versions(name)), reverse=True)
            versions.sort(key=lambda version: version != self._running.get(name))
            self._pins[name] = tuple(_Pin(name, version) for version in versions)
        return self._pins[name]

    def fitting(self, name: str, requirements: Sequence[Requirement]) -> Iterator[_Pin]:
        """The versions that satisfy everybody and are for this device; recipes are read as they are asked for."""
        for pin in self.pins(name):
            if all(requirement.allows(pin.version) for requirement in requirements) and self.misfit(pin) is None:
                yield pin

    def misfit(self, pin: _Pin) -> NoManifestError | None:
        """Why a version is not for this device; None if it is."""
        if self._attributes is not None:
            try:
                platform.choose(self.recipe(pin), self._attributes)
            except NoManifestError as error:
                return error
        return None

    def recipe(self, pin: _Pin) -> Recipe:
        """The recipe of a version."""
        if pin not in self._recipes:
            self._recipes[pin] = self._offers.recipe(pin.name, pin.version)
        return self._recipes[pin]

    def needs(self, pin: _Pin) -> list[_Need]:
        """What a version depends on."""
        return [
            _Need(name, parts.met(name, one.requirement, pin.name), str(pin), root=False)
            for name, one in sorted(self.recipe(pin).dependencies.items())
        ]


class _Provider(AbstractProvider[_Need, _Pin, str]):
    """The shelf as ``resolvelib`` asks for it."""

    def __init__(self, shelf: _Shelf, ranks: Mapping[str, int]) -> None:
        self._shelf = shelf
        self._ranks = ranks

    def identify(self, requirement_or_candidate: _Need | _Pin) -> str:
        return requirement_or_candidate.name

    def get_preference(
        self,
        identifier: str,
        resolutions: Mapping[str, _Pin],  # noqa: ARG002 the library's signature
        candidates: Mapping[str, Iterator[_Pin]],  # noqa: ARG002
        information: Mapping[str, Iterator[_Information]],  # noqa: ARG002
        backtrack_causes: Sequence[_Information],  # noqa: ARG002
    ) -> tuple[int, str]:
        return self._ranks.get(identifier, len(self._ranks)), identifier

    def find_matches(
        self,
        identifier: str,
        requirements: Mapping[str, Iterator[_Need]],
        incompatibilities: Mapping[str, Iterator[_Pin]],
    ) -> Callable[[], Iterator[_Pin]]:
        wanted = [need.requirement for need in requirements[identifier]]
        excluded = set(incompatibilities[identifier])
        return lambda: (pin for pin in self._shelf.fitting(identifier, wanted) if pin not in excluded)

    def is_satisfied_by(self, requirement: _Need, candidate: _Pin) -> bool:
        return requirement.requirement.allows(candidate.version)

    def get_dependencies(self, candidate: _Pin) -> list[_Need]:
        return self._shelf.needs(candidate)


def _ranks(roots: Sequence[_Need], shelf: _Shelf) -> dict[str, int]:
    """Dependers before dependencies, as far as the versions show that would be chosen without any conflict."""
    wanted: dict[str, list[Requirement]] = {}
    for root in roots:
        wanted.setdefault(root.name, []).append(root.requirement)
    graph: dict[str, list[str]] = {}
    waiting = sorted(wanted)
    while waiting:
        name = waiting.pop(0)
        if name not in graph:
            pin = next(shelf.fitting(name, wanted.get(name, ())), None)
            needs = shelf.needs(pin) if pin else []
            graph[name] = [need.name for need in needs]
            for need in needs:
                wanted.setdefault(need.name, []).append(need.requirement)
            waiting += graph[name]
    try:
        order = list(TopologicalSorter({name: sorted(graph[name]) for name in sorted(graph)}).static_order())
    except CycleError:
        order = sorted(graph, reverse=True)
    return {name: rank for rank, name in enumerate(reversed(order))}


def _order(chosen: Mapping[str, Recipe]) -> tuple[str, ...]:
    graph = {name: sorted(recipe.dependencies) for name, recipe in chosen.items()}
    try:
        return tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        # The library lists a circle from dependency to depender, its first again at the end.
        circle = list(reversed(error.args[1]))
        needs = ", ".join(
            f"{name} {chosen[name].version} needs {other} {chosen[name].dependencies[other].requirement}"
            for name, other in pairwise(circle)
        )
        raise DeploymentError(
            f"dependencies go in a circle: {needs}",
            hint="take one of them out of its recipe",
            code="COMPONENT_CIRCULAR_DEPENDENCY_ERROR",
        ) from None


def _one_nucleus(chosen: Mapping[str, Recipe]) -> None:
    nuclei = [f"{name} {recipe.version}" for name, recipe in chosen.items() if recipe.type is ComponentType.NUCLEUS]
    if len(nuclei) > 1:
        raise DeploymentError(
            f"there can be one nucleus, and these are several: {', '.join(nuclei)}",
            code="MULTIPLE_NUCLEUS_RESOLVED_ERROR",
        )


def _refuse(causes: Iterable[_Information], shelf: _Shelf) -> NoReturn:
    """Raise the conflict in one sentence: first the component on which nobody can agree, else all that took part."""
    needs: dict[str, list[_Need]] = {}
    for cause in sorted(causes, key=lambda cause: str(cause.requirement)):
        known = needs.setdefault(cause.requirement.name, [])
        if cause.requirement not in known:
            known.append(cause.requirement)
    stuck = [name for name in sorted(needs) if not any(shelf.fitting(name, [n.requirement for n in needs[name]]))]
    named = stuck[:1] or sorted(needs)
    involved = [need for name in named for need in needs[name]]
    if stuck:
        for pin in shelf.pins(stuck[0]):
            if all(need.requirement.allows(pin.version) for need in involved) and (misfit := shelf.misfit(pin)):
                raise DeploymentError(misfit.message, hint=misfit.hint, code="NO_AVAILABLE_COMPONENT_VERSION") from None
        _refuse_aws(stuck[0], involved, shelf)
    several = len(involved) > 1 and all(shelf.pins(name) for name in named)
    raise DeploymentError(
        f"{', '.join(map(str, involved))}; {' and '.join(_offered(name, shelf) for name in named)}",
        hint="deploy versions that fit together" if several else "publish a version that fits, or want another",
        code="COMPONENT_VERSION_REQUIREMENTS_NOT_MET" if several else "NO_AVAILABLE_COMPONENT_VERSION",
    )


def _refuse_aws(name: str, involved: Sequence[_Need], shelf: _Shelf) -> None:
    """Raise what is to be said of a component of AWS's that is not offered, or of a nucleus newer than the agent's."""
    if not shelf.pins(name) and (missing := absent(name)):
        message, hint = missing
    elif name in parts.NAMES:
        message = f"this agent follows the nucleus {parts.AS_NUCLEUS}"
        hint = "lower the bound in ComponentDependencies if the component needs nothing newer"
    else:
        return
    needs = ", ".join(map(str, involved))
    raise DeploymentError(f"{needs}; {message}", hint=hint, code="NO_AVAILABLE_COMPONENT_VERSION")


def _offered(name: str, shelf: _Shelf) -> str:
    versions = [str(pin.version) for pin in sorted(shelf.pins(name), key=lambda pin: pin.version)]
    if not versions:
        return f"there is no {name}"
    left_out = len(versions) - _MANY
    if left_out > 0:
        versions = [f"{left_out} older ones", *versions[-_MANY:]]
    *front, last = versions
    return f"of {name} there {'are' if front else 'is'} " + (f"{', '.join(front)} and {last}" if front else last)
