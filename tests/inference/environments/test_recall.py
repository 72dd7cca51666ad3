"""What served a runtime before serves it at the next start, also where the package index is out of reach."""

from __future__ import annotations

import os
import socket

import pytest

from agent.inference.environments.errors import UnsupportedRuntimeError
from agent.inference.environments.provider import Provider
from agent.inference.environments.spec import RuntimeSpec


@pytest.fixture
def silent_index(monkeypatch):
    """An index that takes connections and says nothing, as behind a firewall that drops."""
    with socket.socket() as index:
        index.bind(("127.0.0.1", 0))
        index.listen(16)
        index.setblocking(False)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{index.getsockname()[1]}/simple")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        yield index


def asked(index: socket.socket) -> bool:
    """Whether anybody has connected since."""
    try:
        index.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def test_the_agents_own_python_is_recalled_by_the_next_start_without_asking_the_index(
    tmp_path, silent_index, free_port, monkeypatch
) -> None:
    spec = RuntimeSpec("com.acme.Runtime", "opencv", tmp_path / "root")
    assert await Provider().recall(spec) is None
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{free_port}/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    first = await Provider().provide(spec)
    assert first.own
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent_index.getsockname()[1]}/simple")
    again = await Provider().recall(spec)
    assert again is not None
    assert (again.own, again.python, again.packages) == (True, first.python, first.packages)
    assert "it is tried again when the component changes" in again.description
    assert not asked(silent_index)


async def test_another_wish_is_not_served_by_what_served_the_first(tmp_path) -> None:
    spec = RuntimeSpec("com.acme.Runtime", "opencv", tmp_path / "root", index=False)
    assert (await Provider().provide(spec)).own
    other = RuntimeSpec("com.acme.Runtime", "opencv", tmp_path / "root", index=False, packages=("numpy>=1",))
    assert await Provider().recall(other) is None
    assert await Provider().recall(spec) is not None


@pytest.mark.parametrize("install", [True, False])
async def test_a_root_that_cannot_even_be_looked_at_is_refused_and_does_not_end_the_agent(tmp_path, install) -> None:
    spec = RuntimeSpec("com.acme.Runtime", "opencv", tmp_path / ("x" * 300), install=install)
    with pytest.raises(UnsupportedRuntimeError, match="cannot be used"):
        await Provider().recall(spec)
    with pytest.raises(UnsupportedRuntimeError, match="cannot be used"):
        await Provider().provide(spec)
