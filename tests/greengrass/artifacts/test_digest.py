"""SHA-256 in Greengrass's spelling and in ours."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.errors import TYPES, ArtifactError


@given(st.binary(max_size=200))
def test_both_spellings_of_a_digest_are_the_same_digest(data):
    raw = hashlib.sha256(data).digest()
    ours = Digest.parse(f"sha256:{raw.hex()}")
    assert Digest.parse(base64.b64encode(raw).decode(), "SHA-256") == ours
    assert Digest.parse(f"SHA256:{raw.hex().upper()}") == ours
    assert Digest.parse(str(ours)) == ours


@pytest.mark.parametrize(
    ("text", "algorithm", "code"),
    [
        ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", None, "RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM"),
        ("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "MD5", "HASHING_ALGORITHM_UNAVAILABLE"),
        ("47DEQpj8HBSa", "SHA-256", "RECIPE_PARSE_ERROR"),
        ("not base64!", "SHA-256", "RECIPE_PARSE_ERROR"),
        ("sha256:12", None, "RECIPE_PARSE_ERROR"),
        ("sha256:" + "g" * 64, None, "RECIPE_PARSE_ERROR"),
    ],
)
def test_what_is_no_digest_is_refused_with_greengrass_s_code(text, algorithm, code):
    with pytest.raises(ArtifactError) as refusal:
        Digest.parse(text, algorithm)
    assert refusal.value.code == code
    assert refusal.value.error_type == TYPES[code]
    assert refusal.value.hint


def test_a_file_s_digest_is_that_of_its_bytes(tmp_path):
    path = tmp_path / "model"
    path.write_bytes(b"weights")
    assert Digest.of(path).hex == hashlib.sha256(b"weights").hexdigest()
