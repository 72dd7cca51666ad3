"""One deployment as a transaction: document → resolve → fetch → stage │ activate → verify → commit | roll back.

Each step is in the ledger before it is taken.  Up to activation nothing has changed and a failure leaves it so; from
there on a failure puts the old set back.  The commit is one write.  What a power cut interrupted is found at the next
start: before activation it begins anew (twice at most), after that the old set, which is still the active one, goes on
and the deployment has failed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from agent.errors import VergeError
from agent.files import remove_tree
from agent.greengrass import catalog
from agent.greengrass.artifacts.fetch import Fetcher, Progress, Wanted
from agent.greengrass.catalog.keys import Device
from agent.greengrass.cloud.negotiation import Chosen, Cloud, negotiated
from agent.greengrass.components.order import start_order
from agent.greengrass.deployments import trial
from agent.greengrass.deployments.activation import Change, Live, RollbackFailedError
from agent.greengrass.deployments.catalogue import BUILTINS, Catalogue, unpinned
from agent.greengrass.deployments.endings import complaints, outcome_of
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.groups import merge
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import Ledger, Step
from agent.greengrass.deployments.library import Library
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome, failed
from agent.greengrass.deployments.plan import Kind, Plan, Planned, plan
from agent.greengrass.deployments.providing import Environments
from agent.greengrass.deployments.request import Deployment, FailurePolicy, Source
from agent.greengrass.deployments.resolver import Offers, Resolution, resolve
from agent.greengrass.deployments.rollback import rollback
from agent.greengrass.deployments.state import State
from agent.greengrass.deployments.target import Target, target
from agent.greengrass.deployments.trial import Seen
from agent.greengrass.recipes.platform import Attributes
from agent.inference.environments.spec import Environment
from agent.inference.manifest import SAMPLES
from agent.inference.plane import InferencePlane
from agent.streams.streams import Streams

__all__ = ["Deployer", "Report"]

log = logging.getLogger(__name__)

Report = Callable[[Deployment, Step, Mapping[str, Any]], None]
"""Hears how far a deployment has come, with details for a person."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    plan: Plan
    state: State


