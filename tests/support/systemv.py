"""Segments of System V's shared memory, as clients of SageMaker Edge Manager make them."""

from __future__ import annotations

import ctypes
from types import TracebackType
from typing import Self

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_libc.shmat.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int)
_libc.shmdt.argtypes = (ctypes.c_void_p,)
_PRIVATE, _CREATE, _REMOVE = 0, 0o1000, 0


class Segment:
    """A segment with ``data`` in it, gone when the context is left."""

    def __init__(self, data: bytes, mode: int = 0o400) -> None:
        self.identity = _libc.shmget(_PRIVATE, ctypes.c_size_t(len(data)), _CREATE | 0o200 | mode)
        assert self.identity >= 0, ctypes.get_errno()
        address = _libc.shmat(self.identity, None, 0)
        ctypes.memmove(address, data, len(data))
        _libc.shmdt(address)
        self._set_mode(mode)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _libc.shmctl(self.identity, _REMOVE, None)

    def _set_mode(self, mode: int) -> None:
        # struct shmid_ds begins with ipc_perm: key, uid, gid, cuid, cgid (4 bytes each), and then the mode.
        facts = ctypes.create_string_buffer(256)
        assert _libc.shmctl(self.identity, 2, facts) == 0  # IPC_STAT
        ctypes.memmove(ctypes.addressof(facts) + 20, (mode).to_bytes(4, "little"), 4)
        assert _libc.shmctl(self.identity, 1, facts) == 0  # IPC_SET
