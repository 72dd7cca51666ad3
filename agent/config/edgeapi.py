"""``[edge_manager]``, ``[lookout]`` and ``[serving]``: the interfaces for programs that call."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from agent.config.bounds import Name, OptionalPath, PathText
from agent.config.models import ModelOptions

__all__ = ["EdgeManagerOptions", "LookoutOptions", "ServingOptions", "SocketOptions"]

_MIB: Final = 1 << 20


class SocketOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server on a Unix socket, and what it takes from its clients."""

    socket: OptionalPath = ""
    """Where it is; empty is a name of its own in ``data_dir``."""
    group: Name = ""
    """Whose members may connect, beside the agent's user."""
    everybody: bool = False
    """Whether every user of this machine may."""
    max_message_bytes: Annotated[int, Meta(ge=1024, le=(1 << 31) - 1)] = 128 * _MIB
    """The longest request that is taken."""
    at_once: Annotated[int, Meta(ge=1, le=1024)] = 16
    """Requests in work and waiting; what comes beyond is refused."""


class EdgeManagerOptions(SocketOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[edge_manager]``."""

    model_roots: tuple[PathText, ...] = ()
    """Folders below which a client may name a model; empty is anywhere."""
    writable_segments: bool = True
    """Whether shared memory is taken that its owner can still write to."""


class LookoutOptions(SocketOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[lookout]``."""

    models: dict[str, ModelOptions] = {}
    """Models by what clients call their components, beside the components that are deployed."""


class ServingOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[serving]``: the Open Inference Protocol."""
