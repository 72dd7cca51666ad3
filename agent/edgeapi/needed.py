"""The servers' code, imported where one is asked for, or what to install for it."""

from __future__ import annotations

from types import ModuleType

from agent.errors import ConfigError

__all__ = ["servers"]


def servers() -> ModuleType:
    """``agent.edgeapi.wiring``; raises ``ConfigError`` (``api-missing``) where grpcio or protobuf is not installed."""
    try:
        from agent.edgeapi import wiring  # noqa: PLC0415 an agent without such servers does not carry what they need
    except ImportError as error:
        raise ConfigError(
            f"the interfaces for programs need grpcio and protobuf: {error}",
            code="api-missing",
            hint='install them: pip install "verge-edge[api]"',
        ) from error
    return wiring
