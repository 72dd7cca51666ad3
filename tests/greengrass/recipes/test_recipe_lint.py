from __future__ import annotations

from pathlib import Path

import pytest

from agent.greengrass.recipes import lint, reader
from agent.greengrass.recipes.errors import Level
from agent.greengrass.recipes.recipe import Artifact, Dependency, Manifest, Recipe
from agent.greengrass.recipes.versions import Requirement, Version

DATA = Path(__file__).parent / "data"
ANY = Requirement.parse("*")


def recipe(*manifests, **fields):
    return Recipe("com.example.A", Version(1, 0, 0), manifests=manifests or (Manifest(),), **fields)


def run(script, **fields):
    return recipe(Manifest(lifecycle={"Run": script}), **fields)


FINDINGS = [
    # recipe, level, path, a part of the message, the hint
    (
        recipe(dependencies={"com.example.A": Dependency(ANY)}),
        "error",
        "ComponentDependencies.com.example.A",
        "itself",
        "remove it",
    ),
    (recipe(Manifest(platform={"OS": "linux"})), "warning", "Manifests[0].Platform.OS", "exact", "write os"),
    (
        recipe(Manifest(platform={"os": "/(/"})),
        "error",
        "Manifests[0].Platform.os",
        "no regular expression",
        "mend the expression",
    ),
    (
        recipe(Manifest(platform={"os": "-linux"})),
        "error",
        "Manifests[0].Platform.os",
        "matches no device",
        "plain word",
    ),
    (
        recipe(Manifest(), Manifest(platform={"os": "linux"})),
        "warning",
        "Manifests[1]",
        "no device gets this",
        "before Manifests[0]",
    ),
    (
        recipe(Manifest(platform={"os": "all", "runtime": "*"}), Manifest()),
        "warning",
        "Manifests[1]",
        "no device gets",
        "before",
    ),
    (
        recipe(Manifest(platform={"os": "linux"}), Manifest(platform={"architecture": "arm", "os": "linux"})),
        "warning",
        "Manifests[1]",
        "no device gets",
        "before",
    ),
    (
        recipe(Manifest(lifecycle={"Run": "x"}, selections=("a",))),
        "warning",
        "Manifests[0].Selections",
        "choose nothing",
        "remove",
    ),
    (run("x", lifecycle={"Run": "y"}), "warning", "Lifecycle", "never used", "remove"),
    (
        recipe(Manifest(artifacts=(Artifact("s3://model.zip"),))),
        "warning",
        "Manifests[0].Artifacts[0].Uri",
        "names no object",
        "BUCKET",
    ),
    (
        recipe(Manifest(artifacts=(Artifact("s3://bucket/"),))),
        "warning",
        "Manifests[0].Artifacts[0].Uri",
        "names no object",
        "BUCKET",
    ),
    (
        recipe(Manifest(artifacts=(Artifact("ftp://h/a"),))),
        "error",
        "Manifests[0].Artifacts[0].Uri",
        "ftp:",
        "docker, file",
    ),
    (
        recipe(Manifest(artifacts=(Artifact("s3://b/x/a"), Artifact("https://h/a?v=2")))),
        "error",
        "Manifests[0].Artifacts",
        "called a",
        "name of its own",
    ),
    (
        recipe(Manifest(lifecycle={"Run": "x", "startup": "y"})),
        "warning",
        "Manifests[0].Lifecycle",
        "Startup and Run",
        "keep one",
    ),
    (
        recipe(Manifest(lifecycle={"Instal": "x"})),
        "warning",
        "Manifests[0].Lifecycle.Instal",
        "means nothing",
        "did you mean Install?",
    ),
    (
        run({"Script": "x", "Tiemout": 1}),
        "warning",
        "Manifests[0].Lifecycle.Run.Tiemout",
        "means nothing",
        "did you mean Timeout?",
    ),
    (
        run({"Script": "x", "Timeout": "soon"}),
        "error",
        "Manifests[0].Lifecycle.Run.Timeout",
        '"soon"',
        "RUN_CONFIG_NOT_VALID",
    ),
    (run({"Timeout": 5}), "error", "Manifests[0].Lifecycle.Run.Script", "a script", "RUN_CONFIG_NOT_VALID"),
    (
        recipe(lifecycle={"Install": {"all": {"Script": ""}}}),
        "error",
        "Lifecycle.Install.Script",
        "a script",
        "INSTALL_CONFIG",
    ),
    (run("{configuration:/x}"), "warning", "Manifests[0].Lifecycle.Run", "no /x", "add a default"),
    (
        run("{configuration:x}", configuration={"x": 1}),
        "warning",
        "Manifests[0].Lifecycle.Run",
        "no JSON pointer",
        "write /x",
    ),
    (
        run({"Script": "x", "Setenv": {"A": "{work:dir}"}}),
        "warning",
        "Manifests[0].Lifecycle.Run.Setenv.A",
        "no dir",
        "path",
    ),
    (run("{artefacts:path}"), "warning", "Manifests[0].Lifecycle.Run", "no namespace", "did you mean artifacts?"),
    (run("{b:work:path}"), "warning", "Manifests[0].Lifecycle.Run", "no direct dependency", "ComponentDependencies"),
    (
        run("{b:iot:thingName}", dependencies={"b": Dependency(ANY)}),
        "warning",
        "Manifests[0].Lifecycle.Run",
        "no component",
        "{iot:thingName}",
    ),
]
GOOD = [
    recipe(),
    recipe(Manifest(platform={"os": "linux"}), Manifest(platform={"os": "linux|"}), Manifest()),
    recipe(Manifest(platform={"os": "linux", "architecture": "arm"}), Manifest(platform={"os": "linux"})),
    recipe(
        Manifest(artifacts=(Artifact("docker:alpine:3"), Artifact("docker:alpine:4"), Artifact("greengrass:b.zip")))
    ),
    run({"Script": "{artifacts:path}", "Timeout": "900", "RequiresPrivilege": "true", "Setenv": {"x": 1}}),
    run({"Script": "x", "Timeout": "{configuration:/t}"}, configuration={"t": "15"}),
    run({"Script": "x", "Timeout": "{b:configuration:/t}"}, dependencies={"b": Dependency(ANY, hard=False)}),
    run("{configuration:} ${HOME:-x} {kernel:rootPath} awk '{print $1:x}' {print:x}"),
    recipe(Manifest(lifecycle={"bootstrap": "x", "UNINSTALL": "x", "setenv": {"any": "x"}, "errorResetTime": 5})),
]


