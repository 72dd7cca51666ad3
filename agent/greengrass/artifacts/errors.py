"""What can be wrong with an artifact, under the codes and types that Greengrass puts into a deployment's status.

::

    InvalidInputError └── ArtifactError             what it is, where it is or what it would do is wrong: do not retry
                          └── RottenArtifactError   it was right when it came
    UnreachableError  └── ArtifactUnreachableError  it could not be had now: back off and retry

``TYPES`` is the list of all codes in use; an error with another one is a mistake of ours.
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.errors import InvalidInputError, UnreachableError, VergeError

__all__ = ["TYPES", "ArtifactError", "ArtifactUnreachableError", "RottenArtifactError"]

TYPES: Mapping[str, str] = {
    "ARTIFACT_DOWNLOAD_ERROR": "NONE",
    "ARTIFACT_CHECKSUM_MISMATCH": "COMPONENT_RECIPE_ERROR",
    "ARTIFACT_URI_NOT_VALID": "COMPONENT_RECIPE_ERROR",
    "DOCKER_ARTIFACT_URI_NOT_VALID": "COMPONENT_RECIPE_ERROR",
    "DOCKER_IMAGE_NOT_VALID": "DEPENDENCY_ERROR",
    "DOCKER_LOGIN_ERROR": "DEPENDENCY_ERROR",
    "DOCKER_PULL_ERROR": "DEPENDENCY_ERROR",
    "DOCKER_SERVICE_UNAVAILABLE": "DEPENDENCY_ERROR",
    "GET_ECR_CREDENTIAL_ERROR": "PERMISSION_ERROR",
    "USER_NOT_AUTHORIZED_FOR_DOCKER": "PERMISSION_ERROR",
    "EMPTY_ARTIFACT_URI": "COMPONENT_RECIPE_ERROR",
    "EMPTY_ARTIFACT_SCHEME": "COMPONENT_RECIPE_ERROR",
    "UNSUPPORTED_ARTIFACT_SCHEME": "COMPONENT_RECIPE_ERROR",
    "RECIPE_MISSING_ARTIFACT_HASH_ALGORITHM": "COMPONENT_RECIPE_ERROR",
    "RECIPE_PARSE_ERROR": "COMPONENT_RECIPE_ERROR",
    "HASHING_ALGORITHM_UNAVAILABLE": "DEVICE_ERROR",
    "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD": "DEVICE_ERROR",
    "DISK_SPACE_CRITICAL": "DEVICE_ERROR",
    "IO_READ_ERROR": "DEVICE_ERROR",
    "IO_WRITE_ERROR": "DEVICE_ERROR",
    "IO_UNZIP_ERROR": "DEVICE_ERROR",
    "ACCESS_DENIED": "PERMISSION_ERROR",
    "RESOURCE_NOT_FOUND": "REQUEST_ERROR",
    "THROTTLING_ERROR": "REQUEST_ERROR",
    "HTTP_REQUEST_ERROR": "HTTP_ERROR",
    "NETWORK_ERROR": "NETWORK_ERROR",
    "TLS_HANDSHAKE_FAILURE": "NETWORK_ERROR",
    "SERVER_ERROR": "SERVER_ERROR",
}
"""Code → error type, both in Greengrass's exact spelling."""


class _TypedError(VergeError):
    """An error whose code tells its type."""

    @property
    def error_type(self) -> str:
        """What Greengrass lists under ``deployment-error-types`` for this code."""
        return TYPES[self.code]


class ArtifactError(_TypedError, InvalidInputError):
    """An artifact cannot be used, or cannot be had, however often it is tried."""

    default_code = "ARTIFACT_DOWNLOAD_ERROR"


class RottenArtifactError(ArtifactError):
    """An artifact was whole when it came and is not any more: it has to be fetched again."""


class ArtifactUnreachableError(_TypedError, UnreachableError):
    """An artifact cannot be had now."""

    default_code = "NETWORK_ERROR"
