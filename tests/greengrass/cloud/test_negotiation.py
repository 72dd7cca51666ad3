"""Wishes → what the cloud chooses, level by level, and what the resolver makes of it."""

from __future__ import annotations

import logging

import pytest

from agent.errors import InvalidInputError, UnreachableError
from agent.greengrass.cloud import negotiation
from agent.greengrass.cloud.negotiation import Chosen, negotiated
from agent.greengrass.deployments.outcome import error_stack
from agent.greengrass.deployments.repository import BUILTINS, ComponentRepository, RecipeStore
from agent.greengrass.deployments.request import LOCAL_GROUP
from agent.greengrass.deployments.resolver import resolve
from agent.greengrass.recipes import reader
from agent.greengrass.recipes.versions import Requirement, Version
from tests.greengrass.cloud.conftest import IMPATIENT
from tests.support.greengrass_cloud import RESOLVE, Reply, recipe_text

LINUX = {"os": "linux", "architecture": "amd64"}
LAB = "thinggroup/lab"


def wish(**wanted):
    """Component → requirement of the lab; ``_`` stands for a dot."""
    return {name.replace("_", "."): {LAB: Requirement.parse(text)} for name, text in wanted.items()}


@pytest.fixture
def library(tmp_path):
    made = RecipeStore(tmp_path / "recipes")
    made.open()
    return made


def local(library, name, version, needs=None, **manifest):
    recipe = reader.parse(recipe_text(name, version, needs, **manifest), name)
    library.add([recipe])
    return recipe


def told(recipes):
    return {recipe.name: str(recipe.version) for recipe in recipes}


def test_the_local_group_is_the_deployments_own():
    assert negotiation.LOCAL_GROUP == LOCAL_GROUP


async def test_a_set_is_collected_over_two_levels_and_resolves(cloud, plane, library):
    cloud.publish("com.app", "1.2.0", {"com.lib": "^2.0.0", "aws.greengrass.Nucleus": ">=2.0.0 <2.13.0"})
    cloud.publish("com.lib", "2.0.0")
    cloud.publish("com.lib", "2.3.0", {"com.base": "*"})
    cloud.publish("com.lib", "3.0.0")
    cloud.publish("com.base", "0.1.0")
    wishes, known = wish(com_app="^1.0.0"), ComponentRepository(library)
    recipes = await negotiated(wishes, known, {}, LINUX, plane(cloud), ours=BUILTINS.keys())
    assert told(recipes) == {"com.app": "1.2.0", "com.base": "0.1.0", "com.lib": "2.3.0"}
    assert cloud.candidates() == [
        ("com.app", None, {LAB: "^1.0.0"}),
        ("com.lib", None, {"com.app": "^2.0.0"}),
        ("com.base", None, {"com.lib": "*"}),
    ]
    resolution = resolve(wishes, Chosen(known, recipes), {}, LINUX)
    assert {name: str(recipe.version) for name, recipe in resolution.components.items()} == told(recipes) | {
        "aws.greengrass.Nucleus": "2.12.6"
    }


async def test_a_component_that_turns_out_to_be_wanted_by_more_is_asked_about_again(cloud, plane, library):
    cloud.publish("com.a", "1.0.0", {"com.shared": "^1.0.0"})
    cloud.publish("com.b", "1.0.0", {"com.c": "*"})
    cloud.publish("com.c", "1.0.0", {"com.shared": "<1.5.0"})
    cloud.publish("com.shared", "1.9.0", {"com.only.new": "*"})
    cloud.publish("com.shared", "1.4.0")
    cloud.publish("com.only.new", "1.0.0")
    recipes = await negotiated(wish(com_a="*", com_b="*"), ComponentRepository(library), {}, LINUX, plane(cloud))
    assert told(recipes) == {"com.a": "1.0.0", "com.b": "1.0.0", "com.c": "1.0.0", "com.shared": "1.4.0"}
    asked = [wanted for name, _, wanted in cloud.candidates() if name == "com.shared"]
    assert asked == [{"com.a": "^1.0.0"}, {"com.a": "^1.0.0", "com.c": "<1.5.0"}]


