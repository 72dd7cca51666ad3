"""What is live, told to whoever asks."""

from __future__ import annotations

import json

from agent.greengrass.deployments.kinds import ComponentKind
from agent.greengrass.deployments.requesters import answer
from agent.greengrass.deployments.state import Active, ActiveSet, DeployedState, DeviceState
from agent.greengrass.recipes import reader
from agent.mqtt.transport import Message

ASKED = Message("verge/t/deployments/get", b"", response_topic="verge/t/answers/1", correlation_data=b"7")


def state(**versions: str) -> DeployedState:
    active = {}
    for name, version in versions.items():
        head = {"RecipeFormatVersion": "2020-01-25", "ComponentName": name, "ComponentVersion": version}
        recipe = reader.parse(json.dumps(head | {"Manifests": [{}]}), "a recipe")
        kind = ComponentKind.BUILTIN if name == "builtin" else ComponentKind.GENERIC
        active[name] = Active(recipe, recipe.manifests[0], kind)
    return DeployedState(ActiveSet(active))


def test_the_answer_tells_both_sets_without_what_is_part_of_the_agent():
    told = answer(ASKED, "t", DeviceState(state(a="1.1.0", builtin="2.0.0"), state(a="1.0.0")))
    assert told is not None
    assert (told.topic, told.correlation_data, told.retain) == ("verge/t/answers/1", b"7", False)
    assert json.loads(told.payload) == {"thing": "t", "components": {"a": "1.1.0"}, "previous": {"a": "1.0.0"}}


def test_where_there_was_nothing_before_it_says_so():
    told = answer(ASKED, "t", DeviceState())
    assert told is not None
    assert json.loads(told.payload) == {"thing": "t", "components": {}, "previous": None}


def test_a_question_that_does_not_tell_where_to_is_not_answered():
    assert answer(Message("verge/t/deployments/get", b""), "t", DeviceState()) is None
