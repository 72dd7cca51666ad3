"""``greengrass-cli``'s way in: its token files, and what it asks for, with Amazon's SDK in a process of its own."""

from __future__ import annotations

import getpass
import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import agent as agents
from tests.support.agent import Agent
from tests.support.fleet import Fleet, document, outcome, send
from tests.support.ipc import PRELUDE, raw
from tests.support.until import PATIENCE_S, until_sync

SLEEPER = "com.example.Sleeper"
SLEEPS = {"Run": "exec sleep 1000"}


@pytest.fixture(scope="module")
def agent(broker, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    config = agents.configuration("cli", broker.port, folder, {})
    config |= {"models": {}, "streams": {}, "deployments": {"run_as": getpass.getuser(), "settle_s": 5}}
    with agents.running(config, folder) as running:
        recipe = Fleet(folder / "fleet").scripts(SLEEPER, **SLEEPS)
        recipe["ComponentConfiguration"] = {"DefaultConfiguration": {"pillow": {"soft": True, "kg": 1}}}
        send(running, document("first", [recipe], {SLEEPER: "1.0.0"}))
        assert outcome(running, "first")["status"] == "SUCCEEDED"
        yield running


def token_of(agent: Agent) -> dict[str, str]:
    return json.loads((agent.folder / "data" / "cli_ipc_info" / f"user-{os.geteuid()}").read_bytes())


def cli(agent: Agent, script: str, **values: Any) -> list[Any]:
    """What a script says that uses the SDK with a token of the command line; ``values`` are its variables."""
    found = token_of(agent)
    environment = {
        "PATH": os.environ["PATH"],
        "SVCUID": found["cli_auth_token"],
        "AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT": found["domain_socket_path"],
    }
    given = "".join(f"{key} = {value!r}\n" for key, value in values.items())
    code = f"{PRELUDE}\nclient = GreengrassCoreIPCClientV2()\n{given}{script}"
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


def status(agent: Agent, identity: str) -> list[Any]:
    script = """
told = client.get_local_deployment_status(deployment_id=identity).deployment
details = told.deployment_status_details
say(told.status, details and details.detailed_deployment_status, details and details.deployment_failure_cause)
"""
    return cli(agent, script, identity=identity)[0]


def ended(agent: Agent, identity: str) -> list[Any]:
    """How a local deployment ended, as its client reads it."""
    found: list[Any] = []

    def over() -> bool:
        found[:] = status(agent, identity)
        return found[0] not in {"QUEUED", "IN_PROGRESS"}

    until_sync(over)
    return found


def folders(tmp_path: Path, name: str, version: str, content: bytes) -> dict[str, str]:
    recipe = {
        "RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version,
        "Manifests": [{
            "Lifecycle": {"Run": "exec sh {artifacts:path}/sleep.sh"}, "Artifacts": [{"Uri": "s3://bucket/sleep.sh"}],
        }],
    }  # fmt: skip
    files = tmp_path / "artifacts" / name / version
    files.mkdir(parents=True)
    (files / "sleep.sh").write_bytes(content)
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / f"{name}-{version}.yaml").write_text(yaml.safe_dump(recipe))
    return {"recipes": str(tmp_path / "recipes"), "artifacts": str(tmp_path / "artifacts")}


CREATE = """
say(client.create_local_deployment(
    root_component_versions_to_add={name: version}, recipe_directory_path=recipes, artifacts_directory_path=artifacts,
    component_to_configuration={name: {"MERGE": {"mine": 1}}},
).deployment_id)
"""


def test_the_token_is_for_the_agents_user_alone(agent):
    path = agent.folder / "data" / "cli_ipc_info" / f"user-{os.geteuid()}"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Path(token_of(agent)["domain_socket_path"]).is_socket()


def test_components_are_listed_with_their_states_and_configurations(agent):
    said = cli(
        agent,
        "for one in client.list_components().components: say(one.component_name, one.version, one.state)\n"
        "one = client.get_component_details(component_name=sleeper).component_details\n"
        "say(one.component_name, one.version, one.state, one.configuration)",
        sleeper=SLEEPER,
    )
    assert [SLEEPER, "1.0.0", "RUNNING"] in said
    assert "aws.greengrass.Nucleus" in {one[0] for one in said}
    assert said[-1] == [SLEEPER, "1.0.0", "RUNNING", {"pillow": {"soft": True, "kg": 1}}]


