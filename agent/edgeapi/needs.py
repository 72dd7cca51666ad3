"""What the interfaces need beside the agent: looked for before it is imported, so that what is missing is said."""

from __future__ import annotations

from importlib.util import find_spec

from agent.errors import BackendUnavailableError

__all__ = ["check"]


def check() -> None:
    """Raises ``BackendUnavailableError`` where grpcio or protobuf is missing."""
    for module, library in (("grpc", "grpcio"), ("google.protobuf", "protobuf")):
        if not _found(module):
            hint = "pip install 'verge-edge[api]'"
            raise BackendUnavailableError(f"the interfaces need {library}", code="library-missing", hint=hint)


def _found(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it is in is missing too
        return False
