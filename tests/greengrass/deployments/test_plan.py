"""The plan: what becomes of each component, what is fetched, and what a Verge block means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.models import ModelOptions
from agent.config.streams import InputOptions, OutputOptions, Policy, StreamOptions
from agent.greengrass.deployments.blocks import ManifestBlock, ModelBlock
from agent.greengrass.deployments.document import parse
from agent.greengrass.deployments.nucleus import NucleusSettings
from agent.greengrass.deployments.plan import Action, ComponentKind, Plan, plan
from agent.greengrass.deployments.repository import NUCLEUS, ComponentRepository, unpinned
from agent.greengrass.deployments.request import LOCAL_GROUP, ComponentRequest, Deployment, Origin, RunWith
from agent.greengrass.deployments.resolver import resolve
from agent.greengrass.deployments.state import ActiveSet
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes.configuration import Tree
from agent.greengrass.recipes.errors import NoManifestError
from agent.greengrass.recipes.recipe import Artifact, ComponentType, Dependency, Manifest, Recipe, Unarchive
from agent.greengrass.recipes.versions import Requirement, Version

LINUX = {"os": "linux", "architecture": "amd64"}
ZIP = Artifact("https://shop/model.zip", unarchive=Unarchive.ZIP)
STREAM = {"Verge": {"Model": "model", "Input": {"Topic": "cameras/+/frame"}}}


def recipe(
    name: str,
    version: str = "1.0.0",
    *,
    kind: ComponentType = ComponentType.GENERIC,
    needs: tuple[str, ...] = (),
    configuration: Mapping[str, Any] | None = None,
    artifacts: tuple[Artifact, ...] = (),
    lifecycle: Mapping[str, Any] | None = None,
    platform: Mapping[str, str] | None = None,
) -> Recipe:
    manifest = Manifest(platform=platform or {}, lifecycle=lifecycle or {}, artifacts=artifacts)
    return Recipe(
        name,
        Version.parse(version),
        type=kind,
        configuration=configuration or {},
        dependencies={each: Dependency(Requirement.parse("*")) for each in needs},
        manifests=(manifest,),
    )


MODEL = recipe("model", kind=ComponentType.MODEL, artifacts=(ZIP,))


class Shop:
    def __init__(self, *recipes: Recipe) -> None:
        self.recipes = {(each.name, each.version): each for each in recipes}

    def versions(self, name):
        return [version for known, version in self.recipes if known == name]

    def recipe(self, name, version):
        return self.recipes[name, version]


def asked(at: int = 1000, **wanted: ComponentRequest) -> Deployment:
    return Deployment(id="d", source=Origin.JOB, group=LOCAL_GROUP, timestamp_ms=at, components=wanted)


def planned(*recipes: Recipe, before: Plan | None = None, deployment: Deployment | None = None, **more) -> Plan:
    """The plan for all of these recipes; ``before`` is the plan whose result is active."""
    active = before.result if before else ActiveSet()
    wanted = {each.name: {LOCAL_GROUP: Requirement.parse(str(each.version))} for each in recipes}
    resolution = resolve(wanted, ComponentRepository(Shop(*recipes)), active.versions)
    configs = {each.name: each.configuration for each in before.components} if before else {}
    return plan(active, resolution, deployment or asked(), configs, LINUX, **more)


def actions(found: Plan) -> dict[str, Action]:
    return {each.name: each.action for each in found.components}


def wrong(*recipes: Recipe) -> DeploymentError:
    with pytest.raises(DeploymentError) as caught:
        planned(*recipes)
    return caught.value


def configured(configuration: Mapping[str, Any], **more) -> Recipe:
    return recipe("app", needs=("model",), configuration=configuration, **more)


def test_everything_is_installed_on_a_new_device_dependencies_first() -> None:
    found = planned(recipe("a", needs=("b",)), recipe("b", needs=(NUCLEUS,)))
    assert [(each.name, each.action, each.kind) for each in found.components] == [
        (NUCLEUS, Action.INSTALL, ComponentKind.BUILTIN),
        ("b", Action.INSTALL, ComponentKind.GENERIC),
        ("a", Action.INSTALL, ComponentKind.GENERIC),
    ]
    assert found.changes


def test_what_stays_the_same_is_kept_and_nothing_is_to_be_done() -> None:
    before = planned(recipe("a", needs=("b",)), recipe("b", artifacts=(ZIP,)))
    found = planned(recipe("a", needs=("b",)), recipe("b", artifacts=(ZIP,)), before=before, deployment=asked(at=2000))
    assert actions(found) == {"a": Action.KEEP, "b": Action.KEEP}
    assert not found.changes
    assert found.fetches == ()


def test_a_document_that_leaves_run_with_out_takes_user_and_limits_away() -> None:
    def deployed(at: int, **component: Any) -> Deployment:
        document = {"components": {"a": {"version": "1.0.0", **component}}}
        return parse(document, source=Origin.JOB, received_ms=at)

    limited = {"posixUser": "nobody", "systemResourceLimits": {"memory": 1024, "cpus": 0.5}}
    before = planned(recipe("a"), deployment=deployed(1000, runWith=limited))
    assert before.components[0].run_with == RunWith("nobody", memory_kb=1024, cpus=0.5)
    after = planned(recipe("a"), before=before, deployment=deployed(2000))
    assert after.components[0].run_with == RunWith()
    assert actions(after) == {"a": Action.RECONFIGURE}


def test_what_a_deployment_merges_is_as_old_as_its_document_or_as_its_processing() -> None:
    merging = asked(at=1000, a=ComponentRequest(Requirement.parse("*"), merge={"k": 1}))
    for nucleus, newest in ((NucleusSettings(), 1000), (NucleusSettings(by_processing_time=True), 5000)):
        found = planned(recipe("a"), deployment=merging, nucleus=nucleus, now_ms=5000)
        assert found.components[0].configuration.newest == newest


def test_a_new_version_whose_default_is_of_another_kind_brings_it() -> None:
    before = planned(recipe("a", configuration={"camera": "usb", "size": {"width": 1}, "kept": 1}))
    newer = recipe("a", "1.1.0", configuration={"camera": {"kind": "usb"}, "size": 2, "kept": 2})
    after = planned(newer, before=before, deployment=asked(at=2000))
    assert after.components[0].configuration.to_plain() == {"camera": {"kind": "usb"}, "size": 2, "kept": 1}


def test_another_version_another_recipe_and_a_broken_component_are_updates() -> None:
    before = planned(recipe("a"), recipe("b"), recipe("c"))
    found = planned(recipe("a", "1.1.0"), recipe("b", artifacts=(ZIP,)), recipe("c"), before=before, broken={"c"})
    assert actions(found) == {"a": Action.UPDATE, "b": Action.UPDATE, "c": Action.UPDATE}
    (updated,) = [each for each in found.components if each.name == "a"]
    assert (str(updated.old), str(updated.new)) == ("1.0.0", "1.1.0")
    assert [(each.component, each.artifact) for each in found.fetches] == [("b", ZIP)]


def test_another_configuration_or_run_user_reconfigures() -> None:
    everything = Requirement.parse("*")
    first = asked(
        a=ComponentRequest(everything, merge={"k": 1}),
        b=ComponentRequest(everything, run_with=RunWith("u", given=frozenset({"posixUser"}))),
    )
    before = planned(recipe("a"), recipe("b"), recipe("c"), deployment=first)
    assert {each.name: each.run_with for each in before.components}["b"] == RunWith("u")
    second = asked(
        2000,
        a=ComponentRequest(everything, merge={"K": True}),
        b=ComponentRequest(everything, run_with=RunWith(given=frozenset({"posixUser"}))),
    )
    found = planned(recipe("a"), recipe("b"), recipe("c"), before=before, deployment=second)
    assert actions(found) == {"a": Action.RECONFIGURE, "b": Action.RECONFIGURE, "c": Action.KEEP}
    assert {each.name: each.configuration.to_plain() for each in found.components}["a"] == {"k": True}


def test_configuration_is_reset_filled_and_merged_at_the_deployment_s_time() -> None:
    before = planned(
        recipe("a", configuration={"k": 1, "old": 1}),
        deployment=asked(a=ComponentRequest(Requirement.parse("*"), merge={"x": 1})),
    )
    wanted = ComponentRequest(Requirement.parse("*"), merge={"m": 2}, reset=("/k",))
    found = planned(
        recipe("a", "2.0.0", configuration={"k": 9, "old": 9, "new": 9}),
        before=before,
        deployment=asked(2000, a=wanted),
    )
    (each,) = found.components
    assert each.configuration.to_plain() == {"k": 9, "old": 1, "x": 1, "new": 9, "m": 2}
    assert each.configuration.newest == 2000


def test_a_stored_configuration_of_a_component_that_was_removed_is_not_taken_up_again() -> None:
    resolution = resolve({"a": {LOCAL_GROUP: Requirement.parse("*")}}, Shop(recipe("a")), {})
    found = plan(ActiveSet(), resolution, asked(), {"a": Tree.of({"stale": 1})}, LINUX)
    assert found.components[0].configuration.to_plain() == {}


def test_a_component_that_is_there_can_be_configured_without_naming_a_version() -> None:
    before = planned(recipe("a"))
    found = planned(recipe("a"), before=before, deployment=asked(2000, a=ComponentRequest(None, merge={"k": 1})))
    assert actions(found) == {"a": Action.RECONFIGURE}


def test_one_that_is_not_there_cannot() -> None:
    with pytest.raises(DeploymentError, match="b cannot be configured: it is not deployed"):
        planned(recipe("a"), deployment=asked(b=ComponentRequest(None, merge={"k": 1})))


def test_what_nobody_wants_any_more_is_removed_dependers_first() -> None:
    before = planned(recipe("a"), recipe("x", needs=("y",)), recipe("y", needs=("z",)), recipe("z"))
    found = planned(recipe("a"), before=before)
    assert [(each.name, str(each.version)) for each in found.removed] == [
        ("x", "1.0.0"),
        ("y", "1.0.0"),
        ("z", "1.0.0"),
    ]
    assert found.changes
    assert set(found.result.components) == {"a"}


def test_a_component_that_is_not_for_this_device_fails_the_plan() -> None:
    with pytest.raises(NoManifestError):
        planned(recipe("a", platform={"os": "windows"}))


@pytest.mark.parametrize("kind", [ComponentType.LAMBDA, ComponentType.PLUGIN, ComponentType.NUCLEUS])
def test_what_the_agent_cannot_run_is_said(kind) -> None:
    error = wrong(recipe("a", kind=kind))
    assert error.code == "CUSTOM_PLUGIN_NOT_SUPPORTED"
    assert f"a 1.0.0 is of the type {kind}" in error.message


# -- the Verge block ------------------------------------------------------------------------------------------


def test_a_stream_is_read_in_the_author_s_spelling() -> None:
    verge = {
        "model": "model",
        "INPUT": {"Topic": "cameras/+/frame", "qos": 1.0},
        "Outputs": [{"Topic": "out/{camera}", "Format": "aws", "Filter": {"MinScore": 0.5}}],
        "Policy": "fifo",
        "max_age_ms": 500,
        "Options": {"threshold": 0.4, "top_k": 5.0, "CaseOf": {"Keys": 1}},
        "Run": {"Workers": 2.0, "Threads": 1, "Accelerator": "cpu"},
        "Snapshots": None,
    }
    found = planned(configured({"verge": verge}, kind=ComponentType.INFERENCE), MODEL)
    block = next(each.inference for each in found.components if each.kind is ComponentKind.INFERENCE)
    assert block is not None
    assert block.stream.model == "model"
    assert block.stream.input == InputOptions(topic="cameras/+/frame", qos=1)
    assert (block.stream.outputs[0].topic, block.stream.outputs[0].filter.min_score) == ("out/{camera}", 0.5)
    assert (block.stream.policy, block.stream.max_age_ms, block.stream.snapshots) == (Policy.FIFO, 500, None)
    options = {"threshold": 0.4, "top_k": 5, "CaseOf": {"Keys": 1}}
    assert block.model == ModelOptions(source="", options=options, workers=2, threads=1, accelerator="cpu")
    assert isinstance(block.model.options["top_k"], int)


def test_what_a_stream_does_not_say_has_the_stream_s_own_defaults() -> None:
    found = planned(configured(STREAM), MODEL)
    block = next(each.inference for each in found.components if each.inference)
    assert block.stream == StreamOptions(
        model="model", input=InputOptions(topic="cameras/+/frame"), outputs=(OutputOptions(),)
    )


def test_the_stream_s_options_go_before_the_model_s() -> None:
    model = ModelBlock(manifest=ManifestBlock(task="object-detection", options={"threshold": 0.1, "decoder": "yolo"}))
    found = planned(
        configured({"Verge": {**STREAM["Verge"], "Options": {"threshold": 0.5}, "Run": {"Workers": 3}}}), MODEL
    )
    block = next(each.inference for each in found.components if each.inference)
    told = block.model_options(model.options("model", "/models/1"), str)
    assert (told.source, told.task, told.workers) == ("/models/1", "object-detection", 3)
    assert told.options == {"threshold": 0.5, "decoder": "yolo"}


def test_a_model_tells_its_manifest_and_its_archive() -> None:
    told = {"Verge": {"Manifest": {"Task": "image-classification", "Input": {"Mean": [1.0]}}, "Archive": "model.zip"}}
    for kind in (ComponentType.MODEL, ComponentType.GENERIC):
        (each,) = planned(recipe("m", kind=kind, configuration=told, artifacts=(ZIP,))).components
        assert each.kind is ComponentKind.MODEL
        assert each.model == ModelBlock(
            manifest=ManifestBlock(task="image-classification", input={"Mean": [1]}), archive="model.zip"
        )


def test_a_model_store_of_greengrass_s_own_needs_no_block() -> None:
    store = recipe("model", artifacts=(ZIP,), configuration={"ModelResourceKey": {"model": "TensorFlowLite-SSD"}})
    found = planned(configured(STREAM), store)
    assert {each.name: each.kind for each in found.components} == {
        "model": ComponentKind.MODEL,
        "app": ComponentKind.INFERENCE,
    }
    assert planned(store).components[0].kind is ComponentKind.GENERIC


def test_a_block_goes_before_scripts() -> None:
    found = planned(configured(STREAM, lifecycle={"run": "python3 inference.py"}), MODEL)
    assert found.components[-1].kind is ComponentKind.INFERENCE


def test_a_stream_follows_its_model() -> None:
    before = planned(configured(STREAM), MODEL)
    found = planned(
        configured(STREAM), recipe("model", "1.1.0", kind=ComponentType.MODEL, artifacts=(ZIP,)), before=before
    )
    assert actions(found) == {"model": Action.UPDATE, "app": Action.RECONFIGURE}


@pytest.mark.parametrize(
    ("verge", "sentence"),
    [
        ({"Model": "model"}, "app: the Verge block is no stream (it has no Input), no model"),
        ({"Input": {"Topic": "t"}}, "the Verge block of app: object missing required field `model`"),
        (
            {"Model": "model", "Input": {}},
            "app: Verge.Input names no source",
        ),
        ({"Model": "other", "Input": {"Topic": "t"}}, "app: Verge.Model is 'other', which is not among"),
        ({"Model": "model", "Input": {"Topic": "t"}, "Polcy": "fifo"}, "unknown key Polcy in the Verge block"),
        ({"Model": "model", "Input": {"Topic": "t"}, "Run": {"Workers": 0}}, "Run.Workers in the Verge block of app"),
        (
            {"Model": "model", "Input": {"Topic": "t"}, "Run": {"Workers": "two"}},
            "Run.Workers in the Verge block of app",
        ),
        ({"Model": "model", "Input": {"Topic": "t"}, "Outputs": [{"Qos": 2}]}, "Outputs[0].Qos in the Verge"),
        ({"Manifest": {"Tsak": "x"}}, "unknown key Manifest.Tsak in the Verge block of app"),
        ({"Archive": "none.zip"}, "app: Verge.Archive is 'none.zip', which is no ZIP artifact of it"),
    ],
)
def test_a_mistake_in_a_block_is_named_with_its_place(verge, sentence) -> None:
    error = wrong(configured({"Verge": verge}), MODEL)
    assert error.code == "COMPONENT_CONFIGURATION_NOT_VALID"
    assert sentence in error.message


@pytest.mark.parametrize(
    ("verge", "hint"),
    [
        ({"Threshold": 0.4}, "did you mean Options.threshold?"),
        ({"Workers": 2}, "did you mean Run.Workers?"),
        ({"MaxAge": 5}, "did you mean MaxAgeMs?"),
        ({"Run": {"Worker": 2}}, "did you mean Workers?"),
        ({"Optoins": {}}, "did you mean Options?"),
        ({"Labels": ["cat"]}, "did you mean Filter.Labels?"),
        ({"Input": {"Path": "/pictures"}}, "did you mean Directory.Path?"),
    ],
)
def test_a_key_that_a_block_does_not_know_leads_to_the_one_that_was_meant(verge, hint) -> None:
    block = {"Model": "model", **verge, "Input": {"Topic": "t"} | verge.get("Input", {})}
    error = wrong(configured({"Verge": block}), MODEL)
    assert error.message.startswith("unknown key ")
    assert error.hint == hint


def test_the_keys_of_a_block_are_listed_as_a_recipe_writes_them() -> None:
    hint = str(wrong(configured({"Verge": STREAM["Verge"] | {"Qqq": 1}}), MODEL).hint)
    assert hint.startswith("known here: Model, Input, Outputs, Policy, Depth, MaxAgeMs, ")
    assert {"Options", "Run", "Archive", "Preprocess"} <= set(hint.removeprefix("known here: ").split(", "))


def test_a_stream_cannot_take_a_program_for_its_model() -> None:
    error = wrong(configured(STREAM), recipe("model", artifacts=(ZIP,), lifecycle={"Run": "sleep 1"}))
    assert error.message == "app names model as its model, which is none: it is of the kind generic"


# -- laws -----------------------------------------------------------------------------------------------------

SETS = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["1.0.0", "2.0.0"]), min_size=1)


@settings(max_examples=60)
@given(SETS, SETS)
def test_a_plan_leads_from_any_set_to_any_other_and_then_has_nothing_left_to_do(old, new) -> None:
    def recipes(versions):
        return [recipe(name, text, needs=tuple(n for n in versions if n > name)) for name, text in versions.items()]

    before = planned(*recipes(old))
    found = planned(*recipes(new), before=before)
    assert {name: str(version) for name, version in found.result.versions.items()} == new
    assert {each.name for each in found.removed} == old.keys() - new.keys()
    assert {each.name for each in found.having(Action.INSTALL)} == new.keys() - old.keys()
    assert not planned(*recipes(new), before=found).changes


def test_a_pin_of_the_agent_s_own_parts_stands_for_all_of_2_x_and_nothing_else_is_loosened() -> None:
    wishes = {
        NUCLEUS: {"g": Requirement.parse("2.9.6")},
        "aws.greengrass.Cli": {"g": Requirement.parse("3.0.0"), "h": Requirement.parse(">=2.0.0 <2.1.0")},
        "com.a": {"g": Requirement.parse("2.9.6")},
    }
    told = {name: {group: str(each) for group, each in groups.items()} for name, groups in unpinned(wishes).items()}
    assert told == {
        NUCLEUS: {"g": "*"}, "aws.greengrass.Cli": {"g": "3.0.0", "h": ">=2.0.0 <2.1.0"}, "com.a": {"g": "2.9.6"},
    }  # fmt: skip
