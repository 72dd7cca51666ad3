"""One deployment as a transaction: document → resolve → fetch → stage │ activate → verify → commit | roll back.

``Transaction.steps`` yields each step before it is taken, for the service to write into the ledger.  Nothing that is
live has changed up to the progress that ``changes``: an iteration that is given up until then leaves it so, even while
a canary tries the new model.  From there on a failure puts the old set back, by itself while the new one is being made
live and by ``roll_back`` after that.

Components that run have a say in it.  Whether their new configuration is good they are asked first: a refusal then
costs nothing.  Whether they may be changed now they are asked last, before the first Bootstrap step or once the new
models have proved themselves, so that their consent is not old when it is used.  While that is deferred for long the
new models are not held in memory; the canary's verdict on them stands.

A rollback goes the way of every deployment, as a plan whose set was active before.  So it is as safe: what that set
lacks on the disk is fetched again, its models answer their golden frames, and a failure leaves the active set live.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import msgspec

from agent.errors import VergeError
from agent.files import remove_tree
from agent.greengrass import catalog
from agent.greengrass.artifacts.fetch import Fetcher, Progress
from agent.greengrass.artifacts.inventory import Inventory
from agent.greengrass.artifacts.request import ArtifactRequest
from agent.greengrass.artifacts.retry import Retry
from agent.greengrass.catalog.keys import Device
from agent.greengrass.cloud.negotiation import Chosen, Cloud, negotiated
from agent.greengrass.components.order import start_order
from agent.greengrass.components.spec import ComponentSpec
from agent.greengrass.deployments import bootstrap, canary, nucleus
from agent.greengrass.deployments.activation import Activation, Activator, RollbackFailedError, RunCanary
from agent.greengrass.deployments.bootstrap import RestartScope
from agent.greengrass.deployments.handshake import Handshake
from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.deployments.ledger import Step
from agent.greengrass.deployments.notes import notes
from agent.greengrass.deployments.nucleus import NucleusSettings
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome, failed
from agent.greengrass.deployments.plan import Action, Plan, Planned, plan, removed, same_values
from agent.greengrass.deployments.repository import BUILTINS, ComponentRepository, RecipeStore, unpinned
from agent.greengrass.deployments.request import Canary, Deployment, FailurePolicy, Origin, merge
from agent.greengrass.deployments.resolver import Offers, Resolution, resolve
from agent.greengrass.deployments.state import DeployedState, DeviceState
from agent.greengrass.deployments.target import DeploymentTarget, EnvironmentManager, target
from agent.greengrass.deployments.waiting import Waiting, WaitingKind
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes import platform
from agent.greengrass.recipes.configuration import Tree
from agent.greengrass.recipes.platform import Attributes
from agent.greengrass.recipes.variables import Context
from agent.greengrass.recipes.versions import Version
from agent.greengrass.trust.order import EVERY_GROUP
from agent.inference.environments.spec import Environment
from agent.inference.manifest import SAMPLES
from agent.users import Identity

__all__ = ["DeploymentProgress", "Report", "Transaction", "Workspace", "rollback"]

log = logging.getLogger(__name__)

_LONG_S = 60.0
"""What is deferred for longer than this holds no models in memory."""


@dataclass(frozen=True, slots=True)
class DeploymentProgress:
    """How far a deployment is: the step, and details for a person."""

    step: Step
    details: Mapping[str, Any] = field(default_factory=dict)
    waiting: Waiting | None = None
    bootstrapped: tuple[str, int] | None = None
    """A Bootstrap step that has ended, and its status."""
    changes: bool = False
    """Whether what is live changes from here on: the step is reported already, and this is the last way out."""


Report: TypeAlias = Callable[[DeploymentProgress], None]
WriteCommit: TypeAlias = Callable[[bytes, bytes, bytes | None], Awaitable[None]]
"""``Ledger.commit`` of one deployment."""


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
    user: Identity | None = None
    """Whom the workers of models run as where a deployment names nobody."""
    handshake: Handshake = field(default_factory=Handshake)
    """The components that are asked."""

    async def restore(self, state: DeviceState) -> DeviceState:
        """Make the current set live at the start of the agent; what of it cannot be is logged."""
        try:
            await asyncio.to_thread(self.recipes.open)
            # Where no set is known, it may be only the ledger that cannot be read now.
            if state.current.active.components:
                await asyncio.to_thread(self.clear, state)
        except OSError as error:
            log.warning("what is not in the active set could not be cleared away: %s", error)
        if not state.current.active.components:
            return state
        try:
            components = self.kept(state.current).components
            damaged = await self._check(components)
            environments = await self.environments.provide(components, _log_progress)
            state = replace(state, environments=environments)
            left_out: dict[str, VergeError] = {}
            target = await self.target(components, environments, left_out)
            for name, problem in left_out.items():
                log.error("%s is not live: %s", name, problem)
            await self.activator.start(target.without(damaged))
        except (VergeError, OSError):
            log.exception("the active set cannot be made live; deploy one that can")
        return state

    async def guard(self, spec: ComponentSpec, thorough: bool) -> Sequence[str]:
        """See that a component's files are what came before a script of it starts; raises as ``Fetcher.verify``."""
        return await self.fetcher.verify(self.layout.inventory(spec.name, spec.version), thorough=thorough)

    async def check(self, components: Iterable[Planned]) -> frozenset[str]:
        """See that files are what came, and put right what is not; the names of those whose files cannot be."""
        looked_at = [one for one in components if one.manifest.artifacts]
        sound = await asyncio.gather(*map(self._is_sound, looked_at))
        return frozenset(one.name for one, good in zip(looked_at, sound, strict=True) if not good)

    async def _check(self, components: Sequence[Planned]) -> frozenset[str]:
        """At a start; what a script needs is checked when it starts, and keeps nobody else from starting."""
        for one in components:
            path = self.layout.inventory(one.name, one.new)
            if one.manifest.artifacts and await asyncio.to_thread(Inventory.read, path) is None:
                await self.fetcher.adopt(_requests([one], self.layout), path)
        return await self.check(one for one in components if one.kind is not ComponentKind.GENERIC)

    async def _is_sound(self, component: Planned) -> bool:
        name, version = component.name, component.new
        try:
            wrong = await self.fetcher.verify(self.layout.inventory(name, version))
        except VergeError as error:
            log.error("%s %s: its files are damaged and cannot be had again: %s", name, version, error)  # noqa: TRY400
            return False
        if wrong:
            log.warning("%s %s: files were put back as they came: %s", name, version, ", ".join(wrong))
        return True

    def plan(self, state: DeployedState, resolution: Resolution, deployment: Deployment) -> Plan:
        """What becomes of each component."""
        settings = nucleus.settings(state.configs, deployment)
        attributes = self.attributes_with(settings)
        return plan(
            state.active, resolution, deployment, state.configs, attributes, broken=self.activator.broken,
            device=partial(self._device, attributes["architecture"]),
            nucleus=settings, context=self._context, now_ms=int(time.time() * 1e3),
        )  # fmt: skip

    def attributes_with(self, settings: NucleusSettings) -> Attributes:
        """This device as manifests are chosen for it."""
        return platform.override(self.attributes, settings.platform)

    def kept(self, state: DeployedState) -> Plan:
        """A set as a plan that keeps everything."""
        recipes = {name: active.recipe for name, active in state.active.components.items()}
        graph = {
            name: frozenset(other for other in recipe.dependencies if other in recipes)
            for name, recipe in recipes.items()
        }
        nothing = Deployment(id="", source=Origin.LOCAL, group="", timestamp_ms=0)
        return self.plan(state, Resolution(recipes, tuple(start_order(graph))), nothing)

    async def target(
        self, components: Sequence[Planned], environments: Mapping[str, Environment],
        left_out: dict[str, VergeError] | None = None,
    ) -> DeploymentTarget:  # fmt: skip
        """What a set comes to; raises as ``target.target``."""
        return await asyncio.to_thread(
            target, components, self.layout, self.thing, environments, self.granted, self.user, left_out
        )

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
        inventories = {self.layout.inventory(name, version) for name, version in kept}
        for path in self.layout.inventories.glob("*/*.json"):
            if path not in inventories:
                path.unlink(missing_ok=True)

    def _device(self, architecture: str, component: str) -> Device:
        images = SAMPLES.parent / "images"
        return Device(architecture, str(images), str(self.layout.work(component)))

    def _context(self, component: str, version: Version) -> Context:
        values = self.layout.values(component, version, {})
        return Context(values, root=str(self.layout.root), thing_name=self.thing)


