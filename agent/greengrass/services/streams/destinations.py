"""Where streams go: each destination takes a batch, and says how many of its first messages it has done with.

=============  =======================================================================================================
export         how
=============  =======================================================================================================
Kinesis        PutRecords; the partition key is the stream's name, so that one shard keeps the order
SiteWise       BatchPutAssetPropertyValue; a message is one entry as JSON
S3             a message is a task as JSON that names a file; what became of it goes to the status stream
HTTP           POST: a message as it is, or a batch as a JSON list of messages (payloads in base64)
IoT Analytics  AWS has ended the service: the export says so, and keeps its place
=============  =======================================================================================================

A batch of which some were taken is sent again without those.  What can never be delivered (JSON that is none, a file
that is not there) is given up with its reason in the log, and does not hold up the rest.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import re
import stat
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol
from urllib.parse import unquote, urlsplit

from agent.errors import InvalidInputError, UnreachableError
from agent.greengrass.services.streams.definition import (
    Export,
    ExportFormat,
    Http,
    Kinesis,
    S3Executor,
    SiteWise,
    StatusConfig,
)
from agent.greengrass.services.streams.store import StreamMessage

__all__ = ["Destination", "destination"]

log = logging.getLogger(__name__)

Append = Callable[[str, bytes], Awaitable[int]]
_HTTP_S: Final = 30.0
_RETRIED_CODES: Final = {"ThrottlingException", "InternalFailureException", "ServiceUnavailableException"}
_ERROR, _WARN, _INFO = 0, 1, 2
_SUCCESS, _FAILURE, _IN_PROGRESS, _WARNING = 0, 1, 2, 3
_TIME: Final = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}
"""Java's letters of a time that are filled in → the C library's."""
_PLACE = re.compile(r"!\{timestamp:([A-Za-z/]+)\}")


class Destination(Protocol):
    """One export's other end."""

    async def deliver(self, messages: list[StreamMessage]) -> tuple[int, str]:
        """How many of the first are done with, and why not all; raises what its client raises: nothing is done."""


def destination(export: Export, stream: str, clients: Any, append: Append, part_bytes: int) -> Destination:
    """The other end of an export."""
    match export:
        case Kinesis():
            return _Kinesis(export, stream, clients)
        case SiteWise():
            return _SiteWise(clients)
        case S3Executor():
            return _S3(export, stream, clients, append, part_bytes)
        case Http():
            return _Http(export, stream)
        case _:
            return _Ended()


class _Client:
    def __init__(self, service: str, clients: Any) -> None:
        self._service, self._clients = service, clients
        self._made: Any = None

    async def get(self) -> Any:
        if self._clients is None:
            raise UnreachableError(
                "there is no AWS account to export to", hint="deploy aws.greengrass.TokenExchangeService"
            )
        if self._made is None:
            self._made = await asyncio.to_thread(self._clients, self._service)
        return self._made


