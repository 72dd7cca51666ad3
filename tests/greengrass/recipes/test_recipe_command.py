from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from agent.cli.recipe import command

DATA = Path(__file__).parent / "data"
GOOD, ODD = str(DATA / "dlr-image-classification.json"), str(DATA / "questionable.yaml")


def check(*arguments):
    return CliRunner().invoke(command, ["check", *arguments])


def test_a_good_recipe_is_one_line_and_success():
    result = check(GOOD)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"ok       {GOOD}  aws.greengrass.DLRImageClassification 2.1.7, 3 manifests, 3 dependencies"
    ]


def test_a_recipe_that_cannot_work_is_told_with_places_and_hints():
    result = check(GOOD, ODD)
    assert result.exit_code == 1
    assert f"loads    {ODD}  com.example.Questionable 1.0.0" in result.output
    assert "  error    Manifests[1].Platform.gpu: '?' matches no device\n           write a plain word" in result.output
    assert '  error    Lifecycle.Install.Timeout is "soon": expected a number of seconds\n' in result.output


def test_warnings_alone_are_no_failure(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(
        "RecipeFormatVersion: 2020-01-25\nComponentName: a\nComponentVersion: 1.0.0\nManifests: [{}]\nTags: []"
    )
    result = check(str(path))
    assert result.exit_code == 0
    assert "warning  Tags: the key Tags means nothing here" in result.output


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "is not YAML: "),
        ("{}", "RecipeFormatVersion is missing: expected 2020-01-25 [RECIPE_PARSE_ERROR]"),
        (None, "cannot be read"),
    ],
)
def test_a_recipe_that_is_refused_says_why_and_under_which_code(tmp_path, text, told):
    path = tmp_path / "r.yaml"
    if text is not None:
        path.write_text(text)
    result = check(str(path), GOOD)
    assert result.exit_code == 1
    assert f"refused  {path}" in result.output
    assert told in result.output
    assert f"ok       {GOOD}" in result.output


def test_json_tells_the_same_to_programs():
    result = check("--json", GOOD, ODD, "none.yaml")
    assert result.exit_code == 1
    good, odd, none = json.loads(result.output)
    assert good == {
        "file": GOOD,
        "loads": True,
        "name": "aws.greengrass.DLRImageClassification",
        "version": "2.1.7",
        "findings": [],
    }
    assert odd["loads"]
    assert set(odd["findings"][0]) == {"level", "path", "message", "hint"}
    assert (none["loads"], none["name"], none["findings"][0]["level"]) == (False, None, "error")


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        (None, "EMPTY_ARTIFACT_URI"),
        ("", "EMPTY_ARTIFACT_URI"),
        ("model.zip", "EMPTY_ARTIFACT_SCHEME"),
        ("s3//bucket/typo.zip", "EMPTY_ARTIFACT_SCHEME"),
        ("s3:", "EMPTY_ARTIFACT_SCHEME"),
        ("s3://b/a b", "ARTIFACT_URI_NOT_VALID"),
        ("https://h/100%", "ARTIFACT_URI_NOT_VALID"),
        ("s3://[YOUR_BUCKET]/a.zip", "ARTIFACT_URI_NOT_VALID"),
        ("s3://[/a.zip", "ARTIFACT_URI_NOT_VALID"),
        ("https://h:port/a", "ARTIFACT_URI_NOT_VALID"),
    ],
)
def test_a_uri_that_names_nothing_is_a_finding_with_its_place_and_the_other_files_are_checked(tmp_path, uri, code):
    recipe = json.loads(Path(GOOD).read_text())
    recipe["Manifests"] = [{"Platform": {"os": "windows"}, "Artifacts": [{"Uri": uri}]}, {"Lifecycle": {"Run": "true"}}]
    path = tmp_path / "r.json"
    path.write_text(json.dumps(recipe))
    result = check(str(path), GOOD)
    assert result.exit_code == 1
    assert f"loads    {path}" in result.output
    assert "error    Manifests[0].Artifacts[0].Uri" in result.output
    assert code in result.output
    assert f"ok       {GOOD}" in result.output


def test_what_a_check_runs_into_is_said_of_its_file_and_of_no_other(tmp_path, monkeypatch):
    def broken(recipe):
        if recipe.name == "a":
            raise ValueError("never thought of")
        return ()

    monkeypatch.setattr("agent.cli.recipe.lint.check", broken)
    path = tmp_path / "r.yaml"
    path.write_text("RecipeFormatVersion: 2020-01-25\nComponentName: a\nComponentVersion: 1.0.0\nManifests: [{}]")
    result = check(str(path), GOOD)
    assert result.exit_code == 1
    assert "it could not be checked: ValueError: never thought of" in result.output
    assert f"ok       {GOOD}" in result.output