class Transaction:
    """One run of a deployment, from the device's ``state`` to the next.

    Iterate ``steps`` to their end and ``commit`` what they came to (``deployed``, ``outcome``); then ``finish``, or
    ``roll_back`` where something failed after ``activated``.  ``report`` takes how far a step is; with ``digests``,
    artifacts that have none are refused.  ``bootstrapped`` are the Bootstrap steps that were run before a restart.
    """

    deployed: DeployedState
    """What becomes the current state; there once the first step was yielded."""
    outcome: Outcome
    """There once the steps have come to their end."""

    def __init__(
        self,
        deployment: Deployment,
        state: DeviceState,
        workspace: Workspace,
        report: Report,
        *,
        digests: bool = False,
        bootstrapped: Mapping[str, int] | None = None,
    ) -> None:
        self._deployment = deployment
        self._before = state
        self._workspace = workspace
        self._report = report
        self._digests = digests
        self._environments: Mapping[str, Environment] = {}
        self._activation: Activation | None = None
        self._bootstrapped = dict(bootstrapped or {})
        self.restart: RestartScope | None = None
        """What has to be started again before the deployment goes on; the steps end there."""
        self.activated = False
        """Whether the new set is live, and ``roll_back`` the way back."""

    @property
    def touched(self) -> bool:
        """Whether it got as far as changing anything that was live."""
        return bool(self._bootstrapped) or (self._activation is not None and self._activation.touched)

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
        bootstraps = bootstrap.needed(self._workspace.activator.target.components, target.components)
        # Who agreed before a restart has agreed.
        to_ask = planned.changes and not self._bootstrapped
        if to_ask:
            async for asking in self._consult(planned, restarting=bool(bootstraps)):
                yield asking
        async for bootstrapping in self._bootstrap(bootstraps):
            yield bootstrapping
        if self.restart is not None:
            yield DeploymentProgress(Step.RESTARTING, {"restart": self.restart.name.lower()})
            return
        yield DeploymentProgress(Step.ACTIVATING)
        self._activation = Activation(self._workspace.activator, target, self._on_scripts)
        tolerant = self._deployment.failure_policy is FailurePolicy.DO_NOTHING
        try:
            await self._activation.prepare(self._canary())
            if to_ask and not bootstraps:
                async for asking in self._ask():
                    yield asking
            yield DeploymentProgress(Step.ACTIVATING, changes=True)
            await self._activation.apply(tolerant=tolerant)
        except BaseException:
            await self._activation.rollback()
            raise
        self.activated = True
        yield DeploymentProgress(Step.VERIFYING)
        self.outcome = self._concluded(planned, self._activation.problem)

    async def commit(self, before: DeviceState, write: WriteCommit) -> DeviceState:
        """Have the new set written, with what components have set of their configurations while it came up.

        The result is what the device is then.  Raises as ``write`` does, with the new set live.
        """
        configurations = self._workspace.activator.configurations
        async with configurations.committing(self.deployed.configs) as configs:
            before = before.configured(configurations.committed)
            self.deployed = self.deployed.configured(configs)
            # The old set is kept as it has become; what could not be read of it is not overwritten.
            replaced = before.current.dump() if before.current.active.components else None
            await write(self.deployed.dump(), msgspec.json.encode(self.outcome), replaced)
        return before.committed(self.deployed, self._environments)

    async def roll_back(self) -> None:
        """Put the old set back.  Raises ``RollbackFailedError``."""
        if self._activation is not None:
            await self._activation.rollback()

    async def finish(self) -> None:
        """Clear away what the new set replaced; what cannot be is logged."""
        assert self._activation is not None  # noqa: S101 the steps came to their end
        try:
            await self._activation.commit()
            after = self._before.committed(self.deployed, self._environments)
            await asyncio.to_thread(self._workspace.clear, after)
            environments = (self._before.environments, self._environments)
            await asyncio.to_thread(self._workspace.environments.prune, environments)
        except Exception:  # it is committed, whatever this does
            log.exception(
                "deployment %s is done, but what it replaced could not all be cleared away", self._deployment.id
            )

    def _concluded(self, planned: Plan, problem: VergeError | None) -> Outcome:
        """The outcome of a new set that is live; ``problem`` is what had to be tolerated of it."""
        outcome = Outcome(DetailedStatus.SUCCESSFUL)
        if problem is not None:
            outcome = failed(DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED, problem)
        if self._deployment.rollback:
            return outcome
        now = self._before.current
        return replace(outcome, notes=notes(planned, now.active, now.groups, self.deployed.groups))

    # -- resolve ---------------------------------------------------------------------------------------------

    async def _resolve(self) -> tuple[Plan, DeployedState]:
        workspace, deployment, current = self._workspace, self._deployment, self._before.current
        group = EVERY_GROUP if deployment.rollback else deployment.group
        timestamps = {**current.timestamps, group: max(deployment.own_ms or 0, current.timestamps.get(group, 0))}
        if deployment.rollback:
            return self._former(timestamps)
        running = current.active.versions
        groups, requirements = merge(current.groups, deployment, running)
        requirements = nucleus.kept(unpinned(requirements), current.configs, deployment)
        attributes = workspace.attributes_with(nucleus.settings(current.configs, deployment))
        offers: Offers = ComponentRepository(workspace.recipes, deployment.recipes)
        if workspace.cloud is not None:
            ours = {*BUILTINS, *catalog.names(), *(recipe.name for recipe in deployment.recipes)}
            recipes = await negotiated(
                requirements, offers, running, attributes, workspace.cloud,
                ours=ours, on_retry=self._on_cloud_retry,
            )  # fmt: skip
            offers = Chosen(offers, recipes)
        # A hopeless set of requirements may take seconds to see through.
        resolution = await asyncio.to_thread(resolve, requirements, offers, running, attributes)
        planned = workspace.plan(current, resolution, deployment)
        configs = {component.name: component.configuration for component in planned.components}
        return planned, DeployedState(planned.result, configs, groups, timestamps)

    def _on_cloud_retry(self, retry: Retry) -> None:
        waiting = Waiting(
            WaitingKind.CLOUD, f"Greengrass's cloud, for {retry.what}", retry.reason, retry.next_attempt, retry.until
        )
        self._report(DeploymentProgress(Step.RECEIVED, waiting=waiting))

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
        artifacts = _requests(planned.having(Action.INSTALL, Action.UPDATE), layout)

        def report(fetched: Progress) -> None:
            details = {"bytes": fetched.bytes_done, "of": fetched.bytes_total, "artifacts": fetched.artifacts_done}
            self._report(DeploymentProgress(Step.RESOLVED, {"progress": details}, _for_artifacts(fetched.retries)))

        await self._workspace.check(planned.having(Action.KEEP, Action.RECONFIGURE))
        await self._workspace.fetcher.fetch_all(artifacts, report)

    async def _provide(self, planned: Plan) -> dict[str, Environment]:
        environments, began = self._workspace.environments, time.time()

        def report(component: str, doing: str) -> None:
            waiting = Waiting(WaitingKind.RUNTIME, f"runtime {component}", doing, until=began + environments.timeout_s)
            details = {"runtime": {"component": component, "doing": doing}}
            self._report(DeploymentProgress(Step.RESOLVED, details, waiting))

        return await environments.provide(planned.components, report)

    def _on_scripts(self, waiting: Waiting) -> None:
        self._report(DeploymentProgress(Step.ACTIVATING, waiting=waiting))

    # -- ask components --------------------------------------------------------------------------------------

    async def _consult(self, planned: Plan, *, restarting: bool) -> AsyncGenerator[DeploymentProgress]:
        """Ask components all that has to be asked before a Bootstrap step is run."""
        async for asking in self._validate(planned):
            yield asking
        if restarting:
            async for asking in self._ask(restarting=True):
                yield asking

    async def _validate(self, planned: Plan) -> AsyncGenerator[DeploymentProgress]:
        """Have components that stay judge their new configurations; if there are any, yielded before and after that.

        Raises ``DeploymentError``.
        """
        configs, deployment = self._before.current.configs, self._deployment
        proposed = {
            one.name: one.values
            for one in planned.components
            if one.old == one.new and one.name in configs and not same_values(configs[one.name], one.configuration)
        }
        handshake = self._workspace.handshake
        if not handshake.validates(deployment.id, proposed):
            return
        yield DeploymentProgress(Step.ASKING)
        await handshake.validate(deployment.id, proposed, deployment.notify.validation_timeout_s, self._on_asked)
        yield DeploymentProgress(Step.STAGED)

    async def _ask(self, *, restarting: bool = False) -> AsyncGenerator[DeploymentProgress]:
        """Wait until components agree to be changed; if there are any to ask, yielded before and after that."""
        handshake, deployment = self._workspace.handshake, self._deployment
        asked = handshake.asks(deployment.id, deployment.notify)
        if asked:
            yield DeploymentProgress(Step.ASKING)
        await handshake.ask(deployment.id, deployment.notify, self._on_asked, restarting=restarting, rest=self._rest)
        if asked:
            yield DeploymentProgress(Step.BOOTSTRAPPING if restarting else Step.ACTIVATING)

    async def _rest(self, seconds: float) -> None:
        """Pass the time until components are asked again."""
        activation = self._activation if seconds > _LONG_S else None
        if activation is not None:
            await activation.rollback()
        await asyncio.sleep(seconds)
        if activation is not None:
            await activation.prepare()

    def _on_asked(self, waiting: Waiting) -> None:
        self._report(DeploymentProgress(Step.ASKING, waiting=waiting))

    # -- bootstrap -------------------------------------------------------------------------------------------

    async def _bootstrap(self, specs: Iterable[ComponentSpec]) -> AsyncGenerator[DeploymentProgress]:
        """Run the Bootstrap steps that were not run before a restart; each is yielded before it and after it."""
        for spec in specs:
            if bootstrap.task(spec) not in self._bootstrapped:
                yield DeploymentProgress(Step.BOOTSTRAPPING, changes=True)
                details = {"bootstrap": spec.name}
                yield DeploymentProgress(Step.BOOTSTRAPPING, details)
                status = await self._run_bootstrap(spec)
                yield DeploymentProgress(Step.BOOTSTRAPPING, details, bootstrapped=(bootstrap.task(spec), status))
        self.restart = bootstrap.restart(self._bootstrapped.values())

    async def _run_bootstrap(self, spec: ComponentSpec) -> int:
        # From here on something may have changed, whatever comes of it.
        self._bootstrapped[bootstrap.task(spec)] = 0
        status = await self._status_of_bootstrap(spec)
        self._bootstrapped[bootstrap.task(spec)] = status
        return status

    async def _status_of_bootstrap(self, spec: ComponentSpec) -> int:
        """Run it; raises ``DeploymentError`` where it fails."""
        supervisor = self._workspace.activator.supervisor
        outcome = await supervisor.bootstrap(spec)
        hint = await asyncio.to_thread(supervisor.advice, spec.name, outcome.problem)
        return bootstrap.status_of(spec, outcome, hint)

    async def bootstrap_back(self) -> RestartScope | None:
        """Run the Bootstrap steps that a rollback asks for, with the old set live; the result is what they ask for.

        Raises ``RollbackFailedError`` for one that fails.
        """
        ran = {task.partition("@")[0] for task in self._bootstrapped}
        activator = self._workspace.activator
        statuses = []
        for spec in bootstrap.needed_back(activator.target.components, ran):
            try:
                statuses.append(await self._status_of_bootstrap(spec))
            except DeploymentError as error:
                raise RollbackFailedError(error.message, code=error.code, hint=error.hint) from error
        return bootstrap.restart(statuses)

    # -- verify ----------------------------------------------------------------------------------------------

    def _canary(self) -> RunCanary | None:
        canary_asked, live = self._deployment.canary, self._workspace.activator
        if canary_asked is None:
            return None

        async def tried(stream: str, model: str) -> None:
            asked = canary_asked.paced(canary.pace_s(live.plane, live.streams[stream].options.model, model))
            report = partial(self._report_trial, asked, time.time())
            await canary.run(live.streams[stream], model, live.plane, asked, report)

        return tried

    def _report_trial(self, asked: Canary, began: float, stream: str, trial: canary.Trial) -> None:
        enough = f"{asked.frames}" if asked.frames else f"those of {asked.seconds:g} s"
        reason = f"{trial.frames} of {enough} are compared"
        waiting = Waiting(WaitingKind.FRAMES, f"frames of {stream}", reason, until=began + asked.patience_s)
        numbers = {"frames": trial.frames, "agreement": trial.agreement, "latency_ratio": trial.latency_ratio}
        details = {"canary": {"stream": stream, **numbers}}
        self._report(DeploymentProgress(Step.ACTIVATING, details, waiting))


