"""Artifacts in S3: from moto's server, through a link that breaks, and from an S3 that refuses on cue."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from agent.aws.credentials import Credentials
from agent.aws.errors import CredentialsError, CredentialsUnreachableError
from agent.config.aws import AwsOptions
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.partial import partial_of
from agent.greengrass.artifacts.registry import Stores
from agent.greengrass.artifacts.store import AwsStoreOptions
from agent.greengrass.artifacts.stores.s3 import PARALLEL, PART_BYTES, S3Store
from agent.greengrass.artifacts.stores.s3answers import S3_TYPES
from tests.support.moto import ACCOUNT, Moto
from tests.support.s3 import FakeS3, Link, Object, Refusal
from tests.support.until import until

DATA = os.urandom(700_000)
LARGE = os.urandom(5 * PART_BYTES + 12_345)


class Fixed:
    """Credentials that a test chose."""

    def __init__(self, access_key="root", secret_key="secret", token="token-of-the-session") -> None:
        self.given = Credentials(access_key, secret_key, token, datetime.now(UTC) + timedelta(hours=1))

    def get(self) -> Credentials:
        return self.given


class Failing:
    """A provider that has none."""

    def __init__(self, error) -> None:
        self.error = error

    def get(self) -> Credentials:
        raise self.error


def digest_of(data: bytes) -> Digest:
    return Digest(hashlib.sha256(data).hexdigest())


def options(url, credentials=None, **aws) -> AwsStoreOptions:
    made = AwsOptions(**{"region": "us-east-1", "s3_endpoint_url": url} | aws)
    return AwsStoreOptions(aws=made, credentials=credentials or Fixed())


@pytest.fixture(scope="session")
def moto():
    with Moto() as running:
        yield running


@pytest.fixture
def fake():
    with FakeS3() as running:
        yield running


@pytest.fixture
def bucket(moto, thing):
    return thing[-40:].strip("-")


@pytest.fixture
async def store(fake):
    made = S3Store(options(fake.url))
    yield made
    await made.close()


async def test_an_object_comes_by_the_registry_and_is_told_how_large_it_is(moto, bucket, tmp_path):
    on_progress = []
    uri = f"s3://{bucket}/models/détection#1.zip"
    moto.put(bucket, "models/détection#1.zip", DATA)
    async with Stores(options(moto.url)) as stores:
        assert await stores.of(uri).size(uri) == len(DATA)
        came = await stores.of(uri.replace("s3", "S3", 1)).fetch(
            uri,
            tmp_path / "a",
            digest=digest_of(DATA),
            on_progress=lambda done, total: on_progress.append((done, total)),
        )
    assert came == digest_of(DATA)
    assert (tmp_path / "a").read_bytes() == DATA
    assert on_progress[-1] == (len(DATA), len(DATA))


async def test_an_empty_object_is_an_empty_file(moto, bucket, tmp_path):
    moto.put(bucket, "empty", b"")
    async with Stores(options(moto.url)) as stores:
        await stores.of("s3://b/k").fetch(f"s3://{bucket}/empty", tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b""


async def test_sse_s3_and_sse_kms_are_fine(moto, bucket, tmp_path):
    moto.put(bucket, "aes", DATA, ServerSideEncryption="AES256")
    moto.put(bucket, "kms", DATA, ServerSideEncryption="aws:kms", SSEKMSKeyId="a-key")
    async with Stores(options(moto.url)) as stores:
        for name in ("aes", "kms"):
            await stores.of("s3://b/k").fetch(f"s3://{bucket}/{name}", tmp_path / name, digest=digest_of(DATA))


async def test_a_large_object_of_moto_comes_in_parts_over_a_link_that_breaks(moto, bucket, tmp_path, retry):
    moto.put(bucket, "large", LARGE)
    done = []
    with Link(moto.port, breaks=(3_000_000, 9_000_000, 2_000_000)) as link:
        async with Stores(options(link.url)) as stores:
            await stores.of("s3://b/k").fetch(
                f"s3://{bucket}/large",
                tmp_path / "a",
                digest=digest_of(LARGE),
                retry=retry,
                on_progress=lambda count, _: done.append(count),
            )
    assert (tmp_path / "a").read_bytes() == LARGE
    assert link.broken == 3
    assert done == sorted(done)  # nothing that had come was fetched again


async def test_parts_go_side_by_side_and_never_more_than_the_gate_lets_through(fake, store, tmp_path, retry):
    for name in "abc":
        fake.objects[f"/models/{name}"] = Object(LARGE)
    fake.always = lambda asked: time.sleep(0.02)
    await asyncio.gather(
        *(store.fetch(f"s3://models/{name}", tmp_path / name, digest=digest_of(LARGE)) for name in "abc")
    )
    assert all((tmp_path / name).read_bytes() == LARGE for name in "abc")
    assert len(fake.ranges()) == 3 * 6
    assert 1 < fake.busiest <= PARALLEL


async def test_every_part_names_the_etag_that_was_seen_first(fake, store, tmp_path):
    fake.objects["/models/a"] = Object(LARGE, '"7"')
    await store.fetch("s3://models/a", tmp_path / "a")
    assert {each.headers.get("if-match") for each in fake.requests if each.method == "GET"} == {'"7"'}


async def test_an_object_that_is_replaced_under_way_begins_anew(fake, store, tmp_path, retry):
    newer = os.urandom(3 * PART_BYTES)
    fake.objects["/models/a"] = Object(LARGE)

    def replace(asked) -> None:
        if asked.headers.get("range", "").startswith(f"bytes={2 * PART_BYTES}-"):
            fake.objects["/models/a"] = Object(newer, '"2"')
            fake.always = lambda _: None

    fake.always = replace
    await store.fetch("s3://models/a", tmp_path / "a", retry=retry)
    assert (tmp_path / "a").read_bytes() == newer


async def test_what_an_earlier_process_left_is_taken_up_and_the_digest_has_the_last_word(fake, store, tmp_path):
    fake.objects["/models/a"] = Object(DATA)
    partial_of(tmp_path / "a").write_bytes(DATA[:300_000])
    await store.fetch("s3://models/a", tmp_path / "a", digest=digest_of(DATA))
    assert fake.ranges() == [f"bytes=300000-{len(DATA) - 1}"]
    partial_of(tmp_path / "b").write_bytes(b"x" * 300_000)
    await store.fetch("s3://models/a", tmp_path / "b", digest=digest_of(DATA))
    assert (tmp_path / "b").read_bytes() == DATA
    partial_of(tmp_path / "c").write_bytes(DATA + b"more than there is")
    await store.fetch("s3://models/a", tmp_path / "c", digest=digest_of(DATA))
    assert (tmp_path / "c").read_bytes() == DATA


async def test_a_wrong_digest_is_told(fake, store, tmp_path):
    fake.objects["/models/a"] = Object(DATA)
    with pytest.raises(ArtifactError) as failure:
        await store.fetch("s3://models/a", tmp_path / "a", digest=digest_of(b"other"))
    assert failure.value.code == "ARTIFACT_CHECKSUM_MISMATCH"


PASSING = [
    Refusal(503, "SlowDown", "Please reduce your request rate."),
    Refusal(500, "InternalError"),
    Refusal(429, "TooManyRequests"),
    Refusal(400, "RequestTimeout", "Your socket connection was not read from or written to in time"),
    Refusal(403, "RequestTimeTooSkewed", "The difference is too large."),
    Refusal(400, "ExpiredToken", "The provided token has expired."),
]


async def test_what_may_pass_is_tried_again(fake, store, tmp_path, retry):
    fake.objects["/models/a"] = Object(DATA)
    for refusal in PASSING:
        fake.acts += [lambda _, refusal=refusal: refusal] * 6
        await store.fetch("s3://models/a", tmp_path / refusal.code, retry=retry)
        assert (tmp_path / refusal.code).read_bytes() == DATA
        assert not fake.acts


async def test_what_does_not_pass_is_unreachable_under_greengrass_s_codes(fake, store, short_retry):
    # A HEAD's 503 does not say whether it was a SlowDown.
    codes = ["S3_SERVER_ERROR", "S3_SERVER_ERROR", "THROTTLING_ERROR", "NETWORK_ERROR", *["S3_ACCESS_DENIED"] * 2]
    for refusal, code in zip(PASSING, codes, strict=True):
        fake.always = lambda _, refusal=refusal: refusal
        with pytest.raises(ArtifactUnreachableError) as failure:
            await store.size("s3://models/a", short_retry)
        assert (failure.value.code, failure.value.error_type) == (code, S3_TYPES[code])


KMS_SAID = (
    "User: arn:aws:sts::123456789012:assumed-role/device/thing is not authorized to perform: kms:Decrypt on resource: "
    "arn:aws:kms:us-east-1:123456789012:key/0-1-2 because no identity-based policy allows the kms:Decrypt action"
)
SSE_C_SAID = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve "
    "the object."
)
DENIED, BAD, MISSING_KEY = "S3_GET_OBJECT_ACCESS_DENIED", "S3_BAD_REQUEST", "S3_HEAD_OBJECT_RESOURCE_NOT_FOUND"
MISSING_BUCKET = "S3_GET_BUCKET_LOCATION_RESOURCE_NOT_FOUND"
REFUSALS = [
    (Refusal(403, "AccessDenied", "Access Denied"), DENIED, "s3:GetObject on arn:aws:s3:::models/v1/a is not allowed"),
    (Refusal(403, "AccessDenied"), DENIED, "s3:ListBucket"),
    (Refusal(403, "AccessDenied", "with an explicit deny in a policy"), DENIED, "(S3: with an explicit deny in a"),
    (Refusal(403, "AccessDenied", KMS_SAID), DENIED, "kms:Decrypt on arn:aws:kms:us-east-1:123456789012:key/0-1-2 is"),
    (Refusal(404, "NoSuchKey"), MISSING_KEY, "the bucket models has no object 'v1/a'"),
    (Refusal(404, "NoSuchBucket"), MISSING_BUCKET, "there is no bucket models"),
    (Refusal(400, "InvalidRequest", SSE_C_SAID), BAD, "SSE-C"),
    (Refusal(403, "InvalidObjectState"), BAD, "archived"),
    (Refusal(400, "KMS.DisabledException", "is disabled"), BAD, "KMS key"),
    (Refusal(403, "InvalidAccessKeyId"), "S3_ACCESS_DENIED", "credentials (InvalidAccessKeyId)"),
    (Refusal(403, "SignatureDoesNotMatch"), "S3_ACCESS_DENIED", "SignatureDoesNotMatch"),
    (Refusal(400, "Odd", "What?"), BAD, "answers 400, Odd: What?"),
    (Refusal(301, "PermanentRedirect", more="<Endpoint>elsewhere</Endpoint>"), BAD, "the bucket is not in us-east-1"),
]


async def test_a_refusal_is_told_at_once_with_what_to_do(fake, store, tmp_path, retry):
    for refusal, code, words in REFUSALS:
        fake.always = lambda _, refusal=refusal: refusal
        for ask in (store.size, lambda uri, retry: store.fetch(uri, tmp_path / "a", retry=retry)):
            with pytest.raises(ArtifactError) as failure:
                await ask("s3://models/v1/a", retry)
            assert (failure.value.code, failure.value.error_type) == (code, S3_TYPES[code])
            assert words in str(failure.value)


async def test_a_kms_key_that_may_not_be_used_is_named_though_s3_does_not_name_it(fake, store, tmp_path):
    key = "arn:aws:kms:us-east-1:123456789012:key/9"
    fake.objects["/models/a"] = Object(
        DATA, headers={"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": key}
    )
    fake.always = lambda asked: Refusal(403, "AccessDenied", "Access Denied") if asked.method == "GET" else None
    assert await store.size("s3://models/a") == len(DATA)
    with pytest.raises(ArtifactError, match=f"kms:Decrypt on {key} is not allowed"):
        await store.fetch("s3://models/a", tmp_path / "a")


async def test_an_object_whose_head_says_sse_c_is_refused(fake, store):
    fake.objects["/models/a"] = Object(DATA, headers={"x-amz-server-side-encryption-customer-algorithm": "AES256"})
    with pytest.raises(ArtifactError, match="SSE-C"):
        await store.size("s3://models/a")


async def test_an_address_that_s3_cannot_have_is_refused_unasked(fake, store):
    for uri, words in (
        ("s3://file.zip", "no bucket and key"),
        ("s3://bucket/", "no bucket and key"),
        ("s3:///k", "no bucket and key"),
        ("s3://my.models/a", "the bucket's name has a dot"),
        ("s3://UPPER_case!/a", "no object's address"),
    ):
        with pytest.raises(ArtifactError, match=words) as failure:
            await store.size(uri)
        assert failure.value.code == "S3_ARTIFACT_URI_NOT_VALID"
    assert fake.requests == []


async def test_a_bucket_in_another_region_is_followed_and_told_once(fake, store, tmp_path, caplog):
    fake.objects["/models/a"] = fake.objects["/models/b"] = Object(DATA)

    def elsewhere(asked) -> Refusal | None:
        if "/eu-west-1/s3/" in asked.headers["authorization"]:
            return None
        return Refusal(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-west-1"})

    fake.always = elsewhere
    await store.fetch("s3://models/a", tmp_path / "a", digest=digest_of(DATA))
    await store.fetch("s3://models/b", tmp_path / "b", digest=digest_of(DATA))
    told = [each.message for each in caplog.records if "eu-west-1" in each.message]
    assert len(told) == 1
    assert "us-east-1" in told[0]


async def test_a_bucket_of_another_account_is_told_once_and_fetched_from(fake, tmp_path, caplog):
    fake.objects["/models/a"] = fake.objects["/models/b"] = Object(DATA)
    fake.always = lambda asked: (
        Refusal(403, "AccessDenied") if asked.headers.get("x-amz-expected-bucket-owner") == ACCOUNT else None
    )
    store = S3Store(options(fake.url, account=ACCOUNT))
    for name in "ab":
        await store.fetch(f"s3://models/{name}", tmp_path / name, digest=digest_of(DATA))
    await store.close()
    assert [each.message for each in caplog.records if ACCOUNT in each.message] == [
        f"the bucket models is not of the account {ACCOUNT}: another decides what this device runs"
    ]


async def test_each_request_names_the_account_while_the_bucket_is_its_own(fake, tmp_path):
    fake.objects["/models/a"] = Object(DATA)
    store = S3Store(options(fake.url, account=ACCOUNT))
    await store.fetch("s3://models/a", tmp_path / "a")
    await store.close()
    assert {each.headers.get("x-amz-expected-bucket-owner") for each in fake.requests} == {ACCOUNT}


async def test_moto_s_permissions_and_gaps_are_told_in_greengrass_s_codes(moto, bucket, tmp_path, retry):
    moto.put(bucket, "allowed", DATA)
    moto.put(bucket, "denied", DATA)
    policy = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:aws:s3:::{bucket}/allowed"}]}  # fmt: skip
    user = moto.user(bucket, json.dumps(policy))
    key = Fixed(user["aws_access_key_id"], user["aws_secret_access_key"], "")
    with moto.permissions():
        async with Stores(options(moto.url, key)) as stores:
            store = stores.of("s3://b/k")
            await store.fetch(f"s3://{bucket}/allowed", tmp_path / "a", digest=digest_of(DATA))
            with pytest.raises(ArtifactError, match=f"s3:GetObject on arn:aws:s3:::{bucket}/denied") as failure:
                await store.fetch(f"s3://{bucket}/denied", tmp_path / "b", retry=retry)
    assert failure.value.code == "S3_GET_OBJECT_ACCESS_DENIED"
    async with Stores(options(moto.url)) as stores:
        for uri, code in (
            (f"s3://{bucket}/missing", "S3_HEAD_OBJECT_RESOURCE_NOT_FOUND"),
            (f"s3://{bucket}-missing/k", "S3_GET_BUCKET_LOCATION_RESOURCE_NOT_FOUND"),
        ):
            with pytest.raises(ArtifactError) as failure:
                await stores.of(uri).fetch(uri, tmp_path / "c")
            assert failure.value.code == code


async def test_an_s3_that_is_not_there_is_unreachable(tmp_path, short_retry, free_port):
    store = S3Store(options(f"http://127.0.0.1:{free_port}"))
    with pytest.raises(ArtifactUnreachableError) as failure:
        await store.fetch("s3://models/a", tmp_path / "a", retry=short_retry)
    await store.close()
    assert failure.value.code == "NETWORK_ERROR"


async def test_a_server_without_ranges_is_told(fake, store, tmp_path):
    fake.objects["/models/a"] = Object(LARGE)
    fake.always = lambda asked: asked.headers.pop("range", None) and None
    with pytest.raises(ArtifactError, match="no ranges"):
        await store.fetch("s3://models/a", tmp_path / "a")


async def test_a_cancellation_waits_neither_for_a_head_nor_for_a_body(fake, tmp_path):
    fake.objects["/models/a"] = Object(LARGE)
    let_go = threading.Event()
    for method in ("HEAD", "GET"):
        held = threading.Event()

        def hold(asked, method=method, held=held) -> None:
            if asked.method == method:
                held.set()
                let_go.wait(60)

        fake.always = hold
        store = S3Store(options(fake.url))
        task = asyncio.create_task(store.fetch("s3://models/a", tmp_path / "a"))
        await asyncio.to_thread(held.wait, 60)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await store.close()
        assert time.monotonic() - started < 10
    let_go.set()
    await until(lambda: not any(thread.name == "verge-s3" for thread in threading.enumerate()))


async def test_without_credentials_it_says_what_to_set(fake, monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    store = S3Store(AwsStoreOptions(aws=AwsOptions(region="us-east-1", s3_endpoint_url=fake.url)))
    with pytest.raises(ArtifactError, match=r"no AWS credentials.*aws\.role_alias") as failure:
        await store.size("s3://models/a")
    await store.close()
    assert failure.value.code == "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD"


async def test_the_sdk_s_own_chain_holds_without_a_provider(fake, monkeypatch):
    fake.objects["/models/a"] = Object(DATA)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENVIRONMENT")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    store = S3Store(AwsStoreOptions(aws=AwsOptions(region="us-east-1", s3_endpoint_url=fake.url)))
    assert await store.size("s3://models/a") == len(DATA)
    await store.close()
    assert "AKIAENVIRONMENT" in fake.requests[0].headers["authorization"]


async def test_why_a_provider_has_no_credentials_is_why_there_is_no_artifact(fake, short_retry):
    for error, kind in (
        (CredentialsError("no alias", hint="make one"), ArtifactError),
        (CredentialsUnreachableError("no link", code="NETWORK_ERROR"), ArtifactUnreachableError),
    ):
        store = S3Store(options(fake.url, Failing(error)))
        with pytest.raises(kind, match=error.message) as failure:
            await store.size("s3://models/a", short_retry)
        await store.close()
        assert (failure.value.code, failure.value.hint) == (error.code, error.hint)


async def test_an_endpoint_without_encryption_is_refused():
    for url in ("http://10.0.0.1:9000", "ftp://s3", "https://"):
        with pytest.raises(ArtifactError, match="not reached with encryption"):
            await S3Store(options(url)).size("s3://models/a")


async def test_secrets_are_in_no_log_and_no_error(fake, store, tmp_path, caplog, retry):
    caplog.set_level(logging.DEBUG)
    fake.objects["/models/a"] = Object(DATA)
    await store.fetch("s3://models/a", tmp_path / "a")
    assert fake.requests[0].headers["x-amz-security-token"] == "token-of-the-session"
    assert "token-of-the-session" not in caplog.text
    assert "secret" not in repr(Fixed().given)


LIGHT = """
import asyncio, sys
from agent.greengrass.artifacts.registry import Stores
async def main():
    async with Stores() as stores:
        stores.of("s3://models/a")
asyncio.run(main())
assert not {"boto3", "botocore"} & set(sys.modules), "imported too early"
"""


def test_the_store_is_made_without_importing_the_sdk():
    subprocess.run([sys.executable, "-c", LIGHT], check=True)


MISSING = """
import asyncio, sys
sys.modules["boto3"] = None
from agent.greengrass.artifacts.registry import Stores
async def main():
    async with Stores() as stores:
        await stores.of("s3://models/a").size("s3://models/a")
try:
    asyncio.run(main())
except Exception as error:
    print(error.code, error)
"""


def test_without_boto3_it_says_how_to_install_it():
    said = subprocess.run([sys.executable, "-c", MISSING], capture_output=True, text=True, check=True).stdout
    assert said.startswith("DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD artifacts in S3 need boto3")
    assert "pip install 'verge-edge[aws]'" in said
