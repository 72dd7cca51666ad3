"""The way back: what becomes of each component when the set before the active one is put there again."""

from __future__ import annotations

from agent.greengrass.deployments.plan import Action, ComponentKind, plan
from agent.greengrass.deployments.request import LOCAL_GROUP, Deployment, Origin
from agent.greengrass.deployments.resolver import Resolution
from agent.greengrass.deployments.state import Active, ActiveSet, DeployedState
from agent.greengrass.deployments.transaction import rollback
from agent.greengrass.recipes.configuration import Tree, update
from agent.greengrass.recipes.recipe import Artifact, Manifest, Recipe, Unarchive
from agent.greengrass.recipes.versions import Version

BACK = Deployment(id="back", source=Origin.TOPIC, group=LOCAL_GROUP, timestamp_ms=9, rollback=True)
ZIP = Artifact("https://shop/files.zip", unarchive=Unarchive.ZIP)


def recipe(name: str, version: str = "1.0.0") -> Recipe:
    return Recipe(name, Version.parse(version), manifests=(Manifest(artifacts=(ZIP,)),))


def tree(**values: object) -> Tree:
    return update(None, reset=(), defaults=values, merge=None, timestamp=1)


def state(*recipes: Recipe, **configs: Tree) -> DeployedState:
    active = {each.name: Active(each, each.manifests[0], ComponentKind.GENERIC) for each in recipes}
    return DeployedState(ActiveSet(active), {name: configs.get(name, tree()) for name in active})


def way_back(now: DeployedState, before: DeployedState):
    recipes = {name: each.recipe for name, each in before.active.components.items()}
    nothing = Deployment(id="", source=Origin.LOCAL, group="", timestamp_ms=0)
    kept = plan(before.active, Resolution(recipes, tuple(recipes)), nothing, before.configs, {"os": "linux"})
    # A plan that keeps everything says so of each component as it is read back from the ledger.
    return rollback(DeployedState.load(now.dump()), DeployedState.load(before.dump()), kept, BACK)


def test_what_differs_is_put_there_anew_and_what_is_gone_comes_back():
    now = state(recipe("same"), recipe("newer", "2.0.0"), recipe("tuned"), recipe("extra"), tuned=tree(level=2))
    before = state(recipe("same"), recipe("newer"), recipe("tuned"), recipe("gone"), tuned=tree(level=1))
    found = way_back(now, before)
    assert {each.name: (each.action, str(each.old)) for each in found.components} == {
        "same": (Action.KEEP, "1.0.0"),
        "newer": (Action.UPDATE, "2.0.0"),
        "tuned": (Action.UPDATE, "1.0.0"),
        "gone": (Action.INSTALL, "None"),
    }
    assert [each.name for each in found.removed] == ["extra"]


def test_configurations_are_those_of_the_former_set():
    found = way_back(state(recipe("tuned"), tuned=tree(level=2)), state(recipe("tuned"), tuned=tree(level=1)))
    assert found.components[0].configuration.to_plain() == {"level": 1}


def test_files_are_fetched_again_for_all_that_is_not_as_it_was():
    found = way_back(state(recipe("same"), recipe("newer", "2.0.0")), state(recipe("same"), recipe("newer")))
    assert [(each.component, str(each.version)) for each in found.fetches] == [("newer", "1.0.0")]
