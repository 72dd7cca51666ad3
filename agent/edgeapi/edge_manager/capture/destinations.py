"""Where batches go: a folder, or a bucket.  Either takes a batch that it has already without having it twice."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from agent.disk import trouble_code
from agent.edgeapi.edge_manager.capture.record import File
from agent.errors import InvalidInputError, UnreachableError, VergeError
from agent.files import PRIVATE, PRIVATE_FOLDER, make_folder, write_atomically

__all__ = ["Bucket", "CaptureDestination", "Folder"]

_GROUPS, _GROUPS_FOLDER = 0o640, 0o750
_NEVER: Final = {"EntityTooLarge", "KeyTooLongError", "InvalidURI"}
"""What S3 will not take however often it is asked."""


class CaptureDestination(Protocol):
    """Takes files in their order."""

    async def write(self, files: Sequence[File]) -> None:
        """Have the files there, each whole; those that are there already are the same.

        Raises ``UnreachableError`` where they are to be tried again, ``InvalidInputError`` where that is of no use.
        """


class Folder:
    """Files below a folder, synchronised to the disk; a group may read them, where there is one."""

    def __init__(self, base: Path, group: int | None = None) -> None:
        self._base = base
        self._group = group

    async def write(self, files: Sequence[File]) -> None:
        """As ``CaptureDestination`` says."""
        await asyncio.to_thread(self._write, files)

    def _write(self, files: Sequence[File]) -> None:
        try:
            folders = list(dict.fromkeys((self._base / file.path).parent for file in files))
            made = {parent for folder in folders for parent in (folder, *folder.parents) if not parent.exists()}
            for folder in folders:
                make_folder(folder, PRIVATE_FOLDER if self._group is None else _GROUPS_FOLDER)
            for file in files:
                write_atomically(self._base / file.path, file.data, PRIVATE if self._group is None else _GROUPS)
            for path in (*made, *(self._base / file.path for file in files)):
                os.chown(path, -1, -1 if self._group is None else self._group)
            for folder in dict.fromkeys((*folders, *(one.parent for one in made))):
                _synchronise(folder)
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise InvalidInputError(f"{error.filename}: the name is too long") from error
            raise UnreachableError(
                f"nothing can be written below {self._base}: {error.strerror}", code=trouble_code(error)
            ) from error


class Bucket:
    """Objects of a bucket; ``client`` makes a client of S3's, and blocks."""

    def __init__(self, bucket: str, client: Callable[[], Any]) -> None:
        self._bucket = bucket
        self._connect = client
        self._client: Any = None

    async def write(self, files: Sequence[File]) -> None:
        """As ``CaptureDestination`` says."""
        await asyncio.to_thread(self._write, files)

    def _write(self, files: Sequence[File]) -> None:
        # Imported here, in a thread: it is slow, and only where there is a bucket.
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            if self._client is None:
                self._client = self._connect()
            for file in files:
                self._client.put_object(Bucket=self._bucket, Key=file.path, Body=file.data)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            kind = InvalidInputError if code in _NEVER else UnreachableError
            raise kind(f"{self._bucket}: {error}", code="s3-refused") from error
        except (BotoCoreError, VergeError) as error:  # without credentials it is the account that is to be mended
            raise UnreachableError(f"{self._bucket}: {error}", code="s3-unreachable") from error


def _synchronise(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
