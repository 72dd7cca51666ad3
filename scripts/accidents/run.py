"""The accidents, one after the other at random from a seed; then quiet, and what is left of the promises.

An accident ends before the next one begins, and what it broke is mended by then: what is tried is whether the agent
comes back by itself, and what was lost meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from scripts.accidents.site import Agent, Broker, Disk, Link
from scripts.accidents.traffic import BAD, GOOD, SETS, Traffic
from scripts.benchmarks import rig

_LAST = 20
"""Pictures in the quiet end that all have to be answered."""
_YEAR_S = 365 * 86_400
_SETTLED_S = 60.0
_RECONNECTED_S = 1.5
"""How long a link that is whole again may take until something comes over it."""
_KEPT_OUT = ("outbox", "ballast", "run", "logs")
"""What is never damaged: a result in a damaged outbox is gone, and the rest are no records."""


class Chaos:
    """The site and its accidents."""

    def __init__(self, folder: Path, seed: int, *, said: Callable[[str], None] = lambda _: None) -> None:
        self._folder = folder
        self._chance = random.Random(seed)
        self._said = said
        self._counts: Counter[str] = Counter()
        self._undefined: list[str] = []
        self._which = 0
        self._poison = 0
        self._began = time.monotonic()

    async def run(self, seconds: float) -> dict[str, Any]:
        """Have accidents for so long; the figures of it."""
        self._broker, self._disk = Broker(self._folder), Disk(self._folder / "data")
        self._link = Link(self._broker.port)
        async with AsyncExitStack() as stack:
            stack.enter_context(self._disk.in_place())
            await self._broker.start()
            stack.push_async_callback(self._broker.end, signal.SIGTERM)
            port = await stack.enter_async_context(self._link.running())
            self._traffic = await stack.enter_async_context(Traffic(self._broker.port, self._folder))
            self._agent = Agent(self._folder, self._disk, port)
            await self._traffic.listening()
            await self._agent.start()
            stack.push_async_callback(self._agent.end, signal.SIGTERM)
            await self._first_set()
            async with _in_background(self._traffic.film()), _in_background(self._agent.watched()):
                self._traffic.sending.set()
                await self._accidents(time.monotonic() + seconds)
                return await self._quiet_end()

    # -- before and after ----------------------------------------------------------------------------------------

    async def _first_set(self) -> None:
        async with asyncio.timeout(2 * _SETTLED_S):
            await self._traffic.active(_SETTLED_S)
            identity = self._traffic.deploy(0)
            await self._wait(lambda: identity in self._traffic.ended)
        ended = self._traffic.ended[identity]
        if ended["status"] != "SUCCEEDED":
            raise SystemExit(f"chaos: the first set cannot be deployed: {ended}")

    async def _quiet_end(self) -> dict[str, Any]:
        books, traffic = self._traffic.books, self._traffic
        self._said("quiet")
        await asyncio.sleep(2.0)
        until = time.monotonic()
        traffic.sending.clear()
        await self._wait(lambda: not books.open)
        await asyncio.sleep(1.0)
        unaccounted, lost = len(books.open), books.results_lost
        for number in sorted(books.open):
            self._said(f"no answer to frame {number}, sent at {books.sent_at[number] - self._began:.1f} s")
        dark_s, since = books.longest_dark(GOOD, until)
        self._said(f"dark for {dark_s:.2f} s since {since - self._began:.1f} s")
        recovered = await self._recovered()
        return {
            "frames_unaccounted": unaccounted,
            "results_lost": lost,
            "undefined_sets": len(self._undefined),
            "longest_dark_s": round(dark_s, 2),
            "recovered": recovered,
            "frames": len(books.sent),
            "answered": len([one for one in books.answers.values() if "error" not in one]),
            "failed": dict(sorted(books.failures.items())),
            "lost_by_the_broker": len(books.excused - books.answers.keys()),
            "answered_twice": books.duplicates,
            "deployments": dict(Counter(str(one.get("detailedStatus")) for one in traffic.ended.values())),
            "agent_starts": self._agent.starts,
            "accidents": dict(sorted(self._counts.items())),
            "disk": self._disk.mounted,
        }

    async def _recovered(self) -> bool:
        """Whether the agent now does all that it should: answers every picture, and takes a deployment."""
        books, traffic = self._traffic.books, self._traffic
        identity = traffic.deploy(self._which)
        before = len(books.sent)
        for _ in range(_LAST):
            traffic.picture(GOOD)
        numbers = sorted(books.sent)[before:]
        await self._wait(lambda: identity in traffic.ended and not books.open)
        fine = [number for number in numbers if "error" not in books.answers.get(number, {"error": None})]
        ended = traffic.ended.get(identity, {}).get("status")
        return len(fine) == _LAST and ended == "SUCCEEDED" and await traffic.active(5.0) == SETS[self._which]

    async def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _SETTLED_S
        while not done() and time.monotonic() < deadline:  # noqa: ASYNC110 looked at from many places
            await asyncio.sleep(0.05)

    # -- accidents -----------------------------------------------------------------------------------------------

    async def _accidents(self, end: float) -> None:
        kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "agent_killed": self._kill_agent,
            "agent_stopped": self._stop_agent,
            "agent_restarted": self._restart_agent,
            "worker_killed": self._kill_worker,
            "worker_stopped": self._stop_worker,
            "broker_killed": self._kill_broker,
            "broker_restarted": self._restart_broker,
            "broker_stopped": self._stop_broker,
            "link_cut": self._cut,
            "poison": self._send_poison,
            "hanging": self._send_hanging,
            "clock_jump": self._jump,
            "file_damaged": self._damage,
            "deployment": self._deploy,
            "deployment_again": self._deploy,
            "deployment_bad": self._deploy_bad,
        }
        if self._disk.mounted:
            kinds |= {"disk_full": self._fill_disk, "disk_read_only": self._read_only}
        deck: list[str] = []
        while time.monotonic() < end:
            # A deck and not a die, so that a short run meets every kind.
            if not deck:
                deck = sorted(kinds)
                self._chance.shuffle(deck)
            kind = deck.pop()
            self._said(kind)
            self._counts[kind] += 1
            await kinds[kind]()
            await asyncio.sleep(self._chance.uniform(0.3, 1.5))
            await self._look(kind)

    async def _look(self, after: str) -> None:
        """The set that is live is one that was deployed, whole; and pictures are answered before the next accident."""
        ended = time.monotonic()
        await self._wait(lambda: self._traffic.books.answered_after(GOOD, ended))
        components = await self._traffic.active(20.0)
        if components not in SETS:
            self._undefined.append(f"{after}: {components}")
            print(f"chaos: after {after} the set is {components}", file=sys.stderr)

    @contextlib.asynccontextmanager
    async def _away(self) -> AsyncIterator[None]:
        """Meanwhile nothing can come."""
        began = time.monotonic()
        try:
            yield
        finally:
            self._traffic.books.away.append((began, time.monotonic() + _RECONNECTED_S))

    async def _kill_agent(self) -> None:
        await self._agent.end(signal.SIGKILL)

    async def _restart_agent(self) -> None:
        await self._agent.end(signal.SIGTERM)

    async def _stop_agent(self) -> None:
        async with self._away():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._agent.pid, signal.SIGSTOP)
                await asyncio.sleep(self._chance.uniform(0.5, 3.0))
                os.kill(self._agent.pid, signal.SIGCONT)

    async def _kill_worker(self) -> None:
        if workers := self._agent.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._chance.choice(workers), signal.SIGKILL)

    async def _stop_worker(self) -> None:
        if workers := self._agent.workers():
            worker = self._chance.choice(workers)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGSTOP)
                await asyncio.sleep(self._chance.uniform(0.5, 4.0))
                os.kill(worker, signal.SIGCONT)

    async def _kill_broker(self) -> None:
        async with self._away():
            # What it acknowledged and has not handed on is lost with it, and not by the agent: first let it all out.
            self._link.cut()
            self._traffic.sending.clear()
            await asyncio.sleep(0.3)
            self._traffic.books.excuse_open()
            await self._broker.end(signal.SIGKILL)
            await self._broker_back()

    async def _restart_broker(self) -> None:
        async with self._away():
            self._link.cut()
            self._traffic.sending.clear()
            await asyncio.sleep(0.3)
            await self._broker.end(signal.SIGTERM)
            await self._broker_back()

    async def _broker_back(self) -> None:
        await asyncio.sleep(self._chance.uniform(0.0, 1.0))
        await self._broker.start()
        await self._traffic.listening()
        self._link.open = True
        self._traffic.sending.set()

    async def _stop_broker(self) -> None:
        async with self._away():
            self._broker.signal(signal.SIGSTOP)
            await asyncio.sleep(self._chance.uniform(0.3, 2.0))
            self._broker.signal(signal.SIGCONT)

    async def _cut(self) -> None:
        async with self._away():
            self._link.cut()
            await asyncio.sleep(self._chance.uniform(0.0, 2.0))
            self._link.open = True

    async def _send_poison(self) -> None:
        """The same picture a few times, and some that are each another one."""
        self._poison += 1
        for number in range(self._chance.randint(1, 6)):
            self._traffic.picture(BAD, "crash", number=10**6 * self._poison + number % 3)
            await asyncio.sleep(0.2)

    async def _send_hanging(self) -> None:
        self._poison += 1
        self._traffic.picture(BAD, "hang", number=10**6 * self._poison)

    async def _jump(self) -> None:
        self._agent.set_clock(self._chance.choice([-1, 1]) * self._chance.randint(10, _YEAR_S))
        await asyncio.sleep(self._chance.uniform(0.5, 3.0))
        self._agent.set_clock(0)

    async def _fill_disk(self) -> None:
        self._disk.fill()
        await asyncio.sleep(self._chance.uniform(0.5, 3.0))
        self._disk.clear()

    async def _read_only(self) -> None:
        """The power goes; the disk comes back as one that only reads; then it is mended and the power goes again."""
        self._agent.held = True
        try:
            await self._agent.end(signal.SIGKILL)
            await self._remounted("ro")
            began = time.monotonic()
            await self._agent.start()
            # What is asked is whether it works on such a disk, and not how fast it starts.
            await self._wait(lambda: self._traffic.books.answered_after(GOOD, began))
            await asyncio.sleep(self._chance.uniform(0.5, 2.0))
            await self._agent.end(signal.SIGKILL)
            await self._remounted("rw")
        finally:
            self._agent.held = False

    async def _remounted(self, how: str) -> None:
        """Workers of the agent that was killed may still be closing their files."""
        async with asyncio.timeout(_SETTLED_S):
            while True:
                try:
                    self._disk.remount(how)
                except OSError as error:
                    raise SystemExit(f"chaos: the disk cannot be made {how}: {error}") from error
                except Exception:  # noqa: BLE001 mount says that it is busy
                    await asyncio.sleep(0.1)
                else:
                    return

    async def _damage(self) -> None:
        """The power goes, and one file is not what it was."""
        self._agent.held = True
        try:
            await self._agent.end(signal.SIGKILL)
            files = [
                path
                for path in sorted(self._disk.folder.rglob("*"))
                if path.is_file() and path.stat().st_size and not set(path.parts) & set(_KEPT_OUT)
            ]
            if files:
                path = self._chance.choice(files)
                self._said(f"  {path.relative_to(self._disk.folder)} {self._spoil(path)}")
        finally:
            self._agent.held = False

    def _spoil(self, path: Path) -> str:
        how, data = self._chance.choice(["flipped", "cut", "zeroed", "gone"]), bytearray(path.read_bytes())
        if how == "gone":
            path.unlink()
            return how
        if how == "flipped":
            for _ in range(20):
                data[self._chance.randrange(len(data))] ^= 1 << self._chance.randrange(8)
        elif how == "cut":
            del data[self._chance.randrange(len(data)) :]
        else:
            data[:] = bytes(len(data))
        path.write_bytes(data)
        return how

    async def _deploy(self) -> None:
        self._which = 1 - self._which
        identity = self._traffic.deploy(self._which)
        if self._chance.choice((True, False)):
            await self._wait(lambda: identity in self._traffic.ended)

    async def _deploy_bad(self) -> None:
        self._traffic.deploy(self._chance.randrange(2), wrong=True)


@contextlib.asynccontextmanager
async def _in_background(work: Any) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def chaos(
    seconds: float, seed: int, said: Callable[[str], None] = lambda _: None, log: Path | None = None
) -> dict[str, Any]:
    """One run in a folder of its own; ``log`` is where the agent's log is kept."""
    with rig.folder() as folder:
        try:
            figures = asyncio.run(Chaos(folder, seed, said=said).run(seconds))
        finally:
            if log is not None:
                log.write_bytes((folder / "agent.log").read_bytes())
    return {**figures, "seed": seed}
