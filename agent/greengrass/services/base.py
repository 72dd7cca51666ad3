"""The services that stand for AWS's own components: made when their component is deployed, gone when it leaves.

``Services.follow`` is called with what is deployed, and brings them there one after the other, in a task of its own:
a deployment does not wait for a service that has to reach the network.  A service that cannot be as it is configured
says so in the log and on the agent's status, and is asked again at the next change.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from agent.errors import VergeError

__all__ = ["Configuration", "Factory", "Service", "Services", "Serving"]

log = logging.getLogger(__name__)

_READY_S = 10.0

Options = TypeVar("Options")

Configuration: TypeAlias = Mapping[str, Any]


class Service(Protocol):
    """One of AWS's own components, as the agent has it."""

    async def apply(self, configuration: Configuration | None) -> None:
        """Be so configured from now on; None: it is no longer deployed, and lets go of everything but what it keeps.

        Raises ``VergeError`` for what cannot be; it is as it was before then.
        """


Factory: TypeAlias = Callable[[], Service]
OnProblem: TypeAlias = Callable[[str, VergeError | None], None]


class Serving(Generic[Options]):
    """What ``enter`` serves, with one set of options at a time: another one ends it, and begins anew."""

    def __init__(self, enter: Callable[[Options], AbstractAsyncContextManager[Any]]) -> None:
        self._enter = enter
        self._stack = AsyncExitStack()
        self._options: Options | None = None

    async def change(self, options: Options | None) -> None:
        """Serve so from now on, or not at all; raises what ``enter`` does, and serves as before then."""
        if options == self._options:
            return
        before, self._options = self._options, None
        await self._stack.aclose()
        if options is None:
            return
        try:
            await self._begin(options)
        except BaseException:
            if before is not None:
                await self._begin(before)
            raise

    async def _begin(self, options: Options) -> None:
        await self._stack.enter_async_context(self._enter(options))
        self._options = options


class Services:
    """The services by their components' names; ``factories`` import what they need when they are called."""

    def __init__(self, factories: Mapping[str, Factory], on_problem: OnProblem = lambda _name, _error: None) -> None:
        self._factories = factories
        self._on_problem = on_problem
        self._services: dict[str, Service] = {}
        self._applied: dict[str, Configuration | None] = {}
        self._wanted: Mapping[str, Configuration] = {}
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()

    @property
    def names(self) -> tuple[str, ...]:
        """The components that there are services for."""
        return tuple(self._factories)

    def get(self, name: str) -> Service | None:
        """The service of a component; None where that is not deployed."""
        return self._services.get(name) if name in self._wanted else None

    async def ready(self, name: str) -> Service | None:
        """The service of a component once it is as it was last asked to be; None where that is not deployed."""
        if name in self._wanted:
            with suppress(TimeoutError):
                async with asyncio.timeout(_READY_S):
                    await self._settled.wait()
        return self.get(name)

    def follow(self, deployed: Mapping[str, Configuration]) -> None:
        """These components are deployed now, with these configurations; others are ignored."""
        self._wanted = {name: deployed[name] for name in self._factories if name in deployed}
        self._settled.clear()
        self._changed.set()

    async def settled(self) -> None:
        """Wait until every service is as it was last asked to be, or has said why it cannot."""
        await self._settled.wait()

    async def run(self) -> None:
        """Bring services to what is wanted until cancelled; then every one lets go."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                for name in self._factories:
                    await self._bring(name, self._wanted.get(name))
                if not self._changed.is_set():
                    self._settled.set()
        finally:
            for name in tuple(self._services):
                with suppress(asyncio.CancelledError):
                    await asyncio.shield(self._bring(name, None))

    def _failed(self, name: str, error: Exception) -> None:
        known = isinstance(error, VergeError | OSError)
        problem = error if isinstance(error, VergeError) else VergeError(f"{name}: {error}")
        log.warning("%s is not as it is configured: %s", name, problem, exc_info=None if known else error)
        self._on_problem(name, problem)

    async def _bring(self, name: str, configuration: Configuration | None) -> None:
        if name in self._applied and self._applied[name] == configuration:
            return
        if configuration is None and name not in self._services:
            self._on_problem(name, None)
            return
        try:
            if name not in self._services:
                self._services[name] = self._factories[name]()
            await self._services[name].apply(configuration)
        except Exception as error:  # noqa: BLE001 a fault of one service costs that service, and not the agent
            self._failed(name, error)
            if configuration is None:  # what could not let go is not asked a second time
                self._services.pop(name, None)
                self._applied.pop(name, None)
            return
        self._applied[name] = configuration
        self._on_problem(name, None)
        if configuration is None:
            self._services.pop(name, None)
            self._applied.pop(name, None)
