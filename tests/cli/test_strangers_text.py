"""What anybody on the network may have written reaches no terminal and no log as it is."""

from __future__ import annotations

import ast
import io
import json
import logging
import unicodedata
from pathlib import Path
from typing import Any

import pytest

import agent
from agent import logs
from agent.aws.jobs.service.caller import calling
from agent.cli import show
from agent.cli.output import print_json
from agent.cli.tables import console, show_executions, show_groups, show_job, show_jobs
from agent.errors import UnreachableError, VergeError
from agent.mqtt.transport import Message
from agent.text import as_json_text, shown
from tests.support.broker import Broker
from tests.support.commands import invoke
from tests.support.memory import MemoryBus, MemoryTransport
from tests.support.peer import Peer, peer

EVIL = "x\x1b[2J\x1b]0;owned\x07\x9b31m\x85\u202egnp\u2066\u200b\ufeff\r\x00[red]\n0 failed"
ACTS = frozenset(EVIL) - frozenset("x[2J]0;owned31mgnpred failed\n")


def harmless(text: str) -> bool:
    return not [one for one in text if one in ACTS or (unicodedata.category(one) in {"Cc", "Cf"} and one not in "\n\t")]


def nasty(value: Any) -> Any:
    """The same shape with every text a nasty one."""
    if isinstance(value, dict):
        return {key: nasty(one) for key, one in value.items()} | {"state": EVIL, "status": EVIL}
    return EVIL if isinstance(value, str) else value


COMPONENT = {"component": "com.a", "state": "RUNNING", "version": "1.0.0", "since": "now", "reason": "broken"}
STREAM = {
    "stream": "line", "state": "running", "model": {"component": "com.a"}, "fps": 1.0, "received": 1, "restarts": 0,
    "latency_ms": {"p95": 1.0}, "dropped": {EVIL: 1}, "failed": {}, "answered": 1, "reason": "no",
}  # fmt: skip
DEPLOYMENT = {"id": "d1", "status": "FAILED", "at": "then", "cause": "why", "step": "STAGED"}
RETAINED = {"components/com.a": COMPONENT, "streams/line": STREAM, "deployments/d1": DEPLOYMENT}


@pytest.fixture(scope="module")
def haunted():
    """A broker on which a stranger retained nasty payloads as the agent ``edge-9``."""
    with Broker() as broker, peer(broker.port) as stranger:
        say(stranger, "edge-9/status", {"thing": "edge-9", "since": EVIL, "state": EVIL})
        for rest, payload in RETAINED.items():
            say(stranger, f"edge-9/{rest}", nasty(payload))
        yield broker, stranger


def say(stranger: Peer, rest: str, payload: Any) -> None:
    stranger.client.publish(f"verge/{rest}", json.dumps(payload), 1, retain=True).wait_for_publish(10)


@pytest.mark.parametrize("more", [(), ("--json",)], ids=["people", "json"])
@pytest.mark.parametrize("command", ["components", "deployments"])
def test_what_strangers_retain_is_shown_as_escapes(command, more, haunted, tmp_path) -> None:
    broker, _ = haunted
    done = invoke(tmp_path, command, "--thing", "edge-9", "--broker", f"mqtt://127.0.0.1:{broker.port}", *more)
    assert done.returncode == 0
    assert harmless(done.stdout)
    assert ("\\u202e" if more else "\\x1b[2J") in done.stdout
    if more:
        assert EVIL in values(json.loads(done.stdout))


