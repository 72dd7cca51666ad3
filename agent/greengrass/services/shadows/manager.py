"""``ShadowManager``: shadows got, updated, deleted and listed, by IPC and over local pub/sub; synchronised if wanted.

Whatever is done to a shadow is told on its topics over local pub/sub, whoever asked for it: ``accepted`` or
``rejected``, and after an update ``delta`` and ``documents``.  A request that is taken is done to its end, also where
whoever asked has gone.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from agent.errors import VergeError
from agent.greengrass.services.shadows import document
from agent.greengrass.services.shadows.document import Shadow, State, Update
from agent.greengrass.services.shadows.errors import (
    ShadowError,
    ShadowMissingError,
    ShadowRequestError,
    ShadowServiceMissingError,
    ShadowThrottledError,
)
from agent.greengrass.services.shadows.merging import Base, Copy, patch
from agent.greengrass.services.shadows.names import OPERATIONS, ShadowKey, parse
from agent.greengrass.services.shadows.options import ShadowOptions, options_of
from agent.greengrass.services.shadows.store import Change, ShadowStore
from agent.greengrass.services.shadows.sync import Synchroniser
from agent.mqtt.iotcore.quotas import Bucket
from agent.mqtt.transport import Transport

__all__ = ["DEFAULT_PAGE", "Page", "Publish", "ShadowManager"]

log = logging.getLogger(__name__)

Value = TypeVar("Value")
Publish: TypeAlias = Callable[[str, bytes], None]
"""Publishes over local pub/sub."""

DEFAULT_PAGE: Final = 25
_LARGEST_PAGE: Final = 100
_WAITING: Final = 256
"""Requests over local pub/sub that may wait; what comes beyond is dropped."""
_DIGEST_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class Page:
    """Names of a thing's named shadows in their order, and how to get the next ones."""

    names: tuple[str, ...]
    timestamp_s: float
    next_token: str | None = None
    """There where the page is full; holds for this caller and this thing while the agent runs."""


