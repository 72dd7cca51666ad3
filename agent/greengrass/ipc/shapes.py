"""Every operation of Greengrass's IPC, as its model has it: the errors it may answer with, and its events.

Each may answer with a ``ServiceError`` besides.  An operation is streaming where it has an event.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

__all__ = ["NAMESPACE", "SHAPES", "Shape"]

NAMESPACE: Final = "aws.greengrass#"

_ARGUMENTS, _UNAUTHORIZED, _NOT_FOUND = "InvalidArgumentsError", "UnauthorizedError", "ResourceNotFoundError"
_COMPONENT, _CONFLICT = "ComponentNotFoundError", "ConflictError"
_SHADOW: Final = (_ARGUMENTS, _NOT_FOUND, _UNAUTHORIZED)


class Shape(NamedTuple):
    """What an operation may answer."""

    errors: tuple[str, ...] = ()
    event: str = ""


SHAPES: Final[Mapping[str, Shape]] = {
    "PublishToTopic": Shape((_ARGUMENTS, _UNAUTHORIZED, _NOT_FOUND)),
    "SubscribeToTopic": Shape((_ARGUMENTS, _UNAUTHORIZED, _NOT_FOUND), "SubscriptionResponseMessage"),
    "PublishToIoTCore": Shape((_ARGUMENTS, _UNAUTHORIZED)),
    "SubscribeToIoTCore": Shape((_ARGUMENTS, _UNAUTHORIZED), "IoTCoreMessage"),
    "SubscribeToIoTCoreConnectionStatus": Shape((), "IoTCoreConnectionStatusEvent"),
    "GetConfiguration": Shape((_NOT_FOUND,)),
    "UpdateConfiguration": Shape((_UNAUTHORIZED, _CONFLICT, "FailedUpdateConditionCheckError", _ARGUMENTS)),
    "SubscribeToConfigurationUpdate": Shape((_NOT_FOUND,), "ConfigurationUpdateEvents"),
    "SubscribeToValidateConfigurationUpdates": Shape((), "ValidateConfigurationUpdateEvents"),
    "SendConfigurationValidityReport": Shape((_ARGUMENTS,)),
    "UpdateState": Shape((_NOT_FOUND, _ARGUMENTS)),
    "SubscribeToComponentUpdates": Shape((_NOT_FOUND,), "ComponentUpdatePolicyEvents"),
    "DeferComponentUpdate": Shape((_NOT_FOUND, _ARGUMENTS)),
    "PauseComponent": Shape((_UNAUTHORIZED, _NOT_FOUND, _ARGUMENTS)),
    "ResumeComponent": Shape((_UNAUTHORIZED, _NOT_FOUND, _ARGUMENTS)),
    "ListComponents": Shape((_UNAUTHORIZED,)),
    "GetComponentDetails": Shape((_NOT_FOUND, _ARGUMENTS, _UNAUTHORIZED)),
    "RestartComponent": Shape((_COMPONENT, _ARGUMENTS, _NOT_FOUND, _UNAUTHORIZED)),
    "StopComponent": Shape((_COMPONENT, _ARGUMENTS, _NOT_FOUND, _UNAUTHORIZED)),
    "CreateLocalDeployment": Shape(
        ("InvalidRecipeDirectoryPathError", "InvalidArtifactsDirectoryPathError", _ARGUMENTS, _UNAUTHORIZED)
    ),
    "CancelLocalDeployment": Shape((_ARGUMENTS, _NOT_FOUND, _UNAUTHORIZED)),
    "GetLocalDeploymentStatus": Shape((_NOT_FOUND, _ARGUMENTS, _UNAUTHORIZED)),
    "ListLocalDeployments": Shape((_UNAUTHORIZED,)),
    "GetSecretValue": Shape((_UNAUTHORIZED, _NOT_FOUND)),
    "GetThingShadow": Shape(_SHADOW),
    "UpdateThingShadow": Shape((*_SHADOW, _CONFLICT)),
    "DeleteThingShadow": Shape(_SHADOW),
    "ListNamedShadowsForThing": Shape(_SHADOW),
    "ValidateAuthorizationToken": Shape(("InvalidTokenError", _UNAUTHORIZED)),
    "PutComponentMetric": Shape((_UNAUTHORIZED, _ARGUMENTS)),
    "CreateDebugPassword": Shape((_UNAUTHORIZED,)),
    "GetClientDeviceAuthToken": Shape((_UNAUTHORIZED, _ARGUMENTS, "InvalidCredentialError")),
    "VerifyClientDeviceIdentity": Shape((_UNAUTHORIZED, _ARGUMENTS)),
    "AuthorizeClientDeviceAction": Shape((_UNAUTHORIZED, _ARGUMENTS, "InvalidClientDeviceAuthTokenError")),
    "SubscribeToCertificateUpdates": Shape((_UNAUTHORIZED, _ARGUMENTS), "CertificateUpdateEvent"),
}
"""By name.  (awsiotsdk, ``greengrasscoreipc/model.py``.)"""
