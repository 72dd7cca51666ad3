"""Artifacts over HTTP and HTTPS, from a server that misbehaves on cue."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import sys
import threading
import time
import traceback

import pytest

from agent.config.deployments import RetryPolicy, StoreOptions
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import TYPES, ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.partial import partial_of
from agent.greengrass.artifacts.stores.https import HttpsStore
from tests.support import certs
from tests.support.http import HttpServer, Request, Response
from tests.support.until import until
from tests.support.web import Act, Web

DATA = os.urandom(700_000)


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


@pytest.fixture
async def store():
    made = HttpsStore(StoreOptions(read_timeout_s=30))
    yield made
    await made.close()


async def test_a_download_that_is_cut_goes_on_by_range_from_the_same_content(web, store, tmp_path, retry):
    web.put("/a", DATA).acts.append(Act(cut_after=300_000))
    await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == DATA
    assert web.ranges() == [None, "bytes=300000-"]
    assert web.requests[1].headers["if-range"] == '"1"'


async def test_without_an_etag_the_modification_time_tells_the_content(web, store, tmp_path, retry):
    page = web.put("/a", DATA, etag='W/"weak"', modified="Sat, 21 Nov 2026 10:00:00 GMT")
    page.acts.append(Act(cut_after=300_000))
    await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == DATA
    assert web.requests[1].headers["if-range"] == page.modified


@pytest.mark.parametrize("heed_if_range", [True, False])
async def test_content_that_changes_under_way_is_fetched_anew(web, store, tmp_path, retry, heed_if_range):
    newer = os.urandom(500_000)
    page = web.put("/a", DATA, heed_if_range=heed_if_range)

    def change() -> None:
        page.data, page.etag = newer, '"2"'

    page.acts += [Act(cut_after=300_000), Act(before=change)]
    await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == newer


async def test_content_that_became_shorter_than_what_is_here_is_fetched_anew(web, store, tmp_path, retry):
    newer = os.urandom(1000)
    partial_of(tmp_path / "a").write_bytes(DATA)
    web.put("/a", newer)
    await store.fetch(web.url("/a"), tmp_path / "a", digest=digest_of(newer), retry=retry)
    assert (tmp_path / "a").read_bytes() == newer
    assert web.ranges() == [f"bytes={len(DATA)}-", None]


async def test_a_server_without_ranges_begins_anew(web, store, tmp_path, retry):
    web.put("/a", DATA, ranges=False).acts.append(Act(cut_after=300_000))
    await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == DATA
    assert len(web.requests) == 2


async def test_a_body_in_chunks_that_is_cut_is_not_taken_for_whole(web, store, tmp_path, retry):
    web.put("/a", DATA, always=Act(chunked=True)).acts.append(Act(chunked=True, cut_after=300_000))
    assert await store.size(web.url("/a"), retry) is None
    await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == DATA


async def test_a_declared_length_that_never_comes_is_unreachable(web, store, tmp_path, short_retry):
    web.put("/a", DATA, ranges=False, always=Act(declared_length=len(DATA) + 10, cut_after=len(DATA)))
    with pytest.raises(ArtifactUnreachableError) as failure:
        await store.fetch(web.url("/a"), tmp_path / "a", retry=short_retry)
    assert failure.value.code == "NETWORK_ERROR"


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_trouble_at_the_server_is_tried_again(web, store, tmp_path, retry, status):
    web.put("/a", DATA).acts.extend([Act(status=status)] * 3)
    await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == DATA
    assert len(web.requests) == 4


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "HTTP_REQUEST_ERROR"),
        (401, "ACCESS_DENIED"),
        (403, "ACCESS_DENIED"),
        (404, "RESOURCE_NOT_FOUND"),
        (410, "RESOURCE_NOT_FOUND"),
        (204, "HTTP_REQUEST_ERROR"),
    ],
)
async def test_a_refusal_is_told_at_once(web, store, tmp_path, retry, status, code):
    web.put("/a", DATA, always=Act(status=status))
    with pytest.raises(ArtifactError, match=f"answers {status}") as refusal:
        await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
    assert refusal.value.code == code
    assert refusal.value.error_type == TYPES[code]
    assert len(web.requests) == 1


async def test_a_server_that_is_not_there_is_unreachable(store, tmp_path, short_retry, free_port):
    with pytest.raises(ArtifactUnreachableError, match="refused"):
        await store.fetch(f"http://127.0.0.1:{free_port}/a", tmp_path / "a", retry=short_retry)


async def test_a_server_that_falls_silent_is_unreachable_after_the_read_timeout(web, tmp_path):
    page = web.put("/a", DATA)
    let_go = threading.Event()
    page.acts.append(Act(cut_after=300_000, hold=let_go))
    store = HttpsStore(StoreOptions(read_timeout_s=0.2))
    try:
        await store.fetch(web.url("/a"), tmp_path / "a", retry=RetryPolicy(base_s=0.01, cap_s=0.01))
    finally:
        let_go.set()
        await store.close()
    assert (tmp_path / "a").read_bytes() == DATA
    assert web.ranges() == [None, "bytes=300000-"]


def dripping(request: Request) -> Response:
    """A byte at a time, for as long as somebody reads."""
    del request

    def drops():
        for _ in range(10_000):
            time.sleep(0.02)
            yield b"x"

    return Response(200, drops(), {"content-length": "10000", "etag": '"1"', "accept-ranges": "bytes"})


FLOOR = StoreOptions(min_bytes_per_s=10_000, rate_window_s=0.2)
BRIEF = RetryPolicy(base_s=0.01, cap_s=0.01, give_up_after_s=1)


async def test_a_server_slower_than_the_floor_is_unreachable_and_holds_nobody_for_ever(tmp_path):
    with HttpServer(dripping) as server:
        store = HttpsStore(FLOOR)
        started = time.monotonic()
        with pytest.raises(ArtifactUnreachableError, match=r"bytes in 0.2 s; 10000 a second is the least") as given_up:
            await store.fetch(f"http://127.0.0.1:{server.port}/a", tmp_path / "a", retry=BRIEF)
        assert time.monotonic() - started < 20
        assert "artifacts.min_bytes_per_s" in given_up.value.hint
        assert len(server.requests) > 1
        await store.close()


async def test_a_head_that_comes_byte_by_byte_is_broken_off_too(tmp_path, retry):
    let_go = threading.Event()

    def late(request: Request) -> Response:
        del request
        let_go.wait(60)
        return Response(200, b"x")

    with HttpServer(late) as server:
        store = HttpsStore(FLOOR)
        with pytest.raises(ArtifactUnreachableError, match="gave 0 bytes"):
            await store.size(f"http://127.0.0.1:{server.port}/a", BRIEF)
        let_go.set()
        await store.close()


async def test_a_floor_of_0_lets_a_slow_server_be_slow(web, tmp_path, retry):
    web.put("/a", DATA)
    store = HttpsStore(StoreOptions(min_bytes_per_s=0, rate_window_s=0.001))
    await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
    await store.close()
    assert (tmp_path / "a").read_bytes() == DATA


async def test_a_cancellation_does_not_wait_for_a_silent_server(web, store, tmp_path):
    let_go = threading.Event()
    web.put("/a", DATA).acts.append(Act(cut_after=300_000, hold=let_go))
    arrived = asyncio.Event()
    task = asyncio.create_task(
        store.fetch(
            web.url("/a"), tmp_path / "a", on_progress=lambda done, _: arrived.set() if done == 300_000 else None
        )
    )
    await arrived.wait()
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 10  # the read timeout is 30
    assert partial_of(tmp_path / "a").stat().st_size == 300_000
    let_go.set()


async def test_a_cancellation_does_not_wait_for_an_answer(web, store, tmp_path):
    let_go, asked = threading.Event(), threading.Event()
    web.put("/a", DATA).acts.append(Act(before=lambda: (asked.set(), let_go.wait(40))))
    task = asyncio.create_task(store.fetch(web.url("/a"), tmp_path / "a"))
    await asyncio.to_thread(asked.wait, 40)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 10
    let_go.set()
    # It closes what came too late; an open socket would be told by pytest.
    await until(lambda: not any(thread.name == "verge-https" for thread in threading.enumerate()))


async def test_redirects_are_followed_a_few_times_and_not_in_circles(web, store, tmp_path, retry):
    web.put("/a", DATA)
    for number in range(5):
        place = f"/{number + 1}" if number < 4 else "/a"
        web.put(f"/{number}", always=Act(status=302, headers={"Location": place}), data=b"")
    await store.fetch(web.url("/0"), tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == DATA
    web.put("/circle", b"", always=Act(status=302, headers={"Location": "/circle"}))
    with pytest.raises(ArtifactError, match="more than 5 redirects"):
        await store.fetch(web.url("/circle"), tmp_path / "b", retry=retry)


async def test_credentials_go_to_their_own_origin_only(web, store, tmp_path, retry):
    web.put("/a", DATA)
    with Web() as other:
        other.put("/b", DATA)
        web.put("/away", b"", always=Act(status=302, headers={"Location": other.url("/b")}))
        await store.fetch(web.url("/a", user="me:p%40ss@"), tmp_path / "a", retry=retry)
        await store.fetch(web.url("/away", user="me:p%40ss@"), tmp_path / "b", retry=retry)
        assert web.requests[0].headers["authorization"] == "Basic bWU6cEBzcw=="
        assert "authorization" in web.requests[1].headers
        assert "authorization" not in other.requests[0].headers


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "127.0.0.1.example.org"])
async def test_plain_http_is_for_the_loopback_and_hosts_allowed_by_name(store, tmp_path, host):
    with pytest.raises(ArtifactError, match="without encryption") as refusal:
        await store.fetch(f"http://{host}/a", tmp_path / "a")
    assert refusal.value.code == "UNSUPPORTED_ARTIFACT_SCHEME"
    assert host in (refusal.value.hint or "")


async def test_a_plain_http_host_can_be_allowed_by_name(tmp_path, retry, monkeypatch):
    with Web() as proxy:  # whoever is asked for the allowed host's page
        proxy.put("http://models.invalid/a", DATA)
        store = HttpsStore(
            StoreOptions(plain_http_hosts=("models.invalid",), proxy=f"http://me:secret@127.0.0.1:{proxy.port}")
        )
        await store.fetch("http://models.invalid/a", tmp_path / "a", retry=retry)
        await store.close()
        assert proxy.requests[0].headers["proxy-authorization"] == "Basic bWU6c2VjcmV0"
    assert (tmp_path / "a").read_bytes() == DATA


async def test_https_goes_through_the_proxy_of_the_environment(tmp_path, short_retry, monkeypatch):
    with Web() as proxy:
        monkeypatch.setenv("https_proxy", f"127.0.0.1:{proxy.port}")
        store = HttpsStore(StoreOptions())
        with pytest.raises(ArtifactUnreachableError):
            await store.fetch("https://models.invalid/a", tmp_path / "a", retry=short_retry)
        await store.close()
        assert proxy.requests[0].path == "models.invalid:443"


async def test_https_is_verified_against_the_authority_that_was_named(certificates, tmp_path, retry):
    with Web(certificates) as web:
        web.put("/a", DATA).acts.append(Act(cut_after=300_000))
        store = HttpsStore(StoreOptions(ca_file=str(certificates.ca)))
        await store.fetch(web.url("/a"), tmp_path / "a", retry=retry)
        await store.close()
        assert web.ranges() == [None, "bytes=300000-"]
    assert (tmp_path / "a").read_bytes() == DATA


async def test_a_certificate_that_is_not_trusted_is_told_at_once(certificates, tmp_path):
    expired = certs.create(tmp_path / "expired", expired=True)
    for shown, ca_file, word in ((certificates, None, "local issuer"), (expired, str(expired.ca), "expired")):
        with Web(shown) as web:
            store = HttpsStore(StoreOptions(ca_file=ca_file))
            with pytest.raises(ArtifactError, match=word) as refusal:
                await store.fetch(web.url("/a"), tmp_path / "a")
            await store.close()
            assert refusal.value.code == "TLS_HANDSHAKE_FAILURE"


async def test_a_redirect_from_https_to_http_is_refused_even_on_the_loopback(certificates, tmp_path, web):
    web.put("/plain", DATA)
    with Web(certificates) as secure:
        secure.put("/a", b"", always=Act(status=301, headers={"Location": web.url("/plain")}))
        store = HttpsStore(StoreOptions(ca_file=str(certificates.ca)))
        with pytest.raises(ArtifactError, match="redirects away from https"):
            await store.fetch(secure.url("/a"), tmp_path / "a")
        await store.close()
    assert web.requests == []


async def test_tls_files_that_cannot_be_used_are_told(tmp_path):
    store = HttpsStore(StoreOptions(ca_file=str(tmp_path / "missing.pem")))
    with pytest.raises(ArtifactError) as refusal:
        await store.fetch("https://localhost/a", tmp_path / "a")
    await store.close()
    assert refusal.value.code == "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD"


async def test_passwords_and_signatures_are_in_no_error_and_no_log(web, store, tmp_path, short_retry, caplog):
    caplog.set_level(logging.DEBUG)
    logging.getLogger("urllib3.connectionpool").debug("not heard")
    urls = [
        web.url("/missing?X-Signature=hush", user="me:hush@"),
        "http://me:hush@localhost:1/a?X-Signature=hush",
        "http://me:hush@localhost:99999/a?X-Signature=hush",
        "http://me:hush@127.0.0.1%00/a?hush",
        "http://me:hush@exämple.invalid/a?hush",
    ]
    for url in urls:
        with pytest.raises((ArtifactError, ArtifactUnreachableError)) as failure:
            await store.fetch(url, tmp_path / "a", retry=short_retry)
        assert "hush" not in "".join(traceback.format_exception(failure.value, limit=0))
    web.put("/a", DATA)
    await store.fetch(web.url("/a?X-Signature=hush"), tmp_path / "a", retry=short_retry)
    assert "hush" not in caplog.text
    assert "not heard" not in caplog.text


async def test_a_part_that_does_not_say_which_is_refused(web, store, tmp_path):
    partial_of(tmp_path / "a").write_bytes(b"abc")
    web.put("/a", DATA, always=Act(status=206, headers={"Content-Range": "pages 1-2"}))
    with pytest.raises(ArtifactError, match="Content-Range") as refusal:
        await store.fetch(web.url("/a"), tmp_path / "a", digest=digest_of(DATA))
    assert refusal.value.code == "HTTP_REQUEST_ERROR"


CHILD = """
import asyncio, sys
from pathlib import Path
from agent.greengrass.artifacts.digest import Digest
from agent.config.deployments import StoreOptions
from agent.greengrass.artifacts.stores.https import HttpsStore
url, target, digest = sys.argv[1:]
asyncio.run(HttpsStore(StoreOptions()).fetch(url, Path(target), digest=Digest.parse(digest)))
"""


async def test_a_download_goes_on_after_its_process_was_killed(web, store, tmp_path, retry):
    let_go = threading.Event()
    web.put("/a", DATA).acts.append(Act(cut_after=300_000, hold=let_go))
    target, digest = tmp_path / "a", digest_of(DATA)
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", CHILD, web.url("/a"), str(target), str(digest))
    await until(lambda: partial_of(target).exists() and partial_of(target).stat().st_size == 300_000)
    child.kill()
    await child.wait()
    let_go.set()
    assert not target.exists()
    await store.fetch(web.url("/a"), target, digest=digest, retry=retry)
    assert target.read_bytes() == DATA
    assert web.ranges() == [None, "bytes=300000-"]
