"""The messages of the interfaces: each ``.proto`` as it is read by people and by the generators of clients' stubs.

A message's class is made from the descriptors that ``scripts/build-protos`` compiles the ``.proto`` to, and not
from generated code, which is tied to the versions of protobuf that its generator knew.  Protobuf, and not a codec of
our own: its parser is C, guards itself against what is cut or nested, and is fuzzed by others.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

__all__ = ["Messages", "messages"]


class Messages:
    """The messages and enums of one file, as attributes; ``services`` are its rpcs by service."""

    def __init__(self, compiled: bytes) -> None:
        # A pool of its own: a client's stubs in the same process may declare the same names otherwise.
        pool = descriptor_pool.DescriptorPool()
        (description,) = descriptor_pb2.FileDescriptorSet.FromString(compiled).file
        pool.Add(description)
        self._file = pool.FindFileByName(description.name)
        self._classes = {
            name: message_factory.GetMessageClass(found) for name, found in self._file.message_types_by_name.items()
        }

    def __getattr__(self, name: str) -> Any:
        try:
            return self._classes[name]
        except KeyError:
            raise AttributeError(f"there is no message {name}") from None

    def number(self, enum: str, name: str) -> int:
        """What a value of an enum is on the wire."""
        return int(self._file.enum_types_by_name[enum].values_by_name[name].number)

    def services(self) -> dict[str, dict[str, tuple[Any, Any]]]:
        """Service → rpc → its request's and its response's class."""
        return {
            f"{self._file.package}.{name}": {
                rpc.name: (self._classes[rpc.input_type.name], self._classes[rpc.output_type.name])
                for rpc in service.methods
            }
            for name, service in self._file.services_by_name.items()
        }


@cache
def messages(name: str) -> Messages:
    """The messages of ``name.proto``: ``edge_manager``, ``lookout`` or ``inference``."""
    return Messages(resources.files(__name__).joinpath(f"{name}.binpb").read_bytes())
