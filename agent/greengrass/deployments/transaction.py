"""One deployment as a transaction: document → resolve → fetch → stage │ activate → verify → commit | roll back.

``Transaction.steps`` yields each step before it is taken, for the service to write into the ledger.  Up to
``ACTIVATING`` nothing that is live has changed: an iteration that is given up there leaves it so.  From there on a
failure puts the old set back, by itself while the new one is being made live and by ``roll_back`` after that.

A rollback goes the way of every deployment, as a plan whose set was active before.  So it is as safe: what that set
lacks on the disk is fetched again, its models answer their golden frames, and a failure leaves the active set live.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from agent.errors import VergeError
from agent.files import remove_tree
from agent.greengrass import catalog
from agent.greengrass.artifacts.fetch import ArtifactRequest, Fetcher, Progress
from agent.greengrass.catalog.keys import Device
from agent.greengrass.cloud.negotiation import Chosen, Cloud, negotiated
from agent.greengrass.components.order import start_order
from agent.greengrass.deployments import canary
from agent.greengrass.deployments.activation import Activation, Activator, RunCanary
from agent.greengrass.deployments.errors import DeploymentError
from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import Step
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome, failed
from agent.greengrass.deployments.plan import Action, Plan, Planned, plan, removed
from agent.greengrass.deployments.repository import BUILTINS, ComponentRepository, RecipeStore, unpinned
from agent.greengrass.deployments.request import Deployment, FailurePolicy, Origin, merge
from agent.greengrass.deployments.resolver import Offers, Resolution, resolve
from agent.greengrass.deployments.state import DeployedState, DeviceState
from agent.greengrass.deployments.target import DeploymentTarget, EnvironmentManager, target
from agent.greengrass.recipes.platform import Attributes
from agent.inference.environments.spec import Environment
from agent.inference.manifest import SAMPLES

__all__ = ["DeploymentProgress", "Report", "Transaction", "Workspace", "rollback"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeploymentProgress:
    """How far a deployment is: the step, and details for a person."""

    step: Step
    details: Mapping[str, Any] = field(default_factory=dict)


Report: TypeAlias = Callable[[DeploymentProgress], None]


@dataclass(frozen=True, slots=True)
class Workspace:
    """What deployments work with on this device."""

    thing: str
    layout: Layout
    recipes: RecipeStore
    fetcher: Fetcher
    environments: EnvironmentManager
    activator: Activator
    attributes: Attributes
    granted: Mapping[str, str]
    """The environment of components that may ask the agent for the device's credentials."""
    cloud: Cloud | None = None

    async def restore(self, state: DeviceState) -> DeviceState:
        """Make the current set live at the start of the agent; what of it cannot be is logged."""
        await asyncio.to_thread(self.recipes.open)
        await asyncio.to_thread(self.clear, state)
        if not state.current.active.components:
            return state
        try:
            components = self.kept(state.current).components
            environments = await self.environments.provide(components, _log_progress)
            state = replace(state, environments=environments)
            await self.activator.start(await self.target(components, environments))
        except (VergeError, OSError):
            log.exception("the active set cannot be made live; deploy one that can")
        return state

    def plan(self, state: DeployedState, resolution: Resolution, deployment: Deployment) -> Plan:
        """What becomes of each component."""
        return plan(
            state.active, resolution, deployment, state.configs, self.attributes,
            broken=self.activator.broken, device=self._device,
        )  # fmt: skip

    def kept(self, state: DeployedState) -> Plan:
        """A set as a plan that keeps everything."""
        recipes = {name: active.recipe for name, active in state.active.components.items()}
        graph = {
            name: frozenset(other for other in recipe.dependencies if other in recipes)
            for name, recipe in recipes.items()
        }
        nothing = Deployment(id="", source=Origin.LOCAL, group="", timestamp_ms=0)
        return self.plan(state, Resolution(recipes, tuple(start_order(graph))), nothing)

    async def target(self, components: Sequence[Planned], environments: Mapping[str, Environment]) -> DeploymentTarget:
        """What a set comes to; raises as ``target.target``."""
        return await asyncio.to_thread(target, components, self.layout, self.thing, environments, self.granted)

    def clear(self, state: DeviceState) -> None:
        """Keep the recipes and files of the active set and of the one before it, and nothing of any other version."""
        self.recipes.add(
            active.recipe
            for components in state.sets
            for active in components.components.values()
            if active.kind is not ComponentKind.BUILTIN and not catalog.is_ours(active.recipe)
        )
        kept = {version for components in state.sets for version in components.versions.items()}
        self.recipes.prune(kept)
        needed = {folder for name, version in kept for folder in self.layout.folders(name, version)}
        for folder in self.layout.all_folders():
            if folder not in needed:
                remove_tree(folder)

    def _device(self, component: str) -> Device:
        images = SAMPLES.parent / "images"
        return Device(self.attributes["architecture"], str(images), str(self.layout.work(component)))


