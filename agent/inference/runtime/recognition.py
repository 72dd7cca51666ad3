"""What a network is taken for: claims made before it runs, proved on the outputs of its first run.

::

    file, labels, manifest → claims, best founded first → task and input of each → one run → no doubt: settled

Every task says what it may make of a network (``Task.claims``), and on what that rests: the manifest (``TOLD``), the
file's metadata (``SAID``), the names of its tensors (``NAMED``), or their shapes alone (``FITS``).  A claim brings what
a manifest would have said: options, and the input as the family is fed.  The network then answers a made-up picture,
and a claim that the numbers speak against is dropped.  Where two hold, the better founded is taken, or of equals the
first, with a note.  Where none does the outputs leave as they are, with a note that names the nearest; unless it is
the labels that are in the way, which is an error.

What the manifest says is not doubted but for scores that are none; these are an error at any time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from agent.inference.runtime import plugins
from agent.inference.runtime.base import TOLD, Claim, Geometry, Labels, Network, Task
from agent.inference.runtime.errors import ModelError
from agent.inference.runtime.labels import wrong_count
from agent.inference.runtime.preprocess import USUAL, InputSpec, Preprocessor

__all__ = ["Settled", "settle"]

Outputs = Tuple[Sequence[np.ndarray], Geometry]

WORDS = {4: "told", 3: "said", 2: "named", 1: "fits"}
_LAST_RESORT = "tensors"


@dataclass(frozen=True)
class Settled:
    """What a network is taken for, and why."""

    task: Task
    preprocess: Preprocessor
    claim: Claim
    first: Outputs
    """What the network answered to the made-up picture."""
    warm_up_s: float
    """How long that took."""
    notes: Tuple[str, ...] = ()

    def describe(self) -> Dict[str, Any]:
        """The decision as JSON."""
        return {
            "evidence": WORDS[self.claim.strength],
            "why": self.claim.why,
            "options": dict(self.claim.options),
            "input": dict(self.claim.input),
            "notes": list(self.notes),
        }


@dataclass(frozen=True)
class _Proposal:
    """A claim, and the task that makes it."""

    task: str
    claim: Claim

    def __str__(self) -> str:
        return str(self.claim.options.get("decoder", self.task))


def settle(network: Network, model: Mapping[str, Any], run: Callable[[Preprocessor], Outputs]) -> Settled:
    """The best founded claim that the outputs of ``run`` bear out; ``model`` is the manifest.

    Raises ``ModelError`` where the manifest names a task that does not fit, or options that none takes.
    """
    asked = model.get("task") or "auto"
    trial = _Trial(network, model, run)
    proposals = _proposals(network, asked)
    doubts: List[Tuple[_Proposal, str]] = [(one, one.claim.against) for one in proposals if one.claim.against]
    for place, proposal in enumerate(proposals):
        if proposal.claim.against:
            continue
        settled, doubt = trial.attempt(proposal)
        if settled is None:
            doubts.append((proposal, doubt))
            continue
        rivals = [one for one in proposals[place + 1 :] if one.claim.strength == proposal.claim.strength]
        return replace(settled, notes=(*_notes(trial, proposal, rivals), *_assumed(settled, network)))
    return _unsettled(trial, asked, doubts)


def _proposals(network: Network, asked: str) -> List[_Proposal]:
    names = plugins.task_names() if asked == "auto" else [asked]
    found = [_Proposal(name, claim) for name in names for claim in plugins.claims(name, network)]
    decoder = network.options.get("decoder", "auto")
    if decoder != "auto":
        found = [one for one in found if one.claim.options.get("decoder") == decoder]
    elif asked != "auto" and not any(not one.claim.against for one in found):
        found.append(_Proposal(asked, Claim(TOLD, "the manifest says so")))
    if decoder != "auto" and not found:
        found = [_Proposal("object-detection" if asked == "auto" else asked, Claim(TOLD, "the manifest says so"))]
    return sorted(found, key=lambda one: -one.claim.strength)


class _Trial:
    """Tries claims on one network; a picture prepared in the same way is answered once."""

    def __init__(self, network: Network, model: Mapping[str, Any], run: Callable[[Preprocessor], Outputs]) -> None:
        self._network, self._model, self._run = network, model, run
        self._runs: Dict[str, Tuple[Preprocessor, Outputs, float]] = {}
        self.errors: List[ModelError] = []

    @property
    def is_told(self) -> bool:
        """Whether the manifest names the task or speaks to it."""
        return self._names_task or bool(self._model.get("options"))

    @property
    def _names_task(self) -> bool:
        return (self._model.get("task") or "auto") != "auto"

    def _names(self, proposal: _Proposal) -> bool:
        """Whether the manifest itself says what is proposed."""
        if "decoder" in proposal.claim.options:
            return bool(self._network.options.get("decoder", "auto") != "auto")
        return self._names_task

    def attempt(self, proposal: _Proposal) -> Tuple[Optional[Settled], str]:
        """The claim settled, or what speaks against it."""
        claim = proposal.claim
        try:
            task = self._task(proposal)
            preprocess, (outputs, geometry), seconds = self._answered(claim)
            doubt = task.doubt(outputs, geometry, TOLD if self._names_task else claim.strength)
            if not doubt and plugins.is_own(type(task)):
                task.predictions(outputs, geometry)
        except ModelError as error:
            self.errors.append(error)
            return None, error.message
        if doubt:
            return None, doubt
        told = replace(claim, strength=TOLD) if self._names(proposal) else claim
        return Settled(task, preprocess, told, (outputs, geometry), seconds), ""

    def refuse_labels(self) -> None:
        """Raise ``ModelError`` where it is the labels that keep a network from being taken for what it is."""
        labels = self._network.labels
        for error in self.errors:
            if error.code == "labels-count-wrong":
                raise error
        if not labels.names:
            return
        try:
            bare = settle(replace(self._network, labels=Labels()), self._model, self._run)
        except ModelError:
            return
        if bare.task.name != _LAST_RESORT:
            decoder = getattr(bare.task, "decoder", bare.task.name)
            raise wrong_count(labels, f"without them the network is taken for {decoder}: {bare.claim.why}")

    def last_resort(self, notes: Tuple[str, ...]) -> Settled:
        """The outputs as they are."""
        claim = Claim(TOLD if self.is_told else 1, "no task fits")
        task = self._task(_Proposal(_LAST_RESORT, claim))
        preprocess, outputs, seconds = self._answered(claim)
        return Settled(task, preprocess, claim, outputs, seconds, notes)

    def _task(self, proposal: _Proposal) -> Task:
        kind = plugins.task(proposal.task)
        options = {**proposal.claim.options, **(self._model.get("options") or {})}
        return kind(options, self._network.labels, self._network.inputs, self._network.outputs)

    def _answered(self, claim: Claim) -> Tuple[Preprocessor, Outputs, float]:
        key = repr(sorted(claim.input.items()))
        if key not in self._runs:
            spec = InputSpec.parse(self._model.get("input") or {}, self._network.facts, claim.input)
            preprocess = Preprocessor(spec, self._network.inputs[0])
            started = perf_counter()
            outputs = self._run(preprocess)
            self._runs[key] = preprocess, outputs, perf_counter() - started
        return self._runs[key]


def _notes(trial: _Trial, taken: _Proposal, rivals: Sequence[_Proposal]) -> Tuple[str, ...]:
    """What else would have fitted, where the same answers bear it out."""
    alike = [one for one in rivals if one.claim.input == taken.claim.input and not one.claim.against]
    held = [str(one) for one in alike if trial.attempt(one)[0] is not None]
    return (f"{' and '.join(held)} would fit too; {taken} comes first",) if held else ()


def _assumed(settled: Settled, network: Network) -> Tuple[str, ...]:
    """What nobody says, and the answers rest on."""
    unsaid = any(fact.key == "std" and fact.source == USUAL for fact in settled.preprocess.facts)
    if not unsaid or network.inputs[0].kind != "f":
        return ()
    return ("nobody says how pixels become the network's numbers: 0 to 1 is assumed; say input.mean and input.std",)


def _unsettled(trial: _Trial, asked: str, doubts: Sequence[Tuple[_Proposal, str]]) -> Settled:
    """The outputs as they are, with what was nearest; raises ``ModelError`` where the manifest wants more."""
    trial.refuse_labels()
    if asked != "auto" and trial.errors:
        raise trial.errors[0]
    nearest = max(doubts, key=lambda one: (one[0].claim.strength, not one[0].claim.against)) if doubts else None
    if asked != "auto" and nearest:
        raise _not_recognised(*nearest)
    note = f"no task fits; the nearest is {nearest[0]} ({nearest[0].claim.why}), but {nearest[1]}" if nearest else ""
    try:
        return trial.last_resort((note or "no task is known with these outputs",))
    except ModelError as error:
        if trial.is_told and trial.errors:
            raise trial.errors[0] from error
        if nearest and trial.is_told:
            raise _not_recognised(*nearest) from error
        if note and error.message not in note:
            raise ModelError(error.code, f"{error.message}; {note}", error.hint) from error
        raise


def _not_recognised(head: _Proposal, doubt: str) -> ModelError:
    return ModelError(
        "outputs-not-recognised",
        f"the outputs are not what {head} reads: {doubt}",
        hint="name the task, and its decoder or activation in options; or take the task tensors",
    )
