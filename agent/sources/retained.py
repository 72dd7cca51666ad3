"""Which retained pictures a stream has had before.

A broker sends a retained message to everybody who subscribes: at each start, and where it kept no session at each
reconnect.  It is the last picture of its camera, not a new one, so by default it is answered once.  Of each topic that
ever had a retained picture the digest of its newest one is kept, of those too that came live since, and written to a
file now and then.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from pathlib import Path

import msgspec

from agent.files import write_atomically

__all__ = ["SeenPictures"]

log = logging.getLogger(__name__)

_TOPICS = 4096
_SOON_S, _LATER_S = 0.5, 60.0


class SeenPictures:
    """The newest picture of each topic, in the file ``path``; the topic longest without one is forgotten first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digests: OrderedDict[str, str] = OrderedDict(_read(path))
        self._timer: asyncio.TimerHandle | None = None

    def repeats(self, topic: str, payload: bytes, *, retained: bool) -> bool:
        """Whether the topic's last picture was the same; from now on it is this one.

        Live pictures of topics without retained ones cost nothing, and repeat nothing.
        """
        if not retained and topic not in self._digests:
            return False
        digest = hashlib.sha256(payload).hexdigest()
        same = self._digests.get(topic) == digest
        self._digests[topic] = digest
        self._digests.move_to_end(topic)
        if len(self._digests) > _TOPICS:
            self._digests.popitem(last=False)
        if not same and (self._timer is None or retained):
            self._save_in(_SOON_S if retained else _LATER_S)
        return same and retained

    def close(self) -> None:
        """Write what is not written yet."""
        if self._timer is not None:
            self._save()

    def _save_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._save)

    def _save(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, msgspec.json.encode(self._digests), 0o600)
        except OSError as error:
            log.warning("%s cannot be written, so retained pictures may be answered again: %s", self._path, error)


def _read(path: Path) -> dict[str, str]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("%s cannot be read, so retained pictures may be answered again: %s", path, error)
        return {}
