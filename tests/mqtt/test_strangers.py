"""Strangers at real brokers: who is let in, who reaches the agent's topics, and what cannot be told."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec.structs import replace

from agent.mqtt.doors import other_doors
from agent.mqtt.probe import Visitor
from agent.mqtt.strangers import Strangers, canary, is_canary, try_door
from tests.support.broker import Broker
from tests.support.ports import HeldPort

TOPICS = ("verge/edge-1/deployments", "$aws/things/edge-1/jobs/x/update/x")
WHO = {"verge": "secret"}
OF_FRAMES = (
    "topic write cameras/#\n\nuser verge\ntopic readwrite verge/edge-1/#\ntopic readwrite $aws/things/edge-1/#\n"
)


def acl(folder: Path, text: str) -> tuple[str, ...]:
    path = folder / "acl"
    path.write_text(text)
    path.chmod(0o600)
    return (f"acl_file {path}",)


def found(broker: Broker, **how: object) -> tuple[Strangers, str]:
    report = try_door(replace(broker.options, username="verge", password="secret", **how), TOPICS)
    return report.strangers, report.finding


def test_a_broker_that_asks_everybody_for_a_password_keeps_strangers_out() -> None:
    with Broker(passwords=WHO) as broker:
        assert found(broker)[0] is Strangers.KEPT_OUT


def test_a_broker_that_asks_the_agent_only_lets_strangers_in() -> None:
    with Broker(passwords=WHO, listener=("allow_anonymous true",)) as broker:
        strangers, finding = found(broker)
    assert strangers is Strangers.LET_IN
    assert finding == "a client without a name published on verge/edge-1/deployments, and it came through"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.77", "0.0.0.0"])
def test_another_door_of_the_broker_that_takes_anybody_is_found(host) -> None:
    with HeldPort() as held:
        more = (f"listener {held.number} {host}", "allow_anonymous true")
        with Broker(per_listener=True, passwords=WHO, listener=more) as broker:
            strangers, finding = found(broker)
    assert strangers is Strangers.LET_IN
    assert f"{'127.0.0.1' if host == '0.0.0.0' else host}:{held.number}" in finding


def another(broker_lines: tuple[str, ...]) -> tuple[Strangers, str]:
    """What is found where the agent's own door asks for a password and another one, with these lines, does not."""
    with HeldPort() as held:
        more = (f"listener {held.number} 127.0.0.1", "allow_anonymous true", *broker_lines)
        with Broker(per_listener=True, passwords=WHO, listener=more) as broker:
            return found(broker)


def test_another_door_that_takes_anybody_is_found_though_it_speaks_tls(certificates) -> None:
    assert (
        another((f"certfile {certificates.server_cert}", f"keyfile {certificates.server_key}"))[0] is Strangers.LET_IN
    )


def test_another_door_that_takes_anybody_is_found_though_it_speaks_websockets() -> None:
    assert another(("protocol websockets",))[0] is Strangers.LET_IN


def test_another_door_that_takes_anybody_is_found_though_it_speaks_websockets_over_tls(certificates) -> None:
    lines = ("protocol websockets", f"certfile {certificates.server_cert}", f"keyfile {certificates.server_key}")
    assert another(lines)[0] is Strangers.LET_IN


def test_another_door_that_is_full_is_not_taken_for_one_that_keeps_strangers_out() -> None:
    with HeldPort() as held:
        more = (f"listener {held.number} 127.0.0.1", "allow_anonymous true", "max_connections 1")
        with Broker(per_listener=True, passwords=WHO, listener=more) as broker:
            with Visitor(replace(broker.options, port=held.number)):
                strangers, finding = found(broker)
            assert strangers is Strangers.UNCLEAR
            assert f"hangs up at 127.0.0.1:{held.number}" in finding
            assert found(broker)[0] is Strangers.LET_IN


def test_another_door_that_keeps_strangers_out_changes_nothing() -> None:
    with HeldPort() as held, Broker(passwords=WHO, listener=(f"listener {held.number} 127.0.0.1",)) as broker:
        assert (("127.0.0.1", held.number),) == other_doors(broker.port)
        assert found(broker)[0] is Strangers.KEPT_OUT


@pytest.mark.parametrize("version", ["5", "3.1.1", "auto"])
def test_strangers_who_may_only_send_frames_are_kept_out_though_the_broker_acknowledges_what_it_drops(
    version, tmp_path
) -> None:
    with Broker(passwords=WHO, lines=acl(tmp_path, OF_FRAMES), listener=("allow_anonymous true",)) as broker:
        strangers, finding = found(broker, version=version)
    assert strangers is Strangers.KEPT_OUT
    assert "could not publish on verge/edge-1/deployments" in finding


@pytest.mark.parametrize("topic", TOPICS)
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_one_topic_of_documents_that_strangers_may_write_is_enough(topic, version, tmp_path) -> None:
    lines = acl(tmp_path, f"topic write {topic}\n\n{OF_FRAMES}")
    with Broker(passwords=WHO, lines=lines, listener=("allow_anonymous true",)) as broker:
        strangers, finding = found(broker, version=version)
    assert strangers is Strangers.LET_IN
    assert topic in finding


def test_where_the_agent_cannot_see_what_strangers_reach_nothing_is_claimed(tmp_path) -> None:
    silent = "topic write cameras/#\n\nuser verge\ntopic write verge/#\n"
    with Broker(passwords=WHO, lines=acl(tmp_path, silent), listener=("allow_anonymous true",)) as broker:
        strangers, finding = found(broker, version="3.1.1")
    assert strangers is Strangers.UNCLEAR
    assert "could not be seen" in finding


def test_a_broker_that_is_away_is_unclear() -> None:
    with HeldPort() as port:
        broker = Broker(port=port.number)
        strangers, finding = found(broker)
    assert strangers is Strangers.UNCLEAR
    assert "connection refused" in finding


def test_a_canary_is_no_document_and_no_document_is_a_canary() -> None:
    assert is_canary(canary())
    assert canary() != canary()
    for document in (b"{}", b'{"canary": {"frames": 3}}', canary() + b" ", b'{"canary": "x"}'):
        assert not is_canary(document)
