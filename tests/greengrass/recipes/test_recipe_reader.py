from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.recipes import reader, writer
from agent.greengrass.recipes.errors import RecipeError
from agent.greengrass.recipes.recipe import Artifact, ComponentType, Dependency, Permission, Unarchive
from agent.greengrass.recipes.uris import uri_problem
from agent.greengrass.recipes.versions import Requirement, Version

DATA = sorted((Path(__file__).parent / "data").iterdir())


def document(**changes):
    base = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": "com.example.A",
        "ComponentVersion": "1.0.0",
        "Manifests": [{}],
    }
    return {key: value for key, value in {**base, **changes}.items() if value != "ABSENT"}


def read(**changes):
    return reader.parse(json.dumps(document(**changes)), "r.json")


def artifact(**fields):
    return read(Manifests=[{"Artifacts": [{"Uri": "s3://b/k", **fields}]}]).manifests[0].artifacts[0]


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.name)
def test_the_recipes_people_have_load(path):
    recipe, _ = reader.read(path)
    assert recipe.manifests


@pytest.mark.parametrize("path", DATA, ids=lambda path: path.name)
def test_a_recipe_written_for_a_store_reads_back_equal(path):
    recipe, _ = reader.read(path)
    assert reader.parse(writer.dump(recipe), "stored") == recipe
    assert writer.dump(reader.parse(writer.dump(recipe), "stored")) == writer.dump(recipe)


def test_an_inference_component_of_greengrass_is_read_whole():
    recipe, warnings = reader.read(Path(__file__).parent / "data" / "dlr-image-classification.json")
    assert warnings == ()
    assert recipe.dependencies == {
        "aws.greengrass.Nucleus": Dependency(Requirement.parse(">=2.0.0 <3.0.0"), hard=False),
        "variant.DLR.ImageClassification.ModelStore": Dependency(Requirement.parse("~2.1.0")),
        "variant.DLR": Dependency(Requirement.parse("~1.6.0")),
    }
    assert recipe.configuration["InferenceInterval"] == "3600"
    assert recipe.manifests[2].lifecycle["run"]["RequiresPrivilege"] == "true"
    assert recipe.manifests[2].artifacts == (
        Artifact(
            "s3://example-bucket/dlr/image_classification.zip",
            unarchive=Unarchive.ZIP,
            digest="47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            algorithm="SHA-256",
        ),
    )


def test_the_defaults_are_those_of_the_format():
    recipe = read()
    assert (recipe.type, recipe.description, recipe.publisher, recipe.source) == (
        ComponentType.GENERIC,
        None,
        None,
        None,
    )
    assert (recipe.configuration, recipe.dependencies, recipe.lifecycle) == ({}, {}, {})
    (manifest,) = recipe.manifests
    assert (manifest.name, manifest.platform, manifest.lifecycle, manifest.selections, manifest.artifacts) == (
        None,
        {},
        {},
        (),
        (),
    )
    assert artifact() == Artifact("s3://b/k", Unarchive.NONE, Permission.OWNER, Permission.NONE, None, None)
    assert read(ComponentDependencies={"b": {"VersionRequirement": "*"}}).dependencies["b"].hard


def test_null_is_absent():
    optional = ("ComponentType", "ComponentDescription", "ComponentConfiguration", "ComponentDependencies", "Lifecycle")
    assert read(**dict.fromkeys(optional)) == read()
    assert read(ComponentConfiguration={"DefaultConfiguration": None}) == read()
    nothing = dict.fromkeys(("Name", "Platform", "Lifecycle", "Selections", "Artifacts"))
    assert read(Manifests=[nothing]) == read()
    assert artifact(Unarchive=None, Permission=None, Digest=None) == artifact()