class _Partial(ABC):
    """Sends a batch of which the service may take some; remembers which, so that none is sent twice."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    async def deliver(self, messages: list[StreamMessage]) -> tuple[int, str]:
        left = [one for one in messages if one.seq not in self._taken]
        refused = await self._send(left) if left else {}
        self._taken |= {one.seq for one in left if one.seq not in refused}
        done = next((at for at, one in enumerate(messages) if one.seq not in self._taken), len(messages))
        self._taken -= {one.seq for one in messages[:done]}
        return done, next(iter(refused.values()), "")

    @abstractmethod
    async def _send(self, messages: list[StreamMessage]) -> dict[int, str]:
        """Number → why it was not taken."""


class _Kinesis(_Partial):
    def __init__(self, export: Kinesis, stream: str, clients: Any) -> None:
        super().__init__()
        self._export, self._stream = export, stream
        self._client = _Client("kinesis", clients)

    async def _send(self, messages: list[StreamMessage]) -> dict[int, str]:
        client = await self._client.get()
        records = [{"Data": one.payload, "PartitionKey": self._stream} for one in messages]
        answer = await asyncio.to_thread(
            client.put_records, StreamName=self._export.kinesis_stream_name, Records=records
        )
        return {
            one.seq: f"{result['ErrorCode']}: {result.get('ErrorMessage', '')}"
            for one, result in zip(messages, answer["Records"], strict=True)
            if result.get("ErrorCode")
        }


class _SiteWise(_Partial):
    def __init__(self, clients: Any) -> None:
        super().__init__()
        self._client = _Client("iotsitewise", clients)

    async def _send(self, messages: list[StreamMessage]) -> dict[int, str]:
        entries: dict[str, tuple[StreamMessage, Mapping[str, Any]]] = {}
        for one in messages:
            entry = _map(one.payload)
            if entry is None:
                log.warning("stream manager: message %d is no entry of SiteWise: it is given up", one.seq)
            else:
                # Two entries of one request may not have the same identifier, and a person's may.
                entries[str(one.seq)] = one, {**entry, "entryId": str(one.seq)}
        if not entries:
            return {}
        client = await self._client.get()
        answer = await asyncio.to_thread(
            client.batch_put_asset_property_value, entries=[entry for _, entry in entries.values()]
        )
        refused = {}
        for entry in answer["errorEntries"]:
            codes = ", ".join(f"{error['errorCode']}: {error['errorMessage']}" for error in entry["errors"])
            if any(error["errorCode"] in _RETRIED_CODES for error in entry["errors"]):
                refused[entries[entry["entryId"]][0].seq] = codes
            else:
                log.warning("stream manager: SiteWise refuses message %s for good: %s", entry["entryId"], codes)
        return refused


class _Http:
    def __init__(self, export: Http, stream: str) -> None:
        self._export, self._stream = export, stream

    async def deliver(self, messages: list[StreamMessage]) -> tuple[int, str]:
        if self._export.export_format is ExportFormat.JSON:
            body = json.dumps([self._plain(one) for one in messages]).encode()
            trouble = await asyncio.to_thread(self._post, body, "application/json")
            return (0, trouble) if trouble else (len(messages), "")
        for done, one in enumerate(messages):
            if trouble := await asyncio.to_thread(self._post, one.payload, "application/octet-stream"):
                return done, trouble
        return len(messages), ""

    def _plain(self, one: StreamMessage) -> dict[str, Any]:
        payload = base64.b64encode(one.payload).decode()
        return {"streamName": self._stream, "sequenceNumber": one.seq, "ingestTime": one.at_ms, "payload": payload}

    def _post(self, payload: bytes, kind: str) -> str:
        import urllib3  # noqa: PLC0415 only where it is used

        headers = {"Content-Type": kind}
        with urllib3.PoolManager(retries=False, timeout=_HTTP_S) as pool:
            status = pool.request("POST", self._export.uri, body=payload, headers=headers).status
        return "" if 200 <= status < 300 else f"{self._export.uri} answers {status}"  # noqa: PLR2004 success


class _Ended:
    async def deliver(self, messages: list[StreamMessage]) -> tuple[int, str]:
        return 0, f"AWS has ended IoT Analytics: {len(messages)} messages wait and cannot be exported"


class _S3:
    def __init__(self, export: S3Executor, stream: str, clients: Any, append: Append, part_bytes: int) -> None:
        self._export, self._stream, self._append = export, stream, append
        self._part_bytes = part_bytes
        self._client = _Client("s3", clients)

    async def deliver(self, messages: list[StreamMessage]) -> tuple[int, str]:
        """Upload the files of the messages, one after the other."""
        for done, one in enumerate(messages):
            task = _map(one.payload)
            try:
                await self._upload(task)
            except InvalidInputError as error:
                await self._report(one, task, _ERROR, _FAILURE, error.message)
            except Exception as error:  # noqa: BLE001 whatever a client of AWS raises is tried again
                reason = error.message if isinstance(error, UnreachableError) else f"{type(error).__name__}: {error}"
                await self._report(one, task, _WARN, _WARNING, reason)
                return done, reason
            else:
                await self._report(one, task, _INFO, _SUCCESS, "")
        return len(messages), ""

    async def _upload(self, task: Mapping[str, Any] | None) -> None:
        members = [(task or {}).get(name) for name in ("inputUrl", "bucket", "key")]
        if not all(isinstance(member, str) and member for member in members):
            raise InvalidInputError("The message is no S3ExportTaskDefinition: it needs inputUrl, bucket and key")
        url, bucket, key = map(str, members)
        metadata = {str(name): str(value) for name, value in ((task or {}).get("userMetadata") or {}).items()}
        client = await self._client.get()
        with _file(url) as file:
            await asyncio.to_thread(self._put, client, file, bucket, _dated(key), metadata)

    def _put(self, client: Any, file: BinaryIO, bucket: str, key: str, metadata: dict[str, str]) -> None:
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 an extra

        threshold = self._export.size_threshold_for_multipart_upload_bytes or self._part_bytes
        config = TransferConfig(multipart_threshold=threshold, multipart_chunksize=self._part_bytes, use_threads=False)
        client.upload_fileobj(file, bucket, key, ExtraArgs={"Metadata": metadata}, Config=config)

    async def _report(
        self, message: StreamMessage, task: Mapping[str, Any] | None, level: int, status: int, reason: str
    ) -> None:
        if reason:
            log.warning("stream manager: message %d of %s: %s", message.seq, self._stream, reason)
        config = self._export.status_config or StatusConfig()
        wanted = _INFO if config.status_level is None else config.status_level
        if config.status_stream_name is None or level > wanted:
            return
        context = {
            "s3ExportTaskDefinition": task,
            "exportIdentifier": self._export.identifier,
            "streamName": self._stream,
            "sequenceNumber": message.seq,
        }
        report = {
            "eventType": 0,
            "statusLevel": level,
            "status": status,
            "statusContext": {name: value for name, value in context.items() if value is not None},
            "message": reason,
            "timestampEpochMs": time.time_ns() // 1_000_000,
        }
        try:
            await self._append(config.status_stream_name, json.dumps(report).encode())
        except (InvalidInputError, UnreachableError) as error:
            log.warning("stream manager: a status for %s is dropped: %s", config.status_stream_name, error.message)


def _map(payload: bytes) -> dict[str, Any] | None:
    try:
        plain = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return plain if isinstance(plain, dict) else None


def _dated(key: str) -> str:
    """``!{timestamp:YYYY/MM}`` filled in, in UTC."""
    now = time.gmtime()

    def part(run: re.Match[str]) -> str:
        if run[0] not in _TIME:
            raise InvalidInputError(f"{key}: {run[0]} is no part of a time that is filled in: {', '.join(_TIME)} are")
        return time.strftime(_TIME[run[0]], now)

    def fill(found: re.Match[str]) -> str:
        return re.sub(r"([A-Za-z])\1*", part, found[1])

    return _PLACE.sub(fill, key)


def _file(url: str) -> BinaryIO:
    """The file that a task names.  A root agent opens none that other users could not: a task is a component's."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not path.startswith("/"):
        raise InvalidInputError(f"inputUrl is no file of this device: {url}")
    try:
        file = Path(path).open("rb")  # noqa: SIM115 the caller closes it
        status = os.fstat(file.fileno())
    except (OSError, ValueError) as error:
        raise InvalidInputError(f"{path} cannot be read: {error}") from error
    real = Path(os.readlink(f"/proc/self/fd/{file.fileno()}"))  # noqa: PTH115 it may be no path any more
    if not stat.S_ISREG(status.st_mode) or (os.geteuid() == 0 and not _open_to_others(status, real)):
        file.close()
        raise InvalidInputError(f"{path} is not a file that components can read")
    return file


def _open_to_others(status: os.stat_result, real: Path) -> bool:
    if status.st_uid == 0 and not status.st_mode & stat.S_IROTH:
        return False
    return all(one.st_uid != 0 or one.st_mode & stat.S_IXOTH for one in (parent.stat() for parent in real.parents))
