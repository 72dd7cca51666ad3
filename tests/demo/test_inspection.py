"""``verge demo --inspect``: verdicts on parts, their figures, and the whole with real brokers and the real model."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

import agent
from agent.config.load import load
from agent.demo.inspection import ANOMALIES, Anomalies, BeltFigures
from agent.demo.scores import ResultSeen, Scores
from agent.demo.table import inspected

ROOT = Path(agent.__file__).parents[1]
PATIENCE_S = 90


def a_result(part: int, score: float, **truth: bool) -> ResultSeen:
    """As the agent publishes it."""
    told = {
        "frame": {"camera": "belt-1", "sequence": part, "metadata": {"part": part, **truth}},
        "predictions": [{"kind": "anomaly", "anomalous": score >= 0.5, "score": score, "threshold": 0.5}],
        "timing_ms": {"total": 20.0},
    }
    return msgspec.convert(told, ResultSeen)


def after(*seen: tuple[float, bool]) -> BeltFigures:
    """An inspection that has heard of parts: their scores, and whether they are scratched."""
    inspection = BeltFigures()
    for number, (score, scratched) in enumerate(seen, 1):
        inspection.on_result(a_result(number, score, scratched=scratched))
    return inspection


def test_a_verdict_is_found_missed_a_false_alarm_or_nothing_to_speak_of():
    figures = after((0.9, True), (0.5, True), (0.4, True), (0.7, False), (0.1, False)).figures
    assert (figures.parts, figures.found, figures.missed, figures.false_alarms) == (5, 2, 1, 1)
    assert str(figures) == "5 parts: 2 of 3 scratched ones found, 1 missed, 1 false alarm"


def test_a_line_tells_part_verdict_score_and_truth_and_each_only_once():
    inspection = after((0.934, True), (0.2, True), (0.61, False), (0.0, False))
    assert [str(verdict) for verdict in inspection.fresh()] == [
        "belt-1  part    1  anomaly  0.93  scratched  found",
        "belt-1  part    2  normal   0.20  scratched  MISSED",
        "belt-1  part    3  anomaly  0.61  good       FALSE ALARM",
        "belt-1  part    4  normal   0.00  good",
    ]
    assert inspection.fresh() == []


def test_what_is_wrong_stands_out_in_colour():
    styles = [verdict.style for verdict in after((0.9, True), (0.1, True), (0.9, False), (0.1, False)).fresh()]
    assert styles == ["yellow", "red", "red", "dim"]


def test_a_frame_whose_truth_nobody_knows_counts_for_nothing():
    inspection = BeltFigures()
    inspection.on_result(a_result(1, 0.9))
    assert inspection.figures.parts == 0


def test_each_anomaly_has_to_come_on_its_topic_and_nothing_else():
    inspection = after((0.9, True), (0.7, False), (0.1, True))
    inspection.on_anomaly()
    assert not inspection.figures.all_announced
    assert "NOT as promised: 1 anomalies" in inspected(inspection.figures)
    inspection.on_anomaly()
    assert inspection.figures.all_announced
    assert "NOT" not in inspected(inspection.figures)


def test_a_row_names_the_verdict():
    scores = Scores(["belt-1"])
    scores.on_result(a_result(1, 0.97), now=1.0)
    assert scores.rows(now=1.0)[0].sees == "anomaly 97%"


def test_its_configuration_is_also_one_for_a_broker_of_ones_own():
    path = ROOT / "configs" / "inspect.toml"
    assert path.resolve() == ROOT / "agent" / "demo" / "inspect.toml"
    stream = load(path, {}).streams["cameras"]
    assert [output.topic for output in stream.outputs][1] == ANOMALIES
    assert stream.outputs[1].filter == stream.snapshots.filter


async def demo(folder: Path, *options: str, **more: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agent", "demo", "--inspect"), *options,
        env={**os.environ, "TMPDIR": str(folder), **more}, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(PATIENCE_S):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def assert_told(summary: dict[str, Any]) -> Anomalies:
    """Every part has a verdict, every anomaly came on its topic and lies in the folder as a picture."""
    anomalies = msgspec.convert(summary["anomalies"], Anomalies)
    assert anomalies.parts == summary["answered"] == summary["frames"]
    assert summary["failed"] == 0
    assert anomalies.found + anomalies.false_alarms == anomalies.announced
    pictures = list(Path(summary["snapshots"]).iterdir())
    assert len(pictures) == anomalies.announced
    assert all(picture.read_bytes().startswith(b"\xff\xd8\xff") for picture in pictures)
    return anomalies


async def test_most_scratches_are_found_and_only_anomalies_are_told_and_pictured(tmp_path):
    status, out, err = await demo(tmp_path, "--frames", "40", "--fps", "8", "--json")
    assert status == 0, err
    summary = json.loads(out)
    anomalies = assert_told(summary)
    assert anomalies.found >= 5
    assert anomalies.missed + anomalies.false_alarms <= 4
    assert summary["model"]["component"] == "part-inspector"
    assert summary["fps"] > 0
    assert 0 < summary["latency_ms"]["p50"] <= summary["latency_ms"]["p95"]


async def test_a_line_stays_of_each_part_and_the_folder_of_pictures_is_named_at_the_end(tmp_path):
    status, out, err = await demo(tmp_path, "--frames", "12", "--cameras", "2", PATH="")
    assert status == 0, err
    lines = [line for line in err.splitlines() if "  part " in line]
    assert {line.split()[0] for line in lines} == {"belt-1", "belt-2"}
    assert len(lines) == 12
    assert "mosquitto_sub" in err
    assert f"annotated pictures: {tmp_path}" in out
    assert "12 parts: " in out
    assert "came on their topic" in out


async def test_it_is_a_demo_of_its_own(tmp_path):
    status, out, err = await demo(tmp_path, "--deploy")
    assert (status, out) == (2, "")
    assert "one of them" in err
