"""A shadow, without a disk and without a clock: updates merged, versions, deltas, and every message as bytes.

====================  =================================================================================
what an update has    what it does
====================  =================================================================================
an object             is merged into the object that is there, or put in the place of anything else
``null``              removes the key; ``"desired": null`` a section, ``"state": null`` both
anything else         replaces the value, an array as a whole
====================  =================================================================================

Objects and sections that are empty are not kept.  The metadata is a tree of the state's shape, with
``{"timestamp": seconds}`` in the place of each value.  The version rises by one with every update and every deletion,
and goes on from there when a deleted shadow is made anew.

Sources: IoT Core's developer guide, "Device Shadow service documents" and "Shadow error messages"; the order of the
members is that of Greengrass's shadow manager.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

import msgspec

from agent.greengrass.services.shadows.errors import ShadowConflictError, ShadowRequestError

__all__ = [
    "DEFAULT_BYTES",
    "MAX_BYTES",
    "SECTIONS",
    "Shadow",
    "State",
    "Update",
    "accepted",
    "deleted",
    "deletion_accepted",
    "delta",
    "difference",
    "documents",
    "got",
    "merged",
    "read",
    "rejected",
    "same",
    "updated",
]

State: TypeAlias = Mapping[str, Any]
"""Sections, or what is in one: plain JSON."""

SECTIONS: Final = ("desired", "reported")
DEFAULT_BYTES: Final = 8192
MAX_BYTES: Final = 30_720
"""The most that IoT Core keeps where its quota is raised."""
_MAX_DEPTH: Final = 6
_MAX_TOKEN: Final = 64
_MAX_PAYLOAD_BYTES: Final = 128 * 1024
"""No MQTT message of IoT Core is larger."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A shadow as it is kept; of a deleted one only the version is."""

    version: int
    state: State = field(default_factory=dict)
    metadata: State = field(default_factory=dict)
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Update:
    """A request to update; ``state`` is None where it is ``null``."""

    state: State | None
    version: int | None = None
    token: str | None = None


def read(payload: bytes) -> Update:
    """A request as its payload has it.  Raises ``ShadowRequestError``.

    >>> read(b'{"state": {"reported": {"on": true}}, "clientToken": "t"}')
    Update(state={'reported': {'on': True}}, version=None, token='t')
    """
    if not payload:
        raise ShadowRequestError("Missing update payload")
    if len(payload) > _MAX_PAYLOAD_BYTES:
        raise ShadowRequestError("The payload exceeds the maximum size allowed", status=413)
    try:
        request = msgspec.json.decode(payload)
    except (ValueError, RecursionError) as error:
        raise ShadowRequestError(f"Invalid JSON: {error}") from error
    if not isinstance(request, dict):
        raise ShadowRequestError("Invalid JSON: an object is expected")
    token = request.get("clientToken")
    if token is not None and not (isinstance(token, str) and len(token) <= _MAX_TOKEN):
        raise ShadowRequestError(f"Invalid clientToken: a text of at most {_MAX_TOKEN} characters is expected")
    try:
        return Update(_state(request), _version(request.get("version")), token)
    except ShadowRequestError as error:
        error.token = token
        raise


def updated(before: Shadow | None, update: Update, now_s: int, max_bytes: int = DEFAULT_BYTES) -> Shadow:
    """The shadow after an update, which is none where there is no shadow before.

    Raises:
        ShadowRequestError: it has too many levels, gets too large, or is said to be of a version though it is new.
        ShadowConflictError: the update is for another version.
    """
    _check_version(before, update)
    state, metadata = dict(before.state if before else {}), dict(before.metadata if before else {})
    for section in SECTIONS:
        if update.state is None or (section in update.state and update.state[section] is None):
            state.pop(section, None)
            metadata.pop(section, None)
        elif section in update.state:
            if _too_deep(update.state[section], _MAX_DEPTH):
                raise ShadowRequestError(
                    f"JSON contains too many levels of nesting; maximum is {_MAX_DEPTH}", token=update.token
                )
            _put(state, metadata, section, update.state[section], now_s)
    if sum(len(msgspec.json.encode(value)) for value in state.values()) > max_bytes:
        raise ShadowRequestError(
            "The payload exceeds the maximum size allowed", status=413, token=update.token,
            hint=f"desired and reported may have {max_bytes} bytes together: shadowDocumentSizeLimitBytes in the"
            " configuration of aws.greengrass.ShadowManager",
        )  # fmt: skip
    return Shadow(before.version + 1 if before else 1, state, metadata)


def deleted(before: Shadow) -> Shadow:
    """What stays of a shadow that is deleted."""
    return replace(before, version=before.version + 1, state={}, metadata={}, deleted=True)


def merged(state: State, patch: State) -> dict[str, Any]:
    """A state with a patch merged into it, without what is empty then.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"b": None, "d": []}})
    {'a': {'c': 2, 'd': []}}
    """
    result = dict(state)
    for key, value in patch.items():
        _put(result, {}, key, value, 0)
    return result


