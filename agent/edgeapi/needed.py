"""The servers' code, imported where one is asked for, or what to install for it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from agent.config.edgeapi import ServingOptions
from agent.config.secrets import missing_files
from agent.edgeapi.sockets import TcpPlace, place
from agent.errors import ConfigError

__all__ = ["servers", "serving_problems"]


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


def serving_problems(options: ServingOptions) -> Iterator[ConfigError]:
    """Everything for which ``agent.edgeapi.serving`` could not serve, each with its path; HTTP needs no grpcio."""
    needed = (("http", options.http, ("h11",)), ("grpc", options.grpc, ("grpc", "google.protobuf")))
    for path, address, modules in needed:
        if address and not all(map(_is_there, modules)):
            hint = f'install it: pip install "verge-edge[api]", or set {path} = ""'
            missing = f"{path} needs {' and '.join(modules)}"
            yield ConfigError(missing, code="api-missing", hint=hint, path=f"serving.{path}")
    unreadable = [*missing_files(options, "serving")]
    yield from unreadable
    for path, address, _ in needed:
        try:
            if address and not unreadable and isinstance(found := place(address, Path(), options.tls), TcpPlace):
                found.context()
        except ConfigError as error:
            yield error.within(f"serving.{path}")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even what it is in
        return False
