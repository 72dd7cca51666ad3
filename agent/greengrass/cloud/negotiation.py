"""Which versions the cloud chooses for what a device is to run, before the resolver puts the set together.

The cloud chooses one version of one component at a time, and its recipe tells what else is needed.  So it is asked
level by level: the roots, then what their recipes depend on, HARD and SOFT; whoever turns out to be wanted by more is
asked about again with all that want it, and what nobody needs any more is forgotten.  It ends when a round changes
nothing.  Equal questions are asked once.

==========================================================  =================================================
a component                                                 comes from
==========================================================  =================================================
of the agent, or that the document brings (``ours``)        what is known here; the cloud is not asked
wanted by the local group, and known here in a fitting one  what is known here; the cloud is not asked
that the cloud has                                          the cloud: its version, its recipe
known here, and the cloud refuses, is silent or has none    what is known here: running, else the highest
known to nobody                                             nowhere: the resolver says who wanted it
of which the cloud could not be asked, not known here       nowhere: NO_AVAILABLE_COMPONENT_VERSION, and why
==========================================================  =================================================

Nothing is kept here: recipes are stored when the deployment commits, as any others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agent.errors import VergeError
from agent.greengrass.artifacts.retry import OnRetry
from agent.greengrass.cloud.errors import GreengrassError, GreengrassUnreachableError
from agent.greengrass.cloud.messages import Question, Resolved
from agent.greengrass.recipes import platform
from agent.greengrass.recipes.errors import NoManifestError
from agent.greengrass.recipes.platform import Attributes
from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = ["LOCAL_GROUP", "MAX_ROUNDS", "Chosen", "Cloud", "Known", "Requirements", "negotiated"]

log = logging.getLogger(__name__)

LOCAL_GROUP: Final = "LOCAL_DEPLOYMENT"
MAX_ROUNDS: Final = 64
"""More levels than any real set has; versions that exclude each other in turn would take forever."""
_MAX_QUESTIONS: Final = 1_000
_PARALLEL: Final = 4

Requirements = Mapping[str, Mapping[str, Requirement]]
"""Component → group → which versions it wants."""


class Known(Protocol):
    """What there is without the cloud."""

    def versions(self, name: str) -> Sequence[Version]:
        """Every version of a component, in any order; none where it is unknown."""

    def recipe(self, name: str, version: Version) -> Recipe:
        """The recipe of one of those versions."""


class Cloud(Protocol):
    """Whoever can be asked: ``agent.greengrass.cloud.client``."""

    async def resolve(
        self, question: Question, attributes: Attributes, candidate: Version | None, on_retry: OnRetry
    ) -> Resolved | None:
        """The version that the cloud chooses for a device that has ``candidate`` already; None if it has none."""


async def negotiated(
    requirements: Requirements,
    known: Known,
    running: Mapping[str, Version],
    attributes: Attributes,
    client: Cloud,
    *,
    ours: Collection[str] = (),
    on_retry: OnRetry = lambda _retry: None,
) -> list[Recipe]:
    """The recipes that the cloud chose for the set, by name; the others are among the known.

    ``on_retry`` is called whenever the cloud cannot be reached and is going to be asked again.

    Raises:
        GreengrassError: the cloud refuses, and nothing known would do; or the versions never settle.
        GreengrassUnreachableError: the cloud could not be asked, and nothing known would do.
    """
    talks = _Talks(known, running, attributes, client, frozenset(ours), on_retry)
    chosen: dict[str, Recipe] = {}
    for _ in range(MAX_ROUNDS):
        questions = _questions(requirements, chosen)
        answers = await talks.answers(questions)
        before, chosen = chosen, {each.name: found.recipe for each, found in answers.items() if found.recipe}
        if chosen == before:
            for question, found in answers.items():
                if found.error is not None:
                    raise _unavailable(question, found.error) from found.error
            return [found.recipe for found in answers.values() if found.recipe and found.cloud]
    raise _unsettled(f"after {MAX_ROUNDS} rounds")


class Chosen:
    """What the cloud chose, and what is known of all other components: offers for the resolver.

    Of a component that the cloud chose there is that version alone.
    """

    def __init__(self, known: Known, recipes: Iterable[Recipe]) -> None:
        self._known = known
        self._recipes = {recipe.name: recipe for recipe in recipes}

    def versions(self, name: str) -> Sequence[Version]:
        """Every version there is of a component."""
        chosen = self._recipes.get(name)
        return [chosen.version] if chosen else self._known.versions(name)

    def recipe(self, name: str, version: Version) -> Recipe:
        """The recipe of one of those versions."""
        chosen = self._recipes.get(name)
        return chosen if chosen and chosen.version == version else self._known.recipe(name, version)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a question came to; neither recipe nor error: nobody has a version that fits."""

    recipe: Recipe | None = None
    cloud: bool = False
    error: GreengrassError | GreengrassUnreachableError | None = None


