"""Combinations measured side by side, each in a worker of its own.

As many workers as memory allows are loaded, one after the other; each first answers every picture, untimed: that warms
it up and is held against the reference, which is the first combination that answers.  Then rounds: every combination
answers one picture in turn, the order rotating, and what the worker took is its time.  In each turn the picture is
answered twice and timed the second time, because a camera's next frame finds caches warm that another worker has just
cooled.  A combination that is far behind leaves early; the rounds end when the medians are stable, or the time is up.

The plane tells when a worker was lost: its combination is out at once, with what the worker died of.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import msgspec

from agent.errors import BackendUnavailableError, ModelRefusedError, VergeError, WorkerLostError
from agent.inference.manifest import ModelSpec
from agent.inference.plane import InferencePlane
from agent.inference.tuning.candidates import ANY
from agent.inference.tuning.choice import figures
from agent.inference.tuning.pictures import Sample
from agent.inference.tuning.values import Combination, Measured
from agent.inference.values import Answer, Description, PoolStatus
from agent.results.comparison import Predictions, difference
from agent.results.result import Reason

__all__ = ["load_placed", "measure", "room"]

LEAST_ROUNDS: Final = 9
MOST_ROUNDS: Final = 60
STABLE: Final = 0.01
"""The standard error of a median, as a fraction of it, below which more rounds tell nothing new."""
FAR_BEHIND: Final = 1.5
AT_ONCE: Final = 8
WORKER_BYTES: Final = 128 << 20
"""What a worker takes beside its model."""
_LEAST_S: Final = 1.0

Tell = Callable[[str], None]


def room(free_bytes: int, model_bytes: int) -> int:
    """How many workers may be loaded at once: half of the free memory is theirs, a model counts threefold."""
    return max(1, min(AT_ONCE, free_bytes // 2 // (WORKER_BYTES + 3 * model_bytes)))


async def measure(
    spec: ModelSpec, combinations: Sequence[Combination], pictures: Sequence[Sample], *,
    budget_s: float, at_once: int, tell: Tell,
) -> tuple[Measured, ...]:  # fmt: skip
    """What becomes of each combination, within about ``budget_s`` seconds."""
    deadline = asyncio.get_running_loop().time() + budget_s
    heats = [combinations[start : start + at_once] for start in range(0, len(combinations), at_once)]
    reference = _Reference()
    found: list[Measured] = []
    for number, heat in enumerate(heats):
        now = asyncio.get_running_loop().time()
        share = max(0.0, deadline - now) / (len(heats) - number)
        found += await _heat(_Heat(spec, pictures, reference, now + share, budget_s, tell), heat)
    return tuple(found)


class _Reference:
    """The answers that all others are held against."""

    def __init__(self) -> None:
        self.combination: Combination | None = None
        self.answers: Sequence[Predictions] = ()


class _Contender:
    """A combination while it is measured."""

    def __init__(self, combination: Combination) -> None:
        self.combination = combination
        self.name = str(combination)
        self.model: Description | None = None
        self.proving: list[Answer] = []
        """Its answers to the pictures before the rounds: what there is to tell of a model too slow for rounds."""
        self.timed: list[Answer] = []
        self.agreed = 0
        self.problem: Reason | None = None
        self.lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def measured(self) -> Measured:
        answers = self.timed or self.proving[1:] or self.proving
        if self.problem is None and not answers:
            self.problem = Reason.of(_late())
        found = Measured(combination=self.combination, agreed=self.agreed, problem=self.problem)
        if self.model is not None:
            found = msgspec.structs.replace(
                found, runtime=self.model.backend, ran_on=self.model.accelerator, load_ms=self.model.load_ms
            )
        if not answers:
            return found
        told = figures([each.worker_ms for each in answers])
        return msgspec.structs.replace(
            found,
            rounds=len(answers),
            median_ms=round(told.median_ms, 3),
            p95_ms=round(told.p95_ms, 3),
            infer_ms=round(statistics.median(each.timing_ms["infer"] for each in answers), 3),
            noise=round(told.noise, 4),
        )


class _TimeUpError(Exception):
    """The time of the heat is over."""


def _late() -> VergeError:
    return ModelRefusedError(
        "the time was up before it could be measured", code="not-measured", hint="give it more time"
    )


async def _heat(heat: _Heat, combinations: Sequence[Combination]) -> list[Measured]:
    contenders = [_Contender(each) for each in combinations]
    try:
        await heat.run(contenders)
    except ExceptionGroup as group:
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from None
    return [each.measured() for each in contenders]


class _Heat:
    """Combinations that are loaded at the same time."""

    def __init__(
        self, spec: ModelSpec, pictures: Sequence[Sample], reference: _Reference, deadline: float, budget_s: float,
        tell: Tell,
    ) -> None:  # fmt: skip
        self._spec = spec
        self._pictures = pictures
        self._reference = reference
        self._deadline = deadline
        self._budget_s = budget_s
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self._plane: InferencePlane

    async def run(self, contenders: Sequence[_Contender]) -> None:
        """Load, compare and time them."""
        known = {each.name: each for each in contenders}

        def changed(name: str, status: PoolStatus) -> None:
            if status.restarts and not known[name].lost.done():
                known[name].lost.set_result(status.reason)

        async with AsyncExitStack() as stack:
            # What a worker is lost over is quarantined here, and gone with the folder: its owner has it anyway.
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="verge-tuning-")))
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._plane = await stack.enter_async_context(InferencePlane(tasks, folder, changed=changed))
            for each in contenders:
                await self._guarded(each, self._prove(each))
            await self._rounds([each for each in contenders if each.problem is None])

    @property
    def _left_s(self) -> float:
        return self._deadline - self._loop.time()

    async def _guarded(self, contender: _Contender, doing: Coroutine[Any, Any, None]) -> None:
        """What goes wrong puts the contender out, and its worker away."""
        try:
            await doing
        except VergeError as error:
            contender.problem = Reason.of(error)
            self._tell(f"{contender.name} is out: {error.message}")
            if contender.name in self._plane.models:
                await self._plane.unload(contender.name)

    async def _prove(self, contender: _Contender) -> None:
        """Load it and have it answer every picture as the reference does."""
        if self._left_s <= 0:
            raise _late()
        self._tell(f"loading {contender.name}")
        contender.model = await load_placed(self._plane, contender.name, self._bounded(contender.combination))
        try:
            contender.proving = [await self._answer(contender, each) for each in self._pictures]
        except _TimeUpError:
            raise _late() from None
        answers = [each.predictions for each in contender.proving]
        if self._reference.combination is None:
            self._reference.combination, self._reference.answers = contender.combination, answers
        await self._compare(contender, answers)

    async def _compare(self, contender: _Contender, answers: Sequence[Predictions]) -> None:
        pairs = zip(self._pictures, self._reference.answers, answers, strict=True)
        told = await asyncio.to_thread(lambda: [(each.name, difference(one, other)) for each, one, other in pairs])
        found = [(name, words) for name, words in told if words]
        contender.agreed = len(told) - len(found)
        if found:
            name, words = found[0]
            more = f", and disagrees on {len(found) - 1} more" if len(found) > 1 else ""
            raise ModelRefusedError(
                f"on {name} it {words}{more} (against {self._reference.combination})", code="disagrees"
            )

    def _bounded(self, combination: Combination) -> ModelSpec:
        """The model for one worker that may not take the time of all."""
        spec = combination.applied(self._spec)
        run = msgspec.structs.replace(
            spec.run,
            workers=1,
            load_timeout_s=min(spec.run.load_timeout_s, max(_LEAST_S, self._left_s)),
            deadline_s=min(spec.run.deadline_s, max(_LEAST_S, self._budget_s / 4)),
        )
        return msgspec.structs.replace(spec, run=run)

    async def _answer(self, contender: _Contender, sample: Sample) -> Answer:
        """One answer; raises ``WorkerLostError`` when the worker is lost, ``_TimeUpError`` at the end of the time."""
        asking = self._loop.create_task(self._plane.infer(contender.name, sample.picture, label=sample.name))
        heard: set[asyncio.Future[Any]] = {asking, contender.lost}
        await asyncio.wait(heard, timeout=max(0.0, self._left_s), return_when=asyncio.FIRST_COMPLETED)
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
            for each in contenders[turn:] + contenders[:turn]:
                try:
                    await self._guarded(each, self._time(each, sample))
                except _TimeUpError:
                    return
            contenders = _racing([each for each in contenders if each.problem is None], number + 1)

    async def _time(self, contender: _Contender, sample: Sample) -> None:
        await self._answer(contender, sample)
        contender.timed.append(await self._answer(contender, sample))


async def load_placed(plane: InferencePlane, name: str, spec: ModelSpec) -> Description:
    """Load a model where it was asked to run; raises what ``InferencePlane.load`` does.

    A runtime that silently took another accelerator is ``BackendUnavailableError`` too, and the model is unloaded.
    """
    model = await plane.load(name, spec)
    wanted = spec.run.accelerator
    if wanted in (ANY, model.accelerator):
        return model
    # Once round the loop: what keeps a worker must have begun before it can be told to end.
    await asyncio.sleep(0)
    await plane.unload(name)
    raise BackendUnavailableError(
        f"{wanted} was asked for, and {model.accelerator} runs it", code="accelerator-unavailable"
    )


def _racing(contenders: list[_Contender], rounds: int) -> list[_Contender]:
    """Those that are timed further: no one when all medians are stable, and none that is far behind."""
    if rounds < LEAST_ROUNDS or not contenders:
        return contenders
    told = [(each, figures([answer.worker_ms for answer in each.timed])) for each in contenders]
    best = min(found.median_ms for _, found in told)
    near = [(each, found) for each, found in told if found.median_ms <= FAR_BEHIND * best]
    return [] if all(found.noise <= STABLE for _, found in near) else [each for each, _ in near]
