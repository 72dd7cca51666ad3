"""The resolver: what it chooses, what it promises and how it says no."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.greengrass.deployments.repository import NUCLEUS, ComponentRepository
from agent.greengrass.deployments.request import LOCAL_GROUP
from agent.greengrass.deployments.resolver import Resolution, resolve
from agent.greengrass.errors import DeploymentError
from agent.greengrass.recipes.recipe import ComponentType, Dependency, Manifest, Recipe
from agent.greengrass.recipes.versions import Requirement, Version

LINUX = {"os": "linux", "architecture": "amd64"}


def recipe(name: str, version: str, /, *, platform: Mapping[str, str] | None = None, soft: bool = False, **needs: str):
    dependencies = {key: Dependency(Requirement.parse(text), hard=not soft) for key, text in needs.items()}
    return Recipe(
        name, Version.parse(version), dependencies=dependencies, manifests=(Manifest(platform=platform or {}),)
    )


class Shop:
    """Offers out of a list; ``read`` are the recipes that were asked for."""

    def __init__(self, *recipes: Recipe) -> None:
        self.recipes = {(each.name, each.version): each for each in recipes}
        self.read: list[str] = []

    def versions(self, name):
        return [version for known, version in self.recipes if known == name]

    def recipe(self, name, version):
        self.read.append(f"{name} {version}")
        return self.recipes[name, version]


def roots(**wanted: str):
    return {name: {LOCAL_GROUP: Requirement.parse(text)} for name, text in wanted.items()}


def chosen(resolution: Resolution) -> dict[str, str]:
    return {name: str(each.version) for name, each in resolution.components.items()}


def refusal(wanted, *recipes: Recipe) -> DeploymentError:
    with pytest.raises(DeploymentError) as caught:
        resolve(wanted, Shop(*recipes), {})
    return caught.value


def test_the_highest_version_that_fits_is_chosen() -> None:
    shop = Shop(*(recipe("a", version) for version in ("1.0.0", "1.10.0", "1.9.0", "2.0.0", "1.11.0-rc.1")))
    assert chosen(resolve(roots(a="^1.0.0"), shop, {})) == {"a": "1.10.0"}


def test_the_running_version_stays_as_long_as_it_fits() -> None:
    shop = Shop(*(recipe("a", version) for version in ("1.0.0", "1.1.0", "2.0.0")))
    running = {"a": Version.parse("1.0.0")}
    assert chosen(resolve(roots(a="*"), shop, running)) == {"a": "1.0.0"}
    assert chosen(resolve(roots(a=">=1.1.0"), shop, running)) == {"a": "2.0.0"}


def test_soft_dependencies_are_resolved_as_hard_ones_are() -> None:
    shop = Shop(recipe("a", "1.0.0", b="*", soft=True), recipe("b", "1.0.0", c="*"), recipe("c", "1.0.0"))
    found = resolve(roots(a="*"), shop, {})
    assert chosen(found) == {"a": "1.0.0", "b": "1.0.0", "c": "1.0.0"}
    assert found.order == ("c", "b", "a")


def test_a_later_constraint_makes_the_choice_anew_and_drops_what_only_the_old_one_needed() -> None:
    shop = Shop(
        recipe("a", "1.0.0", x="*"),
        recipe("b", "1.0.0", c="*"),
        recipe("c", "1.0.0", x="<2.0.0"),
        recipe("x", "2.0.0", only_for_two="*"),
        recipe("x", "1.0.0"),
        recipe("only_for_two", "1.0.0"),
    )
    assert chosen(resolve(roots(a="*", b="*"), shop, {})) == {"a": "1.0.0", "b": "1.0.0", "c": "1.0.0", "x": "1.0.0"}


def test_the_search_goes_back_where_the_highest_version_leads_nowhere() -> None:
    shop = Shop(
        recipe("a", "2.0.0", x="^2.0.0"), recipe("a", "1.0.0", x="^1.0.0"), recipe("b", "1.0.0", x="^1.0.0"),
        recipe("x", "1.5.0"), recipe("x", "2.0.0"),
    )  # fmt: skip
    assert chosen(resolve(roots(a="*", b="*"), shop, {})) == {"a": "1.0.0", "b": "1.0.0", "x": "1.5.0"}


def test_the_constraints_of_several_groups_hold_together() -> None:
    shop = Shop(*(recipe("a", version) for version in ("1.0.0", "1.2.0", "2.0.0")))
    wanted = {"a": {"thinggroup/lab": Requirement.parse("^1.0.0 || ^2.0.0"), LOCAL_GROUP: Requirement.parse("<1.2.0")}}
    assert chosen(resolve(wanted, shop, {})) == {"a": "1.0.0"}


def test_recipes_of_versions_that_nobody_chooses_are_not_read() -> None:
    shop = Shop(recipe("a", "1.0.0"), recipe("a", "2.0.0"), recipe("a", "3.0.0"))
    resolve(roots(a="<3.0.0"), shop, {})
    assert shop.read == ["a 2.0.0"]


def test_a_version_that_is_not_for_this_device_is_passed_over() -> None:
    shop = Shop(recipe("a", "2.0.0", platform={"os": "windows"}), recipe("a", "1.0.0"))
    assert {str(each.version) for each in resolve(roots(a="*"), shop, {}, LINUX).components.values()} == {"1.0.0"}


def test_a_component_without_any_version_for_this_device_says_so() -> None:
    shop = Shop(recipe("a", "2.0.0", platform={"os": "windows"}))
    with pytest.raises(DeploymentError, match="it is for os=windows; this is os=linux, architecture=amd64"):
        resolve(roots(a="*"), shop, {}, LINUX)


def test_a_conflict_names_everybody_and_what_there_is() -> None:
    wanted = {
        "com.a": {LOCAL_GROUP: Requirement.parse("1.2.0")},
        "com.x": {"thinggroup/lab": Requirement.parse("1.0.0")},
    }
    depender = Recipe(
        "com.a",
        Version(1, 2, 0),
        dependencies={"com.x": Dependency(Requirement.parse("^2.0.0"))},
        manifests=(Manifest(),),
    )
    error = refusal(wanted, depender, recipe("com.x", "2.1.0"), recipe("com.x", "1.0.0"))
    assert error.code == "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"
    assert error.message == (
        "com.a 1.2.0 needs com.x ^2.0.0, group thinggroup/lab wants com.x 1.0.0; of com.x there are 1.0.0 and 2.1.0"
    )


@pytest.mark.parametrize(
    ("recipes", "sentence"),
    [
        ((), "the local group wants a ^1.0.0; there is no a"),
        ((recipe("a", "2.0.0"),), "the local group wants a ^1.0.0; of a there is 2.0.0"),
        ((recipe("a", "1.0.0", b=">=3.0.0"), recipe("b", "1.0.0")), "a 1.0.0 needs b >=3.0.0; of b there is 1.0.0"),
        ((recipe("a", "1.0.0", b="*"),), "a 1.0.0 needs b *; there is no b"),
    ],
)
def test_a_wish_that_nothing_fits_is_named(recipes, sentence) -> None:
    error = refusal(roots(a="^1.0.0"), *recipes)
    assert (error.code, error.message) == ("NO_AVAILABLE_COMPONENT_VERSION", sentence)


def test_a_long_list_of_versions_is_told_shortly() -> None:
    error = refusal(roots(a=">=9.0.0"), *(recipe("a", f"1.{minor}.0") for minor in range(12)))
    assert "of a there are 4 older ones, 1.4.0, 1.5.0" in error.message


def test_a_circle_is_refused_link_by_link() -> None:
    error = refusal(
        roots(a="*"), recipe("a", "1.0.0", b="^1.0.0"), recipe("b", "1.0.0", c="*"), recipe("c", "2.0.0", a="*")
    )
    assert error.code == "COMPONENT_CIRCULAR_DEPENDENCY_ERROR"
    for link in ("a 1.0.0 needs b ^1.0.0", "b 1.0.0 needs c *", "c 2.0.0 needs a *"):
        assert link in error.message


def test_a_component_that_depends_on_itself_is_a_circle() -> None:
    error = refusal(roots(a="*"), recipe("a", "1.0.0", a="*"))
    assert error.code == "COMPONENT_CIRCULAR_DEPENDENCY_ERROR"
    assert "a 1.0.0 needs a *" in error.message


def test_there_can_be_one_nucleus() -> None:
    other = Recipe("my.Nucleus", Version(1, 0, 0), type=ComponentType.NUCLEUS, manifests=(Manifest(),))
    wanted = {name: {LOCAL_GROUP: Requirement.parse("*")} for name in (NUCLEUS, "my.Nucleus")}
    with pytest.raises(DeploymentError, match=r"aws.greengrass.Nucleus 2.12.6, my.Nucleus 1.0.0") as caught:
        resolve(wanted, ComponentRepository(Shop(other)), {})
    assert caught.value.code == "MULTIPLE_NUCLEUS_RESOLVED_ERROR"


def test_what_aws_recipes_expect_of_the_nucleus_is_there_and_cannot_be_replaced() -> None:
    forged = Recipe(NUCLEUS, Version(2, 99, 0), manifests=(Manifest(),))
    catalogue = ComponentRepository(Shop(forged), [forged])
    wanted = {NUCLEUS: {LOCAL_GROUP: Requirement.parse(">=2.0.0 <2.13.0")}}
    assert chosen(resolve(wanted, catalogue, {})) == {NUCLEUS: "2.12.6"}


def test_a_recipe_that_comes_with_the_deployment_goes_before_the_stored_one() -> None:
    catalogue = ComponentRepository(
        Shop(recipe("a", "1.0.0"), recipe("a", "0.9.0")), [recipe("a", "1.0.0", b="*"), recipe("b", "1.0.0")]
    )
    assert chosen(resolve(roots(a="*"), catalogue, {})) == {"a": "1.0.0", "b": "1.0.0"}
    assert len(catalogue.versions("a")) == 2


# -- laws -----------------------------------------------------------------------------------------------------

NAMES = "abcde"
VERSIONS = [Version(1, minor, 0) for minor in range(3)]
REQUIREMENTS = ["*", "1.0.0", "1.1.0", "1.2.0", ">=1.1.0", "<1.2.0", "1.0.0 || 1.2.0"]


@st.composite
def universes(draw):
    """Recipes whose dependencies go from a name to later ones, in an order that the names do not tell."""
    order = draw(st.permutations(NAMES))
    made = []
    for index, name in enumerate(order):
        later = order[index + 1 :]
        for version in draw(st.lists(st.sampled_from(VERSIONS), unique=True, max_size=3)):
            needs = (
                draw(st.dictionaries(st.sampled_from(later), st.sampled_from(REQUIREMENTS), max_size=3))
                if later
                else {}
            )
            made.append(recipe(name, str(version), **needs))
    return made


WISHES = st.dictionaries(
    st.sampled_from(NAMES),
    st.dictionaries(st.sampled_from(["g1", "g2"]), st.sampled_from(REQUIREMENTS).map(Requirement.parse), min_size=1),
    min_size=1,
    max_size=3,
)
RUNNING = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VERSIONS))


def solves(pins: Mapping[str, Recipe], wanted) -> bool:
    """Whether the pins are a whole answer: closed, and every constraint holds."""
    rooted = all(name in pins and all(r.allows(pins[name].version) for r in by.values()) for name, by in wanted.items())
    return rooted and all(
        other in pins and need.requirement.allows(pins[other].version)
        for each in pins.values()
        for other, need in each.dependencies.items()
    )


def solvable(made, wanted) -> bool:
    options = [[None, *(each for each in made if each.name == name)] for name in NAMES]
    return any(solves({each.name: each for each in choice if each}, wanted) for choice in itertools.product(*options))


UNSOLVABLE = {"NO_AVAILABLE_COMPONENT_VERSION", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"}


def attempt(wanted, made, running) -> Resolution | None:
    try:
        return resolve(wanted, Shop(*made), running)
    except DeploymentError as error:
        if error.code not in UNSOLVABLE:
            raise
        return None


@settings(max_examples=70, deadline=None)
@given(universes(), WISHES, RUNNING)
def test_an_answer_is_found_exactly_where_there_is_one(made, wanted, running) -> None:
    found = attempt(wanted, made, running)
    assert (found is not None) == solvable(made, wanted)


@settings(max_examples=70, deadline=None)
@given(universes(), WISHES, RUNNING)
def test_an_answer_satisfies_everybody_and_invents_nothing(made, wanted, running) -> None:
    found = attempt(wanted, made, running)
    if found is None:
        return
    assert all(each in made for each in found.components.values())
    assert solves(found.components, wanted)
    needed = set(wanted) | {other for each in found.components.values() for other in each.dependencies}
    assert set(found.components) == needed
    places = {name: index for index, name in enumerate(found.order)}
    assert all(places[other] < places[name] for name, each in found.components.items() for other in each.dependencies)


@settings(max_examples=40, deadline=None)
@given(universes(), WISHES, RUNNING, st.randoms(use_true_random=False))
def test_the_order_of_what_is_given_does_not_matter(made, wanted, running, random) -> None:
    shuffled = random.sample(made, len(made))
    turned = {name: dict(reversed(by.items())) for name, by in reversed(wanted.items())}
    assert attempt(wanted, made, running) == attempt(turned, shuffled, running)


@settings(max_examples=40, deadline=None)
@given(universes(), WISHES)
def test_what_an_answer_chose_stays_when_it_runs(made, wanted) -> None:
    found = attempt(wanted, made, {})
    if found is not None:
        running = {name: each.version for name, each in found.components.items()}
        assert attempt(wanted, made, running) == found


@pytest.mark.parametrize("bound", [">=2.0.0 <2.8.0", ">=2.0.3 <2.1.0", "=2.4.0", "~2.5.0", ">=2.0.0", "<2.13.0", "*"])
def test_an_upper_bound_on_the_nucleus_is_met_by_the_agent(bound) -> None:
    app = recipe("app", "1.0.0", **{NUCLEUS: bound})
    assert chosen(resolve(roots(app="*"), ComponentRepository(Shop(app)), {})) == {"app": "1.0.0", NUCLEUS: "2.12.6"}


@pytest.mark.parametrize("name", ["aws.greengrass.DLRImageClassification", "variant.TensorFlowLite"])
@pytest.mark.parametrize("bound", [">=2.0.0 <2.8.0", ">=2.13.0 <2.14.0", ">=2.14.0 <3.0.0"])
def test_aws_s_own_ml_recipes_load_with_any_bound_on_the_nucleus_within_2(name, bound) -> None:
    app = recipe(name, "2.9.9", **{NUCLEUS: bound})
    assert chosen(resolve(roots(**{name: "*"}), ComponentRepository(Shop(app)), {}))[NUCLEUS] == "2.12.6"


def test_bounds_that_exclude_each_other_are_each_met_by_the_agent() -> None:
    old, new = recipe("old", "1.0.0", **{NUCLEUS: "<2.3.0"}), recipe("new", "1.0.0", **{NUCLEUS: ">=2.9.0 <2.10.0"})
    found = resolve(roots(old="*", new="*"), ComponentRepository(Shop(old, new)), {})
    assert found.components["old"] == old


@pytest.mark.parametrize("bound", [">=2.14.0", ">=3.0.0 <4.0.0", "<2.0.0"])
def test_a_nucleus_that_the_agent_does_not_stand_for_is_refused_with_what_to_do(bound) -> None:
    app = recipe("app", "1.0.0", **{NUCLEUS: bound})
    with pytest.raises(DeploymentError) as caught:
        resolve(roots(app="*"), ComponentRepository(Shop(app)), {})
    assert str(caught.value.message) == f"app 1.0.0 needs {NUCLEUS} {bound}; this agent follows the nucleus 2.12.6"
    assert "lower the bound" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "way"),
    [
        ("aws.greengrass.LambdaLauncher", "Run script"),
        ("aws.greengrass.LambdaManager", "Run script"),
        ("aws.greengrass.LambdaRuntimes", "Run script"),
        ("aws.greengrass.clientdevices.mqtt.Bridge", "broker of yours"),
        ("aws.greengrass.SomethingNew", "ComponentDependencies"),
        ("aws.iot.SiteWiseEdgePublisher", "ComponentDependencies"),
    ],
)
def test_what_needs_a_component_of_aws_s_own_is_refused_by_its_name_and_with_what_to_do(name, way) -> None:
    app = recipe("app", "1.0.0", **{name: ">=2.0.0"})
    with pytest.raises(DeploymentError) as caught:
        resolve(roots(app="*"), ComponentRepository(Shop(app)), {})
    message = f"app 1.0.0 needs {name} >=2.0.0; {name} is AWS's own component, which Verge does not offer (yet)"
    assert (caught.value.message, caught.value.code) == (message, "NO_AVAILABLE_COMPONENT_VERSION")
    assert way in str(caught.value.hint)
    assert "publish a version" not in str(caught.value.hint)


def test_a_component_of_the_community_is_to_be_sent_along() -> None:
    with pytest.raises(DeploymentError, match="Greengrass's community") as caught:
        resolve(roots(**{"aws.greengrass.labs.database.InfluxDB": "*"}), ComponentRepository(Shop()), {})
    assert "--recipes" in str(caught.value.hint)
