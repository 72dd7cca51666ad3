"""Commands carried out: who may, whether they still count, and what is restarted or stopped.

=================  ==================================  ==========================================================
a component        is restarted                        is stopped
=================  ==================================  ==========================================================
of scripts         through Shutdown and Startup        until it is restarted, the agent starts, or a deployment
                                                       changes it; what depends on it runs on
inference, model   its model is loaded anew beside     cannot be: a deployment removes it
                   the workers that answer
any other          cannot be: nothing of it runs       cannot be
=================  ==================================  ==========================================================

The models and streams of the configuration can be restarted too.  Whoever may deploy a component may do this to it;
while a deployment changes what is live, nobody.  A signed command is taken once, and a retained one never: it would be
carried out at each start of the agent.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

import msgspec

from agent.config.strict import nearest
from agent.errors import InvalidInputError, VergeError
from agent.greengrass.components.supervisor import Settled
from agent.greengrass.deployments import queue as queues
from agent.greengrass.deployments.activation import STEADY_S, Activator
from agent.greengrass.deployments.commands import COMMANDS, Command, Verb, cancelled, command, controlled, refused
from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.ledger import Ledger
from agent.greengrass.deployments.ordering import DocumentOrder
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome, failed
from agent.greengrass.deployments.queue import Fate, Queue
from agent.greengrass.deployments.repository import NUCLEUS
from agent.greengrass.deployments.request import Deployment, Origin
from agent.greengrass.deployments.requesters import Arrival, Requester
from agent.greengrass.deployments.state import DeviceState
from agent.greengrass.errors import DeploymentRejectedError
from agent.greengrass.trust.keylist import Scope
from agent.greengrass.trust.order import Claims, audience, decide_cancellation
from agent.greengrass.trust.policy import Admission, DocumentTrust

__all__ = ["CommandTaker", "ComponentControl", "Deployments"]

log = logging.getLogger(__name__)

_MOST: Final = 16
"""Commands that may be under way."""
_decode_outcome = msgspec.json.Decoder(Outcome).decode


class Deployments(Protocol):
    """The deployments of the device, as commands find and change them."""

    @property
    def state(self) -> DeviceState:
        """What the device runs."""

    @property
    def queue(self) -> Queue:
        """What runs and waits."""

    def cancel(self, identity: str) -> None:
        """Give a deployment up."""

    def authorize(self, deployment: Deployment, admission: Admission) -> None:
        """Raise why the signers may not do this to the device as it is now."""


class ComponentControl:
    """Restarts and stops what is live."""

    def __init__(self, activator: Activator) -> None:
        self._live = activator

    def check(self, asked: Command, state: DeviceState) -> None:
        """Raise ``DeploymentRejectedError`` where one of the components is not there, or this cannot be done to it."""
        known = {NUCLEUS, *state.current.active.components, *self._live.supervisor.states(), *self._live.plane.models}
        known |= {stream.name for stream in self._live.streams}
        for name in asked.names:
            if name not in known:
                raise DeploymentRejectedError(
                    f"there is no component {name} here", code="RESOURCE_NOT_FOUND",
                    hint=nearest(name, known) or f"there are: {', '.join(sorted(known - {NUCLEUS})) or 'none'}",
                )  # fmt: skip
            if name not in self._live.supervisor.states() and (asked.verb is Verb.STOP or not self._models(name)):
                raise _impossible(asked.verb, name, state)

    async def carry_out(self, asked: Command) -> dict[str, Any]:
        """Do what was checked, and wait for what comes of it; the result is the answer."""
        scripts = [name for name in asked.names if name in self._live.supervisor.states()]
        try:
            done = await (self._restart if asked.verb is Verb.RESTART else self._stop)(scripts)
            models = [name for name in asked.names if name not in scripts]
            done |= {name: await self._reload(name) for name in models}
        except KeyError as error:  # a deployment took it away meanwhile
            gone = DeploymentRejectedError(f"{error.args[0]} was removed meanwhile", code="CONFLICTED_REQUEST")
            return refused(asked, gone)
        return controlled(asked, done, failed=any("failed" in one for one in done.values()))

    async def _restart(self, names: list[str]) -> dict[str, dict[str, Any]]:
        outcomes = await self._live.supervisor.restart(names, self._live.settle_s, STEADY_S)
        return {name: self._scripts(name, healthy=outcome is Settled.HEALTHY) for name, outcome in outcomes.items()}

    async def _stop(self, names: list[str]) -> dict[str, dict[str, Any]]:
        at_rest = await self._live.supervisor.stop(names)
        return {name: self._scripts(name, healthy=name in at_rest) for name in names}

    def _scripts(self, name: str, *, healthy: bool) -> dict[str, Any]:
        status = self._live.supervisor.states()[name]
        reason = {"reason": status.problem.reason} if status.problem else {}
        return {"state": status.state.value, **reason, **({} if healthy else {"failed": True})}

    async def _reload(self, name: str) -> dict[str, Any]:
        plane, keys = self._live.plane, self._models(name)
        try:
            for key in keys:
                await plane.reload(key)
        except VergeError as error:
            return {"state": plane.status(keys[0]).state.value.upper(), "reason": str(error), "failed": True}
        return {"state": plane.status(keys[0]).state.value.upper()}

    def _models(self, name: str) -> list[str]:
        """The keys of the models of a component, or of a stream or model of the configuration."""
        live = self._live
        if name in live.streams:
            return [live.streams[name].options.model]
        if name in live.plane.models:
            return [name]
        return [key for key, model in live.target.models.items() if model.component == name]


_WHY: Final = {
    ComponentKind.BUILTIN: ("it is the agent itself", "systemctl restart verge, or end the agent and start it again"),
    ComponentKind.RUNTIME: ("nothing of it runs", "name the models that use it"),
    ComponentKind.SERVICE: ("it is a part of the agent", "deploy it with another configuration"),
    ComponentKind.SERVER: ("nothing of it runs", ""),
    ComponentKind.MODEL: ("no inference component uses it, so nothing of it runs", ""),
    ComponentKind.INFERENCE: ("it is not live", "the agent's log tells why; deploy it again"),
    ComponentKind.GENERIC: ("it is not live", "the agent's log tells why; deploy it again"),
}


def _impossible(verb: Verb, name: str, state: DeviceState) -> DeploymentRejectedError:
    """Why a component that is there cannot be restarted or stopped."""
    active = state.current.active.components.get(name)
    kind = active.kind if active is not None else ComponentKind.BUILTIN if name == NUCLEUS else None
    if verb is Verb.STOP and kind in {None, ComponentKind.INFERENCE, ComponentKind.MODEL}:
        why, hint = "it has no scripts: its pictures are answered by the agent", (
            f"verge deploy --remove {name} takes it away" if kind else "take it out of the agent's configuration"
        )  # fmt: skip
    else:
        why, hint = _WHY[kind or ComponentKind.MODEL]
    done = "stopped" if verb is Verb.STOP else "restarted"
    return DeploymentRejectedError(f"{name} cannot be {done}: {why}", code="CONFLICTED_REQUEST", hint=hint or None)


class CommandTaker:
    """Takes the documents that are commands."""

    def __init__(
        self, thing: str, trust: DocumentTrust, order: DocumentOrder, ledger: Ledger, control: ComponentControl,
        deployments: Deployments,
    ) -> None:  # fmt: skip
        self._thing = thing
        self._trust = trust
        self._order = order
        self._ledger = ledger
        self._control = control
        self._deployments = deployments
        self._under_way: set[asyncio.Task[None]] = set()

    async def take(self, arrival: Arrival, spawn: Callable[..., asyncio.Task[None]]) -> bool:
        """Whether it is a command; it is carried out then, beside what else comes (``spawn``), and answered.

        Raises ``InvalidInputError`` why one is not taken.
        """
        if arrival.source is not Origin.TOPIC:
            return False
        try:
            admission = self._trust.admit(arrival.payload, thing=self._thing, now=time.time())
        except InvalidInputError:
            return False  # it is refused as any document
        asked = command(admission.document)
        if asked is None:
            return False
        if arrival.retained:
            raise DeploymentRejectedError(
                f"a retained document with {asked.verb} is not carried out: it would be again at each start",
                hint="send it without retain",
            )
        claims = await self._count(asked, admission)
        if asked.verb is Verb.CANCEL:
            await self._cancel(asked.names[0], admission, claims, arrival)
        else:
            try:
                self.begin(asked, arrival.requester, spawn)
            except DeploymentRejectedError as error:
                arrival.requester.answered(refused(asked, error))
        return True

    async def _count(self, asked: Command, admission: Admission) -> Claims:
        """Decide on its place among the commands; a signed one that is taken is used up."""
        digest = hashlib.sha256(admission.document).hexdigest()
        claims = Claims(digest, COMMANDS, asked.time_ms, audience(admission.document))
        decision = await self._order.decide(claims, admission, retained=False)
        if not decision.accepted:
            raise decision.error
        if admission.signers and asked.verb is not Verb.CANCEL:
            self._authorize(asked, admission)
            await self._order.accept(claims, admission)
            await self._order.use_up(claims)
        return claims

    def _authorize(self, asked: Command, admission: Admission) -> None:
        """Raise where the signers may not deploy one of these components for any of the groups that want it."""
        roots = self._deployments.state.current.groups.roots
        for name in asked.names:
            groups = [group for group, wanted in roots.items() if name in wanted] or [*roots] or [""]
            self._authorize_one(name, groups, admission)

    def _authorize_one(self, name: str, groups: Iterable[str], admission: Admission) -> None:
        refusal: InvalidInputError | None = None
        for group in groups:
            try:
                self._trust.authorize(admission, Scope(self._thing, group, frozenset({name})))
            except InvalidInputError as error:
                refusal = refusal or error
            else:
                return
        if refusal is not None:
            raise refusal

    # -- cancel ---------------------------------------------------------------------------------------------------

    async def _cancel(self, identity: str, admission: Admission, claims: Claims, arrival: Arrival) -> None:
        here = self._deployments
        try:
            for deployment in queues.known(here.queue):
                if deployment.id == identity:
                    here.authorize(deployment, admission)
                    decision = decide_cancellation(claims, deployment.own_ms, signed=bool(admission.signers))
                    if not decision.accepted:
                        raise decision.error
        except InvalidInputError as error:
            log.warning("deployment %s is not cancelled: %s", identity, error)
            arrival.requester.ended(identity, failed(DetailedStatus.REJECTED, error))
            return
        fate = queues.fate(here.queue, identity)
        here.cancel(identity)
        entries = await self._ledger.entries(100) if fate is Fate.UNKNOWN else []
        ended = next((_decode_outcome(each.outcome) for each in entries if each.id == identity and each.outcome), None)
        answer = cancelled(identity, fate, ended)
        log.info("deployment %s, cancellation: %s, %s", identity, answer["result"], answer["reason"])
        arrival.requester.answered(answer)

    # -- restart and stop -----------------------------------------------------------------------------------------

    def begin(self, asked: Command, requester: Requester, spawn: Callable[..., asyncio.Task[None]]) -> None:
        """Restart or stop components for somebody who may; raises ``DeploymentRejectedError`` where that cannot be."""
        names = ", ".join(asked.names)
        try:
            self._control.check(asked, self._deployments.state)
            self._check_room()
        except DeploymentRejectedError as error:
            log.warning("%s of %s is not carried out: %s", asked.verb, names, error)
            raise
        log.info("%s of %s begins", asked.verb, names)
        task = spawn(self._carry_out(asked, requester), name=f"agent.greengrass.deployments.{asked.verb}")
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    def _check_room(self) -> None:
        running = self._deployments.queue.running
        if running is not None and running.activating:
            raise DeploymentRejectedError(
                f"deployment {running.deployment.id} changes what is live now", code="CONFLICTED_REQUEST",
                hint="send it again once that has ended",
            )  # fmt: skip
        if len(self._under_way) >= _MOST:
            raise DeploymentRejectedError(
                f"{_MOST} are under way already", code="THROTTLING_ERROR", hint="send it later"
            )

    async def _carry_out(self, asked: Command, requester: Requester) -> None:
        try:
            answer = await self._control.carry_out(asked)
        except Exception as error:  # a fault of ours costs this command, and not the agent
            log.exception("%s of %s failed unexpectedly", asked.verb, ", ".join(asked.names))
            answer = refused(
                asked, DeploymentRejectedError(f"{type(error).__name__}: {error}", code="CONFLICTED_REQUEST")
            )
        reasons = [f"{name}: {one['reason']}" for name, one in answer.get("components", {}).items() if "reason" in one]
        level = logging.WARNING if "reason" in answer or reasons else logging.INFO
        text = "; ".join([answer["result"], *([answer["reason"]] if "reason" in answer else []), *reasons])
        log.log(level, "%s of %s: %s", asked.verb, ", ".join(asked.names), text)
        requester.answered(answer)
