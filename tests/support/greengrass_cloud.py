"""A stand-in for the Greengrass data plane: HTTPS with client certificates, components, signed URLs, trouble on cue.

What it answers follows Amazon's description of the two operations.  What it signs URLs for stands on a web server
of its own (``storage``), which asks nobody for a certificate, as S3 does not.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote

from agent.greengrass.recipes import platform, reader
from agent.greengrass.recipes.errors import NoManifestError
from agent.greengrass.recipes.recipe import Recipe
from agent.greengrass.recipes.versions import Requirement
from tests.support.certs import Certificates, server_tls
from tests.support.http import HttpServer, Request, Response
from tests.support.web import Page, Web

RESOLVE = "ResolveComponentCandidates"
ARTIFACT = "GetComponentVersionArtifact"

_ARTIFACT_PATH = re.compile(r"/greengrass/v2/components/([^/]+)/artifacts/(.+)")
_ERRORS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    409: "ConflictException",
    429: "ThrottlingException",
    500: "InternalServerException",
}


@dataclass
class Reply:
    """How one request is answered, where that is not as usual."""

    status: int = 200
    body: Any = None
    """Sent as JSON, or as it is when these are bytes; None: an error's own words."""
    before: Callable[[], None] = lambda: None


@dataclass
class Asked:
    """A request that came."""

    operation: str
    path: str
    body: Any
    peer: str | None
    alpn: str | None


def recipe_text(name: str, version: str, needs: dict[str, str] | None = None, **manifest: Any) -> str:
    """A small recipe as the cloud keeps it."""
    document: dict[str, Any] = {
        "RecipeFormatVersion": "2020-01-25",
        "ComponentName": name,
        "ComponentVersion": version,
        "ComponentDependencies": {
            other: {"VersionRequirement": requirement} for other, requirement in (needs or {}).items()
        },
        "Manifests": [{"Platform": {"os": "linux"}, "Lifecycle": {"run": "true"}, **manifest}],
    }
    return json.dumps(document)


def sha256(data: bytes) -> str:
    """A digest as Greengrass writes it."""
    return base64.b64encode(hashlib.sha256(data).digest()).decode()


@dataclass
class GreengrassCloud:
    """``with`` serves; ``requests`` is what was asked, ``replies`` what to answer first, by operation."""

    certificates: Certificates
    alpn: str | None = None
    tls12: bool = False
    components: dict[str, list[tuple[Recipe, str]]] = field(default_factory=dict)
    requests: list[Asked] = field(default_factory=list)
    replies: dict[str, deque[Reply]] = field(default_factory=lambda: defaultdict(deque))
    storage: Web = field(default_factory=Web)
    guidance: dict[str, str] = field(default_factory=dict)
    trouble: Callable[[str, Any], Reply | None] = lambda _operation, _body: None
    """Looked at where ``replies`` has none: another way to tell what goes wrong."""

    def __post_init__(self) -> None:
        tls = server_tls(self.certificates, *([self.alpn] if self.alpn else []))
        if self.tls12:
            # With 1.3 the client is done before the server has seen its certificate.
            tls.maximum_version = ssl.TLSVersion.TLSv1_2
        self._server = HttpServer(self._answered, tls=tls)
        self._signed = 0

    def __enter__(self) -> Self:
        self.storage.__enter__()
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)
        self.storage.__exit__(kind, error, trace)

    @property
    def endpoint(self) -> str:
        return f"localhost:{self._server.port}"

    def publish(self, name: str, version: str, needs: dict[str, str] | None = None, **manifest: Any) -> Recipe:
        """Keep a component version."""
        return self.create(recipe_text(name, version, needs, **manifest))

    def create(self, text: str) -> Recipe:
        """Keep a component version by its recipe."""
        recipe = reader.parse(text, "the recipe")
        self.components.setdefault(recipe.name, []).append((recipe, text))
        return recipe

    def arn(self, name: str, version: str) -> str:
        return f"arn:aws:greengrass:eu-west-1:123456789012:components:{name}:versions:{version}"

    def keep(self, arn: str, name: str, data: bytes) -> Page:
        """Keep an artifact; the page is where its signed URLs lead."""
        return self.storage.put(_place(arn, name), data)

    def asked(self, operation: str) -> list[Asked]:
        return [each for each in self.requests if each.operation == operation]

    def candidates(self) -> list[tuple[str, str | None, dict[str, str]]]:
        """What was asked to be resolved: name, the version there is, the requirements."""
        told = [each.body["componentCandidates"][0] for each in self.asked(RESOLVE)]
        return [(each["componentName"], each.get("componentVersion"), each["versionRequirements"]) for each in told]

    def signed(self, path: str) -> str:
        self._signed += 1
        return f"{self.storage.url(path)}?X-Amz-Signature=secret{self._signed}"

    def answer(self, operation: str, path: str, body: Any) -> Reply:
        if self.replies[operation]:
            reply = self.replies[operation].popleft()
            reply.before()
            if reply.status != 200 or reply.body is not None:
                return reply
        if (told := self.trouble(operation, body)) is not None:
            return told
        return {RESOLVE: self._resolve, ARTIFACT: self._artifact}[operation](path, body)

    def _answered(self, request: Request) -> Response:
        operation = RESOLVE if request.method == "POST" else ARTIFACT
        assert operation == ARTIFACT or request.path == "/greengrass/v2/resolveComponentCandidates"
        body = json.loads(request.body) if request.body else None
        self.requests.append(Asked(operation, request.path, body, request.common_name, request.alpn))
        reply = self.answer(operation, request.path, body)
        error = _ERRORS.get(reply.status)
        told = {"message": f"{error or 'Trouble'} in so many words"} if reply.body is None else reply.body
        data = told if isinstance(told, bytes) else json.dumps(told).encode()
        headers = {"content-type": "application/json", **({"x-amzn-errortype": error} if error else {})}
        return Response(reply.status, data, headers)

    def _resolve(self, _path: str, body: Any) -> Reply:
        attributes = body["platform"]["attributes"]
        (asked,) = body["componentCandidates"]
        requirements = [Requirement.parse(text) for text in asked["versionRequirements"].values()]
        fitting = [
            (recipe, text)
            for recipe, text in self.components.get(asked["componentName"], ())
            if all(each.allows(recipe.version) for each in requirements) and _is_for(recipe, attributes)
        ]
        if not fitting:
            return Reply(404)
        fitting.sort(key=lambda each: (str(each[0].version) == asked.get("componentVersion"), each[0].version))
        recipe, text = fitting[-1]
        told = {
            "arn": self.arn(recipe.name, str(recipe.version)),
            "componentName": recipe.name,
            "componentVersion": str(recipe.version),
            "recipe": base64.b64encode(text.encode()).decode(),
            "vendorGuidance": self.guidance.get(recipe.name, "ACTIVE"),
        }
        return Reply(body={"resolvedComponentVersions": [told]})

    def _artifact(self, path: str, _body: Any) -> Reply:
        arn, name = map(unquote, _ARTIFACT_PATH.fullmatch(path).groups())  # type: ignore[union-attr]
        place = _place(arn, name)
        return Reply(body={"preSignedUrl": self.signed(place)}) if place in self.storage.pages else Reply(404)


def _place(arn: str, name: str) -> str:
    return f"/{hashlib.sha256(f'{arn}/{name}'.encode()).hexdigest()}"


def _is_for(recipe: Recipe, attributes: dict[str, str]) -> bool:
    try:
        platform.choose(recipe, attributes)
    except NoManifestError:
        return False
    return True
