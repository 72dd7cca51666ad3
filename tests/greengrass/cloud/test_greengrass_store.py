"""Artifacts under ``greengrass:``: asked for, signed, fetched, resumed, verified."""

from __future__ import annotations

import hashlib
import os

import pytest

from agent.config.deployments import StoreOptions
from agent.greengrass.artifacts.cache import Cache
from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.fetch import Fetcher
from agent.greengrass.artifacts.registry import Stores
from agent.greengrass.artifacts.request import ArtifactRequest
from agent.greengrass.artifacts.stores.greengrass import GREENGRASS_TYPES, GreengrassStoreOptions
from agent.greengrass.artifacts.uri import file_name
from agent.greengrass.cloud.negotiation import negotiated
from agent.greengrass.deployments.repository import RecipeStore
from agent.greengrass.errors import TYPES as ALL_TYPES
from agent.greengrass.recipes.versions import Requirement
from tests.greengrass.cloud.conftest import IMPATIENT, PATIENT
from tests.support.greengrass_cloud import ARTIFACT, Reply, sha256
from tests.support.web import Act

DATA = os.urandom(700_000)
DIGEST = Digest(hashlib.sha256(DATA).hexdigest())
NAME = "aB3/x=/model one.zip"


@pytest.fixture
def arn(cloud):
    return cloud.arn("com.a", "1.0.0")


@pytest.fixture
def uri(arn):
    return f"greengrass:{arn}/aB3/x=/model%20one.zip"


@pytest.fixture
async def store(cloud, plane, uri):
    async with Stores(GreengrassStoreOptions(locator=plane(cloud))) as stores:
        yield stores.of(uri)


@pytest.fixture
def page(cloud, arn):
    return cloud.keep(arn, NAME, DATA)


async def test_an_artifact_is_asked_for_by_its_component_and_fetched_from_where_the_cloud_says(
    cloud, store, page, arn, uri, tmp_path
):
    assert file_name(uri) == "model one.zip"
    assert await store.size(uri) == len(DATA)
    assert await store.fetch(uri, tmp_path / "a", digest=DIGEST) == DIGEST
    assert (tmp_path / "a").read_bytes() == DATA
    (asked,) = cloud.asked(ARTIFACT)
    quoted = arn.replace(":", "%3A")
    assert asked.path == f"/greengrass/v2/components/{quoted}/artifacts/aB3/x%3D/model%20one.zip"


async def test_a_download_that_is_cut_goes_on_by_range(cloud, store, page, uri, tmp_path):
    page.acts.append(Act(cut_after=300_000))
    await store.fetch(uri, tmp_path / "a", digest=DIGEST, retry=PATIENT)
    assert (tmp_path / "a").read_bytes() == DATA
    assert cloud.storage.ranges() == [None, "bytes=300000-"]


async def test_a_url_that_has_run_out_is_replaced_and_the_download_goes_on(cloud, store, page, uri, tmp_path):
    page.acts += [Act(cut_after=300_000), Act(status=403)]
    await store.fetch(uri, tmp_path / "a", digest=DIGEST, retry=PATIENT)
    assert (tmp_path / "a").read_bytes() == DATA
    assert cloud.storage.ranges() == [None, "bytes=300000-", "bytes=300000-"]
    signatures = [request.path.partition("?")[2] for request in cloud.storage.requests]
    assert signatures == ["X-Amz-Signature=secret1"] * 2 + ["X-Amz-Signature=secret2"]


@pytest.mark.parametrize("status", [400, 403, 404])
async def test_a_fresh_url_that_is_refused_is_told_without_its_signature(store, page, uri, tmp_path, status):
    page.always = Act(status=status)
    with pytest.raises(ArtifactError, match=f"answers {status}") as refusal:
        await store.fetch(uri, tmp_path / "a", retry=PATIENT)
    assert refusal.value.code == "DOWNLOAD_GREENGRASS_ARTIFACT_ERROR"
    assert refusal.value.error_type == "HTTP_ERROR"
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("status", [429, 503])
async def test_trouble_at_the_storage_is_tried_again(store, page, uri, tmp_path, status):
    page.acts.extend([Act(status=status)] * 3)
    await store.fetch(uri, tmp_path / "a", digest=DIGEST, retry=PATIENT)
    assert (tmp_path / "a").read_bytes() == DATA