@pytest.mark.parametrize(("found", "level", "path", "message", "hint"), FINDINGS, ids=range(len(FINDINGS)))
def test_what_will_surprise_is_found_where_it_stands(found, level, path, message, hint):
    (finding,) = lint.check(found)
    assert (finding.level, finding.path) == (Level(level), path)
    assert message in finding.message
    assert hint in finding.hint


@pytest.mark.parametrize("good", GOOD, ids=range(len(GOOD)))
def test_nothing_is_said_of_a_recipe_that_means_what_it_says(good):
    assert lint.check(good) == ()


@pytest.mark.parametrize("path", sorted(set(DATA.iterdir()) - {DATA / "questionable.yaml"}), ids=lambda path: path.name)
def test_nothing_is_said_of_the_recipes_people_have(path):
    found, warnings = reader.read(path)
    assert (*warnings, *lint.check(found)) == ()


def test_what_many_manifests_share_is_said_once():
    manifests = [Manifest(platform={"os": each}) for each in ("linux", "darwin")]
    assert len(lint.check(recipe(*manifests, lifecycle={"Runn": "x"}))) == 1


def test_a_questionable_recipe_loads_and_each_of_its_oddities_is_told():
    found, warnings = reader.read(DATA / "questionable.yaml")
    findings = (*warnings, *lint.check(found))
    assert len(findings) == len({(each.path, each.message) for each in findings}) == 18
    assert all(each.path and each.hint for each in findings)
