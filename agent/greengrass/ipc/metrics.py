"""``PutComponentMetric``: what AWS's own components measure of themselves.

A nucleus adds such metrics to the telemetry that it sends to AWS.  The agent sends none of that: what came stands on
its status topic, as ``component_metrics``: component → metric → ``count``, and the last ``value`` with its ``unit``.
It is published as often as other statistics are, and not whenever a component says something.  There is room for
``MOST`` metrics; what is past it is counted as ``dropped``.
(``ComponentMetricIPCEventStreamAgent.java``.)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Final

from msgspec import Struct

from agent.greengrass.ipc.errors import InvalidArgumentsError, UnauthorizedError
from agent.greengrass.ipc.operations import NOTHING, Call, Operation, Permit, Reply

__all__ = ["MOST", "MetricOperations"]

MOST: Final = 256
_SERVICE: Final = "aws.greengrass.ipc.componentmetric"
_OF_AWS: Final = "aws."
_LONGEST: Final = 32
_UNITS: Final = ("BYTES", "BYTES_PER_SECOND", "COUNT", "COUNT_PER_SECOND", "MEGABYTES", "SECONDS")


class _Metric(Struct, frozen=True):
    name: str | None = None
    unit: str | None = None
    value: float | None = None


class _Put(Struct, frozen=True):
    metrics: tuple[_Metric, ...] | None = None


@dataclass
class MetricOperations:
    """The operation, and what it has counted."""

    permit: Permit
    _counted: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    _dropped: int = 0

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (Operation("PutComponentMetric", _Put, self._put),)

    def counted(self) -> dict[str, Any] | None:
        """Everything that came; None while there is nothing."""
        shown: dict[str, Any] = {component: dict(metrics) for component, metrics in self._counted.items()}
        return shown | ({"dropped": self._dropped} if self._dropped else {}) or None

    def _put(self, request: _Put, call: Call) -> Reply:
        component = call.caller.name
        if not component.startswith(_OF_AWS):
            raise UnauthorizedError(f"{component} may put no metrics: only components of AWS's own may ({_OF_AWS}…)")
        if not request.metrics:
            raise InvalidArgumentsError("metrics is missing or empty")
        checked = [_checked(metric) for metric in request.metrics]
        for name, _, _ in checked:
            self.permit(call, _SERVICE, name)
        for name, unit, value in checked:
            self._count(component, name, unit, value)
        return NOTHING

    def _count(self, component: str, name: str, unit: str, value: float) -> None:
        metrics = self._counted.get(component, {})
        if name not in metrics and sum(map(len, self._counted.values())) >= MOST:
            self._dropped += 1
            return
        count = metrics[name]["count"] + 1 if name in metrics else 1
        self._counted.setdefault(component, {})[name] = {"count": count, "value": value, "unit": unit}


def _checked(metric: _Metric) -> tuple[str, str, float]:
    if not metric.name or len(metric.name.encode()) > _LONGEST:
        raise InvalidArgumentsError(f"a metric's name has 1 to {_LONGEST} bytes, and not {metric.name!r:.100}")
    if metric.unit not in _UNITS:
        raise InvalidArgumentsError(
            f"the unit of {metric.name} is {metric.unit!r:.100}: name one of {', '.join(_UNITS)}"
        )
    if metric.value is None or not isfinite(metric.value) or metric.value < 0:
        raise InvalidArgumentsError(f"the value of {metric.name} is {metric.value}: give a number of at least 0")
    return metric.name, metric.unit, metric.value
