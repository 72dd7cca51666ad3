"""Requests to the data plane and its answers, in Amazon's JSON.

Pure: values → a method, a path and a body; a status and a body → values or an error.  An answer is believed only as
far as it answers the question: one version, of the component that was asked for, which everybody allows, with a recipe
that says the same.

A ``greengrass:`` artifact is known to the cloud by its component version's ARN and its name.  The recipe has only the
name, so the ARN that came with the recipe is written before it: ``greengrass:ARN/NAME`` tells all there is to know,
wherever the recipe goes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, TypeVar
from urllib.parse import quote

import msgspec

from agent.errors import InvalidInputError
from agent.greengrass.cloud.errors import GreengrassError, GreengrassUnreachableError
from agent.greengrass.recipes import reader
from agent.greengrass.recipes.platform import Attributes
from agent.greengrass.recipes.recipe import Artifact, Manifest, Recipe
from agent.greengrass.recipes.versions import Requirement, Version

__all__ = [
    "MAX_ANSWER_BYTES",
    "NOT_FOUND",
    "OK",
    "DataPlaneOperation",
    "Question",
    "Request",
    "Resolved",
    "artifact_answer",
    "artifact_request",
    "refusal",
]

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
OK, NOT_FOUND = 200, 404

_ARN = re.compile(r"arn:[^:/]+:greengrass:[^:/]*:(?:aws|[0-9]+):components:([^:/]+):versions:([^:/]+)")
_SCHEME: Final = "greengrass:"
_SERVER_ERRORS = range(500, 600)
_LONGEST = 300


class DataPlaneOperation(StrEnum):
    """What the cloud is asked to do; the IoT policy's actions have the same names."""

    RESOLVE = "ResolveComponentCandidates"
    ARTIFACT = "GetComponentVersionArtifact"


