"""``docker:IMAGE``: an image, which the docker CLI of the device pulls.

What stands among the artifacts afterwards is a small file with the image's id, by which a deployment shows which one
it has; the image itself is the Docker engine's.  A private registry of Amazon ECR is logged in to with the device's own
credentials, in a configuration folder that is gone after the pull; for others the engine's own logins hold.  boto3 is
imported where such a registry is met.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from typing import Any, Final

from agent.config.deployments import RetryPolicy, StoreOptions
from agent.errors import UnreachableError, VergeError
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.artifacts.rate import RateFloor
from agent.greengrass.artifacts.retry import OnRetry
from agent.greengrass.artifacts.store import AwsStoreOptions, Content, Store, in_thread

__all__ = ["DockerStore"]

_IMAGE: Final = re.compile(
    r"[A-Za-z0-9][\w.-]*(?::\d+(?=/))?(?:/[\w.-]+)*(?::[\w.-]+)?(?:@sha256:[0-9a-f]{64})?", re.ASCII
)
_ECR: Final = re.compile(r"(\d{12})\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/.+")
_WORDS: Final = 300
_REFUSALS: Final[tuple[tuple[str, str, str], ...]] = (
    ("permission denied", "USER_NOT_AUTHORIZED_FOR_DOCKER", "add the agent's user to the group docker"),
    ("invalid reference", "DOCKER_ARTIFACT_URI_NOT_VALID", "write docker:REGISTRY/IMAGE:TAG"),
    ("manifest unknown", "DOCKER_IMAGE_NOT_VALID", "check the name and the tag of the image"),
    ("not found", "DOCKER_IMAGE_NOT_VALID", "check the name and the tag of the image"),
    ("no matching manifest", "DOCKER_IMAGE_NOT_VALID", "publish the image for this device's architecture"),
    ("access denied", "DOCKER_IMAGE_NOT_VALID", "check the image's name, and the login at its registry"),
    ("unauthorized", "DOCKER_LOGIN_ERROR", "log in to the registry as the agent's user: docker login"),
    ("no basic auth", "DOCKER_LOGIN_ERROR", "log in to the registry as the agent's user: docker login"),
)
"""What the CLI says when it is of no use to try again: a word of it, Greengrass's code, and what to do."""


class DockerStore(Store):
    """The images that the device's Docker engine can pull."""

    async def size(
        self, uri: str, retry: RetryPolicy | None = None, on_retry: OnRetry = lambda _retry: None
    ) -> int | None:
        """None: the CLI does not tell before it pulls."""
        del uri, retry, on_retry
        return None

    def _floor(self, uri: str) -> RateFloor:
        # The bytes go past the agent: a pull is as slow as it is.
        return RateFloor(uri, 0, self._options.rate_window_s)

    @asynccontextmanager
    async def _open(self, uri: str, offset: int, version: str | None) -> AsyncIterator[Content]:
        del offset, version
        image = _image(uri)
        program = shutil.which("docker")
        if program is None:
            raise ArtifactError(
                f"{uri}: there is no program docker on this device",
                hint="install Docker, and have its program on the agent's PATH",
                code="DOCKER_SERVICE_UNAVAILABLE",
            )
        with ExitStack() as stack:
            env = dict(os.environ)
            if registry := _ECR.fullmatch(image):
                env["DOCKER_CONFIG"] = stack.enter_context(tempfile.TemporaryDirectory(prefix="verge-docker-"))
                password = await in_thread(_password, self._options, registry[1], registry[2])
                host = image.partition("/")[0]
                await _run(program, ("login", "--username", "AWS", "--password-stdin", host), env, uri, password)
            await _run(program, ("pull", "--quiet", image), env, uri)
            name = await _run(program, ("image", "inspect", "--format", "{{.Id}}", image), env, uri)
            yield Content(_once(name.strip() + b"\n"))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


def _image(uri: str) -> str:
    image = uri.partition(":")[2]
    if not _IMAGE.fullmatch(image):
        raise ArtifactError(
            f"{uri} names no image", hint="write docker:REGISTRY/IMAGE:TAG", code="DOCKER_ARTIFACT_URI_NOT_VALID"
        )
    return image


async def _run(program: str, arguments: tuple[str, ...], env: Mapping[str, str], uri: str, given: bytes = b"") -> bytes:
    """What the CLI printed; it is ended with the wait for it."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(program, *arguments, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    try:
        printed, complaint = await process.communicate(given)
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        raise _judged(uri, arguments[0], complaint.decode(errors="replace"))
    return printed


def _judged(uri: str, what: str, complaint: str) -> VergeError:
    said = " ".join(complaint.split())[-_WORDS:]
    message = f"{uri}: docker {what} failed: {said or 'it does not say why'}"
    for word, code, hint in _REFUSALS:
        if word in complaint.lower():
            return ArtifactError(message, hint=hint, code=code)
    if "daemon" in complaint.lower():
        return ArtifactUnreachableError(message, hint="start the Docker engine", code="DOCKER_SERVICE_UNAVAILABLE")
    code = "DOCKER_LOGIN_ERROR" if what == "login" else "DOCKER_PULL_ERROR"
    return ArtifactUnreachableError(message, hint="check the network and the registry", code=code)


def _password(options: StoreOptions, account: str, region: str) -> bytes:
    """What Amazon ECR takes from the device as a password; blocks."""
    from botocore import exceptions as sdk_errors  # noqa: PLC0415 only where ECR is met
    from botocore.config import Config  # noqa: PLC0415

    from agent.aws import sdk  # noqa: PLC0415

    device = options if isinstance(options, AwsStoreOptions) else AwsStoreOptions()
    session = sdk.session(device.aws, device.credentials)
    config = Config(connect_timeout=options.connect_timeout_s, read_timeout=options.read_timeout_s)
    try:
        answer: dict[str, Any] = session.client("ecr", region_name=region, config=config).get_authorization_token(
            registryIds=[account]
        )
    except (sdk_errors.HTTPClientError, sdk_errors.ConnectionError, UnreachableError) as error:
        raise ArtifactUnreachableError(
            f"Amazon ECR in {region} gives no login: {error}", hint="check the network", code="GET_ECR_CREDENTIAL_ERROR"
        ) from error
    except (sdk_errors.BotoCoreError, sdk_errors.ClientError, VergeError) as error:
        raise ArtifactError(
            f"Amazon ECR in {region} gives no login: {error}",
            hint="allow the device's role ecr:GetAuthorizationToken, ecr:BatchGetImage and ecr:GetDownloadUrlForLayer",
            code="GET_ECR_CREDENTIAL_ERROR",
        ) from error
    return base64.b64decode(answer["authorizationData"][0]["authorizationToken"]).partition(b":")[2]