async def test_the_running_version_is_the_hint_and_the_cloud_s_word_holds(cloud, plane, library):
    for version in ("1.0.0", "1.1.0"):
        local(library, "com.a", version)
    cloud.publish("com.a", "1.2.0")
    wishes, running = wish(com_a="^1.0.0"), {"com.a": Version(1, 0, 0)}
    recipes = await negotiated(wishes, library, running, LINUX, plane(cloud))
    assert cloud.candidates() == [("com.a", "1.0.0", {LAB: "^1.0.0"})]
    resolution = resolve(wishes, Chosen(library, recipes), running, LINUX)
    assert str(resolution.components["com.a"].version) == "1.2.0"


async def test_a_running_version_that_does_not_fit_gives_way_to_the_highest_for_this_device(cloud, plane, library):
    for version in ("1.0.0", "2.0.0", "2.1.0"):
        local(library, "com.a", version)
    local(library, "com.a", "2.2.0", Platform={"os": "windows"})
    await negotiated(wish(com_a="^2.0.0"), library, {"com.a": Version(1, 0, 0)}, LINUX, plane(cloud))
    assert cloud.candidates()[0][1] == "2.1.0"


async def test_the_cloud_is_not_asked_for_what_the_local_group_wants_and_is_here(cloud, plane, library):
    local(library, "com.a", "1.0.0", {"com.dep": "*"})
    cloud.publish("com.a", "1.1.0")
    cloud.publish("com.dep", "1.0.0")
    wishes = {"com.a": {LOCAL_GROUP: Requirement.parse("*"), LAB: Requirement.parse("^1.0.0")}}
    recipes = await negotiated(wishes, library, {}, LINUX, plane(cloud))
    assert told(recipes) == {"com.dep": "1.0.0"}
    assert [name for name, _, _ in cloud.candidates()] == ["com.dep"]


async def test_what_the_local_group_wants_and_is_not_here_is_asked_for(cloud, plane, library):
    cloud.publish("com.a", "1.1.0")
    recipes = await negotiated({"com.a": {LOCAL_GROUP: Requirement.parse("*")}}, library, {}, LINUX, plane(cloud))
    assert told(recipes) == {"com.a": "1.1.0"}


@pytest.mark.parametrize(
    "reply", [Reply(400), Reply(403), Reply(404), Reply(409), Reply(429), Reply(503), Reply(body={}), Reply(body=b"?")]
)
async def test_whatever_the_cloud_s_trouble_what_is_here_does(cloud, plane, library, reply):
    local(library, "com.a", "1.0.0")
    cloud.replies[RESOLVE].extend([reply] * 1000)
    assert await negotiated(wish(com_a="*"), library, {}, LINUX, plane(cloud)) == []


async def test_a_device_without_a_link_waits_once_for_all_that_it_has(cloud, plane, library):
    wishes = wish(**{f"com_a{n}": "*" for n in range(20)})
    for name in wishes:
        local(library, name, "1.0.0")
    cloud.trouble = lambda *_: Reply(503)
    assert await negotiated(wishes, library, {}, LINUX, plane(cloud)) == []
    assert len({name for name, _, _ in cloud.candidates()}) <= 4


async def test_what_nobody_has_is_left_to_the_resolver(cloud, plane, library):
    cloud.publish("com.a", "1.0.0", {"com.gone": "^9.0.0"})
    wishes = wish(com_a="*")
    recipes = await negotiated(wishes, library, {}, LINUX, plane(cloud))
    assert told(recipes) == {"com.a": "1.0.0"}
    with pytest.raises(InvalidInputError, match=r"com.a 1.0.0 needs com.gone \^9.0.0; there is no com.gone") as refusal:
        resolve(wishes, Chosen(library, recipes), {}, LINUX)
    assert refusal.value.code == "NO_AVAILABLE_COMPONENT_VERSION"


