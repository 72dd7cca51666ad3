"""Components that say how they are, and have a say in deployments (``deployments.handshake``).

No policy is asked for: a component speaks for itself alone.  A subscription ends with its stream, so a component whose
connection is gone is waited for no longer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from agent.greengrass.components.states import State
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.handshake import (
    Handshake,
    NothingPendingError,
    PreUpdate,
    ProposedConfiguration,
    UnaskedError,
    UpdateEvent,
)
from agent.greengrass.ipc.errors import InvalidArgumentsError, ResourceNotFoundError, ServiceError
from agent.greengrass.ipc.operations import NOTHING, Call, Empty, Operation, Reply, needed

__all__ = ["LifecycleOperations"]

_REPORTED: Final = {"RUNNING": State.RUNNING, "ERRORED": State.ERRORED}
_ACCEPTED: Final = {"ACCEPTED": True, "REJECTED": False}


class _UpdateState(Struct, frozen=True):
    state: str | None = None


class _Defer(Struct, frozen=True, rename="camel"):
    deployment_id: str | None = None
    message: str | None = None
    recheck_after_ms: float | None = None


class _ValidityReport(Struct, frozen=True, rename="camel"):
    status: str | None = None
    deployment_id: str | None = None
    message: str | None = None


class _SendValidityReport(Struct, frozen=True, rename="camel"):
    configuration_validity_report: _ValidityReport | None = None


@dataclass(frozen=True, slots=True)
class LifecycleOperations:
    """The operations by which a component takes part in its own life."""

    supervisor: Supervisor
    handshake: Handshake

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (
            Operation("UpdateState", _UpdateState, self._update_state),
            Operation("SubscribeToComponentUpdates", Empty, self._subscribe_updates),
            Operation("DeferComponentUpdate", _Defer, self._defer),
            Operation("SubscribeToValidateConfigurationUpdates", Empty, self._subscribe_validation),
            Operation("SendConfigurationValidityReport", _SendValidityReport, self._report),
        )

    def _update_state(self, request: _UpdateState, call: Call) -> Reply:
        name, state = call.caller.name, _word(request.state, "state", _REPORTED)
        try:
            taken = self.supervisor.report(name, state)
        except KeyError:
            raise _not_found(name) from None
        if not taken:
            raise ServiceError(f"too many reports of {name} wait already")
        return NOTHING

    def _subscribe_updates(self, request: Empty, call: Call) -> Reply:
        del request
        name = call.caller.name
        if name not in self.supervisor.states():
            raise _not_found(name)
        call.on_close(self.handshake.subscribe_updates(name, lambda event: call.send(_update(event))))
        return NOTHING

    def _defer(self, request: _Defer, call: Call) -> Reply:
        identity = needed(request.deployment_id, "deploymentId")
        try:
            self.handshake.defer(call.caller.name, identity, request.recheck_after_ms, request.message or "")
        except UnaskedError as error:
            raise InvalidArgumentsError(str(error)) from error
        except NothingPendingError as error:
            raise ServiceError(str(error)) from error
        return NOTHING

    def _subscribe_validation(self, request: Empty, call: Call) -> Reply:
        del request
        close = self.handshake.subscribe_validation(call.caller.name, lambda event: call.send(_proposed(event)))
        call.on_close(close)
        return NOTHING

    def _report(self, request: _SendValidityReport, call: Call) -> Reply:
        report = needed(request.configuration_validity_report, "configurationValidityReport")
        accepted = _word(report.status, "status", _ACCEPTED)
        identity = needed(report.deployment_id, "deploymentId")
        try:
            self.handshake.report(call.caller.name, identity, report.message or "", accepted=accepted)
        except UnaskedError as error:
            raise InvalidArgumentsError(str(error)) from error
        return NOTHING


def _word(given: str | None, name: str, words: dict[str, Any]) -> Any:
    """What a word stands for.  Raises ``InvalidArgumentsError`` for any other."""
    if given not in words:
        raise InvalidArgumentsError(f"{name} is {' or '.join(words)}, not {given}" if given else f"{name} is missing")
    return words[given]


def _not_found(name: str) -> ResourceNotFoundError:
    return ResourceNotFoundError.of("Component", name, f"there is no component {name} here")


def _update(event: UpdateEvent) -> Reply:
    """A ``ComponentUpdatePolicyEvents``."""
    if isinstance(event, PreUpdate):
        return {"preUpdateEvent": {"deploymentId": event.deployment_id, "isGgcRestarting": event.restarting}}
    return {"postUpdateEvent": {"deploymentId": event.deployment_id}}


def _proposed(event: ProposedConfiguration) -> Reply:
    """A ``ValidateConfigurationUpdateEvents``."""
    proposed = {"deploymentId": event.deployment_id, "configuration": event.configuration}
    return {"validateConfigurationUpdateEvent": proposed}