def test_a_component_that_is_not_there_is_not_found(agent):
    said = cli(
        agent,
        "for call in (client.get_component_details, client.restart_component, client.stop_component):\n"
        "    say(failure(call, component_name='com.example.Nobody'))\n"
        "    say(failure(call, component_name='')[0])",
    )
    missing = [["ResourceNotFoundError", "there is no component com.example.Nobody here"]]
    assert said == [missing, ["InvalidArgumentsError"]] * 3


def test_a_component_is_stopped_and_restarted(agent):
    topic = agent.topic(f"components/{SLEEPER}")
    assert cli(agent, "say(client.stop_component(component_name=name).stop_status)", name=SLEEPER) == [["SUCCEEDED"]]
    agent.peer.wait(topic, lambda told: told["state"] == "FINISHED")
    restart = "say(client.restart_component(component_name=name).restart_status)"
    assert cli(agent, restart, name=SLEEPER) == [["SUCCEEDED"]]
    agent.peer.wait(topic, lambda told: told["state"] == "RUNNING")
    refused = "told = client.stop_component(component_name=name)\nsay(told.stop_status, told.message)"
    ((told, why),) = cli(agent, refused, name="aws.greengrass.Nucleus")
    assert told == "FAILED"
    assert "it is the agent itself" in why


def test_a_local_deployment_brings_a_component_of_a_folder_and_takes_it_away(agent, tmp_path):
    name = "com.example.Folder"
    places = folders(tmp_path, name, "1.0.0", b"exec sleep 1000\n")
    ((identity,),) = cli(agent, CREATE, name=name, version="1.0.0", **places)
    assert ended(agent, identity) == ["SUCCEEDED", "SUCCESSFUL", ""]
    told = (
        "one = client.get_component_details(component_name=name).component_details\nsay(one.state, one.configuration)"
    )
    assert cli(agent, told, name=name) == [["RUNNING", {"mine": 1}]]
    remove = "say(client.create_local_deployment(root_components_to_remove=[name]).deployment_id)"
    ((removal,),) = cli(agent, remove, name=name)
    assert ended(agent, removal)[0] == "SUCCEEDED"
    listed = cli(
        agent, "for one in client.list_local_deployments().local_deployments: say(one.deployment_id, one.created_on)"
    )
    assert [one[0] for one in listed[:2]] == [removal, identity]
    assert all(created.endswith(" UTC") for _, created in listed)
    assert cli(agent, "say(client.get_component_details(component_name=name) and 1)", name=SLEEPER) == [[1]]


def test_a_local_deployment_that_fails_says_why(agent, tmp_path):
    name = "com.example.Unhealthy"
    ((identity,),) = cli(agent, CREATE, name=name, version="1.0.0", **folders(tmp_path, name, "1.0.0", b"exit 3\n"))
    told, detailed, cause = ended(agent, identity)
    assert (told, detailed) == ("FAILED", "FAILED_ROLLBACK_NOT_REQUESTED")
    assert name in cause
    cli(agent, "client.create_local_deployment(root_components_to_remove=[name])", name=name)


def test_a_local_deployment_can_be_cancelled_while_it_waits(agent, tmp_path):
    name = "com.example.Absent"
    create = "say(client.create_local_deployment(root_component_versions_to_add={name: version}).deployment_id)"
    slow = "com.example.Slow"
    places = folders(tmp_path, slow, "1.0.0", b"exec sleep 1000\n")
    recipe = Path(places["recipes"]) / f"{slow}-1.0.0.yaml"
    changed = yaml.safe_load(recipe.read_text())
    changed["Manifests"][0]["Lifecycle"]["Install"] = {"Script": "exec sleep 3", "Timeout": 20}
    recipe.write_text(yaml.safe_dump(changed))
    ((first,),) = cli(agent, CREATE, name=slow, version="1.0.0", **places)
    script = f"{create}\nsay(client.get_local_deployment_status(deployment_id=first).deployment.status)"
    (waiting,), (under_way,) = cli(agent, script, name=name, version="1.0.0", first=first)
    assert under_way in {"QUEUED", "IN_PROGRESS"}
    (message,) = cli(agent, "say(client.cancel_local_deployment(deployment_id=i).message)", i=waiting)[0]
    assert "cancelled" in message
    assert ended(agent, waiting)[0] in {"CANCELED", "FAILED"}
    assert ended(agent, first)[0] == "SUCCEEDED"
    (late,) = cli(agent, "say(client.cancel_local_deployment(deployment_id=i).message)", i=first)[0]
    assert "has ended already" in late