_DENIED: Mapping[DataPlaneOperation, str] = {
    DataPlaneOperation.RESOLVE: "RESOLVE_COMPONENT_CANDIDATES_ACCESS_DENIED",
    DataPlaneOperation.ARTIFACT: "GET_COMPONENT_VERSION_ARTIFACT_ACCESS_DENIED",
}
_WRONG: Mapping[int, tuple[str, str]] = {
    400: ("BAD_REQUEST", "the cloud does not understand the request"),
    404: ("RESOURCE_NOT_FOUND", "the cloud does not know it; is it of this account and region?"),
    409: ("CONFLICTED_REQUEST", "deploy versions that fit together"),
}
_LATER: Mapping[int, tuple[str, str]] = {
    408: ("HTTP_REQUEST_ERROR", "the cloud gave up waiting"),
    429: ("THROTTLING_ERROR", "the cloud asks for fewer requests"),
}


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent for an operation; ``path`` is quoted."""

    operation: DataPlaneOperation
    method: str
    path: str
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Resolved:
    """A version of a component that the cloud chose."""

    recipe: Recipe
    arn: str
    caution: str = ""
    """What its vendor says of it, when that is not ACTIVE."""


@dataclass(frozen=True, slots=True)
class Question:
    """Which version of a component is right for everybody who wants it; ``wanted`` is by who wants it, in order."""

    name: str
    wanted: tuple[tuple[str, Requirement], ...]

    def allows(self, version: Version) -> bool:
        """Whether everybody is content with that version."""
        return all(requirement.allows(version) for _, requirement in self.wanted)

    def request(self, attributes: Attributes, candidate: Version | None) -> Request:
        """The request of a device with ``attributes`` that has ``candidate`` already."""
        asked: dict[str, object] = {"componentName": self.name}
        if candidate is not None:
            asked["componentVersion"] = str(candidate)
        asked["versionRequirements"] = {by: str(requirement) for by, requirement in self.wanted}
        body = msgspec.json.encode({"platform": {"attributes": dict(attributes)}, "componentCandidates": [asked]})
        return Request(DataPlaneOperation.RESOLVE, "POST", "/greengrass/v2/resolveComponentCandidates", body)

    def answer(self, body: bytes) -> Resolved:
        """What the cloud chose.  Raises ``GreengrassError`` for what is no answer to the question."""
        versions = _decoded(_Candidates, body, DataPlaneOperation.RESOLVE).resolvedComponentVersions
        if len(versions) != 1:
            raise self._no_answer(f"chose {len(versions)} versions")
        version = versions[0]
        try:
            recipe = reader.parse(version.recipe, f"the cloud's recipe of {self.name}")
        except InvalidInputError as error:
            raise self._no_answer("sent a recipe that cannot be read") from error
        same = _ARN.fullmatch(version.arn)
        names = {(version.componentName, version.componentVersion), (recipe.name, str(recipe.version))}
        if same is None or names | {(same[1], same[2])} != {(self.name, str(recipe.version))}:
            raise self._no_answer(f"answered with {version.componentName} {version.componentVersion}, {version.arn}")
        if not self.allows(recipe.version):
            raise self._no_answer(f"chose {recipe.version}, which is not what was asked for")
        active = version.vendorGuidance in {None, "ACTIVE"}
        caution = "" if active else f"{version.vendorGuidance} {version.message or ''}".strip()
        return Resolved(_located(recipe, version.arn), version.arn, caution)

    def _no_answer(self, what: str) -> GreengrassError:
        return GreengrassError(
            f"asked for {self}, the cloud {what}",
            hint="the cloud's answer cannot be used; deploy another version",
            code="RESOLVE_COMPONENT_CANDIDATES_BAD_RESPONSE",
        )

    def __str__(self) -> str:
        return self.name + " for " + ", ".join(f"{by} ({requirement})" for by, requirement in self.wanted)


def artifact_request(arn: str, name: str) -> Request:
    """Where an artifact of a component version is; ``name`` is as the recipe has it, unquoted."""
    path = f"/greengrass/v2/components/{quote(arn, safe='')}/artifacts/{quote(name)}"
    return Request(DataPlaneOperation.ARTIFACT, "GET", path)


def artifact_answer(body: bytes) -> str:
    """The signed URL.  Raises ``GreengrassError``."""
    return _decoded(_Artifact, body, DataPlaneOperation.ARTIFACT).preSignedUrl


def refusal(operation: DataPlaneOperation, status: int, body: bytes) -> GreengrassError | GreengrassUnreachableError:
    """The error of an answer that is not ``OK``."""
    said = _message(body)
    message = f"{operation}: the Greengrass cloud answers {status}" + (f", {said}" if said else "")
    if status in {401, 403}:
        hint = f"allow greengrass:{operation} in the IoT policy of the device's certificate"
        return GreengrassError(message, hint=hint, code=_DENIED[operation])
    if status in _SERVER_ERRORS:
        return GreengrassUnreachableError(message, hint="the cloud has trouble", code="SERVER_ERROR")
    if status in _LATER:
        code, hint = _LATER[status]
        return GreengrassUnreachableError(message, hint=hint, code=code)
    code, hint = _WRONG.get(status, ("HTTP_REQUEST_ERROR", "check greengrass.data_endpoint"))
    return GreengrassError(message, hint=hint, code=code)


class _Version(msgspec.Struct):
    arn: str
    componentName: str  # noqa: N815 Amazon's spelling, as below
    componentVersion: str  # noqa: N815
    recipe: bytes  # base64
    vendorGuidance: str | None = None  # noqa: N815
    message: str | None = None


class _Candidates(msgspec.Struct):
    resolvedComponentVersions: list[_Version]  # noqa: N815


class _Artifact(msgspec.Struct):
    preSignedUrl: str  # noqa: N815


Body = TypeVar("Body")


def _decoded(kind: type[Body], body: bytes, operation: DataPlaneOperation) -> Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        # The error's text could quote a signed URL.
        raise GreengrassError(
            f"{operation}: the Greengrass cloud's answer cannot be read",
            hint="is greengrass.data_endpoint right?",
            code="RESOLVE_COMPONENT_CANDIDATES_BAD_RESPONSE"
            if operation == DataPlaneOperation.RESOLVE
            else "CLOUD_API_ERROR",
        ) from None


def _located(recipe: Recipe, arn: str) -> Recipe:
    """The recipe with the ARN in the URIs of its ``greengrass:`` artifacts."""
    return replace(recipe, manifests=tuple(_in_manifest(each, arn) for each in recipe.manifests))


def _in_manifest(manifest: Manifest, arn: str) -> Manifest:
    return replace(manifest, artifacts=tuple(_in_artifact(each, arn) for each in manifest.artifacts))


def _in_artifact(artifact: Artifact, arn: str) -> Artifact:
    scheme, rest = artifact.uri[: len(_SCHEME)], artifact.uri[len(_SCHEME) :]
    return replace(artifact, uri=f"{_SCHEME}{arn}/{rest.lstrip('/')}") if scheme.lower() == _SCHEME else artifact


def _message(body: bytes) -> str:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    said = (answer.get("message") or answer.get("Message")) if isinstance(answer, Mapping) else None
    return re.sub(r"[^\x20-\x7e]+", " ", said)[:_LONGEST].strip() if isinstance(said, str) else ""
