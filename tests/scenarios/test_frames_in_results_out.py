"""A frame in, a result out: the agent as its user runs it, on a real broker."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import jsonschema
import pytest
import tomli_w

from agent.inference.manifest import SAMPLES
from agent.results.schemas import schema
from tests.support import agent as agents
from tests.support import pictures, unruly
from tests.support.until import until_sync

IMAGES = SAMPLES.parent / "images"
NATIVE = ("numpy", "cv2", "ai_edge_litert", "onnxruntime", "tflite_runtime")


@pytest.fixture
def config(broker, thing, tmp_path):
    return agents.configuration(thing, broker.port, tmp_path, unruly.model(tmp_path))


@pytest.mark.arch
def test_a_frame_gets_its_result_with_all_that_is_known_of_it(config, tmp_path) -> None:
    config["models"]["model"] = {"source": "classifier", "threads": 1}
    with agents.running(config, tmp_path) as agent:
        agent.frame("door", (IMAGES / "chelsea.jpg").read_bytes())
        result = agent.result()
    jsonschema.validate(result, json.loads(schema("native")))
    assert result["predictions"][0]["label"] == "Egyptian cat"
    assert (result["thing"], result["stream"], result["task"]) == (agent.thing, "line", "image-classification")
    frame = result["frame"]
    assert (frame["camera"], frame["sequence"], frame["width"], frame["height"]) == ("door", 1, 451, 300)
    assert result["model"]["backend"].startswith("litert ")
    timing = result["timing_ms"]
    assert timing["total"] == pytest.approx(sum(timing.values()) - timing["total"], abs=0.01)


def test_the_detector_boxes_the_cat(config, tmp_path) -> None:
    config["models"]["model"] = {"source": "detector", "threads": 1}
    with agents.running(config, tmp_path) as agent:
        agent.frame("door", (IMAGES / "chelsea.jpg").read_bytes())
        best = agent.result()["predictions"][0]
    assert best["label"] == "Cat"
    assert best["score"] >= 0.8
    assert 0 <= best["box"]["x"] < best["box"]["x"] + best["box"]["width"] <= 1


@pytest.mark.arch
def test_every_way_a_picture_travels_gives_the_same_answer(config, tmp_path) -> None:
    data = (IMAGES / "coffee.jpg").read_bytes()
    ways = [wrap(data) for wrap in pictures.WRAPPINGS.values()] + [data + bytes(50_000)]
    config["models"]["model"] = {"source": "classifier", "threads": 1}
    config["streams"]["line"] |= {"policy": "fifo", "depth": len(ways)}
    with agents.running(config, tmp_path) as agent:
        for way in ways:
            agent.frame("door", way)
        agent.settled(len(ways))
        answers = [result["predictions"] for result in agent.results()]
    assert len(answers) == len(ways)
    assert answers[0][0]["label"] == "espresso"
    assert all(answer == answers[0] for answer in answers)


def test_pieces_damage_and_words_are_in_the_books_as_what_they_are(config, tmp_path) -> None:
    data = (IMAGES / "coffee.jpg").read_bytes()
    text = base64.b64encode(data).decode()
    parts = [text[at : at + 9000] for at in range(0, len(text), 9000)]
    config["models"]["model"] = {"source": "classifier", "threads": 1}
    config["streams"]["line"] |= {"policy": "fifo", "depth": 9}
    with agents.running(config, tmp_path) as agent:
        for number, part in enumerate(parts):
            agent.frame("door", json.dumps({"pic_id": "a7", "pos": number, "size": len(parts), "data": part}))
        agent.frame("door", data[: len(data) // 2] + b"\xff\xd9")
        agent.frame("gate", "offline")
        agent.frame("gate", json.dumps({"pic_id": "a8", "pos": 0, "size": 3, "data": parts[0]}))
        report = agent.peer.wait(
            agent.topic("streams/line"), lambda told: told["received"] == 4 and told["pending"] == 1
        )
        whole, damaged = agent.results()
        agent.stop()
        last = agent.peer.wait(agent.topic("streams/line"), lambda told: told["dropped"])
    assert whole["predictions"][0]["label"] == "espresso"
    assert "damaged" not in whole["frame"]
    assert damaged["frame"]["damaged"] is True
    assert (report["answered"], report["damaged"], report["failed"]) == (2, 1, {"not-an-image": 1})
    assert (last["dropped"], last["pending"]) == ({"stopping": 1}, 0)
    for told, name in ((whole, "native"), (damaged, "native"), (last, "stream-status")):
        jsonschema.validate(told, json.loads(schema(name)))


@pytest.mark.arch
def test_a_request_is_answered_on_its_response_topic_with_its_correlation_data(config, tmp_path) -> None:
    with agents.running(config, tmp_path) as agent:
        agent.peer.subscribe(f"{agent.thing}/answers")
        how = {"ResponseTopic": f"{agent.thing}/answers", "CorrelationData": b"42"}
        agent.frame("door", unruly.jpeg("answer"), **how)
        answer = agent.peer.message(f"{agent.thing}/answers")
        agent.frame("door", b"\x80\x81 no picture", **how)
        refusal = agent.peer.message(f"{agent.thing}/answers", lambda message: b"error" in message.payload)
    assert (answer.properties.CorrelationData, refusal.properties.CorrelationData) == (b"42", b"42")
    assert json.loads(answer.payload)["predictions"][0]["label"] == "fine"
    failure = json.loads(refusal.payload)
    jsonschema.validate(failure, json.loads(schema("failure")))
    assert failure["error"]["code"] == "not-an-image"


def test_what_the_agent_says_of_itself_is_retained_and_keeps_to_its_schemas(config, tmp_path) -> None:
    with agents.running(config, tmp_path) as agent:
        agent.frame("door", unruly.jpeg("answer"))
        agent.frame("gate", b"\x80\x81 no picture")
        report = agent.settled(2)
        online = agent.peer.wait(agent.topic("status"))
        component = agent.peer.wait(agent.topic("components/model"), lambda told: told["state"] == "RUNNING")
    for told, name in ((report, "stream-status"), (online, "agent-status"), (component, "component-status")):
        jsonschema.validate(told, json.loads(schema(name)))
    assert (report["answered"], report["failed"], report["pending"]) == (1, {"not-an-image": 1}, 0)
    assert report["cameras"]["door"] == {"received": 1, "answered": 1, "dropped": 0, "failed": 0}
    assert online["state"] == "online"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_agent_that_leaves_or_dies_is_offline_at_the_broker(config, tmp_path, how) -> None:
    with agents.running(config, tmp_path) as agent:
        workers = agent.workers()
        status = agent.stop(how)
        agent.peer.wait(agent.topic("status"), lambda told: told["state"] == "offline")
        assert status == -how
        assert len(workers) == 1
        until_sync(lambda: not any(_runs(worker) for worker in workers))


def test_a_stopping_agent_finishes_what_is_in_work_and_counts_what_waits(config, tmp_path) -> None:
    config["models"]["model"]["backend_options"] = {"slow_s": 0.4}
    config["streams"]["line"]["policy"] = "fifo"
    with agents.running(config, tmp_path) as agent:
        for _ in range(6):
            agent.frame("door", unruly.jpeg("slow"))
        agent.peer.wait(agent.topic("streams/line"), lambda told: told["received"] == 6)
        agent.stop()
        report = agent.peer.wait(agent.topic("streams/line"), lambda told: told["dropped"].get("stopping"))
    assert report["answered"] + report["dropped"]["stopping"] == 6
    assert report["answered"] == len(agent.results())
    assert report["pending"] == 0


def test_results_go_to_a_file_in_the_aws_format_and_filtered(config, tmp_path) -> None:
    config["streams"]["line"]["outputs"] = [
        {"file": {"path": "results.jsonl"}, "format": "aws"},
        {"filter": {"labels": ["odd"], "keep_empty": False}},
    ]
    with agents.running(config, tmp_path) as agent:
        agent.frame("door", unruly.jpeg("answer"))
        report = agent.settled(1)
    (line,) = (tmp_path / "results.jsonl").read_text().splitlines()
    assert json.loads(line)["inference-results"] == [{"Label": "fine", "Score": "0.7"}]
    assert agent.results()[0]["predictions"] == [{"label": "odd", "label_id": 2, "score": 0.2}]
    assert report["answered"] == 1


def test_snapshots_are_published_and_kept_at_their_own_rate(config, tmp_path) -> None:
    config["streams"]["line"]["snapshots"] = {
        "topic": "verge/{thing}/snapshots/{stream}",
        "folder": "shots",
        "max_rate_hz": 0.01,
    }
    with agents.running(config, tmp_path) as agent:
        agent.frame("door", unruly.jpeg("answer"))
        agent.result()
        agent.frame("door", unruly.jpeg("answer"))
        agent.settled(2)
        shot = agent.peer.message(agent.topic("snapshots/line"))
    assert shot.payload.startswith(b"\xff\xd8\xff")
    assert [path.read_bytes() for path in (tmp_path / "shots").glob("*.jpg")] == [shot.payload]


def test_a_source_that_can_wait_loses_nothing_under_the_policy_all(config, tmp_path) -> None:
    config["transports"]["local"]["receive_maximum"] = 4
    config["models"]["model"]["backend_options"] = {"slow_s": 0.02}
    config["streams"]["line"] |= {"policy": "all", "depth": 64}
    with agents.running(config, tmp_path) as agent:
        for _ in range(60):
            agent.peer.client.publish(f"{agent.thing}/cameras/door/frame", unruly.jpeg("slow"), 1)
        report = agent.settled(60)
        sequences = [result["frame"]["sequence"] for result in agent.results()]
    assert (report["answered"], report["dropped"]) == (60, {})
    assert sequences == list(range(1, 61))


def test_two_workers_answer_faster_than_one_and_every_frame_once(config, tmp_path) -> None:
    config["models"]["model"] |= {"workers": 2, "backend_options": {"slow_s": 0.3}}
    config["streams"]["line"] |= {"policy": "fifo", "depth": 8}
    with agents.running(config, tmp_path) as agent:
        assert len(agent.workers()) == 2
        for camera in "abcd":
            agent.frame(camera, unruly.jpeg("slow"))
        agent.settled(4)
        results = agent.results()
    assert sorted(result["frame"]["camera"] for result in results) == list("abcd")
    assert min(result["timing_ms"]["queue"] for result in results[:2]) < 300


def test_a_second_signal_ends_a_slow_stop_at_once(config, tmp_path) -> None:
    config["models"]["model"] |= {"deadline_s": 60.0, "backend_options": {"slow_s": 30}}
    config["streams"]["line"]["drain_s"] = 30.0
    with agents.running(config, tmp_path) as agent:
        agent.frame("door", unruly.jpeg("slow"))
        agent.peer.wait(agent.topic("streams/line"), lambda told: told["pending"] == 1)
        agent.process.send_signal(signal.SIGTERM)
        agent.peer.wait(agent.topic("streams/line"), lambda told: told["pending"] == 1)
        began = time.monotonic()
        while agent.process.poll() is None:
            agent.process.send_signal(signal.SIGTERM)
            time.sleep(0.05)
        assert time.monotonic() - began < 20  # the frame takes 30 s
        assert agent.process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    ("change", "status", "told"),
    [
        ({"models": {"model": {"source": "clasifier"}}}, 2, "did you mean classifier?"),
        ({"models": {"model": {"source": "classifier", "labels": "words.txt"}}}, 2, "there is no label file"),
        ({"models": {"model": {"source": "classifier", "accelerator": "gpu"}}}, 2, "gpu"),
        ({"streams": {"line": {"model": "modle", "input": {"topic": "x"}}}}, 2, "did you mean model?"),
    ],
)
def test_an_agent_that_cannot_start_says_why_in_a_sentence_and_leaves(config, tmp_path, change, status, told) -> None:
    (tmp_path / "verge.toml").write_bytes(tomli_w.dumps(config | change).encode())
    command = [sys.executable, "-m", "agent", "run", "-c", str(tmp_path / "verge.toml")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == status
    assert told in said.stderr
    assert "Traceback" not in said.stderr


def test_the_core_of_a_running_agent_has_no_native_inference_code_in_it(config, tmp_path) -> None:
    config["models"]["model"] = {"source": "classifier", "threads": 1}
    with agents.running(config, tmp_path) as agent:
        agent.frame("door", (IMAGES / "chelsea.jpg").read_bytes())
        agent.result()
        core = Path(f"/proc/{agent.process.pid}/maps").read_text()
        (worker,) = agent.workers()
        other = Path(f"/proc/{worker}/maps").read_text()
    assert [name for name in NATIVE if f"/{name}/" in core] == []
    assert [name for name in ("numpy", "cv2", "ai_edge_litert") if f"/{name}/" not in other] == []


def test_importing_the_core_imports_no_inference_package() -> None:
    code = f"import sys, agent.app, agent.cli.run; print([m for m in {NATIVE} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
