"""An operation in, its response out; a request to read waits for messages as long as it says.

The store works in one thread of its own, one call after the other in the order of the calls: what one client appends
on one connection has numbers in the order in which it was sent.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec

from agent.errors import VergeError
from agent.greengrass.services.streams.definition import Definition, ReadOptions, parse
from agent.greengrass.services.streams.store import READ_BYTES, ExportState, Store, StreamMessage
from agent.greengrass.services.streams.wire import RefusedError, Status, StreamOperation

__all__ = ["Requests", "now_ms"]

_T = TypeVar("_T")
Answer = Mapping[str, Any]


def now_ms() -> int:
    """Unix time, milliseconds."""
    return time.time_ns() // 1_000_000


class Requests:
    """Does what is asked.  ``on_change`` is called after streams were made, changed or deleted."""

    def __init__(self, store: Store, on_change: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._on_change = on_change
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="streams")
        self._appended: dict[str, asyncio.Event] = {}
        self._does: Mapping[int, Callable[[Mapping[str, Any]], Awaitable[Answer]]] = {
            StreamOperation.CREATE: self._create,
            StreamOperation.DELETE: self._delete,
            StreamOperation.APPEND: self._append,
            StreamOperation.READ: self._read,
            StreamOperation.LIST: self._list,
            StreamOperation.DESCRIBE: self._describe,
            StreamOperation.UPDATE: self._update,
        }

    async def close(self) -> None:
        """Let the thread finish what it has, and close the store."""
        await self.work(self._store.close)
        self._thread.shutdown()

    async def work(self, do: Callable[..., _T], *arguments: Any) -> _T:
        """Call something of the store in its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, do, *arguments)

    def appended(self, name: str) -> asyncio.Event:
        """What is set when the stream has the next message, or is no more."""
        return self._appended.setdefault(name, asyncio.Event())

    def tell(self, name: str) -> None:
        """Wake whoever waits for ``appended``: there is a message, or the stream is no more."""
        if event := self._appended.pop(name, None):
            event.set()

    async def do(self, operation: int, payload: Mapping[str, Any]) -> Answer:
        """The members of the response, without the request's identifier."""
        try:
            return {"status": int(Status.SUCCESS), **await self._does[operation](payload)}
        except RefusedError as error:
            return {"status": int(error.status), "errorMessage": error.message}
        except VergeError as error:
            return {"status": int(Status.UNKNOWN_FAILURE), "errorMessage": error.message}

    async def append(self, name: str, payload: bytes) -> int:
        """Append a message; gives its number."""
        number = await self.work(self._store.append, name, payload, now_ms())
        self.tell(name)
        return number

    async def read(self, name: str, options: ReadOptions) -> list[StreamMessage]:
        """Messages of a stream; raises ``RefusedError``: NOT_ENOUGH_MESSAGES, RESPONSE_TOO_LARGE."""
        timeout_s = (options.read_timeout_millis or 0) / 1000
        deadline = time.monotonic() + timeout_s
        while True:
            event = self.appended(name)
            try:
                messages, cut = await self.work(self._store.read, name, options.start, options.most, now_ms())
            except RefusedError:
                self.tell(name)
                raise
            if len(messages) >= options.least:
                return messages
            if cut:
                raise RefusedError(
                    Status.RESPONSE_TOO_LARGE,
                    f"{options.least} messages are more than the {READ_BYTES} bytes of a response: ask for fewer",
                )
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await event.wait()
            except TimeoutError:
                raise RefusedError(
                    Status.NOT_ENOUGH_MESSAGES,
                    f"{len(messages)} messages are there from {options.start} on, and {options.least} were wanted",
                ) from None

    async def _create(self, payload: Mapping[str, Any]) -> Answer:
        await self.work(self._store.create, parse(Definition, payload.get("definition")))
        self._on_change()
        return {}

    async def _update(self, payload: Mapping[str, Any]) -> Answer:
        await self.work(self._store.update, parse(Definition, payload.get("definition")))
        self._on_change()
        return {}

    async def _delete(self, payload: Mapping[str, Any]) -> Answer:
        name = _name(payload, "name")
        await self.work(self._store.delete, name)
        self.tell(name)
        self._on_change()
        return {}

    async def _append(self, payload: Mapping[str, Any]) -> Answer:
        data = payload.get("payload")
        if not isinstance(data, bytes) or not data:
            raise RefusedError(Status.INVALID_REQUEST, "A message is bytes, and at least one of them")
        return {"sequenceNumber": await self.append(_name(payload, "name"), data)}

    async def _read(self, payload: Mapping[str, Any]) -> Answer:
        name = _name(payload, "streamName")
        options = parse(ReadOptions, payload.get("readMessagesOptions") or {})
        return {
            "messages": [
                {"streamName": name, "sequenceNumber": one.seq, "ingestTime": one.at_ms, "payload": one.payload}
                for one in await self.read(name, options)
            ]
        }

    async def _list(self, _payload: Mapping[str, Any]) -> Answer:
        return {"streams": await self.work(self._store.names)}

    async def _describe(self, payload: Mapping[str, Any]) -> Answer:
        name = _name(payload, "name")
        definition, oldest, newest, used, states = await self.work(self._store.describe, name, now_ms())
        return {
            "messageStreamInfo": {
                "definition": msgspec.to_builtins(definition.filled),
                "storageStatus": {"oldestSequenceNumber": oldest, "newestSequenceNumber": newest, "totalBytes": used},
                "exportStatuses": [_status(identifier, state) for identifier, state in states.items()],
            }
        }


def _status(identifier: str, state: ExportState) -> Answer:
    return {
        "exportConfigIdentifier": identifier,
        "lastExportedSequenceNumber": state.position - 1,
        "lastExportTime": state.last_ms,
        "errorMessage": state.error,
        "exportedBytesFromStream": state.exported_bytes,
        "exportedMessagesCount": state.exported_messages,
    }


def _name(payload: Mapping[str, Any], member: str) -> str:
    name = payload.get(member)
    if not isinstance(name, str) or not name:
        raise RefusedError(Status.INVALID_REQUEST, f"The request has no {member}")
    return name
