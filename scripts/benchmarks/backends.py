"""``scripts/bench --backend``: one network under several backends, through the agent's own plane and workers.

Every contestant is a model of the same plane: one worker, one thread.  First all of them answer the same pictures, and
what they say is compared with what the first one says.  Then they answer in turns of a few frames, in an order that
rotates, and a ratio compares a turn with the first contestant's of the same pass: what drifts, drifts for both.

A backend that cannot run the network is told as refused, with its own words; the first one must run it.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from agent.config.streams import FrameLimits
from agent.errors import VergeError
from agent.frames.frame import Picture
from agent.frames.recognise import recognise
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.inference.predictions import Labelled
from agent.inference.values import Answer
from scripts.benchmarks import formats, frames, rig

TURN = 10
"""Frames that a contestant answers before it is the next one's turn."""

_EVERY_CLASS = {"image-classification": {"top_k": 1000}}
"""Options under which a task tells all it has, so that no difference hides below the best five."""

COLUMNS = ("backend", "runtime", "infer ms", "ratio", "answer ms", "ratio", "same top-1", "max |Δscore|")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Course:
    """Who runs against whom, on what, and how often."""

    model: str
    names: Sequence[str]
    pictures: Sequence[Picture]
    turns: int


@dataclass
class Contestant:
    """A backend that runs the network: what is known of it, what it said, and the medians of its turns."""

    name: str
    told: dict[str, Any]
    answers: Sequence[Answer]
    infer_ms: list[float] = field(default_factory=list)
    answer_ms: list[float] = field(default_factory=list)
    """The whole way: from the plane's door to the worker and back."""


def measure(model: str, names: Sequence[str], turns: int, say: Say) -> dict[str, Any]:
    """Every figure, in the order of the names."""
    with rig.folder() as work:
        pictures = [recognise(data, None, FrameLimits()) for data in frames.read(frames.write(work / "frames"))]
        told = asyncio.run(_race(work, Course(model, names, pictures, turns), say))
    head = {"model": model, "cores": len(os.sched_getaffinity(0)), "pictures": len(pictures), "frames": turns * TURN}
    return head | {"backends": told}


async def _race(work: Path, course: Course, say: Say) -> dict[str, dict[str, Any]]:
    """What is told of each, by name."""
    entered: dict[str, Contestant] = {}
    refused: dict[str, str] = {}
    async with asyncio.TaskGroup() as tasks, InferencePlane(tasks, work / "quarantine") as plane:
        for name in course.names:
            say(f"{name} answers {len(course.pictures)} pictures")
            try:
                entered[name] = await _enter(plane, name, formats.spec(course.model, name, work), course.pictures)
            except (VergeError, formats.NoFormatError) as error:
                refused[name] = str(error)
        first = course.names[0]
        if first in refused:
            raise SystemExit(f"bench: {first}, which the others are compared with, cannot run it: {refused[first]}")
        say(f"{course.turns} turns of {TURN} frames each")
        for number in range(course.turns):
            await _pass(plane, list(entered.values()), course.pictures, number)
    told = {name: each.told | _against(entered[first], each) for name, each in entered.items()}
    return {name: told.get(name) or {"refused": refused[name]} for name in course.names}


async def _enter(plane: InferencePlane, name: str, spec: ModelSpec, pictures: Sequence[Picture]) -> Contestant:
    """Load it, and have every picture answered with all that its task can tell."""
    loaded = await plane.load(name, spec)
    talkative = f"{name}, telling all"
    options = spec.manifest.options | _EVERY_CLASS.get(loaded.task, {})
    manifest = msgspec.structs.replace(spec.manifest, options=options)
    await plane.load(talkative, msgspec.structs.replace(spec, manifest=manifest))
    answers = [await plane.infer(talkative, picture) for picture in pictures]
    await plane.unload(talkative)
    told = {"runtime": loaded.backend, "file": Path(spec.manifest.file).name, "load_ms": loaded.load_ms}
    return Contestant(name, told, answers)


async def _pass(
    plane: InferencePlane, contestants: Sequence[Contestant], pictures: Sequence[Picture], number: int
) -> None:
    """A turn of each, on the same pictures; another one begins each time."""
    shown = list(islice(cycle(pictures), number * TURN, (number + 1) * TURN))
    first = number % len(contestants)
    for each in (*contestants[first:], *contestants[:first]):
        infer_ms, answer_ms = [], []
        for picture in shown:
            began = time.perf_counter()
            answer = await plane.infer(each.name, picture)
            answer_ms.append((time.perf_counter() - began) * 1e3)
            infer_ms.append(answer.timing_ms["infer"])
        each.infer_ms.append(median(infer_ms))
        each.answer_ms.append(median(answer_ms))


def _against(first: Contestant, each: Contestant) -> dict[str, Any]:
    """Agreement and times; of the ratios of each turn the median, the smallest and the largest."""
    pairs = list(zip(first.answers, each.answers, strict=True))
    differences = [_difference(_scores(one), _scores(other)) for one, other in pairs]
    told: dict[str, Any] = {
        "same_top_1": sum(_best(one) == _best(other) for one, other in pairs),
        "max_score_difference": round(max(differences), 6),
    }
    for part, mine, theirs in (
        ("infer", each.infer_ms, first.infer_ms),
        ("answer", each.answer_ms, first.answer_ms),
    ):
        ratios = sorted(one / other for one, other in zip(mine, theirs, strict=True))
        told[f"{part}_ms_p50"] = round(median(mine), 3)
        told[f"{part}_ratio"] = round(median(ratios), 3)
        told[f"{part}_ratio_range"] = [round(ratios[0], 3), round(ratios[-1], 3)]
    return told


def _best(answer: Answer) -> int | None:
    return next((one.label_id for one in answer.predictions if isinstance(one, Labelled)), None)


def _scores(answer: Answer) -> dict[int, float]:
    """Of each class its best score: predictions come best first."""
    scores: dict[int, float] = {}
    for prediction in answer.predictions:
        if isinstance(prediction, Labelled):
            scores.setdefault(prediction.label_id, prediction.score)
    return scores


def _difference(one: Mapping[int, float], other: Mapping[int, float]) -> float:
    """Of the class on which they differ most; what one does not list, it scores 0."""
    return max((abs(one.get(label, 0.0) - other.get(label, 0.0)) for label in one.keys() | other.keys()), default=0.0)


def table(told: Mapping[str, Any]) -> str:
    """For people; the refused below."""
    backends: Mapping[str, Mapping[str, Any]] = told["backends"]
    head = (
        f"{told['model']}, {told['cores']} cores; {told['pictures']} pictures compared, {told['frames']} frames timed"
    )
    lines = [head, _row(COLUMNS)]
    for name, each in backends.items():
        if "refused" not in each:
            times = [text for part in ("infer", "answer") for text in _shown(part, each)]
            same = f"{each['same_top_1']} of {told['pictures']}"
            lines.append(_row((name, each["runtime"], *times, same, f"{each['max_score_difference']:.6f}")))
    lines += [f"{name} cannot run it: {each['refused']}" for name, each in backends.items() if "refused" in each]
    return "\n".join(lines)


def _shown(part: str, figures: Mapping[str, Any]) -> tuple[str, str]:
    low, high = figures[f"{part}_ratio_range"]
    return f"{figures[f'{part}_ms_p50']:.2f}", f"{figures[f'{part}_ratio']:.2f} ({low:.2f}-{high:.2f})"


def _row(cells: Sequence[str]) -> str:
    name, runtime, *figures = cells
    return "  ".join((f"{name:<11}", f"{runtime:<14}", *(f"{figure:>16}" for figure in figures)))
