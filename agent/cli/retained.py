"""What agents have left on a broker for whoever comes: retained messages, collected until no more come."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import msgspec

from agent.mqtt.transport import Message, Transport

__all__ = ["retained"]

_FIRST_S = 1.0
_QUIET_S = 0.25
_MOST = 10_000

Told = dict[str, Any]


async def retained(transport: Transport, filters: Iterable[str]) -> dict[str, Told]:
    """Topic → what is retained there; what is no JSON object is left out.

    A broker sends retained messages at once and does not say which is the last: silence does.
    """
    filters = tuple(filters)
    heard: dict[str, Told] = {}
    news = asyncio.Event()

    def hear(message: Message) -> None:
        told = _object(message.payload)
        if told is not None and len(heard) < _MOST:
            heard[message.topic] = told
        news.set()

    for topic_filter in filters:
        transport.subscribe(topic_filter, hear, qos=1)
    try:
        while await _within(news, _QUIET_S if heard else _FIRST_S):
            news.clear()
    finally:
        for topic_filter in filters:
            transport.unsubscribe(topic_filter, hear)
    return heard


async def _within(news: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await news.wait()
    except TimeoutError:
        return False


def _object(payload: bytes) -> Told | None:
    try:
        told = msgspec.json.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return told if isinstance(told, dict) else None
