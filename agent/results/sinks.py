"""Where formatted results go: a topic, a file of JSON lines, the agent's log.

Nothing that happens to a sink stops a stream: what cannot be written is counted by code in ``lost``, and a disk
in trouble is reported once.  Writing a line takes microseconds and happens on the loop's thread.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Protocol, TypeAlias

from agent.config.streams import FileSinkOptions, check_template
from agent.errors import VergeError
from agent.files import PRIVATE, make_file, make_folder
from agent.inference.predictions import label_of
from agent.mqtt.transport import Delivered, Message
from agent.results import attachments
from agent.results.disk import DiskLosses
from agent.results.result import Result
from agent.topics import level

__all__ = ["FileSink", "LogSink", "Publish", "Sink", "TopicSink"]

log = logging.getLogger(__name__)

Publish: TypeAlias = Callable[[Message, Delivered], None]
"""``Transport.publish``."""

NO_LABEL = "none"


class Sink(Protocol):
    """Takes results that are formatted already."""

    lost: Counter[str]
    """What could not be written, by code."""

    def write(self, payload: bytes, result: Result) -> None:
        """Take one result; never raises for what the world does."""

    def close(self) -> None:
        """Let go of what is held."""


class TopicSink:
    """Publishes on a topic; the template's fields are ``{thing}``, ``{stream}``, ``{camera}`` and ``{label}``.

    Each becomes one level of the topic; ``{label}`` is the best prediction's, or ``none``.  MQTT 5 readers find
    the result's id in the user property ``id``.  What the transport refuses or loses later is counted by the
    error's code.  Raises ``ConfigError`` for a template that is no topic.
    """

    def __init__(
        self,
        publish: Publish,
        topic_template: str,
        *,
        content_type: str = "application/json",
        qos: int = 1,
        retain: bool = False,
        expiry_s: int | None = None,
    ) -> None:
        check_template(topic_template)
        self._publish = publish
        self._template = topic_template
        self._content_type = content_type
        self._qos = qos
        self._retain = retain
        self._expiry_s = expiry_s
        self.lost: Counter[str] = Counter()

    def write(self, payload: bytes, result: Result) -> None:
        """Publish one result."""
        self._send(self.topic(result), payload, self._content_type, result, retain=self._retain)

    def attach(self, result: Result, number: int, data: bytes, content_type: str) -> bool:
        """Publish an attachment of a result, never retained; whether the transport took it."""
        topic = attachments.topic(self.topic(result), result.id, number)
        return self._send(topic, data, content_type, result, retain=False)

    def topic(self, result: Result) -> str:
        """Where a result goes."""
        return self._template.format(
            thing=level(result.thing),
            stream=level(result.stream),
            camera=level(result.frame.camera),
            label=level(_best_label(result)),
        )

    def close(self) -> None:
        """Nothing is held."""

    def _send(self, topic: str, payload: bytes, content_type: str, result: Result, *, retain: bool) -> bool:
        message = Message(
            topic=topic,
            payload=payload,
            qos=self._qos,
            retain=retain,
            content_type=content_type,
            user_properties=(("id", result.id),),
            expiry_s=self._expiry_s,
        )
        try:
            self._publish(message, self._delivered)
        except VergeError as error:
            self.lost[error.code] += 1
            return False
        return True

    def _delivered(self, error: VergeError | None) -> None:
        if error is not None:
            self.lost[error.code] += 1


class FileSink:
    """Appends JSON lines to a file and rotates it: ``path``, ``path.1`` … up to ``keep`` files in all.

    A line is in the file whole or not at all: it is one write, and what a full disk cut short is taken back.
    A line longer than ``max_bytes`` gets a file of its own.  A file belongs to one sink, and is the agent's alone;
    one that is there keeps its mode, and those that follow it have the same.
    """

    def __init__(self, options: FileSinkOptions) -> None:
        path = Path(options.path)
        self._files = [path, *(path.with_name(f"{path.name}.{n}") for n in range(1, options.keep))]
        self._max_bytes = options.max_bytes
        self._mode = PRIVATE
        self._fd: int | None = None
        self._size = 0
        self._losses = DiskLosses(f"the results of {path}")
        self.lost: Counter[str] = self._losses.counts

    def write(self, payload: bytes, result: Result) -> None:
        """Append one result."""
        del result
        with self._losses:
            # JSON has line breaks between its words only, where a blank does as well.
            self._append(payload.replace(b"\n", b" ") + b"\n")

    def close(self) -> None:
        """Close the file; a later write opens it again."""
        if self._fd is not None:
            self._mode = stat.S_IMODE(os.fstat(self._fd).st_mode)
            os.close(self._fd)
            self._fd = None

    def _append(self, line: bytes) -> None:
        fd = self._open()
        if self._size and self._size + len(line) > self._max_bytes:
            self._rotate()
            fd = self._open()
        try:
            self._size += _append_whole(fd, line, self._size)
        except OSError:
            self.close()
            raise

    def _open(self) -> int:
        if self._fd is not None and not os.fstat(self._fd).st_nlink:
            self.close()  # someone removed the file
        if self._fd is None:
            path = self._files[0]
            make_folder(path.parent)
            if not path.exists():
                make_file(path, self._mode)
            self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
            self._size = os.fstat(self._fd).st_size
            # A line that a power cut left torn is ended here, so that it spoils no other.
            if self._size and os.pread(self._fd, 1, self._size - 1) != b"\n":
                self._size += os.write(self._fd, b"\n")
        return self._fd

    def _rotate(self) -> None:
        self.close()
        for newer, older in reversed(list(pairwise(self._files))):
            if newer.exists():
                newer.replace(older)
        self._files[0].unlink(missing_ok=True)


class LogSink:
    """Writes results into the agent's log and nowhere else."""

    def __init__(self) -> None:
        self.lost: Counter[str] = Counter()

    def write(self, payload: bytes, result: Result) -> None:
        """Log one result, on one line."""
        # JSON has line breaks between its words only; what is no text is shown as bytes are.
        log.info("%s: %s", result.stream, payload.replace(b"\n", b" ").decode(errors="backslashreplace"))

    def close(self) -> None:
        """Nothing is held."""


def _append_whole(fd: int, line: bytes, size: int) -> int:
    written = os.write(fd, line)
    if written < len(line):
        os.ftruncate(fd, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return written


def _best_label(result: Result) -> str:
    return label_of(result.predictions[0]) or NO_LABEL if result.predictions else NO_LABEL
