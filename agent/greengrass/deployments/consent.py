"""What components say to a deployment before it changes anything: one time of asking them (pure).

Whether they may be changed now (``Asked``):

===================  ================================================================================
a component          then
===================  ================================================================================
answers 0 or less    it may be changed
answers more         all are asked again, when the longest of these times is over
answers nothing      it is waited for until the time limit, and may be changed then; so is an answer without a time
goes away            it is waited for no longer; a time that it has asked for stays
===================  ================================================================================

Whether their new configuration is good (``Judged``): it is once every component has accepted its own.  One that
rejects it, goes away or says nothing until the time limit speaks against the deployment.

Times are seconds of one clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

__all__ = ["LONGEST_S", "Asked", "Deferral", "Judged"]

LONGEST_S: Final = 366 * 86400.0
"""A component is asked again after a year at the latest, whatever it answers."""


@dataclass(frozen=True, slots=True)
class Deferral:
    """A component is not to be changed before ``until``; ``message`` is its own reason."""

    component: str
    until: float
    message: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """Components that were asked whether they may be changed; who has not answered is ``pending`` until ``ends``."""

    pending: frozenset[str]
    ends: float
    deferrals: Mapping[str, Deferral] = field(default_factory=dict)

    def answered(self, component: str, after_s: float | None, message: str, now: float) -> Asked:
        """``component`` wants to be asked again ``after_s`` seconds from now; without a time it stays pending."""
        if after_s is None or component not in self.pending:
            return self
        pending = self.pending - {component}
        if after_s <= 0:
            return replace(self, pending=pending)
        deferral = Deferral(component, now + min(after_s, LONGEST_S), message)
        return replace(self, pending=pending, deferrals={**self.deferrals, component: deferral})

    def left(self, component: str) -> Asked:
        """``component`` is not there any more."""
        return replace(self, pending=self.pending - {component})

    def over(self, now: float) -> bool:
        """Whether nobody is waited for any longer."""
        return not self.pending or now >= self.ends

    @property
    def longest(self) -> Deferral | None:
        """The deferral that ends last; None where none was asked for."""
        return max(self.deferrals.values(), key=lambda deferral: deferral.until, default=None)


@dataclass(frozen=True, slots=True)
class Judged:
    """Components that were asked whether their new configuration is good, and what speaks against it so far."""

    pending: frozenset[str]
    ends: float
    against: Mapping[str, str] = field(default_factory=dict)
    """Component → the end of a sentence that begins with its name."""

    def reported(self, component: str, message: str, *, accepted: bool) -> Judged:
        """``component`` has accepted or rejected its configuration."""
        refusal = {} if accepted else {component: f"rejected it{message and f': {message}'}"}
        return self._without(component, refusal)

    def left(self, component: str) -> Judged:
        """``component`` is not there any more."""
        return self._without(component, {component: "was gone before it reported"})

    def over(self, now: float) -> bool:
        """Whether nobody is waited for any longer."""
        return not self.pending or now >= self.ends

    @property
    def problem(self) -> str:
        """What speaks against the configurations once it is over; empty where nothing does."""
        late = dict.fromkeys(self.pending, "did not report in time")
        return "; ".join(f"{name} {why}" for name, why in sorted({**self.against, **late}.items()))

    def _without(self, component: str, refusal: Mapping[str, str]) -> Judged:
        if component not in self.pending:
            return self
        return replace(self, pending=self.pending - {component}, against={**self.against, **refusal})