class _Talks:
    """Asks what was not asked before."""

    def __init__(
        self, known: Known, running: Mapping[str, Version], attributes: Attributes, client: Cloud,
        ours: frozenset[str], on_retry: OnRetry,
    ) -> None:  # fmt: skip
        self._known = known
        self._running = running
        self._attributes = attributes
        self._client = client
        self._ours = ours
        self._on_retry = on_retry
        self._found: dict[Question, _Found] = {}
        self._silent = False
        self._gate = asyncio.Semaphore(_PARALLEL)

    async def answers(self, questions: Iterable[Question]) -> dict[Question, _Found]:
        """What each comes to, in order."""
        fresh = [each for each in questions if each not in self._found]
        if len(self._found) + len(fresh) > _MAX_QUESTIONS:
            raise _unsettled(f"after {_MAX_QUESTIONS} questions")
        local = {each: self._local(each) for each in fresh}
        async with asyncio.TaskGroup() as tasks:
            asked = {
                each: tasks.create_task(self._answer(each, local[each]), name=f"agent.greengrass.{each.name}")
                for each in fresh
            }
        self._found |= {each: task.result() for each, task in asked.items()}
        return {each: self._found[each] for each in questions}

    async def _answer(self, question: Question, local: Recipe | None) -> _Found:
        mine = any(by == LOCAL_GROUP for by, _ in question.wanted)
        if question.name in self._ours or (mine and local is not None):
            return _Found(local)
        try:
            async with self._gate:
                if self._silent and local is not None:
                    return _Found(local)
                candidate = local.version if local else None
                resolved = await self._client.resolve(question, self._attributes, candidate, self._on_retry)
        except (GreengrassError, GreengrassUnreachableError) as error:
            self._silent = isinstance(error, GreengrassUnreachableError)
            if local is None:
                return _Found(error=error)
            log.warning("%s stays %s, as known here: %s", question.name, local.version, error)
            return _Found(local)
        self._silent = False
        return self._taken(question, resolved, local)

    def _taken(self, question: Question, resolved: Resolved | None, local: Recipe | None) -> _Found:
        if resolved is None:
            log.info("the cloud has no version of %s", question)
            return _Found(local)
        if resolved.caution:
            log.warning("%s %s: its vendor says %s", question.name, resolved.recipe.version, resolved.caution)
        return _Found(resolved.recipe, cloud=True)

    def _local(self, question: Question) -> Recipe | None:
        """The running version if it fits, else the highest that does."""
        versions = sorted(self._known.versions(question.name), reverse=True)
        versions.sort(key=lambda version: version != self._running.get(question.name))
        fitting = (self._known.recipe(question.name, each) for each in versions if question.allows(each))
        return next((recipe for recipe in fitting if self._is_for_this(recipe)), None)

    def _is_for_this(self, recipe: Recipe) -> bool:
        try:
            platform.choose(recipe, self._attributes)
        except NoManifestError:
            return False
        return True


def _questions(requirements: Requirements, chosen: Mapping[str, Recipe]) -> list[Question]:
    """What is to be asked about what is wanted now: the roots and all that the chosen versions lead to, by name."""
    wanted: dict[str, dict[str, Requirement]] = {}
    for name, groups in requirements.items():
        wanted.setdefault(name, {}).update(groups)
    waiting, seen = sorted(wanted), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        recipe = chosen.get(name)
        for other, dependency in recipe.dependencies.items() if recipe else ():
            wanted.setdefault(other, {})[name] = dependency.requirement
            waiting.append(other)
    return [
        Question(name, tuple(sorted(each.items(), key=lambda item: item[0]))) for name, each in sorted(wanted.items())
    ]


def _unavailable(question: Question, error: GreengrassError | GreengrassUnreachableError) -> VergeError:
    return type(error)(
        f"{question}: none is known here that fits, and the cloud could not be asked: {error.message}",
        hint=error.hint,
        code="NO_AVAILABLE_COMPONENT_VERSION",
    )


def _unsettled(when: str) -> GreengrassError:
    return GreengrassError(
        f"the cloud's versions still exclude each other {when}",
        hint="want exact versions that fit together",
        code="COMPONENT_VERSION_REQUIREMENTS_NOT_MET",
    )