class Transaction:
    """One run of a deployment, from the device's ``state`` to the next.

    Iterate ``steps`` to their end and write ``deployed`` and ``outcome`` into the ledger; then ``finish``, or
    ``roll_back`` where something failed after ``activated``.  ``report`` takes how far a step is; with ``digests``,
    artifacts that have none are refused.
    """

    deployed: DeployedState
    """What becomes the current state; there once the first step was yielded."""
    outcome: Outcome
    """There once the steps have come to their end."""

    def __init__(
        self, deployment: Deployment, state: DeviceState, workspace: Workspace, report: Report, *, digests: bool = False
    ) -> None:
        self._deployment = deployment
        self._before = state
        self._workspace = workspace
        self._report = report
        self._digests = digests
        self._environments: Mapping[str, Environment] = {}
        self._activation: Activation | None = None
        self.activated = False
        """Whether the new set is live, and ``roll_back`` the way back."""

    @property
    def touched(self) -> bool:
        """Whether it got as far as changing anything that was live."""
        return self._activation is not None and self._activation.touched

    @property
    def state(self) -> DeviceState:
        """The device once the transaction is committed."""
        return self._before.committed(self.deployed, self._environments)

    async def steps(self) -> AsyncGenerator[DeploymentProgress]:
        """The steps in order; what a step stands for is done when the next one is asked for.

        Raises what is wrong with the deployment, with the old set live; or ``RollbackFailedError`` when it is not.
        """
        planned, self.deployed = await self._resolve()
        yield DeploymentProgress(Step.RESOLVED, _summary(planned))
        if self._digests:
            _demand_digests(planned)
        await self._stage(planned)
        self._environments = await self._provide(planned)
        yield DeploymentProgress(Step.STAGED)
        target = await self._workspace.target(planned.components, self._environments)
        yield DeploymentProgress(Step.ACTIVATING)
        self._activation = Activation(self._workspace.activator, target)
        tolerant = self._deployment.failure_policy is FailurePolicy.DO_NOTHING
        await self._activation.apply(self._canary(), tolerant=tolerant)
        self.activated = True
        yield DeploymentProgress(Step.VERIFYING)
        problem = self._activation.problem
        self.outcome = (
            failed(DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED, problem)
            if problem is not None
            else Outcome(DetailedStatus.SUCCESSFUL)
        )

    async def roll_back(self) -> None:
        """Put the old set back.  Raises ``RollbackFailedError``."""
        if self._activation is not None:
            await self._activation.rollback()

    async def finish(self) -> None:
        """Clear away what the new set replaced; what cannot be is logged."""
        assert self._activation is not None  # noqa: S101 the steps came to their end
        try:
            await self._activation.commit()
            await asyncio.to_thread(self._workspace.clear, self.state)
            environments = (self._before.environments, self._environments)
            await asyncio.to_thread(self._workspace.environments.prune, environments)
        except Exception:  # it is committed, whatever this does
            log.exception(
                "deployment %s is done, but what it replaced could not all be cleared away", self._deployment.id
            )

    # -- resolve ---------------------------------------------------------------------------------------------

    async def _resolve(self) -> tuple[Plan, DeployedState]:
        workspace, deployment, current = self._workspace, self._deployment, self._before.current
        timestamps = {**current.timestamps, deployment.group: deployment.timestamp_ms}
        if deployment.rollback:
            return self._former(timestamps)
        running = current.active.versions
        groups, requirements = merge(current.groups, deployment, running)
        requirements = unpinned(requirements)
        offers: Offers = ComponentRepository(workspace.recipes, deployment.recipes)
        if workspace.cloud is not None:
            ours = {*BUILTINS, *catalog.names(), *(recipe.name for recipe in deployment.recipes)}
            recipes = await negotiated(requirements, offers, running, workspace.attributes, workspace.cloud, ours=ours)
            offers = Chosen(offers, recipes)
        # A hopeless set of requirements may take seconds to see through.
        resolution = await asyncio.to_thread(resolve, requirements, offers, running, workspace.attributes)
        planned = workspace.plan(current, resolution, deployment)
        configs = {component.name: component.configuration for component in planned.components}
        return planned, DeployedState(planned.result, configs, groups, timestamps)

    def _former(self, timestamps: Mapping[str, int]) -> tuple[Plan, DeployedState]:
        """The set before the active one, as it was; the groups' times stay, so that no old document comes back."""
        current, previous = self._before.current, self._before.previous
        if previous is None:
            raise DeploymentError(
                "there is nothing to roll back to: no set was active before this one", hint="deploy what is wanted"
            )
        planned = rollback(current, previous, self._workspace.kept(previous), self._deployment)
        return planned, replace(previous, timestamps=timestamps)

    # -- fetch and stage -------------------------------------------------------------------------------------

    async def _stage(self, planned: Plan) -> None:
        layout = self._workspace.layout
        # The files of scripts are given to another user: they must not be links into the cache.
        models = {component.name for component in planned.components if component.kind is not ComponentKind.GENERIC}
        artifacts: Sequence[ArtifactRequest] = [
            ArtifactRequest.of(
                fetch.artifact,
                layout.artifacts(fetch.component, fetch.version),
                layout.unarchived(fetch.component, fetch.version),
                shared=fetch.component in models,
            )
            for fetch in planned.fetches
        ]

        def report(fetched: Progress) -> None:
            details = {"bytes": fetched.bytes_done, "of": fetched.bytes_total, "artifacts": fetched.artifacts_done}
            self._report(DeploymentProgress(Step.RESOLVED, {"progress": details}))

        await self._workspace.fetcher.fetch_all(artifacts, report)

    async def _provide(self, planned: Plan) -> dict[str, Environment]:
        def report(component: str, doing: str) -> None:
            self._report(DeploymentProgress(Step.RESOLVED, {"runtime": {"component": component, "doing": doing}}))

        return await self._workspace.environments.provide(planned.components, report)

    # -- verify ----------------------------------------------------------------------------------------------

    def _canary(self) -> RunCanary | None:
        asked, live = self._deployment.canary, self._workspace.activator
        if asked is None:
            return None

        def report(stream: str, trial: canary.Trial) -> None:
            numbers = {"frames": trial.frames, "agreement": trial.agreement, "latency_ratio": trial.latency_ratio}
            self._report(DeploymentProgress(Step.ACTIVATING, {"canary": {"stream": stream, **numbers}}))

        return lambda stream, model: canary.run(live.streams[stream], model, live.plane, asked, report)


