"""What the command line says becomes the document that an agent reads."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest

from agent.cli import documents
from agent.errors import ConfigError, InvalidInputError
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.request import FailurePolicy, Origin

RECIPE = {
    "RecipeFormatVersion": "2020-01-25",
    "ComponentName": "com.acme.Model",
    "ComponentVersion": "1.0.0",
    "Manifests": [{"Artifacts": [{"Uri": "s3://bucket/a/model.zip"}, {"Uri": "https://example.com/labels.txt"}]}],
}


def test_components_by_name_are_read_as_a_local_deployment_that_rolls_back():
    told = documents.local_document(
        "d1", components={"a": "^1.0.0"}, remove=["b"], update={"a": {"MERGE": {"x": 1}, "RESET": ["/y"]}}, group="hall"
    )
    read = parse(json.dumps(told).encode(), source=Origin.TOPIC, received_ms=1)
    assert (read.id, read.group, read.additive, read.remove) == ("d1", "thinggroup/hall", True, ("b",))
    assert read.failure_policy is FailurePolicy.ROLLBACK
    assert (read.components["a"].merge, read.components["a"].reset) == ({"x": 1}, ("/y",))


def test_the_configuration_of_the_only_component_needs_no_name():
    assert documents.update_of('{"InferenceInterval": "2", "Verge": {"Options": {}}}', ["a"]) == {
        "a": {"MERGE": {"InferenceInterval": "2", "Verge": {"Options": {}}}}
    }
    assert documents.update_of('{"a": {"RESET": ["/x"]}}', ["a"]) == {"a": {"RESET": ["/x"]}}
    for components in ([], ["a", "b"]):
        with pytest.raises(ConfigError, match="InferenceInterval is not an update"):
            documents.update_of('{"InferenceInterval": "2"}', components)
    with pytest.raises(ConfigError, match="InferenceInterval is not an update"):
        documents.update_of('{"a": {"MERGE": {}}, "InferenceInterval": "2"}', ["a"])


def test_a_rollback_is_read_as_one():
    assert parse(b'{"deploymentId": "d2", "rollback": true}', source=Origin.TOPIC, received_ms=1).rollback
    assert not parse(b'{"components": {}, "rollback": false}', source=Origin.TOPIC, received_ms=1).rollback
    others = {
        "components": {},
        "componentsToMerge": {},
        "componentsToRemove": [],
        "canary": {"frames": 1},
        "recipes": [],
    }
    for other, value in others.items():
        with pytest.raises(InvalidInputError, match=f"{other} has no place beside it"):
            parse(json.dumps({"rollback": True, other: value}).encode(), source=Origin.TOPIC, received_ms=1)
    for value in (1, "yes", {}, []):
        with pytest.raises(InvalidInputError, match="true or false"):
            parse(json.dumps({"rollback": value}).encode(), source=Origin.TOPIC, received_ms=1)


def test_a_file_of_the_folder_takes_the_place_of_where_the_recipe_says_it_is(tmp_path):
    recipes, place = tmp_path / "deep" / "recipes", tmp_path / "com.acme.Model" / "1.0.0"
    recipes.mkdir(parents=True)
    place.mkdir(parents=True)
    (recipes / "model.json").write_text(json.dumps(RECIPE))
    (recipes / "model.json.sig").write_text("{}")
    (place / "model.zip").write_bytes(b"zip")
    (told,) = documents.recipes_of(tmp_path / "deep", tmp_path, local=True)
    ours, theirs = told["Manifests"][0]["Artifacts"]
    assert ours["Uri"] == (place / "model.zip").as_uri()
    assert ours["Digest"] == base64.b64encode(hashlib.sha256(b"zip").digest()).decode()
    assert ours["Algorithm"] == "SHA-256"
    assert theirs["Uri"] == "https://example.com/labels.txt"


def test_a_file_that_is_no_recipe_is_refused_by_its_name(tmp_path):
    (tmp_path / "odd.yaml").write_text("just: words")
    with pytest.raises(InvalidInputError, match=r"odd\.yaml"):
        documents.recipes_of(tmp_path, None, local=True)


@pytest.mark.parametrize(
    ("told", "identity"),
    [
        ({"deploymentId": "d"}, "d"),
        ({"requestId": "r"}, "r"),
        ({}, None),
        ({"document": base64.b64encode(b'{"deploymentId": "in"}').decode(), "signatures": "S"}, "in"),
        ({"document": base64.b64encode(b"[]").decode(), "signatures": "S"}, None),
    ],
)
def test_the_id_of_a_document_is_found_in_an_envelope_too(told, identity):
    if "signatures" in told:
        told = told | {"signatures": [{"key": "k" * 16, "signature": "s" * 88}]}
    assert documents.identity_in(told) == identity


def test_an_envelope_that_cannot_be_read_is_refused():
    with pytest.raises(ConfigError, match="the envelope cannot be read"):
        documents.identity_in({"document": "!", "signatures": []})