@pytest.mark.parametrize("spell", [str, str.lower, str.upper, str.swapcase])
def test_keys_of_the_format_match_in_any_case(spell):
    def respelled(value):
        if isinstance(value, dict):
            return {spell(key) if key in known else key: respelled(inner) for key, inner in value.items()}
        return [respelled(inner) for inner in value] if isinstance(value, list) else value

    known = {
        "RecipeFormatVersion",
        "ComponentName",
        "ComponentVersion",
        "ComponentType",
        "ComponentConfiguration",
        "DefaultConfiguration",
        "ComponentDependencies",
        "VersionRequirement",
        "DependencyType",
        "Manifests",
        "Platform",
        "Selections",
        "Artifacts",
        "Uri",
        "Unarchive",
        "Permission",
        "Execute",
    }
    full = document(
        ComponentType="aws.greengrass.generic",
        ComponentConfiguration={"DefaultConfiguration": {"Name": 1}},
        ComponentDependencies={"B.c": {"VersionRequirement": "^1.0.0", "DependencyType": "SOFT"}},
        Manifests=[
            {
                "Platform": {"os": "linux"},
                "Selections": ["Fast"],
                "Artifacts": [{"Uri": "s3://b/k", "Unarchive": "ZIP", "Permission": {"Execute": "ALL"}}],
            }
        ],
    )
    recipe, warnings = reader.parse_with_warnings(json.dumps(respelled(full)), "r")
    assert warnings == ()
    assert recipe == reader.parse(json.dumps(full), "r")
    assert recipe.configuration == {"Name": 1}
    assert recipe.manifests[0].selections == ("Fast",)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("AWS.Greengrass.Lambda", ComponentType.LAMBDA),
        ("aws.greengrass.nucleus", ComponentType.NUCLEUS),
        ("aws.greengrass.plugin", ComponentType.PLUGIN),
        ("verge.inference", ComponentType.INFERENCE),
        ("Verge.Model", ComponentType.MODEL),
    ],
)
def test_words_of_the_format_match_in_any_case(written, expected):
    assert read(ComponentType=written).type is expected
    assert artifact(Unarchive="zip").unarchive is Unarchive.ZIP
    assert (
        not read(ComponentDependencies={"b": {"VersionRequirement": "*", "DependencyType": "soft"}})
        .dependencies["b"]
        .hard
    )


@pytest.mark.parametrize(
    ("permission", "read_", "execute"),
    [
        ({}, "OWNER", "NONE"),
        ({"Read": "none"}, "NONE", "NONE"),
        ({"Execute": "OWNER", "Read": "NONE"}, "OWNER", "OWNER"),
        ({"Execute": "All"}, "ALL", "ALL"),
        ({"Read": "ALL", "Execute": "OWNER"}, "ALL", "OWNER"),
    ],
)
def test_who_may_execute_an_artifact_may_read_it(permission, read_, execute):
    found = artifact(Permission=permission)
    assert (found.read, found.execute) == (read_, execute)


def test_a_scalar_is_a_text_as_it_was_written():
    text = (
        "RecipeFormatVersion: 2020-01-25\nComponentName: 007\nComponentVersion: 1.0.0\nComponentPublisher: true\n"
        "ComponentDependencies: {b: {VersionRequirement: 1.10}, c: {VersionRequirement: 2}}\n"
        "Manifests: [{Name: 1.50, Platform: {on: yes, cores: 4, x: ~}}]"
    )
    recipe = reader.parse(text, "r")
    assert (recipe.name, recipe.publisher, recipe.manifests[0].name) == ("007", "true", "1.50")
    assert recipe.dependencies["b"].requirement == Requirement.parse("1.10")
    assert recipe.dependencies["c"].requirement.allows(Version(2, 7, 0))
    assert recipe.manifests[0].platform == {"on": "yes", "cores": "4", "x": None}


def test_numbers_of_a_configuration_keep_their_kind():
    recipe = reader.parse(
        json.dumps(document(ComponentConfiguration={"DefaultConfiguration": {"i": 5, "f": 5.0, "b": True}})), "r"
    )
    assert [(type(each), each) for each in recipe.configuration.values()] == [(int, 5), (float, 5.0), (bool, True)]


@pytest.mark.parametrize(
    "uri", ["s3://b/k", "S3://b/k", "greengrass:a.zip", "docker:alpine:3", "file:///srv/a", "https://h/a%20b?x=1"]
)
def test_any_scheme_of_an_artifact_is_read(uri):
    assert artifact(Uri=uri).uri == uri


