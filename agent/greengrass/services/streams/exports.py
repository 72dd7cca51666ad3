"""What carries streams on: a task for each export, its position kept in the store.

A task reads a batch from its position on, delivers it, and only then moves the position: what fails is delivered again
after a back-off of up to five minutes, as AWS documents, and nothing behind it goes first.  A process that ends
between the two delivers that batch twice: an export is at-least-once.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

import msgspec

from agent.errors import VergeError
from agent.greengrass.services.streams.definition import Export
from agent.greengrass.services.streams.destinations import Destination, destination
from agent.greengrass.services.streams.gate import Gate
from agent.greengrass.services.streams.requests import Requests, now_ms
from agent.greengrass.services.streams.store import ExportState, Store, StreamMessage
from agent.greengrass.services.streams.wire import RefusedError
from agent.mqtt.backoff import Backoff

__all__ = ["Exports"]

log = logging.getLogger(__name__)

AT_ONCE: Final = 5
"""Deliveries at once; where more are ready, the lowest priority number goes first."""
_LAST: Final = 10
RETRY_S: Final = (1.0, 300.0)
Key = tuple[int, str, Export]
"""The stream's number in the store, its name, the export: another of any of them is another task."""


class Exports:
    """Every export of every stream, from ``start`` to ``stop``."""

    def __init__(self, store: Store, requests: Requests, clients: Any, part_bytes: int) -> None:
        self._store = store
        self._requests = requests
        self._clients = clients
        self._part_bytes = part_bytes
        self._gate = Gate(AT_ONCE)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._change = asyncio.Event()
        self._follower: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to export."""
        self._change.set()
        self._follower = asyncio.create_task(self._follow())

    def changed(self) -> None:
        """Streams were made, changed or deleted."""
        self._change.set()

    async def stop(self) -> None:
        """End every task; positions are kept."""
        tasks = [*self._tasks.values(), *([self._follower] if self._follower else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            await self._change.wait()
            self._change.clear()
            try:
                streams = await self._requests.work(self._store.streams)
            except VergeError as error:
                log.warning("stream manager: exports do not follow the streams: %s", error)
                continue
            wanted: list[Key] = [
                (number, definition.name, export)
                for number, definition in streams
                for export in definition.exports
                if not export.disabled
            ]
            for key in [key for key, task in self._tasks.items() if key not in wanted or task.done()]:
                self._tasks.pop(key).cancel()
            for key in wanted:
                if key not in self._tasks:
                    self._tasks[key] = asyncio.create_task(self._export(*key))

    async def _export(self, number: int, stream: str, export: Export) -> None:
        backoff = Backoff(*RETRY_S)
        target = destination(export, stream, self._clients, self._requests.append, self._part_bytes)
        while True:
            try:
                messages, state = await self._batch(stream, export)
                async with self._gate.turn(export.priority or _LAST):
                    done, trouble = await _deliver(target, messages)
                await self._requests.work(self._keep, number, stream, export, state, messages[:done], trouble)
            except RefusedError:  # the stream is gone; so is the task, presently
                self._requests.tell(stream)
                return
            except VergeError as error:  # the disk
                trouble = error.message
            if not trouble:
                backoff.reset()
                continue
            log.warning("stream manager: export %s of %s: %s", export.identifier, stream, trouble)
            await asyncio.sleep(backoff.next_s())

    async def _batch(self, stream: str, export: Export) -> tuple[list[StreamMessage], ExportState]:
        """The next messages, when there are enough of them or the first has waited long enough."""
        interval_ms = getattr(export, "batch_interval_millis", None) or 0
        while True:
            event = self._requests.appended(stream)
            now = now_ms()
            state = await self._requests.work(self._store.state, stream, export.identifier)
            messages, cut = await self._requests.work(self._store.read, stream, state.position, export.size, now)
            left_ms = messages[0].at_ms + interval_ms - now if messages else None
            if messages and (cut or len(messages) >= export.size or (left_ms is not None and left_ms <= 0)):
                if lost := messages[0].seq - state.position:
                    log.warning("stream manager: %d messages of %s left it unexported", lost, stream)
                return messages, state
            try:
                # Not wait_for: in Python 3.11 that may drop a cancellation.
                async with asyncio.timeout(left_ms / 1000 if left_ms is not None else None):
                    await event.wait()
            except TimeoutError:
                continue

    def _keep(
        self, number: int, stream: str, export: Export, state: ExportState, done: list[StreamMessage], trouble: str
    ) -> None:
        after = msgspec.structs.replace(
            state,
            position=done[-1].seq + 1 if done else state.position,
            last_ms=now_ms(),
            error=trouble,
            exported_bytes=state.exported_bytes + sum(len(one.payload) for one in done),
            exported_messages=state.exported_messages + len(done),
        )
        self._store.advance(number, stream, export.identifier, after)


async def _deliver(target: Destination, messages: list[StreamMessage]) -> tuple[int, str]:
    """How many of the first were delivered or given up, and why not all."""
    try:
        return await target.deliver(messages)
    except Exception as error:  # noqa: BLE001 whatever a client of AWS raises is tried again
        return 0, error.message if isinstance(error, VergeError) else f"{type(error).__name__}: {error}"