class Deployer:
    """Runs deployments, one at a time; ``state`` is the active set."""

    def __init__(
        self, thing: str, layout: Layout, ledger: Ledger, library: Library, fetcher: Fetcher, live: Live, *,
        granted: Mapping[str, str], environments: Environments, plane: InferencePlane, streams: Streams,
        attributes: Attributes, report: Report, cloud: Cloud | None = None,
    ) -> None:  # fmt: skip
        self.state = State()
        self.previous: State | None = None
        """What was active before it: where a rollback goes."""
        self.environments: Mapping[str, Environment] = {}
        """Of the runtime components of the active set."""
        self.complaints: Mapping[str, str] = {}
        """Component → why the last deployment did not change it."""
        self._environments = environments
        self._granted = granted
        self._thing = thing
        self._layout = layout
        self._ledger = ledger
        self._library = library
        self._fetcher = fetcher
        self._live = live
        self._plane = plane
        self._streams = streams
        self._attributes = attributes
        self._report = report
        self._cloud = cloud

    async def start(self) -> None:
        """Make the active set live; what of it cannot be is told in the log and on its topics."""
        await asyncio.to_thread(self._library.open)
        content, previous = await self._ledger.active()
        self.state = State.load(content)
        self.previous = State.load(previous) if previous is not None else None
        await asyncio.to_thread(self._shelve)
        if not self.state.active.components:
            return
        try:
            components = self._kept(self.state).components
            self.environments = await self._environments.provide(components, _logged)
            wanted = await self._target(components, self.environments)
            await self._live.start(wanted)
        except (VergeError, OSError):
            log.exception("the active set cannot be made live; deploy one that can")

    async def deploy(
        self, deployment: Deployment, seq: int, may_activate: Callable[[], bool], *, digests: bool = False
    ) -> Outcome | None:
        """Run a deployment to its end; None when ``may_activate`` forbade the activation: it was cancelled.

        With ``digests``, artifacts that tell none are refused.
        """
        wanted = "back to the set before" if deployment.rollback else ", ".join(deployment.wanted) or "nothing stays"
        log.info("deployment %s begins: %s", deployment.id, wanted)
        try:
            candidate = await self._candidate(deployment)
            await self._note(deployment, seq, Step.RESOLVED, _told(candidate.plan))
            if digests:
                _demand_digests(candidate.plan)
            await self._stage(deployment, candidate.plan)
            environments = await self._provide(deployment, candidate.plan)
            await self._note(deployment, seq, Step.STAGED, {})
            if not may_activate():
                return None
            outcome = await self._activate(deployment, seq, candidate, environments)
        except RollbackFailedError as error:
            outcome = failed(DetailedStatus.FAILED_UNABLE_TO_ROLLBACK, error)
        except (VergeError, OSError) as error:
            touched = self._live.touched
            status = DetailedStatus.FAILED_ROLLBACK_COMPLETE if touched else DetailedStatus.FAILED_NO_STATE_CHANGE
            outcome = failed(status, error)
            self.complaints = complaints(deployment, self.state, error)
        except Exception as error:  # a fault of ours costs this deployment, and not the agent
            log.exception("deployment %s failed unexpectedly", deployment.id)
            touched = self._live.touched
            status = DetailedStatus.FAILED_ROLLBACK_COMPLETE if touched else DetailedStatus.FAILED_NO_STATE_CHANGE
            outcome = failed(status, error)
            self.complaints = complaints(deployment, self.state, error)
        level = logging.INFO if outcome.status is DetailedStatus.SUCCESSFUL else logging.WARNING
        log.log(level, "deployment %s: %s%s", deployment.id, outcome.status, outcome.cause and f": {outcome.cause}")
        return outcome

    async def _candidate(self, deployment: Deployment) -> _Candidate:
        self._live.touched = False
        if deployment.rollback:
            return self._former(deployment)
        running = self.state.active.versions
        groups, wishes = merge(self.state.groups, deployment, running)
        wishes = unpinned(wishes)
        offers: Offers = Catalogue(self._library, deployment.recipes)
        if self._cloud is not None:
            ours = {*BUILTINS, *catalog.names(), *(each.name for each in deployment.recipes)}
            recipes = await negotiated(wishes, offers, running, self._attributes, self._cloud, ours=ours)
            offers = Chosen(offers, recipes)
        # A hopeless set of requirements may take seconds to see through.
        resolution = await asyncio.to_thread(resolve, wishes, offers, running, self._attributes)
        found = self._planned(self.state, resolution, deployment)
        configs = {each.name: each.configuration for each in found.components}
        timestamps = dict(self.state.timestamps) | {deployment.group: deployment.timestamp_ms}
        return _Candidate(found, State(found.result, configs, groups, timestamps))

    def _former(self, deployment: Deployment) -> _Candidate:
        """The set before the active one, as it was; the groups' times stay, so that no old document comes back."""
        if self.previous is None:
            raise DeploymentError(
                "there is nothing to roll back to: no set was active before this one", hint="deploy what is wanted"
            )
        found = rollback(self.state, self.previous, self._kept(self.previous), deployment)
        timestamps = dict(self.state.timestamps) | {deployment.group: deployment.timestamp_ms}
        return _Candidate(found, replace(self.previous, timestamps=timestamps))

    def _planned(self, state: State, resolution: Resolution, deployment: Deployment) -> Plan:
        return plan(
            state.active,
            resolution,
            deployment,
            state.configs,
            self._attributes,
            broken=self._live.broken(),
            device=self._device,
        )

    def _device(self, component: str) -> Device:
        images = SAMPLES.parent / "images"
        return Device(self._attributes["architecture"], str(images), str(self._layout.work(component)))

    def _kept(self, state: State) -> Plan:
        """A set as a plan that keeps everything."""
        recipes = {name: each.recipe for name, each in state.active.components.items()}
        graph = {
            name: frozenset(other for other in recipe.dependencies if other in recipes)
            for name, recipe in recipes.items()
        }
        nothing = Deployment(id="", source=Source.LOCAL, group="", timestamp_ms=0)
        return self._planned(state, Resolution(recipes, tuple(start_order(graph))), nothing)

    async def _stage(self, deployment: Deployment, found: Plan) -> None:
        # The files of scripts are given to another user: they must not be links into the cache.
        models = {each.name for each in found.components if each.kind is not Kind.GENERIC}
        wanted: Sequence[Wanted] = [
            Wanted.of(
                each.artifact,
                self._layout.artifacts(each.component, each.version),
                self._layout.unarchived(each.component, each.version),
                shared=each.component in models,
            )
            for each in found.fetches
        ]

        def heard(progress: Progress) -> None:
            told = {"bytes": progress.bytes_done, "of": progress.bytes_total, "artifacts": progress.artifacts_done}
            self._report(deployment, Step.RESOLVED, {"progress": told})

        await self._fetcher.fetch_all(wanted, heard)

    async def _provide(self, deployment: Deployment, found: Plan) -> dict[str, Environment]:
        def heard(component: str, doing: str) -> None:
            self._report(deployment, Step.RESOLVED, {"runtime": {"component": component, "doing": doing}})

        return await self._environments.provide(found.components, heard)

    async def _target(self, components: Sequence[Planned], environments: Mapping[str, Environment]) -> Target:
        return await asyncio.to_thread(target, components, self._layout, self._thing, environments, self._granted)

    async def _activate(
        self, deployment: Deployment, seq: int, candidate: _Candidate, environments: Mapping[str, Environment]
    ) -> Outcome:
        components = candidate.plan.components
        wanted = await self._target(components, environments)
        await self._note(deployment, seq, Step.ACTIVATING, {})
        tolerant = deployment.failure_policy is FailurePolicy.DO_NOTHING
        change = await self._live.replace(wanted, self._trial(deployment), tolerant=tolerant)
        try:
            await self._note(deployment, seq, Step.VERIFYING, {})
            outcome = outcome_of(change)
            await self._ledger.commit(seq, candidate.state.dump(), msgspec.json.encode(outcome))
        except BaseException:
            await self._roll_back(seq, change)
            raise
        # Only the set of a new device has no times.
        self.previous = self.state if self.state.timestamps else None
        self.state = candidate.state
        before, self.environments = self.environments, environments
        self.complaints = {}
        try:
            await change.keep()
            await asyncio.to_thread(self._shelve)
            await asyncio.to_thread(self._environments.prune, (before, environments))
        except (VergeError, OSError):
            log.exception("deployment %s is done, but what it replaced could not all be cleared away", deployment.id)
        return outcome

    async def _roll_back(self, seq: int, change: Change) -> None:
        try:
            await self._ledger.step(seq, Step.ROLLING_BACK)
        finally:
            # A disk that cannot even note it must not keep the old set from coming back.
            await change.undo()

    def _shelve(self) -> None:
        """Keep the recipes of the active set and of the one before it, and forget every other version."""
        sets = (self.state, self.previous or State())
        self._library.add(
            active.recipe
            for each in sets
            for active in each.active.components.values()
            if active.kind is not Kind.BUILTIN and not catalog.is_ours(active.recipe)
        )
        kept = {(name, version) for each in sets for name, version in each.active.versions.items()}
        self._library.prune(kept)
        wanted = {folder for name, version in kept for folder in self._layout.folders(name, version)}
        for folder in self._layout.all_folders():
            if folder not in wanted:
                remove_tree(folder)

    def _trial(self, deployment: Deployment) -> Callable[[str, str], Any] | None:
        wish = deployment.canary
        if wish is None:
            return None

        def told(seen: Seen) -> None:
            numbers = {"frames": seen.frames, "agreement": seen.agreement, "latency_ratio": seen.latency_ratio}
            self._report(deployment, Step.ACTIVATING, {"canary": {"stream": seen.stream, **numbers}})

        return lambda stream, model: trial.run(self._streams[stream], model, self._plane, wish, told)

    async def _note(self, deployment: Deployment, seq: int, step: Step, told: Mapping[str, Any]) -> None:
        await self._ledger.step(seq, step)
        self._report(deployment, step, told)


def _demand_digests(found: Plan) -> None:
    """What comes from outside this machine says what it is."""
    for each in found.fetches:
        if not each.artifact.digest:
            raise DeploymentError(
                f"{each.component} {each.version}: the artifact {each.artifact.uri} has no digest",
                code="RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM",
                hint="pack it with `verge component pack`, which writes Digest and Algorithm",
            )


def _logged(component: str, doing: str) -> None:
    log.info("%s: %s", component, doing)


def _told(found: Plan) -> dict[str, Any]:
    return {
        "components": {
            each.name: f"{each.action} {each.new}" for each in found.components if each.kind is not Kind.BUILTIN
        },
        "removed": [each.name for each in found.removed],
    }
