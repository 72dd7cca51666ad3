"""A model's workers: requests are pulled from feeders in turn, workers that die are replaced.

*Pull.*  A pool asks its feeders, one after the other, for a request whenever a worker has a free place; so
queue policies stay with the streams and no picture waits in two places.

*Loss.*  When a worker is lost, the request it worked on is a suspect: its input is quarantined and it is tried
once more, alone, after everything else that waits or a second later; with several workers only while all of them are
up, so that the last healthy one is not risked.  An input that takes a second worker with it is given up, and refused
from then on (``guilt``).  The request that only waited in the worker's inbox is innocent and goes first.

*Lateness.*  A worker that has used half of its deadline gets a standby started beside it, so that a hung one
can be replaced the moment it is given up; if it answers after all, the standby leaves.

*Restarts.*  A dead worker is started again at once, then with growing delays, ``cap_s`` at most.  A worker that lived
for ``healthy_s`` starts the count anew.  After ``limit`` quick deaths between which nothing was answered the model is
*broken*: that is shown, and nobody waits for it; it goes on being started, at last every ``cap_s``, so that a box
nobody visits can still heal when what was wrong has gone away.  While pictures are answered between the deaths, what
ends the workers is not the model: the next one is started within ``answering_cap_s``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from agent.config.streams import FrameLimits
from agent.errors import InvalidInputError, VergeError, WorkerLostError
from agent.inference.guilt import Guilt
from agent.inference.manifest import ModelSpec
from agent.inference.process import Outcome, Worker
from agent.inference.quarantine import Quarantine
from agent.inference.values import Feeder, InferenceRequest, ModelMetadata, PoolState, PoolStatus

__all__ = ["Pool", "Restart", "Restarts"]

log = logging.getLogger(__name__)

_MOST_STEPS = 20
"""A delay is not doubled any more."""
_SECOND_TRY_S = 10.0
"""How long a suspect waits for its second try, where a new worker is there in less."""
_STARTS = 3
"""Or as long as so many starts of a worker take."""
_PATIENCE_S = 1.0
"""After which a worker is emptied for a suspect though other requests wait."""


class Pool:
    """The workers of one loaded model; ``start`` and ``stop`` bracket its life."""

    def __init__(
        self, name: str, spec: ModelSpec, *, threads: int, limits: FrameLimits, quarantine: Quarantine,
        changed: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.name = name
        self.spec = spec
        self._threads = threads
        self._limits = limits
        self._quarantine = quarantine
        self._changed = changed
        self._guilt = Guilt()
        self._turn = asyncio.Event()
        """An answer came, or a worker came or went."""
        self._answered = False
        """Whether anything was answered since the last death of a worker."""
        self._status = PoolStatus(PoolState.STARTING)
        self._workers: list[Worker] = []
        self._feeders: deque[Feeder] = deque()
        self._retry_queue: deque[InferenceRequest[Any]] = deque()
        self._suspects: deque[InferenceRequest[Any]] = deque()
        self._events: dict[Worker, asyncio.Event] = {}
        self._slots: list[asyncio.Task[None]] = []
        self._leaving: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    @property
    def status(self) -> PoolStatus:
        """The workers at a glance."""
        return self._status

    @property
    def _second_try_s(self) -> float:
        model = self._status.metadata
        return max(_SECOND_TRY_S, _STARTS * (model.load_ms + model.longest_ms) / 1e3 if model else 0.0)

    async def start(self, tasks: asyncio.TaskGroup) -> ModelMetadata:
        """Load the model in every worker; raises what kept the first from loading it."""
        self._tasks = tasks
        count = max(1, self.spec.run.workers)
        starting = [self._loop.create_task(self._start_worker()) for _ in range(count)]
        try:
            started = await asyncio.gather(*starting, return_exceptions=True)
        except BaseException:
            await asyncio.shield(asyncio.gather(*(self._stop_standby(start) for start in starting)))
            raise
        workers = [worker for worker in started if isinstance(worker, Worker)]
        problems = [problem for problem in started if isinstance(problem, BaseException)]
        if problems:
            await asyncio.gather(*(worker.stop() for worker in workers))
            raise problems[0]
        self._slots = [self._slot(number, worker) for number, worker in enumerate(workers)]
        metadata = workers[0].metadata
        assert metadata is not None  # noqa: S101 a started worker has loaded
        self._set(PoolState.RUNNING, metadata=metadata)
        # A slot ends its worker, and one that never ran would not.
        await asyncio.sleep(0)
        return metadata

    def start_later(self, tasks: asyncio.TaskGroup, problem: VergeError) -> None:
        """Begin without a worker, because of ``problem``, as after the loss of all; the model is tried again."""
        self._tasks = tasks
        self._slots = [self._slot(number, problem) for number in range(max(1, self.spec.run.workers))]
        broken = isinstance(problem, InvalidInputError)
        self._set(PoolState.BROKEN if broken else PoolState.BACKOFF, str(problem))

    async def stop(self, *, finish: bool = True) -> None:
        """End the workers once they have answered what they hold and what waits for a second try.

        What of it cannot be answered within the time of a second try is finished with ``WorkerLostError``; without
        ``finish``, all of it.
        """
        if finish:
            await self._second_tries()
        else:
            for worker in self._workers:
                if worker.requests:
                    worker.kill()
        self._set(PoolState.STOPPED)
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, *self._leaving, return_exceptions=True)
        self._give_up("the model was unloaded", "model-unloaded")

    def attach(self, feeder: Feeder) -> None:
        """Take requests from this feeder too."""
        self._feeders.append(feeder)
        self.wake()

    def detach(self, feeder: Feeder) -> None:
        """Take no more requests from this feeder; those in hand are finished."""
        self._feeders.remove(feeder)

    def hand_over(self, other: Pool) -> None:
        """Have another pool take the requests of the feeders from now on; those in hand are finished here."""
        while self._feeders:
            other.attach(self._feeders.popleft())

    def wake(self) -> None:
        """A request may be waiting, or a worker may be free: hand over what can be handed over."""
        if self._status.state is PoolState.STOPPED:
            return
        prover = self._prover()
        if prover is not None and prover.idle and (suspect := self._suspect()) is not None:
            prover.send(suspect)
        while (worker := self._freest(prover)) is not None and (request := self._next()) is not None:
            worker.send(request)
        if worker is not None and worker.idle and (suspect := self._suspect()) is not None:
            worker.send(suspect)

    async def _second_tries(self) -> None:
        """Have the requests answered that a worker was lost over, or in front of."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._second_try_s):
                while (self._retry_queue or self._suspects) and self._status.state is not PoolState.BROKEN:
                    self._turn.clear()
                    self.wake()
                    await self._turn.wait()

    # -- choosing ------------------------------------------------------------------------------------------

    def _freest(self, prover: Worker | None) -> Worker | None:
        best, most = None, 0
        for worker in self._workers:
            if worker.free > most and worker is not prover:
                best, most = worker, worker.free
        return best

    def _next(self) -> InferenceRequest[Any] | None:
        if self._retry_queue:
            return self._retry_queue.popleft()
        empty = 0
        while empty < len(self._feeders):
            self._feeders.rotate(-1)
            request = self._feeders[-1].take()
            if request is None:
                empty += 1
            elif self._may_be_tried(request):
                return request
        return None

    def _may_be_tried(self, request: InferenceRequest[Any]) -> bool:
        """Whether a worker may have it now; it is refused, or waits as a suspect, when not."""
        refusal = self._guilt.refusal(request.input, request.camera, self._loop.time())
        if refusal is not None:
            request.finish(refusal)
        elif self._guilt.is_suspect(request.input):
            self._suspect_again(request)
        else:
            return True
        return False

    def _suspect_again(self, request: InferenceRequest[Any]) -> None:
        now, second_try_s = self._loop.time(), self._second_try_s
        request.suspected, request.expires = now, now + second_try_s
        self._suspects.append(request)
        for later in (_PATIENCE_S, second_try_s):
            self._loop.call_later(later, self.wake)

    def _prover(self) -> Worker | None:
        """The worker that is kept free for a suspect that has waited long enough."""
        if not self._suspects or len(self._workers) < len(self._slots):
            return None
        if self._loop.time() < self._suspects[0].suspected + _PATIENCE_S:
            return None
        return self._workers[0]

    def _suspect(self) -> InferenceRequest[Any] | None:
        """The next suspect that may be tried now."""
        now = self._loop.time()
        while self._suspects and (len(self._workers) >= len(self._slots) or self._suspects[0].expires <= now):
            request = self._suspects.popleft()
            if (refusal := self._guilt.refusal(request.input, request.camera, now)) is not None:
                request.finish(refusal)
            elif now < request.expires:
                return request
            else:
                lost = WorkerLostError(f"a worker was lost over the {request.subject}", code="worker-crashed")
                request.finish(lost)
        return None

    # -- a slot: one worker after the other ---------------------------------------------------------------

    def _slot(self, number: int, first: Worker | VergeError) -> asyncio.Task[None]:
        return self._tasks.create_task(self._supervise_slot(first), name=f"agent.model.{self.name}.{number}")

    async def _supervise_slot(self, first: Worker | VergeError) -> None:
        """Have a worker in this slot until cancelled; ``first`` is one, or what kept it from loading."""
        restarts = Restarts()
        worker = (
            first if isinstance(first, Worker) else await self._replace(restarts, restarts.after(first), str(first))
        )
        try:
            while True:
                began = self._loop.time()
                standby = await self._serve_until_lost(worker)
                reason = await worker.explain()
                log.warning("model %s: a worker was lost: %s", self.name, reason)
                self._set(self._status.state, reason, restarts=self._status.restarts + 1)
                self._requeue_lost(worker)
                restart = restarts.died(self._loop.time() - began, answered=self._answered)
                self._answered = False
                worker = standby or await self._replace(restarts, restart, reason)
        finally:
            if worker in self._workers:
                self._workers.remove(worker)
            await asyncio.shield(self._end(worker))

    async def _serve_until_lost(self, worker: Worker) -> Worker | None:
        """Let it work until it is lost; the result is the standby that was started when it was late."""
        self._workers.append(worker)
        event = self._events[worker] = asyncio.Event()
        standby: asyncio.Task[Worker] | None = None
        self._set(PoolState.RUNNING, self._status.reason, metadata=worker.metadata)
        self.wake()
        try:
            while not worker.lost:
                await event.wait()
                event.clear()
                if worker.late and not worker.lost and standby is None:
                    standby = self._loop.create_task(self._start_worker(), name=f"agent.model.{self.name}.standby")
                if standby is not None and not worker.late and not worker.lost:
                    # Beside the watch over the worker, which may be lost meanwhile.
                    leaving = self._loop.create_task(
                        self._stop_standby(standby), name=f"agent.model.{self.name}.leaving"
                    )
                    self._leaving.add(leaving)
                    leaving.add_done_callback(self._leaving.discard)
                    standby = None
            self._workers.remove(worker)
            return await self._standby_worker(standby) if standby is not None else None
        except BaseException:
            if standby is not None:
                await asyncio.shield(self._stop_standby(standby))
            raise
        finally:
            del self._events[worker]

    async def _replace(self, restarts: Restarts, restart: Restart, reason: str) -> Worker:
        """Start another worker, after a delay, until one loads."""
        while True:
            if not self._workers:
                self._set(PoolState.BROKEN if restart.broken else PoolState.BACKOFF, reason)
                if restart.broken:
                    self._give_up(f"the model {self.name} is broken: {reason}", "model-broken")
            await asyncio.sleep(restart.delay_s)
            try:
                return await self._start_worker()
            except VergeError as error:
                reason = str(error)
                log.warning("model %s: a worker could not be started: %s", self.name, reason)
                restart = restarts.after(error)

    async def _start_worker(self) -> Worker:
        """A worker that has loaded the model; raises ``VergeError`` and leaves no process behind when it cannot."""
        run = self.spec.run
        worker = Worker(
            slot_bytes=self._limits.max_bytes, floor_s=run.deadline_s,
            on_answer=self._on_answer, on_pace=self._on_event, on_lost=self._on_event,
        )  # fmt: skip
        usual = {
            "OMP_NUM_THREADS": str(self._threads),
            "OPENBLAS_NUM_THREADS": str(self._threads),
            # What a header promises was checked by the recogniser; the decoder gets the same bound.
            "OPENCV_IO_MAX_IMAGE_PIXELS": str(self._limits.max_pixels),
        }
        await worker.start(run.interpreter, usual | run.environment, self.spec.user, self.spec.folders)
        try:
            metadata = await self._load(worker)
        except BaseException:
            worker.kill()
            await asyncio.shield(worker.stop())
            raise
        worker.metadata = msgspec.structs.replace(metadata, name=self.spec.name, version=self.spec.manifest.version)
        return worker

    async def _load(self, worker: Worker) -> ModelMetadata:
        try:
            return await worker.load(self.spec.request(self._threads), self.spec.run.load_timeout_s)
        except WorkerLostError as error:
            reason = await worker.explain()
            raise WorkerLostError(f"{error.message}: {reason}", code=error.code, hint=error.hint) from error

    async def _standby_worker(self, standby: asyncio.Task[Worker]) -> Worker | None:
        try:
            return await standby
        except VergeError as error:
            log.warning("model %s: the standby could not be started: %s", self.name, error)
            return None

    async def _stop_standby(self, standby: asyncio.Task[Worker]) -> None:
        standby.cancel()
        (outcome,) = await asyncio.gather(standby, return_exceptions=True)
        if isinstance(outcome, Worker):
            await outcome.stop()
        elif isinstance(outcome, Exception):
            log.warning("model %s: the standby could not be started: %s", self.name, outcome)

    async def _end(self, worker: Worker) -> None:
        await worker.stop()
        while worker.requests:
            request = worker.requests.popleft()
            request.finish(WorkerLostError("the model was unloaded", code="model-unloaded"))

    def _give_up(self, message: str, code: str) -> None:
        """Finish what waits for a second worker."""
        waiting = [*self._retry_queue, *self._suspects]
        self._retry_queue.clear()
        self._suspects.clear()
        for request in waiting:
            request.finish(WorkerLostError(message, code=code))

    # -- what workers report --------------------------------------------------------------------------------

    def _on_answer(self, request: InferenceRequest[Any], outcome: Outcome) -> None:
        self._answered = True
        self._turn.set()
        if request.kills:
            self._guilt.acquit(request.input)
        # The next request first: the worker should not wait for this one's result to be published.
        self.wake()
        request.finish(outcome)

    def _on_event(self, worker: Worker) -> None:
        event = self._events.get(worker)
        if event is not None:
            event.set()

    def _requeue_lost(self, worker: Worker) -> None:
        """Sort what a lost worker held: the request in work is a suspect, those behind it are innocent."""
        held = list(worker.requests)
        worker.requests.clear()
        self._retry_queue.extendleft(reversed(held[1:]))
        for request in held[:1]:
            request.kills += 1
            guilty = self._guilt.lost(request.input, request.camera, self._loop.time())
            self._tasks.create_task(self._quarantine.put(request.input, request.label), name="agent.quarantine")
            if guilty:
                code = "worker-hung" if worker.hung else "worker-crashed"
                message = f"two workers were lost over the {request.subject}: {worker.reason}"
                request.finish(WorkerLostError(message, code=code))
            else:
                self._suspect_again(request)
        self.wake()

    def _set(
        self, state: PoolState, reason: str = "", *, restarts: int | None = None, metadata: ModelMetadata | None = None
    ) -> None:
        status = PoolStatus(
            state,
            reason,
            len(self._workers),
            self._status.restarts if restarts is None else restarts,
            metadata or self._status.metadata,
        )
        self._turn.set()
        if status != self._status:
            self._status = status
            self._changed()


