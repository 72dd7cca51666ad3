"""All artifacts of a deployment: room first, then in parallel, all or none."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace

import pytest

from agent.config.deployments import RetryPolicy
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.fetch import Fetcher
from agent.greengrass.artifacts.request import ArtifactRequest, mode_of
from agent.greengrass.recipes.recipe import Artifact, Permission, Unarchive
from tests.greengrass.artifacts import zips
from tests.support.web import Act


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


@pytest.fixture
def cache(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def fetcher(cache, retry):
    return Fetcher(cache, retry=retry, progress_interval_s=0)


def wanted_file(web, tmp_path, name, data, **facts) -> ArtifactRequest:
    web.put(f"/{name}", data)
    return ArtifactRequest(web.url(f"/{name}"), tmp_path / "1.0.0" / name, digest_of(data), **facts)


async def test_artifacts_of_several_schemes_stand_where_they_are_wanted(web, fetcher, tmp_path):
    archive = zips.packed([("labels.txt", b"cat"), ("sub/model", b"weights")])
    local = tmp_path / "local.txt"
    local.write_bytes(b"local")
    wanted = [
        wanted_file(web, tmp_path, "model.zip", archive, unpack_to=tmp_path / "unarchived" / "model", mode=0o444),
        wanted_file(web, tmp_path, "run.sh", b"echo", mode=0o555),
        ArtifactRequest(local.as_uri(), tmp_path / "1.0.0" / "local.txt"),
    ]
    found = await fetcher.fetch_all(wanted)
    assert [found[item] for item in wanted] == [digest_of(archive), digest_of(b"echo"), digest_of(b"local")]
    assert {path.name for path in (tmp_path / "1.0.0").iterdir()} == {"model.zip", "run.sh", "local.txt"}
    assert stat.S_IMODE((tmp_path / "1.0.0" / "run.sh").stat().st_mode) == 0o555
    assert (tmp_path / "unarchived" / "model" / "sub" / "model").read_bytes() == b"weights"


async def test_what_the_cache_has_is_not_fetched_again(web, fetcher, tmp_path):
    item = wanted_file(web, tmp_path, "model", b"weights")
    await fetcher.fetch_all([item])
    asked = len(web.requests)
    again = ArtifactRequest(item.uri, tmp_path / "2.0.0" / "model", item.digest)
    await fetcher.fetch_all([again])
    assert len(web.requests) == asked
    assert again.file.read_bytes() == b"weights"
    assert not again.file.samefile(item.file)


async def test_a_rotten_entry_is_fetched_anew(web, fetcher, cache, tmp_path, retry):
    item = wanted_file(web, tmp_path, "model", b"weights")
    await fetcher.fetch_all([item])
    cache.path(item.digest).chmod(0o600)
    cache.path(item.digest).write_bytes(b"weightz")
    for one in (fetcher, Fetcher(Cache(cache.folder), retry=retry)):  # while the agent runs, and after a restart
        await one.fetch_all([item])
        assert item.file.read_bytes() == cache.path(item.digest).read_bytes() == b"weights"
        cache.path(item.digest).write_bytes(b"weightz")


@pytest.mark.parametrize("thorough", [False, True])
async def test_files_that_are_not_what_came_are_put_back_from_the_cache_or_from_afar(
    web, cache, fetcher, tmp_path, thorough
):
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as packed:
        packed.writestr("run.py", b"print(1)")
        packed.writestr("sub/data", b"2")
    archive = (tmp_path / "code.zip").read_bytes()
    web.put("/code.zip", archive)
    place, inventory = tmp_path / "unarchived" / "code", tmp_path / "inventories" / "a" / "1.0.0.json"
    file = tmp_path / "1.0.0" / "code.zip"
    item = ArtifactRequest(web.url("/code.zip"), file, digest_of(archive), 0o440, place, inventory)
    await fetcher.fetch_all([item])
    assert stat.S_IMODE(inventory.stat().st_mode) == 0o600
    assert await fetcher.verify(inventory, thorough=thorough) == ()
    for damage in (place / "run.py", file):
        facts = damage.stat()
        damage.chmod(0o600)
        damage.write_bytes(damage.read_bytes()[:-1] + b"X")
        os.utime(damage, ns=(facts.st_atime_ns, facts.st_mtime_ns))  # as one who has something to hide
        assert await fetcher.verify(inventory, thorough=thorough) == (f"{damage.name} was changed",)
        assert ((place / "run.py").read_bytes(), file.read_bytes()) == (b"print(1)", archive)
    (place / "sub" / "data").unlink()
    (place / "own").write_bytes(b"a component's own")
    cache.path(item.digest).unlink()
    file.unlink()
    assert set(await fetcher.verify(inventory, thorough=thorough)) == {"data is gone", "code.zip is gone"}
    assert (place / "sub" / "data").read_bytes() == b"2"


async def test_a_source_that_cannot_be_reached_leaves_damage_as_an_error(web, cache, tmp_path):
    item = replace(wanted_file(web, tmp_path, "model", b"weights"), inventory=tmp_path / "inventory.json")
    fetcher = Fetcher(cache, retry=RetryPolicy(base_s=0.01, cap_s=0.02, give_up_after_s=0.1))
    await fetcher.fetch_all([item])
    item.file.unlink()
    cache.path(item.digest).unlink()
    web.pages["/model"].always = Act(status=503)
    with pytest.raises(ArtifactUnreachableError):
        await fetcher.verify(item.inventory)


async def test_one_content_wanted_twice_is_fetched_once(web, fetcher, tmp_path):
    first = wanted_file(web, tmp_path, "a", b"weights")
    second = wanted_file(web, tmp_path, "b", b"weights")
    found = await fetcher.fetch_all([first, second])
    assert found == {first: digest_of(b"weights"), second: digest_of(b"weights")}
    assert {request.path for request in web.requests} == {"/a"}


async def test_two_artifacts_with_one_name_are_refused(fetcher, tmp_path):
    wanted = [ArtifactRequest(f"https://host/{folder}/model", tmp_path / "model") for folder in "ab"]
    with pytest.raises(ArtifactError) as refusal:
        await fetcher.fetch_all(wanted)
    assert refusal.value.code == "ARTIFACT_URI_NOT_VALID"


@pytest.mark.parametrize("uri", ["odd:image", "ftp://host/a"])
async def test_a_scheme_that_nothing_serves_is_refused_before_anything_is_fetched(web, fetcher, tmp_path, uri):
    wanted = [wanted_file(web, tmp_path, "a", b"weights"), ArtifactRequest(uri, tmp_path / "x")]
    with pytest.raises(ArtifactError) as refusal:
        await fetcher.fetch_all(wanted)
    assert refusal.value.code == "UNSUPPORTED_ARTIFACT_SCHEME"
    assert refusal.value.hint
    assert web.requests == []


async def test_the_first_failure_cancels_the_others_and_nothing_is_placed(web, fetcher, tmp_path):
    let_go = threading.Event()
    good, slow = (wanted_file(web, tmp_path, name, os.urandom(200_000)) for name in ("good", "slow"))
    wrong = ArtifactRequest(web.url("/good"), tmp_path / "1.0.0" / "wrong", digest_of(b"other"))
    web.pages["/slow"].acts.extend([Act(), Act(cut_after=100_000, hold=let_go)])
    with pytest.raises(ArtifactError) as refusal:
        await asyncio.wait_for(fetcher.fetch_all([good, slow, wrong]), 10)
    let_go.set()
    assert refusal.value.code == "ARTIFACT_CHECKSUM_MISMATCH"
    assert not (tmp_path / "1.0.0").exists()


async def test_downloads_run_in_parallel_and_no_more_than_allowed(web, cache, tmp_path, retry):
    running, most, lock = 0, 0, threading.Lock()
    both = threading.Barrier(2, timeout=10)

    def enter() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        both.wait()
        with lock:
            running -= 1

    wanted = [wanted_file(web, tmp_path, f"{number}", os.urandom(1000)) for number in range(6)]
    for page in web.pages.values():
        page.acts.extend([Act(), Act(before=enter)])
    await Fetcher(cache, parallel=2, retry=retry).fetch_all(wanted)
    assert most == 2


async def test_progress_sums_over_the_artifacts_and_ends_whole(web, fetcher, tmp_path):
    on_progress = []
    wanted = [wanted_file(web, tmp_path, f"{number}", os.urandom(300_000)) for number in range(3)]
    await fetcher.fetch_all(wanted, on_progress.append)
    assert [progress.bytes_done for progress in on_progress] == sorted(progress.bytes_done for progress in on_progress)
    last = on_progress[-1]
    assert (last.bytes_done, last.bytes_total, last.artifacts_done, last.artifacts_total) == (900_000, 900_000, 3, 3)


async def test_too_little_room_is_told_before_the_first_byte(web, tmp_path, retry):
    cache = Cache(tmp_path / "cache", max_bytes=500_000)
    wanted = [wanted_file(web, tmp_path, f"{number}", os.urandom(300_000)) for number in range(2)]
    with pytest.raises(ArtifactError) as refusal:
        await Fetcher(cache, retry=retry).fetch_all(wanted)
    assert refusal.value.code == "DISK_SPACE_CRITICAL"
    assert not list((tmp_path / "cache").rglob("*.partial"))


async def test_an_archive_that_is_not_fit_is_told_before_anything_is_placed(web, fetcher, tmp_path):
    evil = zips.write(tmp_path / "evil.zip", [("../evil", b"x")]).read_bytes()
    wanted = [
        wanted_file(web, tmp_path, "good", b"weights"),
        wanted_file(web, tmp_path, "evil.zip", evil, unpack_to=tmp_path / "unarchived"),
    ]
    with pytest.raises(ArtifactError) as refusal:
        await fetcher.fetch_all(wanted)
    assert refusal.value.code == "IO_UNZIP_ERROR"
    assert not (tmp_path / "1.0.0").exists()
    assert not (tmp_path / "unarchived").exists()


async def test_a_fetch_that_failed_goes_on_where_it_stopped(web, cache, tmp_path):
    data = os.urandom(400_000)
    item = wanted_file(web, tmp_path, "model", data)
    web.pages["/model"].always = Act(cut_after=250_000)
    web.pages["/model"].ranges = False
    impatient = Fetcher(cache, retry=RetryPolicy(base_s=0.01, cap_s=0.01, give_up_after_s=0.05))
    with pytest.raises(ArtifactUnreachableError):
        await impatient.fetch_all([item])
    web.pages["/model"].always = None
    web.pages["/model"].ranges = True
    await impatient.fetch_all([item])
    assert web.ranges()[-1] == "bytes=250000-"
    assert item.file.read_bytes() == data


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 4 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(disk)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("root may mount a small disk: sudo -E python -m pytest tests/greengrass/artifacts/test_fetch.py")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_small_disk_that_fills_up_is_told_and_stays_usable(web, small_disk, tmp_path, retry):
    item = wanted_file(web, tmp_path, "model", os.urandom(5_000_000))
    web.pages["/model"].always = Act(chunked=True)  # so that nobody knows the size before
    cache = Cache(small_disk / "cache", reserve_bytes=1_000_000)
    with pytest.raises(ArtifactError) as refusal:
        await Fetcher(cache, retry=retry).fetch_all([item])
    assert refusal.value.code == "DISK_SPACE_CRITICAL"
    facts = os.statvfs(small_disk)
    assert 1_000_000 <= facts.f_bavail * facts.f_frsize < 2_000_000


async def test_a_cache_on_another_disk_than_the_versions_copies(web, small_disk, tmp_path, retry):
    archive = zips.packed([("model", b"weights")])
    item = wanted_file(web, tmp_path, "model.zip", archive, unpack_to=tmp_path / "unarchived")
    await Fetcher(Cache(small_disk, reserve_bytes=1_000_000), retry=retry).fetch_all([item])
    assert item.file.read_bytes() == archive
    assert (tmp_path / "unarchived" / "model").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("read", "execute", "mode"),
    [
        ("NONE", "NONE", 0o400),
        ("OWNER", "NONE", 0o440),
        ("ALL", "NONE", 0o444),
        ("OWNER", "OWNER", 0o550),
        ("NONE", "OWNER", 0o550),
        ("ALL", "OWNER", 0o554),
        ("OWNER", "ALL", 0o555),
        ("NONE", "ALL", 0o555),
    ],
)
def test_permissions_are_greengrass_s_and_nobody_may_write(read, execute, mode):
    assert mode_of(Permission(read), Permission(execute)) == mode


def test_a_recipe_s_artifact_stands_in_greengrass_s_layout(tmp_path):
    artifact = Artifact(
        "https://host/DLR.model.v1.zip?signature",
        Unarchive.ZIP,
        Permission.ALL,
        digest="47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
        algorithm="SHA-256",
    )
    wanted = ArtifactRequest.of(artifact, tmp_path / "artifacts", tmp_path / "unarchived")
    assert wanted.file == tmp_path / "artifacts" / "DLR.model.v1.zip"
    assert wanted.unpack_to == tmp_path / "unarchived" / "DLR.model.v1"
    assert (wanted.mode, wanted.digest) == (0o444, digest_of(b""))


def test_the_core_imports_the_http_client_only_when_it_is_used():
    code = (
        "import sys, agent.greengrass.artifacts.fetch; print(sorted({'urllib3', 'numpy', 'cv2'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout == "[]\n"
