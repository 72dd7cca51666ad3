"""The fleet status message itself: JSON in Greengrass's words, split by component when it is too long for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from agent.greengrass.catalog.parts import AS_NUCLEUS
from agent.greengrass.fleet.report import ComponentHealth, DeploymentStatus, Report

__all__ = ["LIMIT_BYTES", "DeviceFacts", "encode"]

LIMIT_BYTES: Final = 128_000
"""The most that one message may have."""

_REASON_CHARS = 2000
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """What every message has of the device, in the words of recipe platforms (``linux``, ``aarch64``)."""

    thing: str
    platform: str
    architecture: str
    version: str = str(AS_NUCLEUS)


def encode(report: Report, device: DeviceFacts, timestamp_ms: int, limit: int = LIMIT_BYTES) -> list[bytes]:
    """The payloads of a report, each within ``limit`` bytes unless a single component is longer than that."""
    components = [_component(component) for component in report.components]
    frame = _frame(report, device, timestamp_ms)
    # Room for the numbers of the chunks is kept whether they are needed or not.
    room = limit - len(_encode({**frame, "chunkInfo": _chunk(9999, 9999), "components": []}))
    groups = _groups(components, room)
    if len(groups) == 1:
        return [_encode({**frame, "components": components})]
    return [
        _encode({**frame, "chunkInfo": _chunk(number, len(groups)), "components": group})
        for number, group in enumerate(groups, 1)
    ]


def _groups(components: Sequence[dict[str, Any]], room: int) -> list[list[dict[str, Any]]]:
    groups: list[list[dict[str, Any]]] = [[]]
    used = 0
    for component in components:
        size = len(_encode(component)) + 1
        if groups[-1] and used + size > room:
            groups.append([])
            used = 0
        groups[-1].append(component)
        used += size
    return groups


def _frame(report: Report, device: DeviceFacts, timestamp_ms: int) -> dict[str, Any]:
    frame: dict[str, Any] = {
        "ggcVersion": device.version,
        "platform": device.platform,
        "architecture": device.architecture,
        "thing": device.thing,
        "overallDeviceStatus": "HEALTHY" if report.healthy else "UNHEALTHY",
        "sequenceNumber": report.sequence,
        "timestamp": timestamp_ms,
        "messageType": report.type.value,
        "trigger": report.trigger.value,
    }
    if report.deployment is not None:
        frame["deploymentInformation"] = _deployment(report.deployment, report.unchanged_roots)
    return frame


def _component(health: ComponentHealth) -> dict[str, Any]:
    details = (
        {"statusCodes": list(health.codes), "statusReason": health.reason[:_REASON_CHARS]} if health.codes else None
    )
    return {
        "componentName": health.name,
        "version": health.version,
        "fleetConfigArns": list(health.arns),
        "componentStatusDetails": details,
        "isRoot": health.root,
        "status": health.state.value,
    }


def _deployment(deployment: DeploymentStatus, unchanged_roots: Sequence[str]) -> dict[str, Any]:
    details: dict[str, Any] = {"detailedStatus": deployment.detailed_status}
    if deployment.failure_cause is not None:
        details["failureCause"] = deployment.failure_cause[:_REASON_CHARS]
        details["errorStack"] = list(deployment.error_stack)
        details["errorTypes"] = list(deployment.error_types)
    return {
        "status": deployment.status,
        "statusDetails": details,
        "fleetConfigurationArnForStatus": deployment.arn,
        "deploymentId": deployment.id,
        "unchangedRootComponents": list(unchanged_roots),
    }


def _chunk(number: int, total: int) -> dict[str, int]:
    return {"chunkId": number, "totalChunks": total}
