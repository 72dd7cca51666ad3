from __future__ import annotations

import resource
import signal
from contextlib import contextmanager

import pytest


@contextmanager
def _full_after(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def full_after():
    """Within it no file grows past so many bytes: the kernel cuts the write short, as on a disk that fills up."""
    return _full_after
