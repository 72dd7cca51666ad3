"""Secrets of AWS Secrets Manager.  Its methods block, and are thread-safe.

boto3 is imported with this module.  Where Secrets Manager is not Amazon's own host (a VPC endpoint, a test's server),
the SDK's variable ``AWS_ENDPOINT_URL_SECRETS_MANAGER`` says where.  Nothing is retried here: the cache serves.
"""

from __future__ import annotations

import threading
from typing import Any, Final

from botocore import exceptions as sdk_errors
from botocore.config import Config

from agent.aws import sdk
from agent.aws.credentials import CredentialsProvider
from agent.config.aws import AwsOptions
from agent.errors import UnreachableError, VergeError
from agent.greengrass.services.secrets.secret import CloudSecret, Secret, SecretError, SecretUnreachableError, Version

__all__ = ["SecretsClient"]

_CONFIG: Final = Config(
    connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1, "mode": "standard"}, user_agent_extra="verge"
)
_SERVER_ERROR: Final = 500
_LATER: Final = frozenset(("InternalServiceError", "RequestTimeout", "ThrottlingException", "TooManyRequestsException"))
_HINTS: Final = {
    "AccessDeniedException": "allow the device's role secretsmanager:GetSecretValue on it, and kms:Decrypt on its key",
    "DecryptionFailure": "allow the device's role kms:Decrypt on the key of the secret",
    "ResourceNotFoundException": "check the ARN, the region in it and the label",
    "InvalidRequestException": "restore the secret, or take it out of cloudSecrets",
}
_UNREACHED: Final = (sdk_errors.HTTPClientError, sdk_errors.ConnectionError, sdk_errors.CredentialRetrievalError)
_NO_CREDENTIALS: Final = (sdk_errors.NoCredentialsError, sdk_errors.PartialCredentialsError)


class SecretsClient:
    """Secrets Manager in all regions, with the device's credentials."""

    def __init__(self, options: AwsOptions, credentials: CredentialsProvider | None) -> None:
        self._options, self._credentials = options, credentials
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def fetch(self, wanted: CloudSecret, stage: str) -> Secret:
        """A secret with its one version of a stage.

        Raises:
            SecretError: it is refused to this device, or not there.
            SecretUnreachableError: it cannot be asked for now.
        """
        what = f"the secret {wanted.arn} ({stage})"
        try:
            answer = self._client(wanted.region).get_secret_value(SecretId=wanted.arn, VersionStage=stage)
        except sdk_errors.ClientError as error:
            raise _judged(error, what) from None
        except (sdk_errors.BotoCoreError, VergeError, ValueError) as error:
            raise _translated(error, what) from None
        value = answer["SecretString"] if "SecretString" in answer else answer["SecretBinary"]
        version = Version(answer["VersionId"], tuple(answer["VersionStages"]), value)
        return Secret(answer["ARN"], answer["Name"], (version,))

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()

    def _client(self, region: str) -> Any:
        with self._lock:
            if region not in self._clients:
                session = sdk.session(self._options, self._credentials)
                self._clients[region] = session.client("secretsmanager", region_name=region, config=_CONFIG)
            return self._clients[region]


def _judged(error: sdk_errors.ClientError, what: str) -> VergeError:
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status >= _SERVER_ERROR or code in _LATER:
        return SecretUnreachableError(f"{what}: Secrets Manager answers {code or status}", hint="it is asked again")
    return SecretError(f"{what}: Secrets Manager answers {code or status}", hint=_HINTS.get(code, "see its ARN"))


def _translated(error: Exception, what: str) -> VergeError:
    """The error of a request that got no answer."""
    if isinstance(error, VergeError):  # of the device's own credentials
        kind = SecretUnreachableError if isinstance(error, UnreachableError) else SecretError
        return kind(f"{what}: {error.message}", hint=error.hint)
    if isinstance(error, _UNREACHED):
        hint = "check the network, the proxy and the region of the ARN"
        return SecretUnreachableError(f"{what}: {error}", hint=hint)
    if isinstance(error, _NO_CREDENTIALS):
        hint = "set aws.role_alias and aws.credentials_endpoint, or what the AWS SDK reads (AWS_ACCESS_KEY_ID, …)"
        return SecretError(f"{what}: there are no AWS credentials", hint=hint)
    return SecretError(f"{what}: {error}", hint="check the AWS SDK's settings")
