"""What can be wrong with an artifact in S3, beyond what can be wrong with any, in Greengrass's codes."""

from __future__ import annotations

from collections.abc import Mapping

from agent.errors import VergeError
from agent.greengrass.artifacts.errors import TYPES, ArtifactError, ArtifactUnreachableError

__all__ = ["S3_TYPES", "S3Error", "S3UnreachableError"]

S3_TYPES: Mapping[str, str] = {
    **TYPES,
    "S3_ARTIFACT_URI_NOT_VALID": "COMPONENT_RECIPE_ERROR",
    "S3_ACCESS_DENIED": "PERMISSION_ERROR",
    "S3_GET_OBJECT_ACCESS_DENIED": "PERMISSION_ERROR",
    "S3_HEAD_OBJECT_RESOURCE_NOT_FOUND": "REQUEST_ERROR",
    "S3_GET_BUCKET_LOCATION_RESOURCE_NOT_FOUND": "REQUEST_ERROR",
    "S3_BAD_REQUEST": "DEPENDENCY_ERROR",
    "S3_ERROR": "DEPENDENCY_ERROR",
    "S3_SERVER_ERROR": "SERVER_ERROR",
    "CREDENTIAL_ENDPOINT_AUTH_FAILURE": "PERMISSION_ERROR",
    "CREDENTIAL_ENDPOINT_SERVER_ERROR": "SERVER_ERROR",
}
"""Code → error type, both in Greengrass's exact spelling."""


class _TypedError(VergeError):
    @property
    def error_type(self) -> str:
        """What Greengrass lists under ``deployment-error-types`` for this code."""
        return S3_TYPES[self.code]


class S3Error(_TypedError, ArtifactError):
    """An artifact in S3 cannot be had, however often it is tried."""

    default_code = "S3_ERROR"


class S3UnreachableError(_TypedError, ArtifactUnreachableError):
    """An artifact in S3 cannot be had now."""
