"""``verge watch``: results as they come, and what is shown of them."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt import publish

from agent.cli.lines import Lines, as_json, labels
from agent.cli.watch import configured, usual
from agent.config.load import parse
from agent.errors import ConfigError
from tests.support.broker import Broker

KEYS = ["thing", "stream", "frame", "camera", "timing_ms", "total", "predictions", "label", "score", "model", "state"]
CAT = {"label": "Cat", "label_id": 8, "score": 0.853}


def result(stream="front", thing="edge-1", camera="line-3", predictions=(CAT,)):
    return json.dumps(
        {
            "id": "01J", "thing": thing, "stream": stream, "task": "object-detection",
            "frame": {"topic": "t", "sequence": 1, "received_at": "2025-01-01T00:00:00.000Z", "camera": camera},
            "predictions": list(predictions), "timing_ms": {"total": 9.34},
        }
    ).encode()  # fmt: skip


def stream_status(**changes):
    told = {
        "stream": "front", "state": "running", "model": {"component": "ssd", "version": "1", "backend": "litert 2"},
        "received": 5, "answered": 4, "dropped": {"superseded": 1}, "failed": {}, "restarts": 0,
    }  # fmt: skip
    return json.dumps(told | changes).encode()


def config(text_streams, **rest):
    told = {
        "thing": "edge-1",
        "transports": {"local": {}, "far": {"port": 2883}},
        "models": {"m": {"source": "detector"}},
    }
    return parse(told | {"streams": text_streams} | rest, "a test", Path(), {})


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """A broker on which no agent of other tests has left anything."""
    with Broker() as running:
        yield running


@pytest.fixture
def send(broker):
    """Publish a retained message: whoever subscribes gets it, however late."""

    def send(topic, payload, *, retain=True):
        publish.single(topic, payload, qos=1, retain=retain, hostname="127.0.0.1", port=broker.port)

    return send


def test_each_result_is_one_clear_line(verge, broker, send, thing):
    send(f"verge/{thing}/results/front", result(thing=thing))
    done = verge("watch", "--port", broker.port, "--stream", "front", "--count", 1)
    lines = [line for line in done.stdout.splitlines() if "Cat" in line]
    assert done.returncode == 0
    assert len(lines) == 1
    assert lines[0].split()[1:] == ["front", "line-3", "9.3", "ms", "Cat", "0.85"]
    assert "verge/+/results/front" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("1 result in ")
    send(f"verge/{thing}/results/front", b"")


def test_json_prints_each_result_as_one_line_and_nothing_else(verge, broker, send, thing, tmp_path):
    told = f'thing = "{thing}"\n[transports.local]\nport = {broker.port}\n[models.m]\nsource = "detector"\n'
    told += '[streams.front]\nmodel = "m"\ninput.topic = "x"\n'
    (tmp_path / "verge.toml").write_text(told)
    send(f"verge/{thing}/results/front", result())
    send(f"verge/{thing}/streams/front", stream_status())
    done = verge("watch", "-c", "verge.toml", "--json", "--count", 1)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [json.loads(result())]


def test_ctrl_c_ends_with_a_summary(started, broker, send, thing):
    send(f"verge/{thing}/results/{thing}", result())
    process = started("watch", "--port", broker.port, "--stream", thing)
    assert "Cat 0.85" in process.stdout.readline()
    send(f"verge/{thing}/results/{thing}", result(predictions=()), retain=False)
    assert process.stdout.readline().endswith("ms  -\n")
    process.send_signal(signal.SIGINT)
    rest, words = process.communicate(timeout=20)
    assert process.returncode == 130
    assert rest == ""
    assert words.splitlines()[-1].startswith("2 results in ")
    assert "Traceback" not in words


def test_a_broker_that_is_not_there_is_told_with_what_to_check(verge, free_port):
    began = time.monotonic()
    done = verge("watch", "--port", free_port)
    assert done.returncode == 3
    assert 4.5 < time.monotonic() - began < 60
    assert done.stderr.splitlines() == [
        f"verge: no connection to 127.0.0.1:{free_port}: connection refused",
        "       check that the broker runs, host and port",
    ]
    assert done.stdout == ""


def test_what_the_broker_refuses_is_told(started, plain_broker):
    process = started("watch", "--port", plain_broker)
    assert process.stderr.readline().startswith("watching ")
    refusal = f"verge: 127.0.0.1:{plain_broker} refuses verge/+/results/+: the broker has no wildcard subscriptions\n"
    assert refusal in {process.stderr.readline() for _ in range(3)}


def test_a_broker_is_named_by_a_file_or_by_options_and_not_by_both(verge):
    done = verge("watch", "-c", "verge.toml", "--port", 1883)
    assert done.returncode == 2
    assert "leave out --host, --port" in done.stderr


def test_a_password_file_that_others_can_read_is_refused(verge, tmp_path):
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o644)
    done = verge("watch", "--username", "me", "--password-file", "secret")
    assert done.returncode == 2
    assert "chmod 600" in done.stderr


def test_columns_widen_with_the_names_and_never_narrow():
    lines = Lines()
    shown = [
        lines.result("t", result(stream=name, camera=camera), "12:00:00")
        for name, camera in (
            ("a", "b"),
            ("a-stream-with-name", "c"),
            ("a", "a-camera-with-a-very-long-name"),
            ("a", "b"),
        )
    ]
    assert shown[0] == "12:00:00  a         b             9.3 ms  Cat 0.85"
    assert shown[2] == "12:00:00  a                   a-camera-with-a-ver…      9.3 ms  Cat 0.85"
    assert shown[3].index("Cat") == shown[2].index("Cat")


def test_a_second_thing_is_told_apart():
    lines = Lines()
    assert "front " in lines.result("t", result(), "12:00:00")
    assert "edge-2/front" in lines.result("t", result(thing="edge-2"), "12:00:00")


def test_the_best_labels_are_counted_and_the_rest_left_out():
    many = [{"label": f"L{number}", "label_id": number, "score": 0.9 - number / 10} for number in range(6)]
    assert labels(many) == "L0 0.90, L1 0.80, L2 0.70, L3 0.60, …"
    assert labels([{"name": "out", "shape": [1, 3], "dtype": "float32", "data": []}]) == "out [1, 3]"


def test_what_a_second_model_says_stands_behind_what_the_first_one_found():
    def face(score, *parts):
        box = {"x": 0.1, "y": 0.1, "width": 0.5, "height": 0.5}
        return {"label": "face", "label_id": 0, "score": score, "box": box, "parts": list(parts)}

    anna = {"kind": "embedding", "dtype": "float32", "size": 192, "name": "anna", "similarity": 0.8}
    plate = {"kind": "text", "text": "B-AB 12", "score": 0.9}
    told = labels([face(0.9, anna), face(0.8), face(0.7, anna), face(0.6, face(0.5, plate))])
    assert told == "face (anna) 0.90 ×2, face 0.80, face (face (B-AB 12)) 0.60"


def test_what_is_no_native_result_is_shown_as_it_is():
    assert Lines().result("a/b", b" plain text\n", "12:00:00") == "12:00:00  a/b  plain text"
    assert Lines().result("a/b", b'{"inference-type": "x"}', "12:00:00").endswith('a/b  {"inference-type": "x"}')
    assert json.loads(as_json("a/b", b"\xffplain")) == {"topic": "a/b", "payload": "\ufffdplain"}


@given(
    st.binary()
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS), inner),
    ).map(lambda told: json.dumps(told).encode())
)
def test_no_payload_breaks_a_line_or_steers_the_terminal(payload):
    lines = Lines()
    assert lines.result("t", payload, "12:00:00").isprintable()
    assert (lines.status("t", payload, "12:00:00") or "").isprintable()
    assert b"\n" not in as_json("t", payload)


def test_json_of_any_depth_is_shown_or_wrapped():
    deep = b"[" * 100_000 + b"]" * 100_000
    assert json.loads(as_json("t", deep))["topic"] == "t"
    assert Lines().result("t", deep, "12:00:00").startswith("12:00:00  t  [[")


def test_a_name_cannot_steer_the_terminal():
    assert "\x1b" not in Lines().result("t", result(camera="a\x1b[2Jb"), "12:00:00")


def test_a_stream_is_told_of_when_more_than_its_numbers_changed():
    lines = Lines()
    said = "12:00:00  stream front: running, ssd 1 on litert 2; 4 of 5 frames answered, 1 superseded"
    assert lines.status("s", stream_status(), "12:00:00") == said
    assert lines.status("s", stream_status(received=6, answered=5), "12:00:01") is None
    assert "; killed by SIGSEGV" in (lines.status("s", stream_status(reason="killed by SIGSEGV"), "12:00:02") or "")
    assert (
        lines.status("a", b'{"state": "offline", "thing": "edge-1"}', "12:00:03") == "12:00:03  agent edge-1: offline"
    )
    assert lines.status("s", b"nonsense", "12:00:04") is None


def test_a_configuration_tells_the_topics_of_its_results():
    told = config(
        {
            "front": {"model": "m", "input": {"topic": "x"}},
            "back": {
                "model": "m",
                "input": {"topic": "y", "transport": "far"},
                "outputs": [{"topic": "out/{thing}/{camera}/{label}-now"}, {"file": {"path": "results.jsonl"}}],
            },
        }
    )
    found = configured(told)
    assert found["local"].results == ("verge/edge-1/results/front",)
    assert found["local"].status == ("verge/edge-1/status", "verge/edge-1/streams/front", "verge/edge-1/streams/back")
    assert found["far"].results == ("out/edge-1/+/+",)
    assert found["far"].status == ()
    assert configured(told, "front").keys() == {"local"}


def test_a_stream_that_is_not_configured_is_refused_with_a_guess():
    with pytest.raises(ConfigError) as refused:
        configured(config({"front": {"model": "m", "input": {"topic": "x"}}}), "fornt")
    assert refused.value.hint == "did you mean front?"


def test_without_a_configuration_every_agent_is_watched():
    assert usual().results == ("verge/+/results/+",)
    assert usual("front").status == ("verge/+/status", "verge/+/streams/front")