async def test_content_that_does_not_match_its_digest_is_wrong(store, page, uri, tmp_path):
    page.data = os.urandom(1000)
    with pytest.raises(ArtifactError) as refusal:
        await store.fetch(uri, tmp_path / "a", digest=DIGEST, retry=PATIENT)
    assert refusal.value.code == "ARTIFACT_CHECKSUM_MISMATCH"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "BAD_REQUEST"), (403, "GET_COMPONENT_VERSION_ARTIFACT_ACCESS_DENIED"), (404, "RESOURCE_NOT_FOUND")],
)
async def test_a_refusal_of_the_cloud_is_told_at_once(cloud, store, page, uri, tmp_path, status, code):
    cloud.replies[ARTIFACT].append(Reply(status))
    with pytest.raises(ArtifactError, match=f"answers {status}") as refusal:
        await store.fetch(uri, tmp_path / "a", retry=PATIENT)
    assert (refusal.value.code, refusal.value.error_type) == (code, ALL_TYPES[code])
    assert len(cloud.requests) == 1


async def test_trouble_at_the_cloud_is_tried_again_for_as_long_as_there_is_patience(cloud, store, page, uri, tmp_path):
    cloud.replies[ARTIFACT].extend([Reply(429), Reply(500)])
    await store.fetch(uri, tmp_path / "a", digest=DIGEST, retry=PATIENT)
    cloud.replies[ARTIFACT].extend([Reply(429)] * 1000)
    other = uri.replace("model", "other")
    with pytest.raises(ArtifactUnreachableError) as failure:
        await store.fetch(other, tmp_path / "b", retry=IMPATIENT)
    assert (failure.value.code, failure.value.error_type) == ("THROTTLING_ERROR", "REQUEST_ERROR")


@pytest.mark.parametrize(
    "bad",
    [
        "greengrass:a.zip",
        "greengrass:arn:aws:greengrass:eu-west-1:aws:components:x:versions:1.0.0",
        "greengrass:arn:aws:greengrass:eu-west-1:aws:components:x:versions:1.0.0/../../secrets",
        "greengrass:arn:aws:greengrass:eu-west-1:aws:components:x:versions:1.0.0/%2e%2e/a",
        "greengrass:arn:aws:greengrass:eu-west-1:aws:components:x:versions:1.0.0/a//b",
    ],
)
async def test_a_uri_that_tells_no_component_or_leads_astray_is_refused(cloud, store, tmp_path, bad):
    with pytest.raises(ArtifactError) as refusal:
        await store.fetch(bad, tmp_path / "a")
    assert refusal.value.code == "ARTIFACT_URI_NOT_VALID"
    assert cloud.requests == []


@pytest.mark.parametrize("options", [StoreOptions(), GreengrassStoreOptions()])
async def test_an_agent_that_does_not_ask_the_cloud_says_so(uri, options):
    async with Stores(options) as stores:
        with pytest.raises(ArtifactError) as refusal:
            stores.of(uri)
    assert refusal.value.code == "UNSUPPORTED_ARTIFACT_SCHEME"
    assert "greengrass.enabled" in refusal.value.hint


async def test_from_a_wish_to_the_file_in_its_place(cloud, plane, arn, tmp_path):
    artifact = {"Uri": f"greengrass:{NAME.replace(' ', '%20')}", "Digest": sha256(DATA), "Algorithm": "SHA-256"}
    cloud.publish("com.a", "1.0.0", Artifacts=[artifact])
    cloud.keep(arn, NAME, DATA).acts.append(Act(cut_after=300_000))
    client = plane(cloud)
    library = RecipeStore(tmp_path / "recipes")
    (recipe,) = await negotiated({"com.a": {"lab": Requirement.parse("*")}}, library, {}, {"os": "linux"}, client)
    wanted = ArtifactRequest.of(recipe.manifests[0].artifacts[0], tmp_path / "files", tmp_path / "unpacked")
    options = GreengrassStoreOptions(locator=client)
    await Fetcher(Cache(tmp_path / "cache"), options, retry=PATIENT).fetch_all([wanted])
    assert (tmp_path / "files" / "model one.zip").read_bytes() == DATA
    assert len(cloud.asked(ARTIFACT)) == 1


def test_every_code_is_greengrass_s_own():
    assert {code: ALL_TYPES[code] for code in GREENGRASS_TYPES} == GREENGRASS_TYPES
