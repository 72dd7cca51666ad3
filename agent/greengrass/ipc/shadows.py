"""Local shadows for components: got, updated, deleted and listed, each as its policy allows.

A request that is refused is told on the shadow's own topics too, as one over local publish and subscribe is.
(``ipc/*RequestHandler.java`` of the shadow manager.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from msgspec import Struct

from agent.greengrass.ipc.errors import (
    ConflictError,
    InvalidArgumentsError,
    IpcError,
    ResourceNotFoundError,
    ServiceError,
    UnauthorizedError,
)
from agent.greengrass.ipc.operations import Call, Operation, Permit, Reply
from agent.greengrass.services.shadows.errors import (
    ShadowConflictError,
    ShadowError,
    ShadowMissingError,
    ShadowRequestError,
)
from agent.greengrass.services.shadows.names import ShadowKey

if TYPE_CHECKING:
    from agent.greengrass.services.shadows.manager import ShadowManager

__all__ = ["SHADOW_MANAGER", "Shadows"]

SHADOW_MANAGER: Final = "aws.greengrass.ShadowManager"
_NOT_THERE: Final = f"there are no local shadows here: deploy {SHADOW_MANAGER}"

Value = TypeVar("Value")


class _Named(Struct, frozen=True, rename="camel"):
    thing_name: str | None = None
    shadow_name: str | None = None


class _Update(_Named, frozen=True, rename="camel"):
    payload: bytes | None = None


class _Page(Struct, frozen=True, rename="camel"):
    thing_name: str | None = None
    next_token: str | None = None
    page_size: int | None = None


@dataclass(frozen=True)
class Shadows:
    """The operations of shadows; ``manager`` gives the service, None while its component is not deployed."""

    manager: Callable[[], Awaitable[ShadowManager | None]]
    permit: Permit

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (
            Operation("GetThingShadow", _Named, self._get),
            Operation("UpdateThingShadow", _Update, self._update),
            Operation("DeleteThingShadow", _Named, self._delete),
            Operation("ListNamedShadowsForThing", _Page, self._list),
        )

    async def _ready(self) -> ShadowManager:
        manager = await self.manager()
        if manager is None:
            raise ServiceError(_NOT_THERE)
        return manager

    async def _asked(self, request: _Named, operation: str, call: Call) -> tuple[ShadowManager, ShadowKey]:
        """The shadow that is meant, which the caller may have it done to, and who keeps it."""
        manager = await self._ready()
        try:
            key = ShadowKey.of(request.thing_name or "", request.shadow_name)
        except ShadowRequestError as error:
            raise _in_the_models_words(error) from error
        try:
            self.permit(call, SHADOW_MANAGER, key.prefix)
        except UnauthorizedError:
            manager.refuse(key, operation)
            raise
        return manager, key

    async def _get(self, request: _Named, call: Call) -> Reply:
        manager, key = await self._asked(request, "get", call)
        try:
            return {"payload": await manager.get(key)}
        except ShadowError as error:
            raise _in_the_models_words(error) from error

    async def _update(self, request: _Update, call: Call) -> Reply:
        manager, key = await self._asked(request, "update", call)
        if request.payload is None:
            raise InvalidArgumentsError("payload is missing")
        try:
            return {"payload": await manager.update(key, request.payload)}
        except ShadowError as error:
            raise _in_the_models_words(error) from error

    async def _delete(self, request: _Named, call: Call) -> Reply:
        manager, key = await self._asked(request, "delete", call)
        try:
            return {"payload": await manager.delete(key)}
        except ShadowError as error:
            raise _in_the_models_words(error) from error

    async def _list(self, request: _Page, call: Call) -> Reply:
        manager, thing = await self._ready(), request.thing_name or ""
        try:
            ShadowKey.of(thing, None)
            self.permit(call, SHADOW_MANAGER, thing)
            page = await manager.list(thing, call.caller.name, request.page_size, request.next_token)
        except ShadowError as error:
            raise _in_the_models_words(error) from error
        following = {"nextToken": page.next_token} if page.next_token else {}
        return {"results": list(page.names), "timestamp": page.timestamp_s, **following}


def _in_the_models_words(error: ShadowError) -> IpcError:
    match error:
        case ShadowMissingError():
            return ResourceNotFoundError.of("shadow", error.shadow, error.message)
        case ShadowConflictError():
            return ConflictError(error.message)
        case ShadowRequestError():
            return InvalidArgumentsError(error.message)
        case _:
            return ServiceError(str(error))
