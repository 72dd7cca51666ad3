"""What can go wrong with the Greengrass data plane, under the codes that Greengrass puts into a deployment's status.

::

    InvalidInputError └── GreengrassError             the cloud refuses, or its answer cannot be used: do not retry
    UnreachableError  └── GreengrassUnreachableError  the cloud cannot be asked now: back off and retry
"""

from __future__ import annotations

from collections.abc import Mapping

from agent.errors import InvalidInputError, UnreachableError, VergeError

__all__ = ["TYPES", "GreengrassError", "GreengrassUnreachableError"]

TYPES: Mapping[str, str] = {
    "CLOUD_API_ERROR": "NONE",
    "NO_AVAILABLE_COMPONENT_VERSION": "NONE",
    "COMPONENT_VERSION_REQUIREMENTS_NOT_MET": "REQUEST_ERROR",
    "CONFLICTED_REQUEST": "REQUEST_ERROR",
    "RESOURCE_NOT_FOUND": "REQUEST_ERROR",
    "THROTTLING_ERROR": "REQUEST_ERROR",
    "GET_COMPONENT_VERSION_ARTIFACT_ACCESS_DENIED": "PERMISSION_ERROR",
    "RESOLVE_COMPONENT_CANDIDATES_ACCESS_DENIED": "PERMISSION_ERROR",
    "NETWORK_ERROR": "NETWORK_ERROR",
    "TLS_HANDSHAKE_FAILURE": "NETWORK_ERROR",
    "HTTP_REQUEST_ERROR": "HTTP_ERROR",
    "DEVICE_CONFIG_NOT_VALID_FOR_ARTIFACT_DOWNLOAD": "DEVICE_ERROR",
    "SERVER_ERROR": "SERVER_ERROR",
    "RESOLVE_COMPONENT_CANDIDATES_BAD_RESPONSE": "CLOUD_SERVICE_ERROR",
    "BAD_REQUEST": "NUCLEUS_ERROR",
}
"""Code → error type, both in Greengrass's exact spelling."""


class _TypedError(VergeError):
    @property
    def error_type(self) -> str:
        """What Greengrass lists under ``deployment-error-types`` for this code."""
        return TYPES[self.code]


class GreengrassError(_TypedError, InvalidInputError):
    """The cloud refuses, or its answer cannot be used, however often it is asked."""

    default_code = "CLOUD_API_ERROR"


class GreengrassUnreachableError(_TypedError, UnreachableError):
    """The cloud cannot be asked now."""

    default_code = "NETWORK_ERROR"
