"""IoT Core's shadow service at a broker: every shadow of every thing, by the rules of its developer guide."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from agent.mqtt.transport import Message, Transport

__all__ = ["CloudCopy", "CloudShadows"]

_TOPIC = re.compile(r"\$aws/things/([^/]+)/shadow(?:/name/([^/]+))?/(get|update|delete)")


@dataclass
class CloudCopy:
    """A shadow of the cloud's; without a state it is deleted."""

    version: int = 0
    state: dict[str, Any] | None = None


@dataclass
class CloudShadows:
    """Answers over an entered transport; ``asked`` is what it was asked, ``silent`` has it answer nothing."""

    transport: Transport
    shadows: dict[tuple[str, str], CloudCopy] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    silent: bool = False
    refuses: dict[str, Any] | None = None
    """What every request is answered with, in place of being done."""

    def __post_init__(self) -> None:
        for topic_filter in ("$aws/things/+/shadow/+", "$aws/things/+/shadow/name/+/+"):
            self.transport.subscribe(topic_filter, self._on_message, qos=1)

    def put(self, thing: str, shadow: str, state: dict[str, Any] | None, **members: Any) -> None:
        """Update a shadow as somebody else would."""
        self._answer(thing, shadow, "update", {"state": state, **members})

    def remove(self, thing: str, shadow: str = "") -> None:
        """Delete a shadow as somebody else would."""
        self._answer(thing, shadow, "delete", {})

    def state(self, thing: str, shadow: str = "") -> dict[str, Any] | None:
        """What a shadow says; None where there is none."""
        return self.shadows[thing, shadow].state if (thing, shadow) in self.shadows else None

    def _on_message(self, message: Message) -> None:
        found = _TOPIC.fullmatch(message.topic)
        if found is None:
            return
        request = json.loads(message.payload or b"{}")
        self.asked.append((message.topic.split("/shadow/")[1], request))
        if not self.silent:
            self._answer(found[1], found[2] or "", found[3], request)

    def _answer(self, thing: str, shadow: str, operation: str, request: dict[str, Any]) -> None:
        copy = self.shadows.setdefault((thing, shadow), CloudCopy())
        token = {"clientToken": request["clientToken"]} if "clientToken" in request else {}
        told: dict[str, Any] | None = self.refuses
        if told is None and operation != "update" and copy.state is None:
            told = {"code": 404, "message": f"No shadow exists with name: '{shadow or thing}'"}
        elif told is None and operation == "update" and request.get("version", copy.version) != copy.version:
            told = {"code": 409, "message": "Version conflict"}
        base = f"$aws/things/{thing}/shadow" + (f"/name/{shadow}" if shadow else "")
        if told is not None:
            self._say(f"{base}/{operation}/rejected", {**told, "timestamp": 1, **token})
        else:
            self._say(f"{base}/{operation}/accepted", {**self._done(copy, operation, request), "timestamp": 1, **token})

    def _done(self, copy: CloudCopy, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if operation == "get":
            return {"state": copy.state, "metadata": {}, "version": copy.version}
        copy.version += 1
        if operation == "delete":
            copy.state = None
            return {"version": copy.version - 1}
        patch = request["state"]
        copy.state = {} if patch is None else _patched(copy.state or {}, patch)
        return {"state": patch, "metadata": {}, "version": copy.version}

    def _say(self, topic: str, said: dict[str, Any]) -> None:
        self.transport.publish(Message(topic, json.dumps(said).encode(), qos=1))


def _patched(target: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        result.pop(key, None) if value is None else result.update({key: _patched(result.get(key), value)})
    return result
