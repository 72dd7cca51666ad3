"""Components that hold others still and let them go on, as ``aws.greengrass.ipc.lifecycle`` allows them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from agent.greengrass.components.errors import NotRunningError
from agent.greengrass.components.supervisor import Supervisor
from agent.greengrass.deployments.configurations import Configurations
from agent.greengrass.ipc.errors import InvalidArgumentsError, ResourceNotFoundError, ServiceError
from agent.greengrass.ipc.operations import NOTHING, Call, Operation, Permit, Reply

__all__ = ["LIFECYCLE", "Pausing"]

LIFECYCLE: Final = "aws.greengrass.ipc.lifecycle"


class _Named(Struct, frozen=True, rename="camel"):
    component_name: str | None = None


@dataclass(frozen=True)
class Pausing:
    """PauseComponent and ResumeComponent, of components that run scripts (``LifecycleIPCEventStreamAgent.java``)."""

    supervisor: Supervisor
    configurations: Configurations
    permit: Permit

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (
            Operation("PauseComponent", _Named, lambda request, call: self._do(self.supervisor.pause, request, call)),
            Operation("ResumeComponent", _Named, lambda request, call: self._do(self.supervisor.resume, request, call)),
        )

    async def _do(self, what: Callable[[str], Awaitable[None]], request: _Named, call: Call) -> Reply:
        name = request.component_name
        if not name:
            raise InvalidArgumentsError("componentName is missing")
        self.permit(call, LIFECYCLE, name)
        try:
            await what(name)
        except KeyError:
            if self.configurations.get(name) is not None:
                raise InvalidArgumentsError(f"{name} has no scripts: there is nothing to hold still") from None
            raise ResourceNotFoundError.of("Component", name, f"there is no component {name} here") from None
        except NotRunningError as error:
            raise InvalidArgumentsError(str(error)) from error
        except OSError as error:
            raise ServiceError(f"{name}: {error}") from error
        return NOTHING