@pytest.mark.parametrize(
    ("status", "family", "code"),
    [
        (403, InvalidInputError, "RESOLVE_COMPONENT_CANDIDATES_ACCESS_DENIED"),
        (409, InvalidInputError, "CONFLICTED_REQUEST"),
        (503, UnreachableError, "SERVER_ERROR"),
    ],
)
async def test_without_the_cloud_and_without_a_version_here_it_fails_and_says_why(
    cloud, plane, library, status, family, code
):
    cloud.replies[RESOLVE].extend([Reply(status)] * 1000)
    with pytest.raises(family, match=f"com.a for {LAB}.*answers {status}") as failure:
        await negotiated(wish(com_a="*"), library, {}, LINUX, plane(cloud, retry=IMPATIENT))
    nothing = ("NO_AVAILABLE_COMPONENT_VERSION", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET")
    assert error_stack(failure.value) == ("DEPLOYMENT_FAILURE", *nothing, code)


async def test_trouble_with_a_question_that_nobody_asks_any_more_does_not_matter(cloud, plane, library):
    cloud.publish("com.a", "1.0.0", {"com.shared": "^1.0.0"})
    cloud.publish("com.b", "1.0.0", {"com.c": "*"})
    cloud.publish("com.c", "1.0.0", {"com.shared": "<1.5.0"})
    cloud.publish("com.shared", "1.4.0")
    asked = []

    def conflict_while_one_wants_it(_operation, body):
        (candidate,) = body["componentCandidates"]
        asked.append((candidate["componentName"], len(candidate["versionRequirements"])))
        return Reply(409) if asked[-1] == ("com.shared", 1) else None

    cloud.trouble = conflict_while_one_wants_it
    recipes = await negotiated(wish(com_a="*", com_b="*"), library, {}, LINUX, plane(cloud))
    assert told(recipes)["com.shared"] == "1.4.0"
    assert [count for name, count in asked if name == "com.shared"] == [1, 2]


async def test_versions_that_exclude_each_other_in_turn_end_in_a_sentence(cloud, plane, library, monkeypatch):
    monkeypatch.setattr(negotiation, "MAX_ROUNDS", 12)
    cloud.publish("com.a", "1.0.0")
    cloud.publish("com.a", "2.0.0", {"com.b": "<2.0.0"})
    cloud.publish("com.b", "1.0.0", {"com.a": "<2.0.0"})
    cloud.publish("com.b", "2.0.0")
    with pytest.raises(InvalidInputError, match="exclude each other") as refusal:
        await negotiated(wish(com_a="*", com_b="*"), library, {}, LINUX, plane(cloud))
    assert refusal.value.code == "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"
    assert len(cloud.requests) <= 4


async def test_a_circle_of_dependencies_ends_and_is_left_to_the_resolver(cloud, plane, library):
    cloud.publish("com.a", "1.0.0", {"com.b": "*"})
    cloud.publish("com.b", "1.0.0", {"com.a": "*"})
    wishes = wish(com_a="*")
    recipes = await negotiated(wishes, library, {}, LINUX, plane(cloud))
    with pytest.raises(InvalidInputError) as refusal:
        resolve(wishes, Chosen(library, recipes), {}, LINUX)
    assert refusal.value.code == "COMPONENT_CIRCULAR_DEPENDENCY_ERROR"


async def test_a_version_that_its_vendor_gave_up_is_taken_and_told(cloud, plane, library, caplog):
    cloud.publish("com.a", "1.0.0")
    cloud.guidance["com.a"] = "DISCONTINUED"
    with caplog.at_level(logging.WARNING):
        await negotiated(wish(com_a="*"), library, {}, LINUX, plane(cloud))
    assert "com.a 1.0.0: its vendor says DISCONTINUED" in caplog.text


async def test_the_cloud_s_recipe_survives_the_library(cloud, plane, library, tmp_path):
    cloud.publish("com.a", "1.0.0", Artifacts=[{"Uri": "greengrass:h=/a.zip", "Digest": "x", "Algorithm": "SHA-256"}])
    recipes = await negotiated(wish(com_a="*"), library, {}, LINUX, plane(cloud))
    library.add(recipes)
    again = RecipeStore(tmp_path / "recipes")
    again.open()
    assert again.recipe("com.a", Version(1, 0, 0)) == recipes[0]
    arn = cloud.arn("com.a", "1.0.0")
    assert recipes[0].manifests[0].artifacts[0].uri == f"greengrass:{arn}/h=/a.zip"
