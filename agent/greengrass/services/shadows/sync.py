"""Shadows beside their copies in IoT Core, over its shadow topics: what changes on one side comes to the other.

A shadow of which either side changed, or may have while the link was down, is due.  Those that are due have their
turns one after the other, in the order in which they came to be so, at once or once in a period:

1. The cloud's copy is known, and kept up by ``update/accepted`` and ``delete/accepted``; or it is asked for.
2. ``merging.decide`` says what the sides should be.
3. The device takes over what it lacks; from then on the cloud's copy is what both have in common.
4. The cloud is sent what it lacks, under the version that was seen.  A conflict begins the turn anew.

So a turn that is cut off anywhere is done again, and takes nothing back.  What waits is names of shadows, each once:
offline for long costs no memory.  A request that IoT Core refuses for good is logged, and that shadow waits for its
next change.

Source: IoT Core's developer guide, "Device Shadow MQTT topics"; the topics are the same on any broker with a shadow
service.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from agent.errors import UnreachableError, VergeError
from agent.greengrass.services.shadows.document import SECTIONS, State, merged, same
from agent.greengrass.services.shadows.errors import ShadowConflictError, ShadowRequestError
from agent.greengrass.services.shadows.merging import Base, Copy, Direction, Merge, decide, patch
from agent.greengrass.services.shadows.names import ShadowKey, parse
from agent.greengrass.services.shadows.options import ShadowOptions
from agent.mqtt.backoff import Backoff
from agent.mqtt.iotcore.quotas import Bucket
from agent.mqtt.transport import LinkState, Message, Transport

__all__ = ["DeviceSide", "Synchroniser"]

log = logging.getLogger(__name__)

_ANSWER_S: Final = 10.0
_BACKOFF_BASE_S: Final = 1.0
_BACKOFF_CAP_S: Final = 60.0
_SEEN: Final = 100
"""Copies of the cloud's that are kept up; another one is asked for."""
_MISSING, _CONFLICT = 404, 409
_PASSING: Final = frozenset((429, 500, 503))
"""Refusals that are worth another request."""


class DeviceSide(Protocol):
    """The device's side."""

    async def copies(self, key: ShadowKey) -> tuple[Copy | None, Base | None]:
        """The device's shadow, and what both sides last had in common."""

    async def take(self, key: ShadowKey, before: Copy | None, after: State | None, base: Base | None) -> None:
        """Take over a state, where the shadow still is as ``before``; None deletes it.

        Raises ``ShadowConflictError`` where it is not, and other errors of shadows.
        """

    async def keep(self, key: ShadowKey, base: Base | None) -> None:
        """Keep what both sides have in common."""


class _RefusedError(VergeError):
    """IoT Core does not do what it was asked."""

    default_code = "shadow-refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"IoT Core answers {status}: {message}")
        self.status = status


@dataclass(frozen=True, slots=True)
class _Request:
    """The one request that waits for its answer."""

    key: ShadowKey
    operation: str
    token: str
    answer: asyncio.Future[Mapping[str, Any]]