@dataclass(frozen=True, slots=True)
class Restart:
    """Start again after ``delay_s``; ``broken`` when it happened too quickly too often."""

    delay_s: float
    broken: bool


class Restarts:
    """The count of quick deaths, which decides when a worker is started again."""

    def __init__(
        self, *, healthy_s: float = 30.0, limit: int = 6, base_s: float = 0.25, cap_s: float = 30.0,
        answering_cap_s: float = 2.0, free: int = 2,
    ) -> None:  # fmt: skip
        self._healthy_s = healthy_s
        self._limit = limit
        self._base_s = base_s
        self._cap_s = cap_s
        self._answering_cap_s = answering_cap_s
        self._free = free
        self._quick = 0
        self._unanswered = 0

    def died(self, lived_s: float, *, answered: bool = False) -> Restart:
        """Decide after a death; ``answered`` when the model has answered something since the death before.

        The first ``free`` quick ones cost no delay.
        """
        self._quick = 1 if lived_s >= self._healthy_s else self._quick + 1
        self._unanswered = 0 if answered else min(self._unanswered + 1, self._quick)
        broken = self._unanswered >= self._limit
        answering = not broken and self._unanswered < self._quick
        cap_s = self._answering_cap_s if answering else self._cap_s
        step = min(self._unanswered if broken else self._quick, _MOST_STEPS) - self._free
        return Restart(0.0 if step <= 0 else min(cap_s, self._base_s * 2.0 ** (step - 1)), broken=broken)

    def after(self, error: VergeError) -> Restart:
        """Decide after a start that failed; what was refused is seldom mended by time alone."""
        return self.refused() if isinstance(error, InvalidInputError) else self.died(0.0)

    def refused(self) -> Restart:
        """Decide after a start that failed for a reason that time alone seldom mends."""
        return Restart(self._cap_s, broken=True)
