from __future__ import annotations

from pathlib import Path

import pytest

from agent.greengrass.recipes import reader
from agent.greengrass.recipes.errors import LifecycleError
from agent.greengrass.recipes.lifecycle import (
    CODES,
    DEFAULT_TIMEOUT_S,
    Condition,
    Skip,
    StepName,
    parse,
    select,
)
from agent.greengrass.recipes.lifecycle import (
    LifecycleStep as Step,
)
from agent.greengrass.recipes.platform import choose
from agent.greengrass.recipes.recipe import Manifest, Recipe
from agent.greengrass.recipes.versions import Version

DATA = Path(__file__).parent / "data"


def selected(lifecycle, selections, *others, own=None):
    manifest = Manifest(selections=tuple(selections), lifecycle=own or {})
    rest = tuple(Manifest(selections=tuple(each)) for each in others)
    return select(Recipe("a", Version(1, 0, 0), manifests=(manifest, *rest), lifecycle=lifecycle), manifest)


SELECTIONS = [
    # global lifecycle, this manifest's selections, those of others, what is left
    ({"Run": "x"}, [], [], {"Run": "x"}),
    ({"Run": {"linux": "l", "all": "a"}}, ["linux"], [], {"Run": "l"}),
    ({"Run": {"linux": "l", "all": "a"}}, [], ["linux"], {"Run": "a"}),
    ({"Run": {"linux": "l", "all": "a"}}, ["arm"], ["linux"], {"Run": "a"}),
    ({"Run": {"linux": "l"}}, ["arm"], ["linux"], {}),
    ({"Run": {"a": "1", "b": "2"}}, ["b", "a"], [], {"Run": "2"}),
    ({"Run": {"a": "1", "b": None}}, ["b", "a"], [], {"Run": "1"}),
    ({"Run": {"all": "a", "stray": "s"}}, [], [], {"Run": "a"}),
    ({"Run": {"Linux": "l", "all": "a"}}, ["linux"], [], {"Run": "a"}),
    ({"linux": {"Run": "l"}, "all": {"Run": "a"}}, ["linux"], [], {"Run": "l"}),
    ({"linux": {"Run": {"fast": "lf", "all": "la"}}}, ["linux", "fast"], [], {"Run": "lf"}),
    ({"Run": {"Script": {"linux": "l"}, "Timeout": 5}}, ["linux"], [], {"Run": {"Script": "l", "Timeout": 5}}),
    ({"Run": {"Setenv": {"A": {"linux": "1"}, "B": "2"}, "Script": "x"}}, ["arm"], ["linux"],
     {"Run": {"Setenv": {"B": "2"}, "Script": "x"}}),
    ({"Run": None, "Install": "i"}, [], [], {"Install": "i"}),
    ({"Run": {"linux": ["not", "read"]}}, ["linux"], [], {"Run": ["not", "read"]}),
    ({"linux": "text"}, ["linux"], [], {}),
    ({}, ["linux"], [], {}),
]  # fmt: skip


@pytest.mark.parametrize(("lifecycle", "selections", "others", "expected"), SELECTIONS)
def test_selections_choose_from_the_global_lifecycle(lifecycle, selections, others, expected):
    assert selected(lifecycle, selections, others) == expected


def test_a_manifests_own_lifecycle_is_used_alone_and_as_it_is():
    own = {"Run": {"linux": "verbatim", "Script": "s"}}
    assert selected({"Install": "i"}, ["linux"], own=own) == own


STEPS = [
    ("echo", Step("echo")),
    (5, Step("5")),
    (True, Step("true")),
    ({"Script": "echo"}, Step("echo")),
    ({"script": "echo", "requiresprivilege": "true"}, Step("echo", privileged=True)),
    ({"SCRIPT": "echo", "RequiresPrivilege": True}, Step("echo", privileged=True)),
    ({"Script": "echo", "RequiresPrivilege": "False"}, Step("echo")),
    ({"Script": "echo", "Timeout": "900"}, Step("echo", timeout_s=900.0)),
    ({"Script": "echo", "timeout": 900}, Step("echo", timeout_s=900.0)),
    ({"Script": "echo", "Timeout": "1.5"}, Step("echo", timeout_s=1.5)),
    ({"Script": "echo", "setEnv": {"A": 1, "b": True, "C": None, "D": 1.5}},
     Step("echo", {"A": "1", "b": "true", "C": "", "D": "1.5"})),
    ({"Script": "echo", "Setenv": None, "Timeout": None, "Skipif": None, "RequiresPrivilege": None}, Step("echo")),
    ({"Script": "echo", "Skipif": "onpath git"}, Step("echo", skip_if=Skip(Condition.ON_PATH, "git"))),
    ({"Script": "echo", "SkipIf": "!exists ~/a b"}, Step("echo", skip_if=Skip(Condition.EXISTS, "~/a b", unless=True))),
    ({"Script": "echo", "Skipif": "! exists /x"}, Step("echo", skip_if=Skip(Condition.EXISTS, "/x", unless=True))),
    ({"Script": "echo", "Skipif": ""}, Step("echo")),
    ({"Script": "echo", "Unknown": 1}, Step("echo")),
]  # fmt: skip


