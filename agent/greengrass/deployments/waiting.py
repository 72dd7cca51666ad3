"""What a deployment waits for, for the topic of the deployment and for people: why, and until when.

===============  ============================================  ==========================================
``kind``         it waits for                                  until
===============  ============================================  ==========================================
``deployment``   those before it in the queue                  they have ended
``artifact``     an artifact that cannot be reached            no byte of it came for an hour
``cloud``        Greengrass's cloud, which cannot be reached   it could not be asked for an hour
``runtime``      the environment of a runtime that is built    the build's time limit
``frames``       frames for a canary                           the canary's time limit
``components``   components that were asked over IPC           the time limit of the document's policy; none
                                                               for one that defers, which is asked again
``scripts``      scripts that are getting healthy              the time limits of their steps
===============  ============================================  ==========================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from agent.results.result import utc

__all__ = ["Waiting", "WaitingKind", "behind"]


class WaitingKind(StrEnum):
    """What kind of thing it is."""

    DEPLOYMENT = "deployment"
    ARTIFACT = "artifact"
    CLOUD = "cloud"
    RUNTIME = "runtime"
    FRAMES = "frames"
    COMPONENTS = "components"
    SCRIPTS = "scripts"


@dataclass(frozen=True, slots=True)
class Waiting:
    """``what`` it waits for and the ``reason`` why that is not there; times are Unix times, None where not known."""

    kind: WaitingKind
    what: str
    reason: str
    next_attempt: float | None = None
    until: float | None = None
    """When it is given up."""

    def to_plain(self) -> dict[str, Any]:
        """As it is published: times in ISO 8601, what is not known left out."""
        times = {"next_attempt": self.next_attempt, "until": self.until}
        return {
            "kind": self.kind.value,
            "for": self.what,
            "reason": self.reason,
            **{key: utc(time) for key, time in times.items() if time is not None},
        }


def behind(before: Sequence[str]) -> Waiting:
    """The waiting of a deployment in the queue; ``before`` are the ids before it, the running one first.

    >>> behind(["a", "b"]).reason
    'waits behind a and b'
    >>> behind(["a", "b", "c"]).reason
    'waits behind a and 2 more'
    """
    first, *others = before
    more = {0: "", 1: f" and {others[0]}" if others else ""}.get(len(others), f" and {len(others)} more")
    return Waiting(WaitingKind.DEPLOYMENT, f"deployment {first}", f"waits behind {first}{more}")
