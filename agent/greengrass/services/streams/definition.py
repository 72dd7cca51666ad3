"""What a stream is and where it is exported to: the members the clients send, their limits and defaults.

Source: the data model of the public clients.  ``streamSegmentSize`` is checked and kept; the store has no segments,
so that a full stream loses its oldest messages and not its oldest segment.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from agent.greengrass.services.streams.wire import RefusedError, Status

__all__ = [
    "Definition",
    "Export",
    "ExportDefinition",
    "Http",
    "IotAnalytics",
    "Kinesis",
    "OnFull",
    "Persistence",
    "ReadOptions",
    "S3Executor",
    "SiteWise",
    "StatusConfig",
    "parse",
]

_LONG: Final = 2**63 - 1
_MILLIS: Final = 9_223_372_036_854
_NAME: Final = r"^[\w ,.\-_]*\Z"
Name = Annotated[str, Meta(min_length=1, max_length=255, pattern=_NAME)]
_Millis = Annotated[int, Meta(ge=60_000, le=_MILLIS)]
_Sequence = Annotated[int, Meta(ge=0, le=_LONG)]
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Text = Annotated[str, Meta(min_length=1)]
_Priority = Annotated[int, Meta(ge=1, le=10)]
_Of500 = Annotated[int, Meta(ge=1, le=500)]
_Of100 = Annotated[int, Meta(ge=1, le=100)]
_Of10 = Annotated[int, Meta(ge=1, le=10)]


class OnFull(IntEnum):
    """What a full stream does with a new message."""

    REJECT = 0
    OVERWRITE = 1


class Persistence(IntEnum):
    """Where a stream is kept."""

    FILE = 0
    MEMORY = 1


class ExportFormat(IntEnum):
    """How an HTTP server gets messages."""

    RAW = 0
    JSON = 1


class Export(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """What every export has."""

    identifier: Name
    priority: _Priority | None = None
    disabled: bool | None = None

    @property
    def size(self) -> int:
        """Messages in one batch."""
        return getattr(self, "batch_size", None) or self.largest

    @property
    def largest(self) -> int:
        """Messages in one batch where the definition names none."""
        return 1


class _Batched(Export, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    batch_interval_millis: _Millis | None = None
    start_sequence_number: _Sequence | None = None


class Http(_Batched, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """An HTTP server."""

    uri: _Text
    batch_size: _Of500 | None = None
    export_format: ExportFormat | None = None

    @property
    def largest(self) -> int:
        """As the clients document it."""
        return 500


class IotAnalytics(_Batched, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A channel of a service that AWS has ended."""

    iot_channel: _Text
    iot_msg_id_prefix: Annotated[str, Meta(max_length=32)] | None = None
    batch_size: _Of100 | None = None


class Kinesis(_Batched, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A Kinesis data stream."""

    kinesis_stream_name: _Text
    batch_size: _Of500 | None = None

    @property
    def largest(self) -> int:
        """As the clients document it."""
        return 500


class SiteWise(_Batched, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Properties of assets in IoT SiteWise."""

    batch_size: _Of10 | None = None

    @property
    def largest(self) -> int:
        """As the clients document it."""
        return 10


class StatusConfig(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Which stream gets the statuses of an export, from which level on (0 error … 4 trace)."""

    status_level: Annotated[int, Meta(ge=0, le=4)] | None = None
    status_stream_name: Name | None = None


class S3Executor(Export, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """Uploads of files to S3, which the messages of the stream name."""

    size_threshold_for_multipart_upload_bytes: Annotated[int, Meta(ge=5 * 1024 * 1024)] | None = None
    status_config: StatusConfig | None = None


class ExportDefinition(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every export of a stream."""

    http: list[Http] | None = None
    iot_analytics: list[IotAnalytics] | None = field(default=None, name="iotAnalytics")
    kinesis: list[Kinesis] | None = None
    iot_sitewise: list[SiteWise] | None = field(default=None, name="IotSitewise")
    s3_task_executor: list[S3Executor] | None = field(default=None, name="s3TaskExecutor")

    @property
    def all(self) -> list[Export]:
        """Every export, the most urgent first (1 before 10; none given is last)."""
        kinds = (self.http, self.iot_analytics, self.kinesis, self.iot_sitewise, self.s3_task_executor)
        return sorted((one for kind in kinds for one in kind or ()), key=lambda one: one.priority or 10)


class Definition(Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True):
    """A stream."""

    name: Name
    strategy_on_full: OnFull
    max_size: Annotated[int, Meta(ge=1024, le=_LONG)] | None = None
    stream_segment_size: Annotated[int, Meta(ge=1024, le=2**31 - 1)] | None = None
    time_to_live_millis: _Millis | None = None
    persistence: Persistence | None = None
    flush_on_write: bool | None = None
    export_definition: ExportDefinition | None = None

    @property
    def limit(self) -> int:
        """How many bytes of messages it holds."""
        return self.max_size or 256 * 1024 * 1024

    @property
    def exports(self) -> list[Export]:
        """Its exports."""
        return self.export_definition.all if self.export_definition else []

    @property
    def filled(self) -> Definition:
        """The same with every default said."""
        return msgspec.structs.replace(
            self,
            max_size=self.limit,
            stream_segment_size=self.stream_segment_size or 16 * 1024 * 1024,
            persistence=self.persistence or Persistence.FILE,
            flush_on_write=bool(self.flush_on_write),
        )


class ReadOptions(Struct, frozen=True, kw_only=True, rename="camel"):
    """Which messages to read, and how long to wait for them."""

    desired_start_sequence_number: _Sequence | None = None
    min_message_count: _Count | None = None
    max_message_count: _Count | None = None
    read_timeout_millis: Annotated[int, Meta(ge=0, le=_MILLIS)] | None = None

    @property
    def start(self) -> int:
        """The first number wanted."""
        return self.desired_start_sequence_number or 0

    @property
    def least(self) -> int:
        """Fewer are an error."""
        return self.min_message_count or 1

    @property
    def most(self) -> int:
        """More are not given."""
        return self.max_message_count or self.least


_T = TypeVar("_T")


def parse(kind: type[_T], plain: Any) -> _T:
    """What a client sent, checked.  Raises ``RefusedError``: INVALID_REQUEST, naming the member."""
    try:
        made = msgspec.convert(plain, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        raise RefusedError(Status.INVALID_REQUEST, f"The request is not valid: {error}") from error
    if isinstance(made, Definition):
        names = [one.identifier for one in made.exports]
        if len(set(names)) != len(names):
            raise RefusedError(Status.INVALID_REQUEST, "Two exports of the stream have the same identifier")
    if isinstance(made, ReadOptions) and made.most < made.least:
        raise RefusedError(Status.INVALID_REQUEST, "minMessageCount is more than maxMessageCount")
    return made
