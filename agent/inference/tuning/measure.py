"""Placements measured side by side, each in a worker of its own.

As many workers as memory allows are loaded, one after the other; each first answers every picture, untimed: that warms
it up and is held against the reference, which is the first placement that answers.  Then rounds: every placement
answers one picture in turn, the order rotating, and what the worker took is its time.  In each turn the picture is
answered twice and timed the second time, because a camera's next frame finds caches warm that another worker has just
cooled.  A placement that is far behind leaves early; the rounds end when the medians are stable, or the time is up.

A placement whose worker is lost is out at once, with what the worker died of.

The pictures are the model's golden frames, or failing those the ones that ship with the package.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.config.streams import FrameLimits
from agent.errors import FrameError, ModelRefusedError, VergeError, WorkerLostError
from agent.frames.frame import Picture
from agent.frames.recognise import recognise
from agent.inference.manifest import SAMPLES, ModelSpec
from agent.inference.placement import Placement
from agent.inference.plane import InferencePlane
from agent.inference.tuning.choice import figures
from agent.inference.tuning.values import Measured
from agent.inference.values import Answer, ModelMetadata, PoolStatus
from agent.results.comparison.answers import difference
from agent.results.result import Reason

__all__ = ["Report", "Sample", "measure", "room", "samples"]

LEAST_ROUNDS: Final = 9
MOST_ROUNDS: Final = 60
STABLE: Final = 0.01
"""The standard error of a median, as a fraction of it, below which more rounds change nothing."""
FAR_BEHIND: Final = 1.5
AT_ONCE: Final = 8
WORKER_BYTES: Final = 128 << 20
"""What a worker takes beside its model."""
_LEAST_S: Final = 1.0
_MOST_PICTURES: Final = 8
_GOLDEN = "golden"
_PACKAGED = SAMPLES.parent / "images"
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".npy")

Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Sample:
    """A picture and what it is called."""

    name: str
    picture: Picture


def samples(spec: ModelSpec) -> tuple[Sample, ...]:
    """At most eight pictures; blocks while it reads them.  Raises ``ModelRefusedError`` where there is none."""
    file = Path(spec.manifest.file)
    for folder in ((file if file.is_dir() else file.parent) / _GOLDEN, _PACKAGED):
        if pictures := _read(folder):
            return pictures
    raise ModelRefusedError(
        "there are no pictures to measure the model on",
        hint=f"put some beside the model, into {_GOLDEN}/",
        code="no-pictures",
    )


def room(free_bytes: int, model_bytes: int) -> int:
    """How many workers may be loaded at once: half of the free memory is theirs, a model counts threefold."""
    return max(1, min(AT_ONCE, free_bytes // 2 // (WORKER_BYTES + 3 * model_bytes)))


async def measure(
    spec: ModelSpec, placements: Sequence[Placement], pictures: Sequence[Sample], *,
    budget_s: float, at_once: int, report: Report,
) -> tuple[Measured, ...]:  # fmt: skip
    """Measure each placement, all within about ``budget_s`` seconds; ``report`` is called with each step."""
    deadline = asyncio.get_running_loop().time() + budget_s
    heats = [placements[start : start + at_once] for start in range(0, len(placements), at_once)]
    reference = _Reference()
    measured: list[Measured] = []
    for number, heat in enumerate(heats):
        now = asyncio.get_running_loop().time()
        share = max(0.0, deadline - now) / (len(heats) - number)
        measured += await _heat(_Heat(spec, pictures, reference, now + share, budget_s, report), heat)
    return tuple(measured)


class _Reference:
    """The answers that all others are held against."""

    def __init__(self) -> None:
        self.placement: Placement | None = None
        self.answers: Sequence[Answer] = ()


class _Contender:
    """A placement while it is measured."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self.name = str(placement)
        self.model: ModelMetadata | None = None
        self.proving: list[Answer] = []
        """Its answers to the pictures before the rounds: all there is of a model too slow for rounds."""
        self.timed: list[Answer] = []
        self.agreed = 0
        self.problem: Reason | None = None
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def measured(self) -> Measured:
        answers = self.timed or self.proving[1:] or self.proving
        if self.problem is None and not answers:
            self.problem = Reason.of(_late())
        measured = Measured(placement=self.placement, agreed=self.agreed, problem=self.problem)
        if self.model is not None:
            measured = msgspec.structs.replace(
                measured, runtime=self.model.backend, ran_on=self.model.accelerator, load_ms=self.model.load_ms
            )
        if not answers:
            return measured
        total = figures([answer.worker_ms for answer in answers])
        return msgspec.structs.replace(
            measured,
            rounds=len(answers),
            median_ms=round(total.median_ms, 3),
            p95_ms=round(total.p95_ms, 3),
            infer_ms=round(statistics.median(answer.timing_ms["infer"] for answer in answers), 3),
            noise=round(total.noise, 4),
        )


class _TimeUpError(Exception):
    """The time of the heat is over."""


def _late() -> VergeError:
    return ModelRefusedError(
        "the time was up before it could be measured", code="not-measured", hint="give it more time"
    )


async def _heat(heat: _Heat, placements: Sequence[Placement]) -> list[Measured]:
    contenders = [_Contender(placement) for placement in placements]
    try:
        await heat.run(contenders)
    except ExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
    return [contender.measured() for contender in contenders]