class ShadowManager:
    """The shadows in a file; a ``Service``, which has to be ``apply``-ed before it does anything.

    ``transport`` leads to IoT Core, or to a broker with a shadow service; without one nothing is synchronised.
    Each request raises a ``ShadowError``.
    """

    def __init__(
        self, path: Path, thing: str, publish: Publish, transport: Transport | None = None, *,
        now_s: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.counts: Counter[str] = Counter(throttled=0, dropped=0)
        self._path = path
        self._thing = thing
        self._publish = publish
        self._transport = transport
        self._now_s = now_s
        self._options: ShadowOptions | None = None
        self._store: ShadowStore | None = None
        self._thread: ThreadPoolExecutor | None = None
        self._sync: Synchroniser | None = None
        self._synchronising: asyncio.Task[None] | None = None
        self._requests: set[asyncio.Task[Any]] = set()
        self._waiting = 0
        self._limiter = _Limiter(ShadowOptions())
        self._token_key = secrets.token_bytes(32)

    async def apply(self, configuration: Mapping[str, Any] | None) -> None:
        """Be so configured from now on; None: the component is not deployed, shadows stay on disk.

        Raises ``DeploymentError`` for a configuration that cannot be used, and ``ShadowStoreError``.
        """
        if configuration is None:
            await self._stop()
            return
        options = options_of(configuration, self._thing)
        if self._store is None:
            store = ShadowStore(self._path)
            await self._in_thread(store.open)
            self._store = store
        await self._in_thread(lambda: self._opened.keep_bases_of(options.synchronised))
        await self._end_sync()
        self._options, self._limiter = options, _Limiter(options)
        if options.synchronised and self._transport is not None:
            self._sync = Synchroniser(self._transport, self, options)
            self._synchronising = asyncio.create_task(self._sync.run(), name="agent.shadows.sync")
            self._synchronising.add_done_callback(_report)
        elif options.synchronised:
            log.warning("shadows are not synchronised: the agent has no link to AWS IoT Core")

    @property
    def due(self) -> int:
        """Shadows whose change has still to come to the other side."""
        return 0 if self._sync is None else self._sync.due

    # -- requests --------------------------------------------------------------------------------------------

    async def get(self, key: ShadowKey, token: str | None = None) -> bytes:
        """A shadow with its metadata and delta."""
        return await self._done(self._get(key, token))

    async def update(self, key: ShadowKey, payload: bytes) -> bytes:
        """Merge an update into a shadow, which is made where there is none; the result says what was done."""
        return await self._done(self._update(key, payload))

    async def delete(self, key: ShadowKey, token: str | None = None) -> bytes:
        """Delete a shadow; the result is empty, as IoT Core's is."""
        return await self._done(self._delete(key, token))

    async def list(self, thing: str, caller: str, page_size: int | None = None, token: str | None = None) -> Page:
        """A page of the names of a thing's named shadows."""
        size = DEFAULT_PAGE if page_size is None else page_size
        if not 1 <= size <= _LARGEST_PAGE:
            raise ShadowRequestError(f"pageSize argument must be between 1 and {_LARGEST_PAGE}")
        self._admit(ShadowKey.of(thing, None).thing)
        after = self._name_in(token, caller, thing) if token else ""
        names = await self._in_thread(lambda: self._opened.named(thing, after, size))
        following = self._token_of(names[-1], caller, thing) if len(names) == size else None
        return Page(tuple(names), self._now_s(), following)

    def refuse(self, key: ShadowKey, operation: str) -> None:
        """Tell on the shadow's topics that a request was not authorised."""
        self._reject(key, operation, ShadowRequestError("Unauthorized", status=401))

    def handle(self, topic: str, payload: bytes, caller: str) -> bool:
        """Take a message over local pub/sub; False where it is no request of a shadow's, or none is kept here.

        It is answered on the shadow's topics only.
        """
        asked = parse(topic)
        if self._options is None or asked is None or asked.tail not in OPERATIONS:
            return False
        if self._waiting >= _WAITING:
            self.counts["dropped"] += 1
            return True
        self._waiting += 1
        task = self._start(self._asked(asked.thing, asked.shadow, asked.tail, payload, caller))
        task.add_done_callback(self._answered)
        return True

    # -- the device's side of the synchronisation (``sync.DeviceSide``) ----------------------------------------------

    async def copies(self, key: ShadowKey) -> tuple[Copy | None, Base | None]:
        """The device's shadow, and what both sides last had in common."""
        shadow = await self._in_thread(lambda: self._opened.get(key))
        base = await self._in_thread(lambda: self._opened.base(key))
        return (None if shadow is None else Copy(shadow.version, shadow.state)), base

    async def take(self, key: ShadowKey, before: Copy | None, after: State | None, base: Base | None) -> None:
        """Take over the cloud's state."""
        now = int(self._now_s())
        if after is None:
            version = before.version if before else None
            gone = await self._in_thread(lambda: self._opened.delete(key, now, version))
            self._told_deleted(key, gone, None)
            return
        update = Update(patch(before.state if before else {}, after), before.version if before else None)
        change = await self._in_thread(
            lambda: self._opened.update(key, update, now, self._used.max_bytes, base, new=before is None)
        )
        self._told_updated(key, update, change, now)

    async def keep(self, key: ShadowKey, base: Base | None) -> None:
        """Keep what both sides have in common."""
        await self._in_thread(lambda: self._opened.keep_base(key, base))

    # -- how requests are done -------------------------------------------------------------------------------

    async def _get(self, key: ShadowKey, token: str | None) -> bytes:
        try:
            self._admit(key.thing)
            shadow = await self._in_thread(lambda: self._opened.get(key))
            if shadow is None:
                raise ShadowMissingError(key.shadow)
        except ShadowError as error:
            self._reject(key, "get", error, token)
            raise
        payload = document.got(shadow, int(self._now_s()), token)
        self._publish(f"{key.prefix}/get/accepted", payload)
        return payload

    async def _update(self, key: ShadowKey, payload: bytes) -> bytes:
        now = int(self._now_s())
        try:
            self._admit(key.thing)
            update = document.read(payload)
            change = await self._in_thread(lambda: self._opened.update(key, update, now, self._used.max_bytes))
        except ShadowError as error:
            self._reject(key, "update", error)
            raise
        answer = self._told_updated(key, update, change, now)
        self._changed(key)
        return answer

    async def _delete(self, key: ShadowKey, token: str | None) -> bytes:
        try:
            self._admit(key.thing)
            before = await self._in_thread(lambda: self._opened.delete(key, int(self._now_s())))
        except ShadowError as error:
            self._reject(key, "delete", error, token)
            raise
        self._told_deleted(key, before, token)
        self._changed(key)
        return b""

    async def _asked(self, thing: str, shadow: str, operation: str, payload: bytes, caller: str) -> None:
        token = _client_token(payload)
        try:
            key = ShadowKey.of(thing, shadow)
            if operation == "update":
                await self._update(key, payload)
            elif operation == "get":
                await self._get(key, token)
            else:
                await self._delete(key, token)
        except ShadowError as error:
            log.info("%s of the shadow %s of %s by %s is refused: %s", operation, shadow, thing, caller, error)

    def _told_updated(self, key: ShadowKey, update: Update, change: Change, now: int) -> bytes:
        difference = document.difference(change.after, now, update.token)
        if difference is not None:
            self._publish(f"{key.prefix}/update/delta", difference)
        whole = document.documents(change.before, change.after, now, update.token)
        self._publish(f"{key.prefix}/update/documents", whole)
        answer = document.accepted(update, change.after.version, now)
        self._publish(f"{key.prefix}/update/accepted", answer)
        return answer

    def _told_deleted(self, key: ShadowKey, before: Shadow, token: str | None) -> None:
        answer = document.deletion_accepted(before, int(self._now_s()), token)
        self._publish(f"{key.prefix}/delete/accepted", answer)

    def _reject(self, key: ShadowKey, operation: str, error: ShadowError, token: str | None = None) -> None:
        answer = document.rejected(error.status, error.message, int(self._now_s()), token or error.token)
        self._publish(f"{key.prefix}/{operation}/rejected", answer)

    def _changed(self, key: ShadowKey) -> None:
        if self._sync is not None:
            self._sync.changed(key)

    def _admit(self, thing: str) -> None:
        if self._options is None:
            raise ShadowServiceMissingError
        if not self._limiter.admit(thing):
            self.counts["throttled"] += 1
            raise ShadowThrottledError("Too Many Requests", hint="send fewer, or raise rateLimits")

    # -- tasks and the thread --------------------------------------------------------------------------------

    async def _done(self, request: Coroutine[Any, Any, Value]) -> Value:
        return await asyncio.shield(self._start(request))

    def _start(self, request: Coroutine[Any, Any, Value]) -> asyncio.Task[Value]:
        task = asyncio.create_task(request, name="agent.shadows.request")
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return task

    def _answered(self, task: asyncio.Task[None]) -> None:
        self._waiting -= 1
        _report(task)

    async def _in_thread(self, call: Callable[[], Value]) -> Value:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="agent.shadows")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    @property
    def _opened(self) -> ShadowStore:
        if self._store is None:
            raise ShadowServiceMissingError
        return self._store

    @property
    def _used(self) -> ShadowOptions:
        return self._options or ShadowOptions()

    async def _end_sync(self) -> None:
        self._sync, task, self._synchronising = None, self._synchronising, None
        if task is not None:
            task.cancel()
            await asyncio.wait((task,))

    async def _stop(self) -> None:
        await self._end_sync()
        self._options = None
        if self._requests:
            await asyncio.wait(self._requests)
        store, self._store = self._store, None
        if store is not None:
            await self._in_thread(store.close)
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None

    # -- tokens of pages -------------------------------------------------------------------------------------

    def _token_of(self, name: str, caller: str, thing: str) -> str:
        return base64.urlsafe_b64encode(self._digest(name, caller, thing) + name.encode()).decode()

    def _name_in(self, token: str, caller: str, thing: str) -> str:
        try:
            data = base64.urlsafe_b64decode(token.encode())
            name = data[_DIGEST_BYTES:].decode()
        except (ValueError, binascii.Error) as error:
            raise ShadowRequestError("Invalid nextToken argument") from error
        if not hmac.compare_digest(data[:_DIGEST_BYTES], self._digest(name, caller, thing)):
            raise ShadowRequestError("Invalid nextToken argument", hint="begin anew without a nextToken")
        return name

    def _digest(self, name: str, caller: str, thing: str) -> bytes:
        said = msgspec.json.encode((name, caller, thing))
        return hmac.digest(self._token_key, said, hashlib.sha256)[:_DIGEST_BYTES]


class _Limiter:
    """How many requests are taken in a second, in all and for each thing."""

    def __init__(self, options: ShadowOptions) -> None:
        self._per_thing = options.requests_per_thing_s
        self._most = options.requests_per_s
        self._all = Bucket(options.requests_per_s)
        self._things: OrderedDict[str, Bucket] = OrderedDict()

    def admit(self, thing: str) -> bool:
        """Whether a request for a thing is taken now."""
        now = time.monotonic()
        one = self._things.setdefault(thing, Bucket(self._per_thing))
        self._things.move_to_end(thing)
        if len(self._things) > self._most:  # whoever asked in the last second is among these
            self._things.popitem(last=False)
        if self._all.wait_s(1, now) or one.wait_s(1, now):
            return False
        self._all.take(1, now)
        one.take(1, now)
        return True


def _client_token(payload: bytes) -> str | None:
    """The client token of a get or a deletion, whose payload need not be anything."""
    try:
        request = msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return None
    token = request.get("clientToken") if isinstance(request, dict) else None
    return token if isinstance(token, str) else None


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, VergeError):
        log.error("shadows: %s failed unexpectedly", task.get_name(), exc_info=error)
