"""A named shadow at a broker."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from agent.mqtt.transport import Message, Transport


class CloudShadow:
    """A named shadow that keeps AWS's rules of versions, in as few lines as they need."""

    def __init__(self, transport: Transport, base: str) -> None:
        self.state: dict[str, dict[str, Any]] = {"desired": {}, "reported": {}}
        self.version = 0
        self.updates: list[dict[str, Any]] = []
        self._transport = transport
        self._base = base
        transport.subscribe(f"{base}/get", self._get, qos=1)
        transport.subscribe(f"{base}/update", self._update, qos=1)
        self.changed = asyncio.Event()

    def close(self) -> None:
        """Answer nobody any more."""
        self._transport.unsubscribe(f"{self._base}/get", self._get)
        self._transport.unsubscribe(f"{self._base}/update", self._update)

    def _say(self, tail: str, told: dict[str, Any]) -> None:
        self._transport.publish(Message(f"{self._base}/{tail}", json.dumps(told).encode(), qos=1))

    def _get(self, _message: Message) -> None:
        if self.version:
            self._say("get/accepted", {"state": self.state, "version": self.version, "timestamp": 1})
        else:
            self._say("get/rejected", {"code": 404, "message": "No shadow exists"})

    def _update(self, message: Message) -> None:
        told = json.loads(message.payload)
        token = {"clientToken": told["clientToken"]} if "clientToken" in told else {}
        if told.get("version", self.version) != self.version:
            self._say("update/rejected", {"code": 409, "message": "Version conflict", **token})
            return
        # Before the state shows it: tests of another thread look at the state, and then here.
        self.updates.append(told)
        self.put(told["state"], token)
        self.changed.set()

    def put(self, state: dict[str, Any], token: Mapping[str, str] = MappingProxyType({})) -> None:
        self.version += 1
        for section, values in state.items():
            self.state[section] |= values
        self._say("update/accepted", {"state": state, "version": self.version, "timestamp": 1, **token})
        if "desired" in state:
            self._say("update/delta", {"state": state["desired"], "version": self.version, "timestamp": 1})
        self._say("update/documents", {"current": {"state": self.state, "version": self.version}})

    async def reported(self, status: str) -> dict[str, Any]:
        async with asyncio.timeout(5):
            while self.state["reported"].get("status") != status:
                self.changed.clear()
                await self.changed.wait()
        return self.state["reported"]
