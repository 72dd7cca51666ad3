"""What ``greengrass-cli`` asks for: components listed, restarted and stopped; deployments of this device's own.

For whoever has a token of the command line, or may by its ``aws.greengrass.Cli`` policy.  A local deployment becomes
a document of Greengrass's local form and goes the way of every document: it is written to the ledger before anything
is done, may wait, and may be cancelled until it changes what is live.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from agent.errors import VergeError
from agent.greengrass.components.states import ComponentStatus
from agent.greengrass.deployments import queue as queues
from agent.greengrass.deployments.commands import Command, Verb
from agent.greengrass.deployments.folders import recipes_of
from agent.greengrass.deployments.ledger import Entry, Step
from agent.greengrass.deployments.outcome import DetailedStatus, Outcome
from agent.greengrass.deployments.queue import Fate
from agent.greengrass.deployments.request import Origin
from agent.greengrass.deployments.requesters import Arrival, Requester
from agent.greengrass.deployments.service import DeploymentService
from agent.greengrass.errors import DeploymentRejectedError
from agent.greengrass.ipc.errors import (
    InvalidArgumentsError,
    InvalidArtifactsDirectoryPathError,
    InvalidRecipeDirectoryPathError,
    ResourceNotFoundError,
    ServiceError,
)
from agent.greengrass.ipc.operations import Call, Empty, Operation, Permit, Reply

__all__ = ["CLI", "LocalOperations"]

CLI: Final = "aws.greengrass.Cli"
_ALL: Final = "*"
_LISTED: Final = 10
_KEPT: Final = 64
_KIND: Final = "LocalDeployment"
_decode_outcome = msgspec.json.Decoder(Outcome).decode

Statuses = Callable[[], Mapping[str, ComponentStatus]]
Configurations = Callable[[str], Mapping[str, Any]]


class _Named(Struct, frozen=True, rename="camel"):
    component_name: str | None = None


class _Limits(Struct, frozen=True):
    memory: Annotated[int, Meta(gt=0)] | None = None
    cpus: Annotated[float, Meta(gt=0)] | None = None


class _RunWithInfo(Struct, frozen=True, rename="camel", omit_defaults=True):
    posix_user: str | None = None
    windows_user: str | None = None
    system_resource_limits: _Limits | None = None


class _Create(Struct, frozen=True, rename="camel"):
    group_name: str | None = None
    root_component_versions_to_add: dict[str, str] | None = None
    root_components_to_remove: list[str] | None = None
    component_to_configuration: dict[str, dict[str, Any]] | None = None
    component_to_run_with_info: dict[str, _RunWithInfo] | None = None
    recipe_directory_path: str | None = None
    artifacts_directory_path: str | None = None
    failure_handling_policy: str | None = None


class _Identified(Struct, frozen=True, rename="camel"):
    deployment_id: str | None = None


@dataclass(slots=True)
class _Local:
    """A local deployment of this run of the agent."""

    created_ms: int
    began: bool = False
    outcome: Outcome | None = None


@dataclass
class _Watcher(Requester):
    """Keeps how far a local deployment is."""

    local: _Local

    def progress(self, step: Step) -> None:
        """It has begun."""
        del step
        self.local.began = True

    def ended(self, identity: str, outcome: Outcome) -> None:
        """It is over."""
        del identity
        self.local.outcome = outcome


@dataclass
class LocalOperations:
    """The operations of the command line; ``artifacts`` is the folder of the agent's own artifacts."""

    service: DeploymentService
    permit: Permit
    statuses: Statuses
    configurations: Configurations
    artifacts: Path
    _locals: OrderedDict[str, _Local] = field(default_factory=OrderedDict)

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (
            Operation("ListComponents", Empty, self._list_components),
            Operation("GetComponentDetails", _Named, self._details),
            Operation("RestartComponent", _Named, self._restart),
            Operation("StopComponent", _Named, self._stop),
            Operation("CreateLocalDeployment", _Create, self._create),
            Operation("CancelLocalDeployment", _Identified, self._cancel),
            Operation("GetLocalDeploymentStatus", _Identified, self._status),
            Operation("ListLocalDeployments", Empty, self._list),
        )

    # -- components ----------------------------------------------------------------------------------------------------

    def _list_components(self, request: Empty, call: Call) -> Reply:
        del request
        self.permit(call, CLI, _ALL)
        return {"components": [self._shown(status) for status in self.statuses().values()]}

    def _details(self, request: _Named, call: Call) -> Reply:
        name = self._named(request, call)
        return {"componentDetails": self._shown(self.statuses()[name])}

    def _shown(self, status: ComponentStatus) -> dict[str, Any]:
        return {
            "componentName": status.name,
            "version": status.version,
            "state": status.state.value,
            "configuration": self.configurations(status.name),
        }

    def _named(self, request: _Named, call: Call) -> str:
        """The component that is meant, which is there and which the caller may ask about."""
        name = request.component_name
        if not name:
            raise InvalidArgumentsError("componentName is missing")
        self.permit(call, CLI, name)
        if name not in self.statuses():
            raise ResourceNotFoundError.of("Component", name, f"there is no component {name} here")
        return name

    def _restart(self, request: _Named, call: Call) -> Reply:
        return self._command(Verb.RESTART, self._named(request, call), "restartStatus")

    def _stop(self, request: _Named, call: Call) -> Reply:
        return self._command(Verb.STOP, self._named(request, call), "stopStatus")

    def _command(self, verb: Verb, name: str, key: str) -> Reply:
        """Have it begun; the answer does not wait for what comes of it."""
        try:
            self.service.command(Command(verb, (name,)), Requester())
        except DeploymentRejectedError as error:
            return {key: "FAILED", "message": str(error)}
        return {key: "SUCCEEDED"}

    # -- deployments ---------------------------------------------------------------------------------------------------

    async def _create(self, request: _Create, call: Call) -> Reply:
        self.permit(call, CLI, _ALL)
        if request.group_name and ":" in request.group_name:
            raise InvalidArgumentsError("groupName is the name of a thing group, without a colon")
        identity, created_ms = str(uuid.uuid4()), int(time.time() * 1e3)
        document = self._document(request, identity, created_ms)
        if request.recipe_directory_path:
            document["recipes"] = await asyncio.to_thread(self._recipes, request)
        self._locals[identity] = local = _Local(created_ms)
        while len(self._locals) > _KEPT:
            self._locals.popitem(last=False)
        self.service.submit(Arrival(Origin.LOCAL, msgspec.json.encode(document), _Watcher(local), key=identity))
        return {"deploymentId": identity}

    def _document(self, request: _Create, identity: str, created_ms: int) -> dict[str, Any]:
        """Greengrass's local form (``LocalOverrideRequest``)."""
        given = {
            "componentsToMerge": request.root_component_versions_to_add,
            "componentsToRemove": request.root_components_to_remove,
            "configurationUpdate": request.component_to_configuration,
            "componentToRunWithInfo": msgspec.to_builtins(request.component_to_run_with_info),
            "groupName": request.group_name,
            "failureHandlingPolicy": request.failure_handling_policy,
        }
        head = {"requestId": identity, "requestTimestamp": created_ms}
        return head | {key: value for key, value in given.items() if value}

    def _recipes(self, request: _Create) -> list[dict[str, Any]]:
        folder = Path(request.recipe_directory_path or "")
        if not folder.is_dir():
            raise InvalidRecipeDirectoryPathError(f"there is no folder {folder} on the device")
        artifacts = Path(request.artifacts_directory_path) if request.artifacts_directory_path else None
        if artifacts is not None:
            self._check_artifacts(artifacts)
        try:
            return recipes_of(folder, artifacts, local=True, asked=request.root_component_versions_to_add)
        except VergeError as error:
            raise InvalidRecipeDirectoryPathError(str(error)) from error
        except OSError as error:
            raise InvalidRecipeDirectoryPathError(f"{folder} cannot be read: {error.strerror}") from error

    def _check_artifacts(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InvalidArtifactsDirectoryPathError(f"there is no folder {folder} on the device")
        if self.artifacts.resolve().is_relative_to(folder.resolve()):
            raise InvalidArtifactsDirectoryPathError(f"{folder} holds the agent's own artifacts: name another folder")

    async def _cancel(self, request: _Identified, call: Call) -> Reply:
        identity = _identity(request)
        self.permit(call, CLI, identity)
        await self._known(identity)
        fate = queues.fate(self.service.queue, identity)
        self.service.cancel(identity)
        if fate in {Fate.WAITING, Fate.STOPPABLE}:
            return {"message": f"deployment {identity} is cancelled"}
        why = "changes what is live already" if fate is Fate.TOO_LATE else "has ended already"
        return {"message": f"deployment {identity} {why}: it is not cancelled"}

    async def _status(self, request: _Identified, call: Call) -> Reply:
        identity = _identity(request)
        self.permit(call, CLI, identity)
        return {"deployment": await self._known(identity)}

    async def _list(self, request: Empty, call: Call) -> Reply:
        del request
        self.permit(call, CLI, _ALL)
        shown = {identity: _of_local(identity, local) for identity, local in reversed(self._locals.items())}
        for entry in await self._entries():
            shown.setdefault(entry.id, _of_entry(entry))
        return {"localDeployments": list(shown.values())[:_LISTED]}

    async def _known(self, identity: str) -> dict[str, Any]:
        """A local deployment as clients read it, one of before the agent's start too."""
        if local := self._locals.get(identity):
            return _of_local(identity, local)
        entries = await self._entries()
        if entry := next((one for one in entries if one.id == identity), None):
            return _of_entry(entry)
        raise ResourceNotFoundError.of(_KIND, identity, f"there is no local deployment {identity}")

    async def _entries(self) -> list[Entry]:
        try:
            entries = await self.service.entries(100)
        except VergeError as error:
            raise ServiceError(str(error)) from error
        return [entry for entry in entries if entry.origin is Origin.LOCAL]


def _identity(request: _Identified) -> str:
    try:
        return str(uuid.UUID(request.deployment_id or ""))
    except ValueError:
        raise InvalidArgumentsError(f"deploymentId is {request.deployment_id!r}, which is no UUID") from None


def _of_local(identity: str, local: _Local) -> dict[str, Any]:
    return _deployment(identity, local.created_ms, local.outcome, began=local.began)


def _of_entry(entry: Entry) -> dict[str, Any]:
    outcome = None if entry.outcome is None else _decode_outcome(entry.outcome)
    return _deployment(entry.id, entry.received_ms, outcome, began=entry.step is not Step.RECEIVED)


def _deployment(identity: str, created_ms: int, outcome: Outcome | None, *, began: bool) -> dict[str, Any]:
    created = datetime.fromtimestamp(created_ms / 1e3, UTC).strftime("%d-%m-%Y %H:%M:%S UTC")
    head = {"deploymentId": identity, "createdOn": created}
    if outcome is None:
        return {**head, "status": "IN_PROGRESS" if began else "QUEUED"}
    if outcome.status is DetailedStatus.CANCELED:  # the model has no word for how
        return {**head, "status": "CANCELED"}
    details = {
        "detailedDeploymentStatus": outcome.status.value,
        "deploymentErrorStack": list(outcome.stack),
        "deploymentErrorTypes": list(outcome.types),
        "deploymentFailureCause": outcome.text,
    }
    status = "SUCCEEDED" if outcome.status is DetailedStatus.SUCCESSFUL else "FAILED"
    return {**head, "status": status, "deploymentStatusDetails": details}
