"""``verge demo --inspect``: the verdicts on parts, beside the truth that the cameras sent along.

Pure: messages in, lines and figures out.  The agent never looks at the truth; it hands it on in ``frame.metadata``.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from agent.demo.scores import VERDICTS, ResultSeen

__all__ = ["ANOMALIES", "Anomalies", "BeltFigures", "PartVerdict"]

ANOMALIES = "verge/{thing}/anomalies/{stream}"
"""The output of ``inspect.toml`` that only anomalies pass."""

_TRUTHS = {True: "scratched", False: "good"}
# Both by whether a part is scratched and whether it was called an anomaly.
_OUTCOMES = {(True, True): "found", (True, False): "MISSED", (False, True): "FALSE ALARM", (False, False): ""}
_STYLES = {(True, True): "yellow", (True, False): "red", (False, True): "red", (False, False): "dim"}


class PartVerdict(msgspec.Struct, frozen=True):
    """What the model said of a part, and what is true."""

    camera: str
    part: int
    score: float
    anomalous: bool
    scratched: bool

    @property
    def style(self) -> str:
        """The colour of its line, in rich's words."""
        return _STYLES[self.scratched, self.anomalous]

    def __str__(self) -> str:
        outcome = _OUTCOMES[self.scratched, self.anomalous]
        verdict, truth = VERDICTS[self.anomalous], _TRUTHS[self.scratched]
        return f"{self.camera}  part {self.part:>4}  {verdict:<7}  {self.score:.2f}  {truth:<9}  {outcome}".rstrip()


class Anomalies(msgspec.Struct, frozen=True, kw_only=True):
    """How the verdicts went; ``announced`` came on the topic of anomalies."""

    parts: int
    found: int
    missed: int
    false_alarms: int
    announced: int

    @property
    def all_announced(self) -> bool:
        """Whether each anomaly that the model saw, and nothing else, came on its topic."""
        return self.announced == self.found + self.false_alarms

    def __str__(self) -> str:
        return (
            f"{self.parts} parts: {self.found} of {self.found + self.missed} scratched ones found, "
            f"{self.missed} missed, {self.false_alarms} false alarm{'s' * (self.false_alarms != 1)}"
        )


class BeltFigures:
    """The verdicts so far."""

    def __init__(self) -> None:
        self._fresh: list[PartVerdict] = []
        self._counts: Counter[tuple[bool, bool]] = Counter()
        self._announced = 0

    def on_result(self, result: ResultSeen) -> None:
        """A result arrived; one without a verdict, or of a frame without the truth, counts for nothing."""
        camera, facts = result.frame.camera, result.frame.metadata
        said = next((one for one in result.predictions if one.anomalous is not None), None)
        if said is None or "scratched" not in facts:
            return
        verdict = PartVerdict(
            camera, facts.get("part", 0), said.score, said.anomalous is True, facts["scratched"] is True
        )
        self._fresh.append(verdict)
        self._counts[verdict.scratched, verdict.anomalous] += 1

    def on_anomaly(self) -> None:
        """A message came on the topic of anomalies."""
        self._announced += 1

    def fresh(self) -> list[PartVerdict]:
        """The verdicts since this was last asked."""
        fresh, self._fresh = self._fresh, []
        return fresh

    @property
    def figures(self) -> Anomalies:
        """How the verdicts went so far."""
        counts = self._counts
        return Anomalies(
            parts=counts.total(),
            found=counts[True, True],
            missed=counts[True, False],
            false_alarms=counts[False, True],
            announced=self._announced,
        )