ONE = {"VersionRequirement": "*"}
REFUSED = [
    # change to a good document, path, value as shown, expectation, code
    ({"RecipeFormatVersion": "ABSENT"}, "RecipeFormatVersion", "missing", "2020-01-25", "RECIPE_PARSE_ERROR"),
    ({"RecipeFormatVersion": "2021-01-01"}, "RecipeFormatVersion", '"2021-01-01"', "2020-01-25", "RECIPE_PARSE_ERROR"),
    ({"ComponentName": "ABSENT"}, "ComponentName", "missing", "name", "RECIPE_PARSE_ERROR"),
    ({"ComponentName": None}, "ComponentName", "missing", "name", "RECIPE_PARSE_ERROR"),
    ({"ComponentName": "a b"}, "ComponentName", '"a b"', "letters", "RECIPE_PARSE_ERROR"),
    ({"ComponentName": ".."}, "ComponentName", '".."', "letters", "RECIPE_PARSE_ERROR"),
    ({"ComponentName": "a" * 129}, "ComponentName", "aaa…", "128", "RECIPE_PARSE_ERROR"),
    ({"ComponentName": ["a"]}, "ComponentName", "a list", "a text", "RECIPE_PARSE_ERROR"),
    ({"ComponentVersion": "ABSENT"}, "ComponentVersion", "missing", "", "RECIPE_PARSE_ERROR"),
    ({"ComponentVersion": "1.0"}, "ComponentVersion", '"1.0"', "MAJOR.MINOR.PATCH", "COMPONENT_VERSION_NOT_VALID"),
    ({"ComponentVersion": 1.0}, "ComponentVersion", "1.0", "MAJOR.MINOR.PATCH", "COMPONENT_VERSION_NOT_VALID"),
    ({"ComponentType": "generic"}, "ComponentType", '"generic"', "aws.greengrass.generic", "RECIPE_PARSE_ERROR"),
    ({"ComponentDescription": {}}, "ComponentDescription", "a mapping", "a text", "RECIPE_PARSE_ERROR"),
    ({"ComponentConfiguration": []}, "ComponentConfiguration", "a list", "a mapping", "RECIPE_PARSE_ERROR"),
    (
        {"ComponentConfiguration": {"DefaultConfiguration": "x"}},
        "ComponentConfiguration.DefaultConfiguration",
        '"x"',
        "a mapping",
        "RECIPE_PARSE_ERROR",
    ),
    ({"ComponentDependencies": ["b"]}, "ComponentDependencies", "a list", "a mapping", "RECIPE_PARSE_ERROR"),
    ({"ComponentDependencies": {"b": None}}, "ComponentDependencies.b", "nothing", "a mapping", "RECIPE_PARSE_ERROR"),
    (
        {"ComponentDependencies": {"b": {}}},
        "ComponentDependencies.b.VersionRequirement",
        "missing",
        "requirement",
        "RECIPE_PARSE_ERROR",
    ),
    (
        {"ComponentDependencies": {"b": {"VersionRequirement": "1.0, 2.0"}}},
        "ComponentDependencies.b.VersionRequirement",
        '"1.0, 2.0"',
        "requirement",
        "COMPONENT_VERSION_NOT_VALID",
    ),
    (
        {"ComponentDependencies": {"b": {**ONE, "DependencyType": "FIRM"}}},
        "ComponentDependencies.b.DependencyType",
        '"FIRM"',
        "HARD, SOFT",
        "RECIPE_PARSE_ERROR",
    ),
    (
        {"ComponentDependencies": {"../b": ONE}},
        "ComponentDependencies.../b",
        '"../b"',
        "a component's name",
        "COMPONENT_DEPENDENCY_NOT_VALID",
    ),
    ({"Manifests": "ABSENT"}, "Manifests", "missing", "at least one", "RECIPE_MISSING_MANIFEST"),
    ({"Manifests": None}, "Manifests", "missing", "at least one", "RECIPE_MISSING_MANIFEST"),
    ({"Manifests": []}, "Manifests", "missing", "at least one", "RECIPE_MISSING_MANIFEST"),
    ({"Manifests": [{}, None]}, "Manifests[1]", "nothing", "no empty item", "RECIPE_PARSE_ERROR"),
    ({"Manifests": {}}, "Manifests", "a mapping", "a list", "RECIPE_PARSE_ERROR"),
    ({"Manifests": [{"Platform": "linux"}]}, "Manifests[0].Platform", '"linux"', "a mapping", "RECIPE_PARSE_ERROR"),
    (
        {"Manifests": [{"Platform": {"os": ["linux"]}}]},
        "Manifests[0].Platform.os",
        "a list",
        "a text",
        "RECIPE_PARSE_ERROR",
    ),
    ({"Manifests": [{"Lifecycle": "run"}]}, "Manifests[0].Lifecycle", '"run"', "a mapping", "RECIPE_PARSE_ERROR"),
    ({"Manifests": [{"Selections": "all"}]}, "Manifests[0].Selections", '"all"', "a list", "RECIPE_PARSE_ERROR"),
    (
        {"Manifests": [{}, {"Artifacts": [None]}]},
        "Manifests[1].Artifacts[0]",
        "nothing",
        "no empty",
        "RECIPE_PARSE_ERROR",
    ),
    ({"Lifecycle": []}, "Lifecycle", "a list", "a mapping", "RECIPE_PARSE_ERROR"),
]
ARTIFACTS = [
    ({"Unarchive": "TAR"}, "Unarchive", '"TAR"', "NONE, ZIP", "RECIPE_PARSE_ERROR"),
    ({"Permission": {"Read": "everyone"}}, "Permission.Read", '"everyone"', "NONE, OWNER, ALL", "RECIPE_PARSE_ERROR"),
    ({"Permission": "ALL"}, "Permission", '"ALL"', "a mapping", "RECIPE_PARSE_ERROR"),
]
REFUSED += [
    ({"Manifests": [{"Artifacts": [{"Uri": "s3://b/k", **change}]}]}, f"Manifests[0].Artifacts[0].{path}", *rest)
    for change, path, *rest in ARTIFACTS
]