def values(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    return [inner for one in value for inner in values(one)] if isinstance(value, list) else [value]


def test_what_a_stranger_publishes_of_another_type_is_no_traceback(haunted, tmp_path) -> None:
    broker, stranger = haunted
    say(stranger, "edge-8/status", {"thing": 7, "since": 1, "state": []})
    say(stranger, "edge-8/streams/a", {"stream": 1, "fps": EVIL, "dropped": EVIL, "model": [EVIL], "received": EVIL})
    say(stranger, "edge-8/components/a", {"component": [EVIL], "since": 5, "state": {EVIL: 1}})
    say(stranger, "edge-8/deployments/a", {"id": [EVIL], "status": 5, "at": 7, "cause": [EVIL], "step": {}})
    for command in ("components", "deployments"):
        done = invoke(tmp_path, command, "--thing", "edge-8", "--broker", f"mqtt://127.0.0.1:{broker.port}")
        assert done.returncode == 0
        assert harmless(done.stdout)


def test_the_name_of_an_agent_that_is_none_is_shown_in_errors_too(haunted, tmp_path) -> None:
    broker, stranger = haunted
    for number in range(2):
        say(stranger, f"ghost{number}/status", {"thing": f"{EVIL}{number}", "state": "online"})
    done = invoke(tmp_path, "components", "--broker", f"mqtt://127.0.0.1:{broker.port}")
    for number in range(2):
        stranger.client.publish(f"verge/ghost{number}/status", b"", 1, retain=True).wait_for_publish(10)
    assert done.returncode == 2
    assert harmless(done.stdout + done.stderr)
    assert "\\x1b[2J" in done.stderr


JOB = {
    "jobId": "j1", "status": "IN_PROGRESS", "targets": ["t"], "targetSelection": "SNAPSHOT", "description": "",
    "reasonCode": "r", "namespaceId": "n", "createdAt": 1.0, "completedAt": 2.0, "document": {"a": "b"},
    "processDetails": {"SUCCEEDED": 1}, "timeoutConfig": {}, "abortConfig": {}, "jobExecutionsRetryConfig": {},
    "jobExecutionsRolloutConfig": {},
}  # fmt: skip
EXECUTION = {
    "thingName": "t", "executionNumber": 1, "status": "FAILED", "versionNumber": 1, "lastUpdatedAt": 1.0,
    "statusDetails": {EVIL: "no"},
}  # fmt: skip


def test_jobs_are_shown_as_escapes(capsys) -> None:
    job = nasty(JOB) | {"targets": [EVIL], "targetSelection": "SNAPSHOT", "document": {EVIL: EVIL}}
    job |= {name: JOB[name] for name in JOB if name.endswith("Config") or name == "processDetails"}
    execution = nasty(EXECUTION)
    execution["statusDetails"] = {EVIL: EVIL}
    for print_it in (show_job, print_json):
        print_it(job)
    show_jobs([job])
    show_executions([execution])
    show_groups({EVIL: [EVIL]})
    printed = capsys.readouterr()
    assert harmless(printed.out + printed.err)


def test_errors_and_log_lines_are_one_line_of_harmless_text(capsys) -> None:
    show(VergeError(f"the broker says {EVIL}", hint=EVIL))
    printed = capsys.readouterr()
    assert harmless(printed.err)
    stream, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure("info")
        root.handlers[0].setStream(stream)
        logging.getLogger("agent.x").warning("the broker says %s", EVIL)
        error = ValueError(EVIL)
        logging.getLogger("agent.x").error("failed", exc_info=(type(error), error, None))
    finally:
        root.handlers[:], root.level = handlers, level
    first, *trace = stream.getvalue().splitlines()
    assert harmless(stream.getvalue())
    assert "0 failed" in first
    assert trace[0].endswith("failed")


def test_whatever_rich_prints_is_looked_at_once_more(capsys) -> None:
    console().print(f"forgotten {EVIL}", markup=False)
    assert harmless(capsys.readouterr().out)


def test_text_that_can_be_seen_stays_as_it_is() -> None:
    for text in ("Käse 🐱 12\u00a0°C", "日本\u3000語", "e\u0301", "[not markup]", "back\\slash"):
        assert shown(text) == as_json_text(text) == text


def test_commands_print_through_the_one_function_only() -> None:
    folder = Path(agent.__file__).parent / "cli"
    direct = [
        f"{path.name}:{node.lineno}"
        for path in folder.glob("*.py")
        if path.name != "output.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr in {"echo", "secho"})
        or (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print")
    ]
    assert direct == []


SIGNS = {"keys": [EVIL], "threshold": 1}
ROLE = SIGNS | {"components": [EVIL], "things": [EVIL], "groups": [EVIL]}
KEYS = {"version": 3, "issued": EVIL, "root": SIGNS, "timestamp": SIGNS, "roles": {EVIL: ROLE}}


def test_a_status_of_keys_that_somebody_else_wrote_has_no_lines_of_its_own(haunted, tmp_path) -> None:
    broker, stranger = haunted
    refused = {"at": EVIL, "reason": EVIL, "hint": EVIL}
    word = {"kind": EVIL, "at": EVIL}
    say(stranger, "edge-7/trust/status", {"thing": EVIL, "keys": KEYS, "last_word": word, "refused": refused})
    done = invoke(tmp_path, "trust", "status", "--to", "edge-7", "--broker", f"mqtt://127.0.0.1:{broker.port}")
    assert done.returncode == 0, done.stderr
    assert harmless(done.stdout)
    assert not [line for line in done.stdout.splitlines() if line.startswith("0 failed")]


@pytest.mark.parametrize("status", [{}, {"keys": 3}, {"thing": "edge-6", "keys": {"version": "new"}}])
def test_a_status_of_keys_that_is_none_is_named_as_that(status, haunted, tmp_path) -> None:
    broker, stranger = haunted
    say(stranger, "edge-6/trust/status", status)
    done = invoke(tmp_path, "trust", "status", "--to", "edge-6", "--broker", f"mqtt://127.0.0.1:{broker.port}")
    assert done.returncode == 3
    assert "cannot be read" in done.stderr


@pytest.mark.parametrize("payload", [b"[]", b"no json", b'{"error": "no"}', b'{"error": {"message": 3}}'])
async def test_whoever_answers_in_the_place_of_the_jobs_service_is_named_as_that(payload) -> None:
    def answered(message: Message) -> None:
        elsewhere.publish(Message(message.response_topic, payload, correlation_data=message.correlation_data))

    bus = MemoryBus()
    async with MemoryTransport(bus, "stranger") as elsewhere, MemoryTransport(bus, "caller") as transport:
        elsewhere.subscribe("verge/jobs/+", answered)
        async with calling(transport) as caller:
            with pytest.raises(UnreachableError, match="no Jobs service"):
                await caller.ask("list")