@pytest.mark.parametrize(("written", "expected"), STEPS)
def test_a_step_is_a_script_or_a_mapping_with_scalars_of_any_kind(written, expected):
    assert parse({"run": written}).steps == {StepName.RUN: expected}


@pytest.mark.parametrize("written", ["", None])
def test_an_empty_script_is_no_step(written):
    assert parse({"Startup": written, "Run": "x"}).steps == {StepName.RUN: Step("x")}


@pytest.mark.parametrize(
    ("written", "privileged"),
    [
        (True, True),
        (1, True),
        ("true", True),
        ("True", True),
        ("yes", True),
        ("on", True),
        ("t", True),
        ("Y", True),
        (False, False),
        (0, False),
        ("false", False),
        ("no", False),
        ("off", False),
        ("", False),
        (None, False),
    ],
)
def test_privilege_is_asked_for_in_every_word_that_greengrass_knows(written, privileged):
    (step,) = parse({"Run": {"Script": "x", "RequiresPrivilege": written}}).steps.values()
    assert step.privileged is privileged


WRONG = [
    ({}, "Script", "a script"),
    ({"Script": ""}, "Script", "a script"),
    ({"Script": None}, "Script", "a script"),
    ({"Script": ["a"]}, "Script", "a script"),
    (["a"], "", "a script"),
    ({"Script": "x", "RequiresPrivilege": "maybe"}, "RequiresPrivilege", "true or false"),
    ({"Script": "x", "Timeout": "soon"}, "Timeout", "seconds"),
    ({"Script": "x", "Timeout": -1}, "Timeout", "seconds"),
    ({"Script": "x", "Timeout": "nan"}, "Timeout", "seconds"),
    ({"Script": "x", "Timeout": {}}, "Timeout", "seconds"),
    ({"Script": "x", "Skipif": "never"}, "Skipif", "onpath"),
    ({"Script": "x", "Skipif": "onpath"}, "Skipif", "onpath"),
    ({"Script": "x", "Setenv": "A=1"}, "Setenv", "a mapping"),
    ({"Script": "x", "Setenv": {"A": []}}, "Setenv.A", "a text"),
]


@pytest.mark.parametrize(("written", "key", "expected"), WRONG)
@pytest.mark.parametrize("name", [StepName.INSTALL, StepName.STARTUP, StepName.RUN])
def test_a_step_that_cannot_be_read_is_its_components_config_not_valid(name, written, key, expected):
    with pytest.raises(LifecycleError, match=expected) as caught:
        parse({name: written}, "com.example.A")
    assert caught.value.code == f"{name.upper()}_CONFIG_NOT_VALID"
    assert caught.value.path == f"Lifecycle.{name}.{key}".rstrip(".")
    assert caught.value.message.startswith(f"com.example.A: {caught.value.path} is ")


def test_every_step_has_its_default_timeout_and_its_code():
    assert {name: DEFAULT_TIMEOUT_S[name] for name in StepName} == {
        "Bootstrap": 120, "Install": 120, "Startup": 120, "Run": None, "Shutdown": 15, "Recover": 60, "Uninstall": 120,
    }  # fmt: skip
    assert set(CODES) == set(StepName)
    steps = parse({name.lower(): {"Script": "x"} for name in StepName}).steps
    assert {name: step.timeout_s for name, step in steps.items()} == DEFAULT_TIMEOUT_S


def test_the_environment_of_all_steps_and_the_error_reset_stand_beside_them():
    lifecycle = parse({"SetEnv": {"A": 1}, "errorresettime": "60", "Elsewhere": {"x": 1}})
    assert (lifecycle.steps, lifecycle.setenv, lifecycle.error_reset_s) == ({}, {"A": "1"}, 60.0)
    assert parse({}).error_reset_s == 3600.0
    for wrong in ({"Setenv": "A=1"}, {"errorResetTime": "soon"}):
        with pytest.raises(LifecycleError):
            parse(wrong)


def test_the_runtime_component_installs_as_each_platform_selects():
    recipe, _ = reader.read(DATA / "variant-dlr.yaml")
    arm, x86 = (
        parse(select(recipe, choose(recipe, {"os": "linux", "architecture": each}))).steps[StepName.INSTALL]
        for each in ("arm", "amd64")
    )
    assert (arm.privileged, arm.timeout_s, arm.setenv) == (True, 900.0, {})
    assert (x86.privileged, x86.timeout_s, x86.setenv["LANG"]) == (True, 900.0, "en_US.UTF-8")
    assert "-e " in x86.script
    assert "-e " not in arm.script


def test_a_model_store_runs_nothing():
    recipe, _ = reader.read(DATA / "dlr-model-store.json")
    assert parse(select(recipe, recipe.manifests[0])).steps == {}
