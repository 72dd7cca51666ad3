"""``[ipc]``: the socket through which components of Greengrass talk to the agent."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

from agent.config.bounds import OptionalPath

__all__ = ["IpcOptions"]

_MIB: Final = 1 << 20


class IpcOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[ipc]``; there is a socket only where deployments are taken."""

    enabled: bool = True
    """Whether components find Greengrass's socket at all."""
    socket: OptionalPath = ""
    """Where it is; empty is ``ipc.socket`` in ``data_dir``."""
    iot_core: Literal["", "broker"] = ""
    """What carries ``PublishToIoTCore`` and ``SubscribeToIoTCore``: empty is the transport of the type iotcore, if
    there is one; ``broker`` is the broker that deployments come from, where there is none."""
    max_clients: Annotated[int, Meta(ge=1, le=4096)] = 256
    """Connections at once."""
    max_streams: Annotated[int, Meta(ge=1, le=65536)] = 1024
    """Requests and subscriptions of one connection at once."""
    max_message_bytes: Annotated[int, Meta(ge=1024, le=24 * _MIB)] = 24 * _MIB
    """The longest message that is taken."""
    max_client_bytes: Annotated[int, Meta(ge=1024, le=1 << 30)] = 8 * _MIB
    """What may wait to be read by one component; one that is slower loses its connection."""
    max_bytes: Annotated[int, Meta(ge=1 << 16, le=1 << 32)] = 64 * _MIB
    """What all connections may hold of messages that are not complete; who needs more loses its connection."""
