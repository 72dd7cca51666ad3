"""Artifacts on a disk of this machine."""

from __future__ import annotations

import os

import pytest

from agent.config.deployments import StoreOptions
from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.stores.file import FileStore


async def test_a_file_is_copied_with_its_digest(tmp_path):
    source = tmp_path / "a b.bin"
    source.write_bytes(os.urandom(3_000_000))
    store = FileStore(StoreOptions())
    assert await store.size(source.as_uri()) == 3_000_000
    await store.fetch(source.as_uri(), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("uri", ["file:relative", "file://elsewhere/model", "file:///a%00b"])
async def test_a_file_uri_names_an_absolute_path_on_this_machine(uri, tmp_path):
    with pytest.raises(ArtifactError) as refusal:
        await FileStore(StoreOptions()).fetch(uri, tmp_path / "copy")
    assert refusal.value.code == "ARTIFACT_URI_NOT_VALID"


async def test_what_is_not_there_or_no_file_cannot_be_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe"):
        with pytest.raises(ArtifactError) as refusal:
            await FileStore(StoreOptions()).fetch(path.as_uri(), tmp_path / "copy")
        assert refusal.value.code == "IO_READ_ERROR"