@pytest.mark.parametrize(("change", "path", "value", "expected", "code"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused_names_the_path_the_value_and_what_was_expected(change, path, value, expected, code):
    with pytest.raises(RecipeError) as caught:
        read(**change)
    error = caught.value
    assert (error.code, error.path, error.error_type) == (code, path, "COMPONENT_RECIPE_ERROR")
    told, _, wanted = error.message.partition(": expected ")
    assert told.startswith(f"r.json: {path} is ")
    assert value in told
    assert expected in wanted


def test_no_document_makes_an_error_long():
    for change in (
        {"k" * 5000: 1, "Manifests": []},
        {"ComponentDependencies": {"k" * 5000: 5}},
        {"ComponentVersion": "9" * 5000},
    ):
        with pytest.raises(RecipeError) as caught:
            read(**change)
        assert len(str(caught.value)) < 500


def test_a_document_that_is_no_mapping_is_refused():
    for text in ("", "[]", "text", "null"):
        with pytest.raises(RecipeError, match=r"r is .*: expected a mapping"):
            reader.parse(text, "r")


def test_keys_that_mean_nothing_are_told_with_the_nearest_that_does():
    text = json.dumps(
        document(ComponentVersoin="1", Manifests=[{"Artifacts": [{"Uri": "s3://b/k", "Unarchived": "ZIP"}], "x": 1}])
    )
    _, warnings = reader.parse_with_warnings(text, "r")
    assert [(each.level, each.path, each.hint) for each in warnings] == [
        ("warning", "ComponentVersoin", "did you mean ComponentVersion?"),
        ("warning", "Manifests[0].x", "known here: Name, Platform, Lifecycle, Selections, Artifacts"),
        ("warning", "Manifests[0].Artifacts[0].Unarchived", "did you mean Unarchive?"),
    ]


def test_a_key_in_two_spellings_is_told_and_the_last_counts():
    recipe, warnings = reader.parse_with_warnings(json.dumps(document(componentname="com.example.B")), "r")
    assert recipe.name == "com.example.B"
    assert [each.message for each in warnings] == ["the key ComponentName stands here in two spellings"]


def test_a_key_that_stands_twice_is_told():
    text = (
        "RecipeFormatVersion: 2020-01-25\nComponentName: a\nComponentName: b\nComponentVersion: 1.0.0\nManifests: [{}]"
    )
    recipe, warnings = reader.parse_with_warnings(text, "r")
    assert recipe.name == "b"
    assert [each.path for each in warnings] == ["ComponentName"]


def test_a_file_that_cannot_be_opened_is_told(tmp_path):
    with pytest.raises(RecipeError, match="No such file") as caught:
        reader.read(tmp_path / "none.yaml")
    assert (caught.value.code, caught.value.error_type) == ("IO_READ_ERROR", "DEVICE_ERROR")


scraps = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.text(max_size=4),
        st.sampled_from(["s3://b/k", "1.0.0", "ZIP", "linux"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2),
        st.dictionaries(
            st.sampled_from(["Uri", "Platform", "Artifacts", "VersionRequirement", "Permission", "Read", "x"]), inner
        ),
    ),
    max_leaves=8,
)
FIELDS = [
    "ComponentType",
    "ComponentDependencies",
    "ComponentConfiguration",
    "Manifests",
    "Lifecycle",
    "ComponentVersion",
]


@settings(max_examples=100)
@given(st.dictionaries(st.sampled_from(FIELDS), scraps))
def test_law_any_document_loads_and_reads_back_equal_or_is_our_error(changes):
    try:
        recipe = read(**changes)
    except RecipeError:
        return
    assert reader.parse(writer.dump(recipe), "r") == recipe


@pytest.mark.parametrize(
    ("changes", "path", "waits"),
    [
        ({"ComponentVersion": "COMPONENT_VERSION"}, "ComponentVersion", "COMPONENT_VERSION"),
        ({"ComponentVersion": "{COMPONENT_VERSION}"}, "ComponentVersion", "{COMPONENT_VERSION}"),
        ({"ComponentVersion": {"COMPONENT_VERSION": None}}, "ComponentVersion", "{COMPONENT_VERSION}"),
        ({"ComponentVersion": "NEXT_PATCH"}, "ComponentVersion", "NEXT_PATCH"),
        ({"ComponentVersion": "{{ version }}"}, "ComponentVersion", "{{ version }}"),
        ({"ComponentVersion": "${VERSION}"}, "ComponentVersion", "${VERSION}"),
        ({"ComponentVersion": "1.0.$(Build.Id)"}, "ComponentVersion", "$(Build.Id)"),
        ({"ComponentName": "COMPONENT_NAME"}, "ComponentName", "COMPONENT_NAME"),
        ({"ComponentName": "{COMPONENT_NAME}"}, "ComponentName", "{COMPONENT_NAME}"),
        ({"ComponentName": "com.example.{{name}}"}, "ComponentName", "{{name}}"),
        ({"ComponentVersion": "<version>"}, "ComponentVersion", "<version>"),
        (
            {"ComponentDependencies": {"b": {"VersionRequirement": "{COMPONENT_VERSION}"}}},
            "ComponentDependencies.b.VersionRequirement",
            "{COMPONENT_VERSION}",
        ),
        ({"ComponentDependencies": {"${B}": ONE}}, "ComponentDependencies.${B}", "${B}"),
    ],
)
def test_a_recipe_that_is_a_template_is_named_as_one_with_how_it_is_built(changes, path, waits):
    with pytest.raises(RecipeError) as caught:
        read(**changes)
    assert caught.value.path == path
    assert f"expected what a build puts in place of {waits}: the recipe is a template" in caught.value.message
    assert "gdk component build" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("uri", "waits"),
    [
        ("s3://BUCKET_NAME/COMPONENT_NAME/COMPONENT_VERSION/a.zip", "BUCKET_NAME"),
        ("s3://b/{V}/a", "{V}"),
        ("s3://<your-bucket>/a.zip", "<your-bucket>"),
    ],
)
def test_a_template_is_named_as_one_where_the_manifest_is_chosen_and_keeps_no_other_manifest_from_loading(uri, waits):
    recipe = read(Manifests=[{}, {"Artifacts": [{"Uri": uri}]}])
    assert recipe.manifests[1].artifacts[0].uri == uri
    problem = uri_problem(uri)
    assert problem is not None
    assert f"what a build puts in place of {waits}: the recipe is a template" in problem.message
    assert "gdk component build" in problem.hint


def test_a_template_that_is_no_yaml_is_named_as_one_too():
    text = "RecipeFormatVersion: '2020-01-25'\nComponentName: a\nComponentVersion: {{version}}\nManifests: [{}]\n"
    with pytest.raises(RecipeError) as caught:
        reader.parse(text, "r")
    assert "it may be a template, whose {{version}} is not filled in" in caught.value.message
    assert "gdk component build" in str(caught.value.hint)
