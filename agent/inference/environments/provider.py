"""The environments of runtime components: one that is there is used, any other is built, proved and handed out."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
from packaging.requirements import Requirement

from agent.config.strict import nearest
from agent.files import remove_tree
from agent.inference.environments import present, survey
from agent.inference.environments.build import build
from agent.inference.environments.choose import Candidate, Choice, WheelSource, choose, parse_pins
from agent.inference.environments.combinations import FAMILIES, Combination
from agent.inference.environments.errors import (
    CandidateFailedError,
    IndexUnreachableError,
    RuntimeUnreachableError,
    UnsupportedRuntimeError,
)
from agent.inference.environments.proof import prove
from agent.inference.environments.requirements import room
from agent.inference.environments.spec import Environment, RuntimeSpec
from agent.inference.environments.store import EnvironmentStore, Record, folders_of, listing, request
from agent.inference.environments.wheels import read

__all__ = ["Provider"]

log = logging.getLogger(__name__)

Report = Callable[[str], None]

_OWN = "the agent's own Python"


class Provider:
    """Environments for runtime components; ``timeout_s`` bounds one build with all its tries, as Greengrass does."""

    def __init__(self, *, timeout_s: float = 900.0, families: Mapping[str, Sequence[Combination]] = FAMILIES) -> None:
        self.timeout_s = timeout_s
        self._families = families
        self._roots: set[Path] = set()
        self._looked: dict[RuntimeSpec, Environment] = {}
        self._recalled: dict[RuntimeSpec, Environment] = {}

    def find(self, spec: RuntimeSpec) -> Environment | None:
        """What is built and proved already; None where something would have to be done."""
        store = EnvironmentStore(spec.root)
        self._roots.add(spec.root)
        digest = request(spec)
        for folder, record in store.ready():
            serves = digest in record.requests
            if not spec.install:
                serves = not present.against(record.packages, parse_pins(spec.packages))
            if record.family == spec.family and serves:
                return store.environment(folder, record)
        looked = self._looked.get(spec)
        return looked if looked and os.access(looked.python, os.X_OK) else None

    async def recall(self, spec: RuntimeSpec) -> Environment | None:
        """What served before, the agent's own Python included: a start must not wait for an index out of reach.

        Raises ``UnsupportedRuntimeError`` where the folder cannot be read.
        """
        with _usable(spec.root):
            if known := self.find(spec) or self._recalled.get(spec):
                return known
            if not EnvironmentStore(spec.root).is_own(request(spec)):
                return None
        why = f"nothing could be installed under {spec.root}; it is tried again when the component changes"
        try:
            self._recalled[spec] = await present.look(spec.family, parse_pins(spec.packages), why=why)
        except CandidateFailedError:
            return None
        return self._recalled[spec]

    async def provide(self, spec: RuntimeSpec, report: Report = lambda _line: None) -> Environment:
        """Find it, else build it; ``report`` is called with each step.

        Raises ``UnsupportedRuntimeError`` naming every combination and why it failed,
        ``RuntimeUnreachableError`` where that was for want of the package index or of time.
        """
        if spec.family not in self._families:
            hint = nearest(spec.family, self._families) or f"known: {', '.join(self._families)}"
            raise UnsupportedRuntimeError(
                f"there is no runtime family {spec.family!r}", hint=hint, code="runtime-unknown"
            )
        pins = parse_pins(spec.packages)
        with _usable(spec.root):
            if known := self.find(spec):
                return known
            if not spec.install:
                return await self._present(spec, pins)
            return await self._in_time(spec, pins, report)

    async def _in_time(self, spec: RuntimeSpec, pins: Sequence[Requirement], report: Report) -> Environment:
        try:
            async with asyncio.timeout(self.timeout_s):
                return await self._install(spec, pins, report)
        except TimeoutError:
            raise RuntimeUnreachableError(
                f"the {spec.family} runtime was not ready within {self.timeout_s:g} s",
                hint="a slow connection? bring the wheels in a wheelhouse",
                code="runtime-timeout",
            ) from None

    def prune(self, kept: Iterable[Environment], roots: Iterable[Path] = ()) -> None:
        """Remove our environments that are not ``kept``, in every root that was asked for and in ``roots``."""
        folders = {Path(environment.python).parent.parent for environment in kept}
        for root in self._roots | set(roots):
            try:
                EnvironmentStore(root).prune(folders)
            except OSError as error:
                log.warning("environments in %s are left as they are: %s", root, error)

    # -- building ------------------------------------------------------------------------------------------

    async def _install(self, spec: RuntimeSpec, pins: Sequence[Requirement], report: Report) -> Environment:
        work = _Work(spec, EnvironmentStore(spec.root), report)
        async with work.store.locked(report) as lock:
            if known := self.find(spec):
                return known
            await asyncio.to_thread(work.store.clear)
            choice, shortage = await self._choose(spec, pins)
            tried, unreachable = list(choice.rejected), False
            for candidate in choice.candidates:
                if unreachable and candidate.source is WheelSource.INDEX:
                    tried.append(f"{candidate}: not tried")
                    continue
                try:
                    return await work.attempt(candidate, lock)
                except CandidateFailedError as fell:
                    unreachable = unreachable or isinstance(fell, IndexUnreachableError)
                    tried.append(f"{candidate}: {fell}")
                    report(tried[-1])
            return await self._last(spec, pins, report, _Failure(tuple(tried), unreachable, shortage))

    async def _choose(self, spec: RuntimeSpec, pins: Sequence[Requirement]) -> tuple[Choice, str]:
        """The candidates; none, and why, where the disk has no room."""
        host = await survey.host(spec.root, spec.interpreter)
        if short := room(host.free_bytes):
            return Choice((), (f"{spec.root}: {short.what}",)), short.fix
        if spec.wheelhouse is None and not spec.index:
            return Choice((), ("there is nothing to install from: no wheelhouse, and the index is switched off",)), ""
        wheels = None if spec.wheelhouse is None else read(listing(spec.wheelhouse))
        return choose(self._families[spec.family], host, wheelhouse=wheels, index=spec.index, pins=pins), ""

    async def _last(
        self, spec: RuntimeSpec, pins: Sequence[Requirement], report: Report, failure: _Failure
    ) -> Environment:
        """The agent's own interpreter, unless the user named another or brought the wheels; or the end."""
        if spec.wheelhouse is not None or not survey.is_own(spec.interpreter):
            raise failure.error(spec)
        try:
            why = f"nothing could be installed under {spec.root} ({'; '.join(failure.tried)})"
            environment = await present.look(spec.family, pins, why=why)
        except CandidateFailedError as fell:
            raise failure.error(spec, f"{_OWN}: {fell}") from fell
        report(environment.description)
        await asyncio.to_thread(EnvironmentStore(spec.root).note_own, request(spec))
        return environment

    async def _present(self, spec: RuntimeSpec, pins: Sequence[Requirement]) -> Environment:
        """What is there, where nothing may be installed."""
        why = "UseInstaller is false, nothing was installed"
        pythons = [python for python in present.places(spec.root, spec.family) if python.exists()]
        tried = [] if pythons else [f"there is no environment under {spec.root}"]
        for python in [*pythons, None]:
            try:
                environment = await present.look(spec.family, pins, python, why)
            except CandidateFailedError as fell:
                tried.append(f"{python or _OWN}: {fell}")
            else:
                self._looked[spec] = environment
                return environment
        raise UnsupportedRuntimeError(
            f"no {spec.family} runtime was found, and UseInstaller is false",
            hint="let UseInstaller be true, or make an environment under MLRootPath",
            tried=tried,
        )