def _requests(components: Iterable[Planned], layout: Layout) -> list[ArtifactRequest]:
    """Every artifact of components, where it is to stand."""
    return [
        ArtifactRequest.of(artifact, *layout.folders(one.name, one.new), layout.inventory(one.name, one.new))
        for one in components
        for artifact in one.manifest.artifacts
    ]


def _for_artifacts(retries: Sequence[Retry]) -> Waiting | None:
    """The waiting for what cannot be reached: the first of them in full."""
    if not retries:
        return None
    first, more = retries[0], len(retries) - 1
    what = f"artifact {first.what}" + (f" and {more} more" if more else "")
    return Waiting(WaitingKind.ARTIFACT, what, first.reason, first.next_attempt, first.until)


def rollback(now: DeployedState, before: DeployedState, kept: Plan, deployment: Deployment) -> Plan:
    """The plan from ``now`` to ``before``; ``kept`` is the latter as a plan that keeps everything."""
    components = tuple(_put_back(component, now, before) for component in kept.components)
    return Plan(deployment, components, removed(now.active, before.active.components))


def _put_back(component: Planned, now: DeployedState, before: DeployedState) -> Planned:
    """What becomes of a component: everything but what stays exactly as it is is put there anew."""
    name = component.name
    old = now.active.components.get(name)
    since = now.configs.get(name, Tree())
    component = replace(component, configured=replace(component.configured, since=since))
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