def rollback(now: DeployedState, before: DeployedState, kept: Plan, deployment: Deployment) -> Plan:
    """The plan from ``now`` to ``before``; ``kept`` is the latter as a plan that keeps everything."""
    components = tuple(_put_back(component, now, before) for component in kept.components)
    return Plan(deployment, components, removed(now.active, before.active.components))


def _put_back(component: Planned, now: DeployedState, before: DeployedState) -> Planned:
    """What becomes of a component: everything but what stays exactly as it is is put there anew."""
    name = component.name
    old = now.active.components.get(name)
    if old is None:
        return replace(component, action=Action.INSTALL, old=None)
    one, other = (state.configs[name].to_plain() if name in state.configs else {} for state in (now, before))
    same = old == before.active.components[name] and one == other
    return replace(component, action=component.action if same else Action.UPDATE, old=old.recipe.version)


def _demand_digests(planned: Plan) -> None:
    """Refuse artifacts without a digest: nothing else vouches for what comes from outside this machine."""
    for fetch in planned.fetches:
        if not fetch.artifact.digest:
            raise DeploymentError(
                f"{fetch.component} {fetch.version}: the artifact {fetch.artifact.uri} has no digest",
                code="RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM",
                hint="pack it with `verge component pack`, which writes Digest and Algorithm",
            )


def _log_progress(component: str, doing: str) -> None:
    log.info("%s: %s", component, doing)


def _summary(planned: Plan) -> dict[str, Any]:
    """A plan for people: what becomes of each component, and what goes."""
    return {
        "components": {
            component.name: f"{component.action} {component.new}"
            for component in planned.components
            if component.kind is not ComponentKind.BUILTIN
        },
        "removed": [component.name for component in planned.removed],
    }
