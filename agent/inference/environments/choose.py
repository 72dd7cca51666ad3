"""Host × what there is × table × the user's pins → candidates in order, and why the others are none.

A folder of wheels goes before the index, the table's order before the interpreters' (the agent's own first, then
the newest).  What a candidate is handed to pip with are ranges, not exact versions: pip knows the wheels' own
requirements, which their names do not say.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from agent.inference.environments.combinations import Combination
from agent.inference.environments.errors import UnsupportedRuntimeError
from agent.inference.environments.host import OLDEST, Host, Interpreter
from agent.inference.environments.wheels import Wheel, lacking, tags

__all__ = ["Candidate", "Choice", "WheelSource", "choose", "parse_pins"]


class WheelSource(enum.StrEnum):
    """Where wheels come from."""

    WHEELHOUSE = "the wheelhouse"
    INDEX = "the package index"


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something to build."""

    combination: Combination
    requirements: tuple[str, ...]
    """For pip, the user's pins merged in."""
    interpreter: Interpreter
    source: WheelSource

    def __str__(self) -> str:
        return f"{self.combination.name} on Python {self.interpreter.release} from {self.source}"


@dataclass(frozen=True, slots=True)
class Choice:
    """Candidates in order of preference, and a sentence for each combination that has none."""

    candidates: tuple[Candidate, ...]
    rejected: tuple[str, ...]


def choose(
    combinations: Sequence[Combination],
    host: Host,
    *,
    wheelhouse: Sequence[Wheel] | None,
    index: bool,
    pins: Sequence[Requirement] = (),
) -> Choice:
    """The candidates for a family's combinations; ``wheelhouse`` is None where there is none."""
    sources = [*([WheelSource.WHEELHOUSE] if wheelhouse is not None else []), *([WheelSource.INDEX] if index else [])]
    candidates: list[Candidate] = []
    rejected: list[str] = []
    leaders = {_name(Requirement(combination.requirements[0])) for combination in combinations}
    for source in sources:
        stock = wheelhouse if source is WheelSource.WHEELHOUSE else None
        for combination in combinations:
            merged, contradiction = _merge(combination, pins, leaders)
            if contradiction:
                rejected.append(f"{combination.name} from {source}: {contradiction}")
                continue
            against = {python: _against(combination, merged, python, stock) for python in host.interpreters}
            well = _few(interpreter for interpreter, reason in against.items() if not reason)
            candidates += [Candidate(combination, tuple(map(str, merged)), python, source) for python in well]
            if not well:
                rejected += [f"{combination.name} from {source}: {sentence}" for sentence in _sentences(against)]
    if not host.interpreters:
        rejected = ["no Python that a worker runs on was found", *host.passed_over]
    # Stable: within what the processor has the flags for, and within what it has not, the order stays.
    candidates.sort(key=lambda candidate: _unwanted(candidate, host))
    return Choice(tuple(candidates), tuple(rejected))


def parse_pins(packages: Iterable[str]) -> tuple[Requirement, ...]:
    """The user's requirements; raises ``UnsupportedRuntimeError`` for one that is none, or that names an address."""
    pins = []
    for text in packages:
        try:
            pin = Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0]
            raise _wrong_pin(text, reason) from error
        if pin.url:
            raise _wrong_pin(text, "an address is not taken; name a version, and put the wheel into the wheelhouse")
        pins.append(pin)
    return tuple(pins)


def _wrong_pin(text: str, why: str) -> UnsupportedRuntimeError:
    return UnsupportedRuntimeError(
        f"{text!r} is no requirement: {why}", hint="write it as pip does: numpy==1.26.4", code="runtime-requirement"
    )


def _merge(
    combination: Combination, pins: Sequence[Requirement], leaders: set[str]
) -> tuple[tuple[Requirement, ...], str]:
    """A combination's requirements with the pins in them, and what is contradictory in that."""
    requirements = [Requirement(text) for text in combination.requirements]
    merged: dict[str, Requirement] = {_name(requirement): requirement for requirement in requirements}
    for pin in pins:
        name = _name(pin)
        if name in leaders and name not in merged:
            return (), f"{pin} asks for another package"
        known = merged.get(name)
        for exact in _exact(pin.specifier):
            if known is not None and not known.specifier.contains(exact, prereleases=True):
                return (), f"{pin} is asked, the combination has {known}"
        merged[name] = _joined(known, pin)
    return tuple(merged.values()), ""


def _joined(known: Requirement | None, pin: Requirement) -> Requirement:
    joined = Requirement(str(pin))
    if known is not None:
        joined.specifier = known.specifier & pin.specifier
    return joined


def _exact(specifier: SpecifierSet) -> list[str]:
    return [clause.version for clause in specifier if clause.operator == "==" and not clause.version.endswith(".*")]


def _against(
    combination: Combination,
    requirements: Sequence[Requirement],
    interpreter: Interpreter,
    stock: Sequence[Wheel] | None,
) -> str:
    """What is against a combination on an interpreter; ``stock`` is None for the index."""
    if not interpreter.venv:
        return "it cannot make virtual environments (Debian: install python3-venv)"
    if stock is not None:
        fitting = tags(interpreter)
        applying = [asked for asked in requirements if _applies(asked, interpreter)]
        return next(filter(None, (lacking(asked, stock, fitting) for asked in applying)), "")
    if interpreter.machine not in combination.machines:
        return f"the index has it for {', '.join(sorted(combination.machines))}, not for {interpreter.machine}"
    if not combination.oldest <= interpreter.version[:2] <= (combination.newest or interpreter.version[:2]):
        return _range(combination)
    return ""


def _applies(requirement: Requirement, interpreter: Interpreter) -> bool:
    """Whether the requirement's marker, if it has one, holds for the interpreter."""
    if requirement.marker is None:
        return True
    facts: Mapping[str, str] = {
        "python_version": ".".join(map(str, interpreter.version[:2])),
        "python_full_version": ".".join(map(str, interpreter.version)),
        "platform_machine": interpreter.machine,
    }
    return requirement.marker.evaluate(dict(facts))


def _range(combination: Combination) -> str:
    oldest, newest = (".".join(map(str, bound)) if bound else "" for bound in (combination.oldest, combination.newest))
    if combination.oldest == OLDEST:
        return f"no Python ≤ {newest} here"
    return f"no Python {oldest} to {newest} here" if newest else f"no Python ≥ {oldest} here"


def _few(interpreters: Iterable[Interpreter]) -> list[Interpreter]:
    """The first two, of different versions: a third would fall over what the first two fell over."""
    versions: dict[tuple[object, ...], Interpreter] = {}
    for interpreter in interpreters:
        versions.setdefault((interpreter.version[:2], interpreter.free_threaded, interpreter.machine), interpreter)
    return list(versions.values())[:2]


def _sentences(against: Mapping[Interpreter, str]) -> list[str]:
    """Each reason once, with the Pythons that it holds for."""
    reasons: dict[str, set[str]] = {}
    for interpreter, reason in against.items():
        reasons.setdefault(reason, set()).add(interpreter.release)
    return [f"{reason} ({', '.join(sorted(named, key=_release_order))})" for reason, named in reasons.items()]


def _release_order(release: str) -> list[int]:
    return [int(part.rstrip("t")) for part in release.split(".")]


def _unwanted(candidate: Candidate, host: Host) -> bool:
    wanted = candidate.combination.wants.get(candidate.interpreter.machine)
    return wanted is not None and wanted not in host.flags


def _name(requirement: Requirement) -> str:
    return canonicalize_name(requirement.name)
