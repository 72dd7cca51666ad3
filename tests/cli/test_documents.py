"""What the command line says becomes the document that an agent reads."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path

import pytest

from agent.cli import documents
from agent.errors import ConfigError, InvalidInputError
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.folders import recipes_of
from agent.greengrass.deployments.request import FailurePolicy, Origin, RunWith

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


def test_users_and_limits_are_read_as_those_of_a_local_deployment():
    told = documents.run_with_of(
        ["a=www:web", "b=", "c=nobody"], ["a=memory=512M,cpus=0.5", "b=none", "d=memory=2GiB", "e=memory=100"]
    )
    document = documents.local_document("d1", components={}, remove=[], update={}, group="", run_with=told)
    read = parse(json.dumps(document).encode(), source=Origin.TOPIC, received_ms=1)
    before = RunWith("ggc", memory_kb=9, cpus=9.0)
    assert {name: each.run_with.over(before) for name, each in read.components.items()} == {
        "a": RunWith("www:web", memory_kb=512 * 1024, cpus=0.5),
        "b": RunWith(),
        "c": RunWith("nobody", memory_kb=9, cpus=9.0),
        "d": RunWith("ggc", memory_kb=2 * 1024**2),
        "e": RunWith("ggc", memory_kb=100),
    }


@pytest.mark.parametrize("text", ["a", "=b", "a=:web", ""])
def test_a_user_that_cannot_be_read_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="--run-with") as refused:
        documents.run_with_of([text], [])
    assert "com.acme.Detect=www-data" in str(refused.value.hint)


@pytest.mark.parametrize(
    "text",
    ["a", "a=", "a=512M", "a=memory=", "a=memory=0", "a=memory=1T", "a=cpus=0", "a=cpus=nan", "a=disk=1", "=none"],
)
def test_limits_that_cannot_be_read_are_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="--limits") as refused:
        documents.run_with_of([], [text])
    assert "memory=512M,cpus=1.5" in str(refused.value.hint)


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
    (told,) = recipes_of(tmp_path / "deep", tmp_path, local=True)
    ours, theirs = told["Manifests"][0]["Artifacts"]
    assert ours["Uri"] == (place / "model.zip").as_uri()
    assert ours["Digest"] == base64.b64encode(hashlib.sha256(b"zip").digest()).decode()
    assert ours["Algorithm"] == "SHA-256"
    assert theirs["Uri"] == "https://example.com/labels.txt"


def put(folder: Path, name: str, version: str, *, file: bool, needs: str = "", uri: str = "file:run.sh") -> None:
    """A recipe in ``recipes`` whose artifact is in ``artifacts`` or is not."""
    manifests = [{"Platform": {"os": "linux"}, "Artifacts": [{"Uri": uri}], "Lifecycle": {"Run": "true"}}]
    told = {"RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version}
    told |= {"Manifests": [*manifests, {"Platform": {"os": "windows"}, "Artifacts": [{"Uri": "s3//typo"}]}]}
    told |= {"ComponentDependencies": {"com.a": {"VersionRequirement": needs}}} if needs else {}
    (folder / "recipes").mkdir(exist_ok=True)
    (folder / "recipes" / f"{name}-{version}.json").write_text(json.dumps(told))
    place = folder / "artifacts" / name / version
    place.mkdir(parents=True, exist_ok=True)
    if file:
        (place / "run.sh").write_text("true")


def offered(folder: Path, asked: dict[str, str]) -> list[str]:
    told = recipes_of(folder / "recipes", folder / "artifacts", local=True, asked=asked)
    return [f"{one['ComponentName']} {one['ComponentVersion']}" for one in told]


@pytest.mark.parametrize("asked", [{"com.a": "2.0.0"}, {"com.a": ">=1.0.0"}, {}, {"com.b": "*"}])
def test_an_old_recipe_without_its_files_keeps_no_newer_one_from_being_sent(tmp_path, asked):
    put(tmp_path, "com.a", "1.0.0", file=False)
    put(tmp_path, "com.a", "2.0.0", file=True)
    assert offered(tmp_path, asked) == ["com.a 2.0.0"]


def test_a_recipe_that_can_be_chosen_needs_its_files(tmp_path):
    put(tmp_path, "com.a", "1.0.0", file=False)
    put(tmp_path, "com.a", "2.0.0", file=True)
    with pytest.raises(InvalidInputError, match=r"com\.a 1\.0\.0: there is no run\.sh in"):
        offered(tmp_path, {"com.a": "<2.0.0"})
    put(tmp_path, "com.b", "1.0.0", file=True, needs="~1.0")
    with pytest.raises(InvalidInputError, match=r"com\.a 1\.0\.0"):
        offered(tmp_path, {"com.b": "1.0.0"})
    put(tmp_path, "com.a", "3.0.0", file=False)
    (tmp_path / "recipes" / "com.b-1.0.0.json").unlink()
    with pytest.raises(InvalidInputError, match=r"com\.a 3\.0\.0"):
        offered(tmp_path, {"com.a": "*"})


def test_the_versions_that_a_document_asks_for_are_those_of_every_form(tmp_path):
    forms = {
        "components": {"a": {"version": "1"}, "b": {"componentVersion": "2"}, "d": {}},
        "componentsToMerge": {"c": "3"},
    }
    (tmp_path / "d.json").write_text(json.dumps(forms))
    assert documents.asked_in(tmp_path / "d.json") == {"a": "1", "b": "2", "c": "3"}


def test_a_file_that_is_no_recipe_is_refused_by_its_name(tmp_path):
    (tmp_path / "odd.yaml").write_text("just: words")
    with pytest.raises(InvalidInputError, match=r"odd\.yaml"):
        recipes_of(tmp_path, None, local=True)


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
