"""Scheme → store: built in, a stranger's, or refused with what to do instead."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager

import pytest

from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.registry import Stores
from agent.greengrass.artifacts.store import Content, Store
from agent.greengrass.artifacts.stores.https import HttpsStore


class Odd(Store):
    """A stranger's store."""

    @asynccontextmanager
    async def _open(self, uri, offset, version):
        async def chunks():
            yield uri.encode()

        yield Content(chunks())


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A distribution on the path that serves ``odd:`` and, wrongly, ``bad:`` and ``gone:``."""
    facts = tmp_path / "odd-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(
        "[verge.stores]\nodd = odd_store:Odd\nbad = odd_store:Stranger\ngone = odd_gone:Gone\n"
    )
    module = type(sys)("odd_store")
    module.Odd, module.Stranger = Odd, object
    monkeypatch.setitem(sys.modules, "odd_store", module)
    monkeypatch.syspath_prepend(tmp_path)


async def test_http_and_https_share_one_store_that_is_made_once():
    async with Stores() as stores:
        assert stores.of("https://host/a") is stores.of("HTTP://localhost/b")
        assert isinstance(stores.of("https://host/a"), HttpsStore)


async def test_a_stranger_s_store_comes_by_entry_point(plugin, tmp_path):
    async with Stores() as stores:
        await stores.of("odd://x").fetch("odd://x", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"odd://x"


@pytest.mark.parametrize("scheme", ["bad", "gone"])
async def test_a_store_that_cannot_be_used_is_told(plugin, scheme):
    async with Stores() as stores:
        with pytest.raises(ArtifactError) as refusal:
            stores.of(f"{scheme}://x")
    assert refusal.value.code == "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD"


@pytest.mark.parametrize(
    ("uri", "hint"),
    [("greengrass:x", "cloud"), ("ftp:x", "file")],
)
async def test_a_scheme_that_nothing_serves_is_refused_with_what_to_do(uri, hint):
    async with Stores() as stores:
        with pytest.raises(ArtifactError) as refusal:
            stores.of(uri)
    assert refusal.value.code == "UNSUPPORTED_ARTIFACT_SCHEME"
    assert hint in refusal.value.hint