def test_what_is_wrong_with_a_request_is_said_in_the_models_words(agent, tmp_path):
    said = cli(
        agent,
        """
say(failure(client.get_local_deployment_status, deployment_id="not one")[0])
say(failure(client.get_local_deployment_status, deployment_id="4b8b9d4e-0000-4000-8000-000000000000")[0])
say(failure(client.cancel_local_deployment, deployment_id="4b8b9d4e-0000-4000-8000-000000000000")[0])
say(failure(client.create_local_deployment, group_name="a:b")[0])
say(failure(client.create_local_deployment, recipe_directory_path="/nowhere")[0])
say(failure(client.create_local_deployment, recipe_directory_path=here, artifacts_directory_path="/nowhere")[0])
say(failure(client.create_local_deployment, recipe_directory_path=here, artifacts_directory_path=own)[0])
""",
        here=str(tmp_path),
        own=str(agent.folder / "data"),
    )
    assert [one[0] for one in said] == [
        "InvalidArgumentsError",
        "ResourceNotFoundError",
        "ResourceNotFoundError",
        "InvalidArgumentsError",
        "InvalidRecipeDirectoryPathError",
        "InvalidArtifactsDirectoryPathError",
        "InvalidArtifactsDirectoryPathError",
    ]


def test_local_deployments_are_known_after_a_restart_of_the_agent_and_old_tokens_are_not(broker, tmp_path):
    config = agents.configuration("cli-again", broker.port, tmp_path, {})
    config |= {"models": {}, "streams": {}, "deployments": {"run_as": getpass.getuser()}}
    with agents.running(config, tmp_path) as running:
        before = token_of(running)["cli_auth_token"]
        ((identity,),) = cli(running, "say(client.create_local_deployment().deployment_id)")
        assert ended(running, identity)[0] == "SUCCEEDED"
    assert not (tmp_path / "data" / "ipc.socket").exists()
    with agents.running(config, tmp_path) as running:
        assert token_of(running)["cli_auth_token"] != before
        assert status(running, identity)[:2] == ["SUCCEEDED", "SUCCESSFUL"]


GOODBYE = """
import signal, threading
client = GreengrassCoreIPCClientV2()
gone = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: gone.set())
gone.wait()
say(client.get_configuration().component_name)
open("goodbye", "w").close()
"""


def test_a_script_that_shuts_down_still_speaks_with_the_agent(broker, tmp_path):
    config = agents.configuration("cli-goodbye", broker.port, tmp_path, {})
    config |= {"models": {}, "streams": {}, "deployments": {"run_as": getpass.getuser()}}
    (tmp_path / "goodbye.py").write_text(PRELUDE + GOODBYE)
    with agents.running(config, tmp_path) as running:
        recipe = Fleet(tmp_path / "fleet").scripts(SLEEPER, Run=f"exec {sys.executable} {tmp_path}/goodbye.py")
        send(running, document("goodbye", [recipe], {SLEEPER: "1.0.0"}))
        assert outcome(running, "goodbye")["status"] == "SUCCEEDED"
    assert (tmp_path / "data" / "work" / SLEEPER / "goodbye").exists()


HANDED_ON = """
import socket
token, path = os.environ["SVCUID"], os.environ["AWS_GG_NUCLEUS_DOMAIN_SOCKET_FILEPATH_FOR_COMPONENT"]
open("handed-on.part", "w").write(token + "\\n" + path)
os.rename("handed-on.part", "handed-on")
threading.Event().wait()
"""


async def test_a_component_that_is_removed_has_no_connection_any_more_whoever_holds_it(broker, tmp_path):
    config = agents.configuration("cli-removed", broker.port, tmp_path, {})
    config |= {"models": {}, "streams": {}, "deployments": {"run_as": getpass.getuser()}}
    (tmp_path / "script.py").write_text(PRELUDE + HANDED_ON)
    with agents.running(config, tmp_path) as running:
        recipe = Fleet(tmp_path / "fleet").scripts(SLEEPER, Run=f"exec {sys.executable} {tmp_path}/script.py")
        send(running, document("there", [recipe], {SLEEPER: "1.0.0"}))
        assert outcome(running, "there")["status"] == "SUCCEEDED"
        handed_on = tmp_path / "data" / "work" / SLEEPER / "handed-on"
        until_sync(handed_on.exists)
        token, path = handed_on.read_text().split("\n")
        # Somebody else who got the token, and whom nobody knows as the component's.
        async with raw(Path(path)) as other:
            await other.connect(token)
            assert (await other.call("GetConfiguration"))[0] == "GetConfigurationResponse"
            send(running, document("gone", [], {}))
            assert outcome(running, "gone")["status"] == "SUCCEEDED"
            assert await other.closed()
        async with raw(Path(path)) as other:
            assert (await other.connect(token)).headers[":message-flags"].value == 0
