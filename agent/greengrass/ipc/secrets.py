"""Secrets for components: ``GetSecretValue``.

A secret is asked for by its name or its ARN, and allowed by its ARN.  (``SecretManagerIPCAgent.java``.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from msgspec import Struct

from agent.errors import VergeError
from agent.greengrass.ipc.errors import IpcError, ResourceNotFoundError, ServiceError
from agent.greengrass.ipc.operations import Call, Operation, Permit, Reply
from agent.greengrass.services.secrets.manager import SECRET_MANAGER, SecretManager
from agent.greengrass.services.secrets.secret import CURRENT, Secret, Version

__all__ = ["SecretOperations"]

_KIND: Final = "secret"
_LACKING: Final = (
    f"there are no secrets here: deploy {SECRET_MANAGER} with cloudSecrets, or name a folder of files in the table "
    "[secrets] of the agent's configuration"
)


class _Get(Struct, frozen=True, rename="camel"):
    secret_id: str | None = None
    version_id: str | None = None
    version_stage: str | None = None
    refresh: bool | None = None


@dataclass(frozen=True)
class SecretOperations:
    """The operation on a secret manager."""

    manager: SecretManager
    permit: Permit

    @property
    def operations(self) -> tuple[Operation[Any], ...]:
        """The table."""
        return (Operation("GetSecretValue", _Get, self._get),)

    async def _get(self, request: _Get, call: Call) -> Reply:
        if not request.secret_id:
            raise ServiceError("secretId is missing")
        if request.version_id and request.version_stage:
            raise ServiceError("there are versionId and versionStage: name one of them, or none")
        if not self.manager.serves:
            raise ServiceError(_LACKING)
        try:
            secret = await self._allowed(request.secret_id, request, call)
        except IpcError:
            raise
        except VergeError as error:
            raise ServiceError(str(error)) from error
        except OSError as error:
            raise ServiceError(f"secrets cannot be read now: {error}") from error
        version = secret.version(identity=request.version_id or "", stage=request.version_stage or CURRENT)
        if version is None:
            which = request.version_id or request.version_stage or CURRENT
            raise ResourceNotFoundError.of(_KIND, request.secret_id, f"{secret.arn} has no version {which} here")
        return _shown(secret, version)

    async def _allowed(self, secret_id: str, request: _Get, call: Call) -> Secret:
        arn = await self.manager.find(secret_id)
        if arn is None:
            raise _unknown(secret_id)
        self.permit(call, SECRET_MANAGER, arn)
        refresh = bool(request.refresh) and not request.version_id
        secret = await self.manager.get(arn, request.version_stage or CURRENT, refresh=refresh)
        if secret is None:
            raise _unknown(secret_id)
        if secret.arn != arn:  # a refresh can give one that was made anew
            self.permit(call, SECRET_MANAGER, secret.arn)
        return secret


def _unknown(secret_id: str) -> ResourceNotFoundError:
    sentence = f"there is no secret {secret_id} here: neither in cloudSecrets of {SECRET_MANAGER} nor in a folder"
    return ResourceNotFoundError.of(_KIND, secret_id, sentence)


def _shown(secret: Secret, version: Version) -> Reply:
    kind = "secretString" if isinstance(version.value, str) else "secretBinary"
    return {
        "secretId": secret.arn,
        "versionId": version.id,
        "versionStage": list(version.stages),
        "secretValue": {kind: version.value},
    }
