"""``[edge_manager]``, ``[lookout]`` and ``[serving]``: the interfaces for programs that call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, Struct

from agent.config.bounds import Count, DiskBytes, Name, OptionalPath, PathText, Seconds, Text, Timeout
from agent.config.models import ModelOptions
from agent.config.secrets import TlsFiles, loopback
from agent.errors import ConfigError

__all__ = ["CaptureOptions", "EdgeManagerOptions", "LookoutOptions", "ServingOptions", "SocketOptions"]

_MIB: Final = 1 << 20
_LAST_PORT: Final = 65_535

Address: TypeAlias = Annotated[
    str,
    Meta(
        max_length=300,
        pattern=r"^(unix:[^\x00]+|(\[[0-9a-fA-F:.]+\]|[^\x00-\x20\[\]:/]+):[0-9]{1,5}|)\Z",
        description="host:port, unix:path, or nothing",
    ),
]
"""Where a server listens."""


class SocketOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A server on a Unix socket, and what it takes from its clients."""

    socket: OptionalPath = ""
    """Where it is; empty is a name of its own in ``data_dir``."""
    group: Name = ""
    """Whose members may connect, beside the agent's user, and read what they have captured on the disk."""
    everybody: bool = False
    """Whether every user of this machine may."""
    max_message_bytes: Annotated[int, Meta(ge=1024, le=(1 << 31) - 1)] = 128 * _MIB
    """The longest request that is taken."""
    at_once: Annotated[int, Meta(ge=1, le=1024)] = 16
    """Requests in work and waiting; what comes beyond is refused."""


class CaptureOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[edge_manager.capture]``: what becomes of the tensors that clients have captured."""

    destination: Literal["disk", "cloud", "none"] = "disk"
    """``none`` refuses captures."""
    folder: OptionalPath = ""
    """Where ``disk`` is; empty is ``edge-manager/captures`` in ``data_dir``."""
    bucket: Annotated[str, Meta(max_length=63, pattern=r"^[a-z0-9.-]*\Z", description="the name of a bucket")] = ""
    """Where ``cloud`` is, with what ``[aws]`` says."""
    prefix: Annotated[str, Meta(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*\Z", description="folders on one line")] = (
        ""
    )
    """What every path begins with.  ``disk`` without one has its files in one folder."""
    buffer_size: Annotated[int, Meta(ge=1, le=100_000)] = 30
    """Captures that may wait for the disk; what comes beyond is refused."""
    batch_size: Annotated[int, Meta(ge=1, le=10_000)] = 10
    """Captures that leave together, in one file."""
    push_period_s: Seconds = 4.0
    """How long a capture waits for its batch at most."""
    embed_limit: Annotated[int, Meta(ge=0, le=3072)] = 3072
    """Bytes up to which data is in the record itself; what is larger has a file of its own."""
    periodic_upload: bool = False
    """Whether what is on the disk goes to ``bucket`` too."""
    upload_period_s: Seconds = 8.0
    offline_size: Count = 10_000
    """Captures that may wait for the cloud; what comes beyond is refused."""
    max_waiting_bytes: DiskBytes = 256 * _MIB
    """What waits may take on the disk."""

    def check(self) -> None:
        """Raises ``ConfigError`` where captures are to go to a bucket, and none is named."""
        if (self.destination == "cloud" or self.periodic_upload) and not self.bucket:
            raise ConfigError("captures go to no bucket", code="bucket-missing", hint="name a bucket", path="bucket")


class EdgeManagerOptions(SocketOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[edge_manager]``."""

    model_roots: tuple[PathText, ...] = ()
    """Folders below which a client may name a model; empty is anywhere."""
    max_models: Annotated[int, Meta(ge=1, le=1024)] = 32
    """Models that clients may have loaded at once: each has a process of its own."""
    writable_segments: bool = True
    """Whether shared memory is taken that its owner can still write to."""
    device: Annotated[str, Meta(max_length=63, pattern=r"^[^\x00-\x1f\x7f]*\Z", description="a device's name")] = ""
    """What captures call the device; empty is the thing."""
    fleet: Annotated[str, Meta(max_length=1023, pattern=r"^[^\x00-\x1f\x7f]*\Z", description="a fleet's name")] = ""
    capture: CaptureOptions = CaptureOptions()


class LookoutOptions(SocketOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[lookout]``."""

    models: dict[str, ModelOptions] = {}
    """Models by what clients call their components, beside the components that are deployed."""


class ServingOptions(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The table ``[serving]``: the Open Inference Protocol."""

    http: Address = "127.0.0.1:8000"
    """Where it is served over HTTP; empty is nowhere."""
    grpc: Address = "127.0.0.1:8001"
    """Where it is served over gRPC; empty is nowhere."""
    mqtt: bool = False
    """Whether requests over MQTT are answered too."""
    transport: Name = ""
    """Over which broker; empty is the first configured one."""
    token: Text | None = None
    token_file: PathText | None = None
    """The token that clients have to bring, as ``Authorization: Bearer …``; without one nobody has to."""
    allow_plaintext_token: bool = False
    """Whether the token may come over a network that anybody on the way can read."""
    tls: TlsFiles | None = None
    """The server's certificate and key; with ``ca_file`` clients have to have a certificate of that authority."""
    max_message_bytes: Annotated[int, Meta(ge=1024, le=(1 << 31) - 1)] = 128 * _MIB
    """The longest request that is taken."""
    max_json_bytes: Annotated[int, Meta(ge=1024, le=256 * _MIB)] = 16 * _MIB
    """The longest JSON of a request: read, its numbers take up many times as much."""
    max_bytes: Annotated[int, Meta(ge=1024, le=1 << 36)] = 256 * _MIB
    """What all requests over HTTP, and all over MQTT, may hold together; one more is refused."""
    max_connections: Annotated[int, Meta(ge=1, le=4096)] = 64
    """Over HTTP; one more is closed."""
    at_once: Annotated[int, Meta(ge=1, le=1024)] = 16
    """Requests in work and waiting, over gRPC and over MQTT each; what comes beyond is refused."""
    timeout_s: Timeout = 60.0
    """For a request's body to come, and for its answer to be read."""

    def problems(self) -> Iterator[ConfigError]:
        """What the types of the values cannot say, each with its path in the table."""
        tls = self.tls
        if tls is not None and (tls.cert_file is None or tls.key_file is None):
            yield _wrong("tls", "the server has no certificate", "name cert_file and key_file")
        has_token = self.token is not None or self.token_file is not None
        knows_clients = has_token or (tls is not None and tls.ca_file is not None)
        for path, address in (("http", self.http), ("grpc", self.grpc)):
            host, _, port = address.rpartition(":")
            if not address or address.startswith("unix:"):
                continue
            if int(port) > _LAST_PORT:
                yield _wrong(path, f"there is no port {port}", f"ports end at {_LAST_PORT}")
            if loopback(host):
                continue
            if not knows_clients:
                hint = "add serving.token_file, or serving.tls with ca_file, or serve on 127.0.0.1"
                yield _wrong(path, f"anybody who reaches {address} could ask the models", hint, "serving-open")
            elif tls is None and not self.allow_plaintext_token:
                hint = "add serving.tls, or name the exception: allow_plaintext_token = true"
                yield _wrong(path, f"the token would come to {address} in the clear", hint, "plaintext-password")


def _wrong(path: str, message: str, hint: str, code: str = ConfigError.default_code) -> ConfigError:
    return ConfigError(message, hint=hint, code=code, path=path)