@contextmanager
def _usable(root: Path) -> Iterator[None]:
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            root.stat()  # ``exists`` hides since Python 3.14 what keeps one from looking
        yield
    except OSError as error:
        raise UnsupportedRuntimeError(
            f"{root} cannot be used: {error}", hint="let MLRootPath name a folder that the agent may write to"
        ) from error


@dataclass(frozen=True, slots=True)
class _Failure:
    """How a build came to nothing."""

    tried: tuple[str, ...]
    unreachable: bool
    shortage: str

    def error(self, spec: RuntimeSpec, *last: str) -> UnsupportedRuntimeError | RuntimeUnreachableError:
        tried = (*self.tried, *last)
        message = f"no {spec.family} runtime can be had for {spec.component}"
        if self.unreachable:
            hint = "check the network and pip's settings for the index, or bring the wheels in a wheelhouse"
            return RuntimeUnreachableError(message, hint=hint, tried=tried)
        if self.shortage:
            return UnsupportedRuntimeError(message, hint=self.shortage, tried=tried, code="runtime-no-room")
        hint = "install a Python that the wheels are for, add wheels to the wheelhouse, or loosen the requirements"
        return UnsupportedRuntimeError(message, hint=hint, tried=tried)


@dataclass(frozen=True, slots=True)
class _Work:
    """One request on its way to an environment."""

    spec: RuntimeSpec
    store: EnvironmentStore
    report: Report

    async def attempt(self, candidate: Candidate, lock: int) -> Environment:
        """Build and prove a candidate; it counts only when this returns.  Raises ``CandidateFailedError``."""
        folder = self.store.folder(self.spec.family, candidate, listing(self.spec.wheelhouse))
        record = self.store.read(folder)
        digest = request(self.spec)
        if record is None:
            try:
                record = await self._build(candidate, folder, lock)
            except BaseException:
                await asyncio.to_thread(remove_tree, folder)
                raise
        requests = tuple({*record.requests, digest})
        self.store.mark(folder, msgspec.structs.replace(record, requests=requests))
        if kept := self.store.link(folder, self.spec.family):
            self.report(kept)
        await asyncio.to_thread(self.store.clear)
        self.report(f"ready: {record.description}")
        return self.store.environment(folder, record)

    async def _build(self, candidate: Candidate, folder: Path, lock: int) -> Record:
        self.report(f"building {candidate}: {', '.join(candidate.requirements)}")
        wheelhouse = folders_of(self.spec.wheelhouse)
        built = await build(candidate, folder, wheelhouse=wheelhouse, lock=lock, report=self.report)
        self.report(f"proving {candidate}")
        backend = await prove(self.spec.family, str(built.python))
        # A mark that reaches the disk before what it vouches for would vouch for nothing after a power cut.
        await asyncio.to_thread(os.sync)
        names = ", ".join(f"{name} {version}" for name, version in sorted(built.packages.items()))
        return Record(
            family=self.spec.family,
            requests=(),
            packages=dict(built.packages),
            wheels=dict(built.wheels),
            description=f"{backend} on Python {candidate.interpreter.release} from {candidate.source}: {names}",
        )
