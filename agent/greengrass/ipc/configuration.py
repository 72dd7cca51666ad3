"""GetConfiguration, UpdateConfiguration and SubscribeToConfigurationUpdate: the configurations that are live.

Any component reads and watches any other's, without a policy, and updates none but its own.  Without a componentName
the caller's is meant, without a keyPath all of it.  (The nucleus's ``ConfigStoreIPCEventStreamAgent``.)
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from agent.errors import InvalidInputError
from agent.greengrass.deployments.configurations import (
    ConfigurationConditionError,
    ConfigurationConflictError,
    Configurations,
    ConfigurationUpdateError,
)
from agent.greengrass.ipc.errors import (
    ConflictError,
    FailedUpdateConditionCheckError,
    InvalidArgumentsError,
    IpcError,
    ResourceNotFoundError,
)
from agent.greengrass.ipc.operations import NOTHING, Call, Operation, Reply, needed
from agent.greengrass.recipes.configuration import Leaf, Node, Path

__all__ = ["ConfigurationOperations"]

_LATEST_S: Final = 253_402_300_800.0
"""The year 10 000: no client means a later time."""
_ERRORS: Final[dict[type[InvalidInputError], type[IpcError]]] = {
    ConfigurationUpdateError: InvalidArgumentsError,
    ConfigurationConflictError: ConflictError,
    ConfigurationConditionError: FailedUpdateConditionCheckError,
}


class _Place(Struct, frozen=True, rename="camel"):
    component_name: str | None = None
    key_path: list[str] | None = None


class _Update(Struct, frozen=True, rename="camel"):
    timestamp: float | None = None
    value_to_merge: Any = None
    key_path: list[str] | None = None


@dataclass(frozen=True, slots=True)
class ConfigurationOperations:
    """The operations on what is live."""

    configurations: Configurations

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (
            Operation("GetConfiguration", _Place, self._get),
            Operation("UpdateConfiguration", _Update, self._update),
            Operation("SubscribeToConfigurationUpdate", _Place, self._subscribe),
        )

    def _get(self, request: _Place, call: Call) -> Reply:
        component, path, node = self._found(request, call)
        value = {path[-1]: node.value} if isinstance(node, Leaf) else node.to_plain()
        return {"componentName": component, "value": value}

    def _subscribe(self, request: _Place, call: Call) -> Reply:
        component, path, _ = self._found(request, call)

        def changed(component: str, path: Sequence[str]) -> None:
            call.send({"configurationUpdateEvent": {"componentName": component, "keyPath": list(path)}})

        call.on_close(self.configurations.watch(component, path, changed))
        return NOTHING

    def _found(self, request: _Place, call: Call) -> tuple[str, Path, Node]:
        """The component, the path as it is stored, and what is there.  Raises ``ResourceNotFoundError``."""
        component = call.caller.name if request.component_name is None else request.component_name
        tree, path = self.configurations.get(component), request.key_path or []
        node = None if tree is None else tree.node(path)
        if tree is None or node is None:
            missing = "/".join(path) if tree is not None else ""
            of_it = f"no {missing} in the configuration of {component}" if missing else f"no component {component} here"
            raise ResourceNotFoundError.of("Configuration", missing or component, f"there is {of_it}")
        return component, tree.spelled(path), node

    async def _update(self, request: _Update, call: Call) -> Reply:
        at_s = needed(request.timestamp, "timestamp")
        value = needed(request.value_to_merge, "valueToMerge")
        if not abs(at_s) <= _LATEST_S:
            raise InvalidArgumentsError(f"timestamp is {at_s:g}, which is no time in seconds")
        now_ms = int(time.time() * 1e3)
        try:
            await self.configurations.update(call.caller.name, request.key_path or [], value, round(at_s * 1e3), now_ms)
        except tuple(_ERRORS) as error:
            raise _ERRORS[type(error)](str(error)) from error
        return NOTHING
