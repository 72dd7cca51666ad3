"""Bootstrap steps: run once, before the new set is live; the agent or the device is started again where they ask."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Any

import pytest

from tests.support import agent as agents
from tests.support.fleet import Fleet, deploy, document, outcome, send
from tests.support.until import until_sync


@pytest.fixture
def config(broker, thing, tmp_path) -> dict[str, Any]:
    config = agents.configuration(thing, broker.port, tmp_path, {})
    return config | {
        "models": {},
        "streams": {},
        "deployments": {"jobs": False, "shadow": False, "run_as": getpass.getuser()},
    }


class Site:
    """Components whose steps write down what they do."""

    def __init__(self, folder: Path) -> None:
        self._fleet = Fleet(folder / "fleet")
        self._log = folder / "done"

    def component(self, name: str, version: str, status: int = 0, run: str = "sleep 600", **bootstrap: Any):
        script = f"echo {name} {version} bootstrap >> {self._log}; exit {status}"
        step = {"Script": script, **bootstrap}
        return self._fleet.scripts(
            name, version, Bootstrap=step, Run=f"echo {name} {version} run >> {self._log}; {run}"
        )

    @property
    def done(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


def test_a_bootstrap_is_run_before_the_component_and_not_again_for_the_same_version(config, site, tmp_path) -> None:
    with agents.running(config, tmp_path) as agent:
        recipe = site.component("com.a", "1.0.0")
        assert deploy(agent, document("one", [recipe], {"com.a": "1.0.0"}))["detailedStatus"] == "SUCCESSFUL"
        again = document("again", [recipe, site.component("com.b", "1.0.0")], {"com.a": "1.0.0", "com.b": "1.0.0"})
        assert deploy(agent, again)["detailedStatus"] == "SUCCESSFUL"
        until_sync(lambda: "com.b 1.0.0 run" in site.done)
    assert site.done == ["com.a 1.0.0 bootstrap", "com.a 1.0.0 run", "com.b 1.0.0 bootstrap", "com.b 1.0.0 run"]


def test_a_bootstrap_that_asks_for_it_has_the_agent_started_again_and_the_deployment_goes_on(
    config, site, tmp_path
) -> None:
    recipes = [site.component("com.a", "1.0.0", 100), site.component("com.b", "1.0.0")]
    recipes[1]["ComponentDependencies"] = {"com.a": {"VersionRequirement": "*", "DependencyType": "HARD"}}
    with agents.running(config, tmp_path) as agent:
        send(agent, document("one", recipes, {"com.a": "1.0.0", "com.b": "1.0.0"}))
        agent.peer.wait(agent.topic("deployments/one"), lambda status: status.get("step") == "RESTARTING")
        assert outcome(agent, "one")["detailedStatus"] == "SUCCESSFUL"
        assert "goes on after the restart" in agent.log
        until_sync(lambda: len(site.done) == 4)
    bootstraps = ["com.a 1.0.0 bootstrap", "com.b 1.0.0 bootstrap"]
    assert site.done == [*bootstraps, "com.a 1.0.0 run", "com.b 1.0.0 run"]


def test_a_bootstrap_that_asks_for_a_reboot_ends_the_agent_so_and_the_deployment_goes_on_later(
    config, site, tmp_path
) -> None:
    with agents.running(config, tmp_path) as agent:
        send(agent, document("one", [site.component("com.a", "1.0.0", 101)], {"com.a": "1.0.0"}))
        assert agent.process.wait(30) == 101
        assert "the device has to be started again" in agent.log
    with agents.running(config, tmp_path) as agent:
        assert outcome(agent, "one")["detailedStatus"] == "SUCCESSFUL"
        until_sync(lambda: len(site.done) == 2)
    assert site.done == ["com.a 1.0.0 bootstrap", "com.a 1.0.0 run"]


@pytest.mark.parametrize(
    ("more", "code"),
    [({}, "COMPONENT_BOOTSTRAP_ERROR"), ({"Script": "sleep 60", "Timeout": 1}, "COMPONENT_BOOTSTRAP_TIMEOUT")],
)
def test_a_bootstrap_that_fails_leaves_the_old_set_live(config, site, tmp_path, more, code) -> None:
    with agents.running(config, tmp_path) as agent:
        deploy(agent, document("one", [site.component("com.a", "1.0.0")], {"com.a": "1.0.0"}))
        bad = site.component("com.a", "2.0.0", 3)
        bad["Manifests"][0]["Lifecycle"]["Bootstrap"] |= more
        ended = deploy(agent, document("two", [bad], {"com.a": "2.0.0"}))
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_COMPLETE"
        assert code in ended["errorStack"]
        # A shell that is ended may say so.
        log = tmp_path / "data" / "logs" / "com.a.log"
        said = f"{log} has what its scripts printed"
        assert ended["hint"] == (said if log.exists() else "com.a printed nothing: have its scripts say why they fail")
        assert agent.peer.all(agent.topic("components/com.a"))[-1]["version"] == "1.0.0"
    assert "com.a 2.0.0 run" not in site.done


def test_the_old_version_is_bootstrapped_again_on_a_rollback_where_its_recipe_says_so(config, site, tmp_path) -> None:
    with agents.running(config, tmp_path) as agent:
        recipes = [site.component("com.a", "1.0.0", BootstrapOnRollback=True), site.component("com.b", "1.0.0")]
        deploy(agent, document("one", recipes, {"com.a": "1.0.0", "com.b": "1.0.0"}))
        bad = [site.component("com.a", "2.0.0"), site.component("com.b", "2.0.0", run="exit 1")]
        ended = deploy(agent, document("two", bad, {"com.a": "2.0.0", "com.b": "2.0.0"}))
        assert ended["detailedStatus"] == "FAILED_ROLLBACK_COMPLETE"
        assert deploy(agent, document("three", [], {}))["detailedStatus"] == "SUCCESSFUL"
    assert [line for line in site.done if "bootstrap" in line] == [
        "com.a 1.0.0 bootstrap",
        "com.b 1.0.0 bootstrap",
        "com.a 2.0.0 bootstrap",
        "com.b 2.0.0 bootstrap",
        "com.a 1.0.0 bootstrap",
    ]


def test_an_agent_that_dies_during_a_bootstrap_runs_it_again_and_goes_on(config, site, tmp_path) -> None:
    recipe = site.component("com.a", "1.0.0")
    waiting = f"{recipe['Manifests'][0]['Lifecycle']['Bootstrap']['Script'].removesuffix('; exit 0')}; sleep 2"
    recipe["Manifests"][0]["Lifecycle"]["Bootstrap"]["Script"] = waiting
    with agents.running(config, tmp_path) as agent:
        send(agent, document("one", [recipe], {"com.a": "1.0.0"}))
        until_sync(lambda: site.done == ["com.a 1.0.0 bootstrap"])
        agent.process.kill()
        agent.process.wait()
    with agents.running(config, tmp_path) as agent:
        assert outcome(agent, "one")["detailedStatus"] == "SUCCESSFUL"
        until_sync(lambda: len(site.done) == 3)
    assert site.done == ["com.a 1.0.0 bootstrap", "com.a 1.0.0 bootstrap", "com.a 1.0.0 run"]