class _Heat:
    """Placements that are loaded at the same time."""

    def __init__(
        self, spec: ModelSpec, pictures: Sequence[Sample], reference: _Reference, deadline: float, budget_s: float,
        report: Report,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._pictures = pictures
        self._reference = reference
        self._deadline = deadline
        self._budget_s = budget_s
        self._report = report
        self._loop = asyncio.get_running_loop()
        self._plane: InferencePlane

    async def run(self, contenders: Sequence[_Contender]) -> None:
        """Load, compare and time them."""
        known = {contender.name: contender for contender in contenders}

        def changed(name: str, status: PoolStatus) -> None:
            if status.restarts and not known[name].lost.done():
                known[name].lost.set_result(status.reason)

        async with AsyncExitStack() as stack:
            # What a worker is lost over is quarantined here, and gone with the folder: its owner has it anyway.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verge-tuning-")))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._plane = await stack.enter_async_context(InferencePlane(tasks, folder, changed=changed))
            for contender in contenders:
                await self._guarded(contender, self._prove(contender))
            await self._rounds([contender for contender in contenders if contender.problem is None])

    @property
    def _left_s(self) -> float:
        return self._deadline - self._loop.time()

    async def _guarded(self, contender: _Contender, doing: Coroutine[Any, Any, None]) -> None:
        """What goes wrong puts the contender out, and its worker away."""
        try:
            await doing
        except VergeError as error:
            contender.problem = Reason.of(error)
            self._report(f"{contender.name} is out: {error.message}")
            if contender.name in self._plane.models:
                await self._plane.unload(contender.name)

    async def _prove(self, contender: _Contender) -> None:
        """Load it and have it answer every picture as the reference does."""
        if self._left_s <= 0:
            raise _late()
        self._report(f"loading {contender.name}")
        contender.model = await self._plane.load(contender.name, self._bounded(), contender.placement)
        try:
            contender.proving = [await self._answer(contender, picture) for picture in self._pictures]
        except _TimeUpError:
            raise _late() from None
        answers = contender.proving
        if self._reference.placement is None:
            self._reference.placement, self._reference.answers = contender.placement, answers
        await self._compare(contender, answers)

    async def _compare(self, contender: _Contender, answers: Sequence[Answer]) -> None:
        names = [picture.name for picture in self._pictures]
        pairs = list(zip(self._reference.answers, answers, strict=True))
        differences = await asyncio.to_thread(
            lambda: [difference(one.predictions, other.predictions, aspect=one.aspect) for one, other in pairs]
        )
        disagreements = [(name, words) for name, words in zip(names, differences, strict=True) if words]
        contender.agreed = len(names) - len(disagreements)
        if disagreements:
            name, words = disagreements[0]
            more = f", and disagrees on {len(disagreements) - 1} more" if len(disagreements) > 1 else ""
            raise ModelRefusedError(
                f"on {name} it {words}{more} (against {self._reference.placement})", code="disagrees"
            )

    def _bounded(self) -> ModelSpec:
        """The model for one worker that may not take the time of all."""
        run = msgspec.structs.replace(
            self._spec.run,
            workers=1,
            load_timeout_s=min(self._spec.run.load_timeout_s, max(_LEAST_S, self._left_s)),
            deadline_s=min(self._spec.run.deadline_s, max(_LEAST_S, self._budget_s / 4)),
        )
        return msgspec.structs.replace(self._spec, run=run)

    async def _answer(self, contender: _Contender, sample: Sample) -> Answer:
        """One answer; raises ``WorkerLostError`` when the worker is lost, ``_TimeUpError`` at the end of the time."""
        asking = self._loop.create_task(self._plane.infer(contender.name, sample.picture, label=sample.name))
        events: set[asyncio.Future[Any]] = {asking, contender.lost}
        await asyncio.wait(events, timeout=max(0.0, self._left_s), return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return asking.result()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        if contender.lost.done():
            raise WorkerLostError(
                f"its worker was lost over {sample.name}: {contender.lost.result()}", code="worker-lost"
            )
        raise _TimeUpError

    async def _rounds(self, contenders: list[_Contender]) -> None:
        for number in range(MOST_ROUNDS):
            sample = self._pictures[number % len(self._pictures)]
            turn = number % max(1, len(contenders))
            for contender in contenders[turn:] + contenders[:turn]:
                try:
                    await self._guarded(contender, self._time(contender, sample))
                except _TimeUpError:
                    return
            contenders = _racing([contender for contender in contenders if contender.problem is None], number + 1)

    async def _time(self, contender: _Contender, sample: Sample) -> None:
        await self._answer(contender, sample)
        contender.timed.append(await self._answer(contender, sample))


def _racing(contenders: list[_Contender], rounds: int) -> list[_Contender]:
    """Those that are timed further: no one when all medians are stable, and none that is far behind."""
    if rounds < LEAST_ROUNDS or not contenders:
        return contenders
    timed = [(contender, figures([answer.worker_ms for answer in contender.timed])) for contender in contenders]
    best = min(times.median_ms for _, times in timed)
    near = [(contender, times) for contender, times in timed if times.median_ms <= FAR_BEHIND * best]
    return [] if all(times.noise <= STABLE for _, times in near) else [contender for contender, _ in near]


def _read(folder: Path) -> tuple[Sample, ...]:
    paths = sorted(path for path in folder.glob("*") if path.suffix.lower() in _SUFFIXES)
    read = (_sample(path) for path in _spread(paths))
    return tuple(sample for sample in read if sample is not None)


def _spread(paths: Sequence[Path]) -> Sequence[Path]:
    """Some from the beginning, the middle and the end of many: neighbours are alike."""
    most = _MOST_PICTURES
    return [paths[index * len(paths) // most] for index in range(most)] if len(paths) > most else paths


def _sample(path: Path) -> Sample | None:
    """The picture; None for a file that is none, which the check of golden frames reports."""
    limits = FrameLimits()
    try:
        with path.open("rb") as file:
            picture = recognise(file.read(limits.max_bytes + 1), None, limits)
    except (OSError, FrameError):
        return None
    return Sample(path.name, picture)
