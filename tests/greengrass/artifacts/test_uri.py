"""What a URI tells, and what of it is shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.artifacts.errors import ArtifactError
from agent.greengrass.artifacts.uri import file_name, scheme, shown


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("", "EMPTY_ARTIFACT_URI"),
        ("model.zip", "EMPTY_ARTIFACT_SCHEME"),
        ("//host/model.zip", "EMPTY_ARTIFACT_SCHEME"),
        ("https://[::1/model.zip", "ARTIFACT_URI_NOT_VALID"),
        ("https://host:port/model.zip", "ARTIFACT_URI_NOT_VALID"),
        ("https://host/a\nb", "ARTIFACT_URI_NOT_VALID"),
        ("file:///a\\..\\b", "ARTIFACT_URI_NOT_VALID"),
    ],
)
def test_a_uri_that_cannot_be_used_has_greengrass_s_code(uri, code):
    with pytest.raises(ArtifactError) as refusal:
        scheme(uri)
    assert refusal.value.code == code


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/path/model.zip", "model.zip"),
        ("HTTPS://host/a%20b.zip?X-Amz-Signature=abc#part", "a b.zip"),
        ("file:///models/x.tflite", "x.tflite"),
    ],
)
def test_the_file_s_name_is_the_last_segment(uri, name):
    assert file_name(uri) == name


@pytest.mark.parametrize("last", ["", ".", "..", "%2e%2e", "a%2Fb", "%00", "a%0Ab", "x" * 201])
def test_a_last_segment_that_is_no_name_is_refused(last):
    with pytest.raises(ArtifactError) as refusal:
        file_name(f"https://host/folder/{last}")
    assert refusal.value.code == "ARTIFACT_URI_NOT_VALID"


def test_a_uri_is_shown_without_password_and_signature():
    uri = "https://user:secret@host:8443/model.zip?X-Amz-Signature=secret#secret"
    assert shown(uri) == "https://host:8443/model.zip"


@given(st.text(max_size=40))
def test_no_text_escapes_as_another_error_than_ours(text):
    try:
        file_name(text)
    except ArtifactError as refusal:
        assert refusal.error_type == "COMPONENT_RECIPE_ERROR"  # noqa: PT017 most texts are no URI