def same(one: Any, other: Any) -> bool:
    """Whether two values of JSON are one: numbers by value, and no boolean is a number.

    >>> same({"a": [1]}, {"a": [1.0]}), same(True, 1)
    (True, False)
    """
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def delta(desired: Any, reported: Any) -> Any:
    """What of ``desired`` is not in ``reported``, or is otherwise there; None where there is nothing.

    >>> delta({"on": True, "rate": 5}, {"on": True, "rate": 4, "more": 1})
    {'rate': 5}
    """
    if not (isinstance(desired, dict) and isinstance(reported, dict)):
        return None if same(desired, reported) else desired
    found = {
        key: difference
        for key, value in desired.items()
        if (difference := delta(value, reported[key]) if key in reported else value) is not None
    }
    return found or None


# -- messages ------------------------------------------------------------------------------------------------


def got(shadow: Shadow, now_s: int, token: str | None = None) -> bytes:
    """The answer to a get."""
    difference = _delta(shadow)
    state = {**shadow.state, "delta": difference} if difference else shadow.state
    answer = {"state": state, "metadata": shadow.metadata, "version": shadow.version, "timestamp": now_s}
    return msgspec.json.encode(answer | _token(token))


def accepted(update: Update, version: int, now_s: int) -> bytes:
    """The answer to an update: what it said, and the version that it made."""
    answer = {"version": version, **_token(update.token), "timestamp": now_s}
    return msgspec.json.encode(answer | {"state": update.state, "metadata": _stamped(update.state, now_s)})


def deletion_accepted(shadow: Shadow, now_s: int, token: str | None = None) -> bytes:
    """The answer to a deletion; the version is that of what was deleted."""
    return msgspec.json.encode({"version": shadow.version, "timestamp": now_s} | _token(token))


def difference(shadow: Shadow, now_s: int, token: str | None = None) -> bytes | None:
    """The message on ``update/delta``; None where everything desired is reported."""
    state = _delta(shadow)
    if state is None:
        return None
    metadata = _of(state, shadow.metadata["desired"])
    answer = {"version": shadow.version, "timestamp": now_s, "state": state, "metadata": metadata}
    return msgspec.json.encode(answer | _token(token))


def documents(before: Shadow | None, after: Shadow, now_s: int, token: str | None = None) -> bytes:
    """The message on ``update/documents``."""
    previous = None if before is None or before.deleted else _whole(before)
    answer = {"previous": previous, "current": _whole(after), **_token(token), "timestamp": now_s}
    return msgspec.json.encode(answer)


def rejected(status: int, message: str, now_s: int, token: str | None = None) -> bytes:
    """The answer to a request that is not done."""
    return msgspec.json.encode({"timestamp": now_s, **_token(token), "code": status, "message": message})


# -- requests ------------------------------------------------------------------------------------------------


def _state(request: Mapping[str, Any]) -> State | None:
    if "state" not in request:
        raise ShadowRequestError("Invalid JSON: state is missing")
    state = request["state"]
    if state is None:
        return None
    if not isinstance(state, dict):
        raise ShadowRequestError("State node must be an object")
    state = {name: section for name, section in state.items() if name != "delta"}
    for name, section in state.items():
        if name not in SECTIONS:
            raise ShadowRequestError(f"State contains an invalid node: '{name}'")
        if section is not None and not isinstance(section, dict):
            raise ShadowRequestError(f"Invalid JSON: state.{name} must be an object or null")
    return state


def _version(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value != int(value):
        raise ShadowRequestError("Invalid version")
    return int(value)


def _check_version(before: Shadow | None, update: Update) -> None:
    if update.version is None or (before is not None and update.version == before.version):
        return
    if before is not None and not before.deleted:
        raise ShadowConflictError(token=update.token)
    if update.version != 1:
        raise ShadowRequestError("Invalid version", hint="a new shadow's first version is 1", token=update.token)


def _too_deep(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list) or not value:
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_too_deep(one, levels - 1) for one in inner)


# -- trees ---------------------------------------------------------------------------------------------------


def _put(state: dict[str, Any], metadata: dict[str, Any], key: str, value: Any, now_s: int) -> None:
    """Put a patch's value under a key of a state and of its metadata, neither of whose inner objects is changed."""
    if value is None:
        state.pop(key, None)
        metadata.pop(key, None)
        return
    if not isinstance(value, dict):
        state[key], metadata[key] = value, _stamped(value, now_s)
        return
    inside = isinstance(state.get(key), dict)
    state[key] = dict(state[key]) if inside else {}
    metadata[key] = dict(metadata.get(key, {})) if inside else {}
    for inner, inner_value in value.items():
        _put(state[key], metadata[key], inner, inner_value, now_s)
    if not state[key]:
        del state[key], metadata[key]


def _stamped(value: Any, now_s: int) -> Any:
    """The metadata of values that were all set now."""
    if isinstance(value, dict):
        return {key: _stamped(inner, now_s) for key, inner in value.items()}
    if isinstance(value, list):
        return [_stamped(inner, now_s) for inner in value]
    return {"timestamp": now_s}


def _of(part: Any, metadata: Any) -> Any:
    """The metadata of a part of what ``metadata`` is of."""
    if isinstance(part, dict) and isinstance(metadata, dict):
        return {key: _of(value, metadata[key]) for key, value in part.items()}
    return metadata


def _delta(shadow: Shadow) -> Any:
    return delta(shadow.state.get("desired"), shadow.state.get("reported"))


def _whole(shadow: Shadow) -> dict[str, Any]:
    return {"state": shadow.state, "metadata": shadow.metadata, "version": shadow.version}


def _token(token: str | None) -> dict[str, str]:
    return {} if token is None else {"clientToken": token}