class Synchroniser:
    """Synchronises the shadows of ``options`` over an entered transport while it is ``run``."""

    def __init__(
        self, transport: Transport, device: DeviceSide, options: ShadowOptions, *, answer_s: float = _ANSWER_S,
        backoff: Backoff | None = None,
    ) -> None:  # fmt: skip
        self.counts: Counter[str] = Counter(turns=0, conflicts=0, refused=0, unanswered=0)
        self._transport = transport
        self._device = device
        self._options = options
        self._answer_s = answer_s
        self._backoff = backoff or Backoff(_BACKOFF_BASE_S, _BACKOFF_CAP_S)
        self._keys = frozenset(options.synchronised)
        self._due: dict[ShadowKey, None] = {}
        self._seen: dict[ShadowKey, Copy | None] = {}
        """The cloud's copies that are known, the latest last; None is deleted."""
        self._unsure: dict[ShadowKey, State] = {}
        """What the cloud was sent without an answer."""
        self._request: _Request | None = None
        self._busy = False
        self._rate = Bucket(options.outbound_per_s)
        self._wake = asyncio.Event()

    @property
    def due(self) -> int:
        """Shadows that wait for their turn, or have it."""
        return len(self._due) + self._busy

    def changed(self, key: ShadowKey) -> None:
        """The device's shadow was changed by somebody on the device."""
        if key in self._keys and self._options.direction is not Direction.TO_DEVICE:
            self._want(key)

    async def run(self) -> None:
        """Synchronise until cancelled."""
        listener = weakref.WeakMethod(self._on_link)  # a transport keeps its listeners for good
        self._transport.watch(lambda state: method(state) if (method := listener()) else None)
        with self._subscribed():
            self._on_link(self._transport.state)
            while True:
                while not (self._due and self._transport.state.connected):
                    self._wake.clear()
                    await self._wake.wait()
                await self._round()
                await asyncio.sleep(self._options.period_s)

    # -- turns -----------------------------------------------------------------------------------------------

    async def _round(self) -> None:
        for key in tuple(self._due):
            if not self._transport.state.connected:
                return
            del self._due[key]
            self._busy = True
            try:
                await self._turn(key)
                self.counts["turns"] += 1
                self._backoff.reset()
            except ShadowConflictError:
                self.counts["conflicts"] += 1
                self._want(key)
            except UnreachableError as error:
                self.counts["unanswered"] += 1
                log.info("the shadow %s is not synchronised yet: %s", key.prefix, error)
                self._want(key)
                await asyncio.sleep(self._backoff.next_s())
            except VergeError as error:
                self.counts["refused"] += 1
                log.warning("the shadow %s stays as it is until its next change: %s", key.prefix, error)
            except Exception:  # one shadow's trouble is not the others'
                self.counts["refused"] += 1
                log.exception("the shadow %s stays as it is until its next change", key.prefix)
            finally:
                self._busy = False

    async def _turn(self, key: ShadowKey) -> None:
        cloud = await self._cloud(key)
        device, kept = await self._device.copies(key)
        unsure = self._unsure.pop(key, None)
        adopted = cloud is not None and unsure is not None and same(unsure, cloud.state)
        base = Base(cloud.state, cloud.version) if adopted and cloud else kept
        aim = decide(device, cloud, base, self._options.direction)
        if not _is(device, aim.device):
            await self._device.take(key, device, aim.device, self._common(aim, cloud))
        if not _is(cloud, aim.cloud):
            cloud = await self._push(key, cloud, aim.cloud)
        common = self._common(aim, cloud)
        if common != kept:
            await self._device.keep(key, common)

    def _common(self, aim: Merge, cloud: Copy | None) -> Base | None:
        if aim.device is None or cloud is None:
            return None
        one_way = self._options.direction is Direction.TO_CLOUD
        return Base(aim.device if one_way else cloud.state, cloud.version)

    # -- the cloud's side ------------------------------------------------------------------------------------

    async def _cloud(self, key: ShadowKey) -> Copy | None:
        if key not in self._seen:
            try:
                await self._ask(key, "get", {})
            except _RefusedError as error:
                if error.status != _MISSING:
                    raise
                self._see(key, None)
        return self._seen[key]

    async def _push(self, key: ShadowKey, cloud: Copy | None, state: State | None) -> Copy | None:
        if state is None:
            try:
                await self._ask(key, "delete", {})
            except _RefusedError as error:
                if error.status != _MISSING:
                    raise
                self._see(key, None)
            return None
        version = {} if cloud is None else {"version": cloud.version}
        try:
            answer = await self._ask(key, "update", {"state": patch(cloud.state if cloud else {}, state), **version})
        except UnreachableError:
            self._unsure[key] = state
            raise
        return Copy(_version(answer), state)

    async def _ask(self, key: ShadowKey, operation: str, members: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a request and wait for its answer.

        Raises ``UnreachableError`` without one, ``ShadowConflictError``, and ``_RefusedError``.
        """
        await asyncio.sleep(self._rate.wait_s(1, time.monotonic()))
        self._rate.take(1, time.monotonic())
        request = _Request(key, operation, f"verge-{uuid.uuid4().hex}", asyncio.get_running_loop().create_future())
        payload = msgspec.json.encode({**members, "clientToken": request.token})

        def delivered(error: VergeError | None) -> None:
            if error is not None and not request.answer.done():
                request.answer.set_exception(error)

        self._request = request
        try:
            self._transport.publish(Message(f"{key.prefix}/{operation}", payload, qos=1), delivered)
            async with asyncio.timeout(self._answer_s):  # Python 3.11's wait_for may lose a cancellation
                return await request.answer
        except TimeoutError as error:
            self._seen.pop(key, None)
            raise UnreachableError(f"IoT Core does not answer on {key.prefix}/{operation}") from error
        except ShadowConflictError:
            self._seen.pop(key, None)
            raise
        finally:
            self._request = None

    # -- what comes ------------------------------------------------------------------------------------------

    @contextmanager
    def _subscribed(self) -> Iterator[None]:
        filters = [f"{key.prefix}/+/{result}" for key in self._options.synchronised for result in _RESULTS]
        for topic_filter in filters:
            self._transport.subscribe(topic_filter, self._on_message, qos=1)
        try:
            yield
        finally:
            for topic_filter in filters:
                self._transport.unsubscribe(topic_filter, self._on_message)

    def _on_link(self, state: LinkState) -> None:
        if state.connected:
            self._seen.clear()
            for key in self._options.synchronised:
                self._want(key)
        self._wake.set()

    def _on_message(self, message: Message) -> None:
        topic = parse(message.topic)
        if topic is None or (key := ShadowKey(topic.thing, topic.shadow)) not in self._keys:
            return
        operation, _, result = topic.tail.partition("/")
        try:
            body = _body(message.payload)
            if result == "accepted":
                self._on_accepted(key, operation, body)
        except ShadowRequestError as error:
            log.warning("what came on %s is not used: %s", message.topic, error)
            return
        request = self._request
        token = body.get("clientToken")
        if request is None or (request.key, request.operation) != (key, operation) or request.answer.done():
            return
        if token not in {None, request.token}:
            return
        if result == "accepted":
            request.answer.set_result(body)
        else:
            request.answer.set_exception(_refusal(body))

    def _on_accepted(self, key: ShadowKey, operation: str, body: Mapping[str, Any]) -> None:
        """Keep up with the cloud's copy; what somebody else did to it makes the shadow due."""
        if operation == "get":
            self._see(key, Copy(_version(body), merged({}, _sections(body))))
            return
        if operation == "delete":
            self._see(key, None)
        elif operation == "update":
            self._patch(key, _version(body), body)
        ours = self._request is not None and body.get("clientToken") == self._request.token
        if not ours and self._options.direction is not Direction.TO_CLOUD:
            self._want(key)

    def _patch(self, key: ShadowKey, version: int, body: Mapping[str, Any]) -> None:
        if key not in self._seen:
            return
        seen = self._seen[key]
        if seen is None:
            self._see(key, Copy(version, merged({}, _sections(body))))
        elif version == seen.version + 1:
            self._see(key, Copy(version, {} if body.get("state", {}) is None else merged(seen.state, _sections(body))))
        elif version > seen.version:
            del self._seen[key]

    def _see(self, key: ShadowKey, copy: Copy | None) -> None:
        self._seen.pop(key, None)
        self._seen[key] = copy
        if len(self._seen) > _SEEN:
            del self._seen[next(iter(self._seen))]

    def _want(self, key: ShadowKey) -> None:
        self._due[key] = None
        self._wake.set()


_RESULTS: Final = ("accepted", "rejected")


def _is(copy: Copy | None, state: State | None) -> bool:
    if copy is None or state is None:
        return copy is None and state is None
    return same(copy.state, state)


def _body(payload: bytes) -> Mapping[str, Any]:
    try:
        body = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as error:
        raise ShadowRequestError(f"it is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise ShadowRequestError("it is not an object")
    return body


def _version(body: Mapping[str, Any]) -> int:
    version = body.get("version")
    if not isinstance(version, int):
        raise ShadowRequestError("it has no version")
    return version


def _sections(body: Mapping[str, Any]) -> dict[str, Any]:
    state = body.get("state") or {}
    if not isinstance(state, dict):
        raise ShadowRequestError("its state is not an object")
    return {name: state[name] for name in SECTIONS if name in state}


def _refusal(body: Mapping[str, Any]) -> VergeError:
    status, message = body.get("code"), str(body.get("message", ""))
    if status == _CONFLICT:
        return ShadowConflictError(message or "Version conflict")
    if status in _PASSING:
        return UnreachableError(f"IoT Core answers {status}: {message}")
    return _RefusedError(status if isinstance(status, int) else 0, message)
