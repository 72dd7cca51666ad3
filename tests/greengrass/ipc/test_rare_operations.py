"""What few components ask for: metrics, whose a token is, and what the agent has not."""

from __future__ import annotations

import pytest

from agent.config.ipc import IpcOptions
from agent.greengrass.ipc.absent import ABSENT, TokenOperations, absent
from agent.greengrass.ipc.authorization import Authorizer
from agent.greengrass.ipc.metrics import MOST, MetricOperations
from agent.greengrass.ipc.operations import Principal
from agent.greengrass.ipc.server import Server
from agent.greengrass.recipes.configuration import Tree
from tests.support.ipc import COMPONENT, lines, raw

OF_AWS, STREAMS = "aws.greengrass.Example", "aws.greengrass.StreamManager"
COMPONENTS = {"OURS": COMPONENT, "AWS": OF_AWS, "STREAMS": STREAMS}
POLICY = {"operations": ["aws.greengrass#PutComponentMetric"], "resources": ["Rate*"]}
TREE = Tree.of({"accessControl": {"aws.greengrass.ipc.componentmetric": {"m:1": POLICY}}})


def server(path, *operations) -> Server:
    callers = {token: Principal(name) for token, name in COMPONENTS.items()}
    return Server(path, callers.get, operations, IpcOptions())


def metrics() -> MetricOperations:
    return MetricOperations(Authorizer(lambda _: TREE).permit)


async def test_metrics_of_aws_s_own_components_are_counted_with_their_last_value(tmp_path) -> None:
    script = """
    client = GreengrassCoreIPCClientV2()
    for value in (1.5, 2.5):
        metric = model.Metric(name="Rate", unit="BYTES_PER_SECOND", value=value)
        client.put_component_metric(metrics=[metric])
    old = awsiot.greengrasscoreipc.connect().new_put_component_metric()
    old.activate(model.PutComponentMetricRequest(metrics=[model.Metric(name="Rate2", unit="COUNT", value=0.0)]))
    say(str(old.get_response().result(10)))
    """
    put = metrics()
    assert put.counted() is None
    async with server(tmp_path / "s", *put.operations):
        assert await lines(tmp_path / "s", script, "AWS") == [["PutComponentMetricResponse()"]]
    rates = {
        "Rate": {"count": 2, "value": 2.5, "unit": "BYTES_PER_SECOND"},
        "Rate2": {"count": 1, "value": 0.0, "unit": "COUNT"},
    }
    assert put.counted() == {OF_AWS: rates}


GOOD = {"name": "Rate", "unit": "COUNT", "value": 1}


@pytest.mark.parametrize(
    ("token", "given", "error", "says"),
    [
        ("OURS", [GOOD], "UnauthorizedError", "only components of AWS's own"),
        ("AWS", [GOOD | {"name": "Other"}], "UnauthorizedError", "to Other"),
        ("AWS", [], "InvalidArgumentsError", "missing or empty"),
        ("AWS", None, "InvalidArgumentsError", "missing or empty"),
        ("AWS", [GOOD, GOOD | {"name": ""}], "InvalidArgumentsError", "1 to 32 bytes"),
        ("AWS", [GOOD | {"name": "Ratio" + "ä" * 14}], "InvalidArgumentsError", "1 to 32 bytes"),
        ("AWS", [GOOD | {"unit": "METRES"}], "InvalidArgumentsError", "name one of BYTES,"),
        ("AWS", [{"name": "Rate", "value": 1}], "InvalidArgumentsError", "name one of BYTES,"),
        ("AWS", [GOOD | {"value": -1}], "InvalidArgumentsError", "at least 0"),
        ("AWS", [{"name": "Rate", "unit": "COUNT"}], "InvalidArgumentsError", "at least 0"),
    ],
)
async def test_a_metric_that_may_not_be_put_counts_nothing(tmp_path, token, given, error, says) -> None:
    put = metrics()
    async with server(tmp_path / "s", *put.operations), raw(tmp_path / "s") as client:
        await client.connect(token)
        kind, answer = await client.call("PutComponentMetric", {"metrics": given})
    assert kind == error
    assert says in answer["message"]
    assert put.counted() is None


async def test_there_is_room_for_so_many_metrics_and_the_rest_is_counted_as_dropped(tmp_path) -> None:
    put = metrics()
    async with server(tmp_path / "s", *put.operations), raw(tmp_path / "s") as client:
        await client.connect("AWS")
        given = [GOOD | {"name": f"Rate{number}"} for number in range(MOST + 3)]
        assert (await client.call("PutComponentMetric", {"metrics": given}))[0] == "PutComponentMetricResponse"
        await client.call("PutComponentMetric", {"metrics": [GOOD | {"name": "Rate0"}]})
    counted = put.counted()
    assert len(counted[OF_AWS]) == MOST
    assert counted[OF_AWS]["Rate0"]["count"] == 2
    assert counted["dropped"] == 3


async def test_the_stream_manager_alone_may_ask_whether_a_token_is_a_component_s(tmp_path) -> None:
    script = """
    client = GreengrassCoreIPCClientV2()
    say(client.validate_authorization_token(token="OURS").is_valid)
    say(failure(client.validate_authorization_token, token="made up")[0])
    """
    operations = TokenOperations(COMPONENTS.get).operations
    async with server(tmp_path / "s", *operations):
        assert await lines(tmp_path / "s", script, "STREAMS") == [[True], ["InvalidTokenError"]]
        async with raw(tmp_path / "s") as client:
            await client.connect("AWS")
            kind, _ = await client.call("ValidateAuthorizationToken", {"token": "OURS"})
            assert kind == "UnauthorizedError"


@pytest.mark.parametrize("name", ABSENT)
async def test_what_the_agent_has_not_is_refused_with_what_to_do(tmp_path, name) -> None:
    async with server(tmp_path / "s", *absent()), raw(tmp_path / "s") as client:
        await client.connect("OURS")
        kind, answer = await client.call(name, {"credential": {"x": 1}})
    assert kind == "ServiceError"
    assert answer["message"] == ABSENT[name]
