"""CloudWatch Logs.  Its methods block.

boto3 is imported with this module.  Where CloudWatch Logs is not Amazon's own host, the SDK's variable
``AWS_ENDPOINT_URL_CLOUDWATCH_LOGS`` says where.  Nothing is retried here: a batch that did not arrive is sent in the
next round.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from botocore import exceptions as sdk_errors
from botocore.config import Config

from agent.aws import sdk
from agent.aws.credentials import CredentialsProvider
from agent.config.aws import AwsOptions
from agent.errors import InvalidInputError, UnreachableError, VergeError

__all__ = ["CloudLogs", "CloudLogsError", "CloudLogsUnreachableError"]

_CONFIG: Final = Config(
    connect_timeout=5, read_timeout=10, retries={"total_max_attempts": 1, "mode": "standard"}, user_agent_extra="verge"
)
_SERVER_ERROR: Final = 500
_LATER: Final = frozenset(("ThrottlingException", "ServiceUnavailableException", "OperationAbortedException"))
_RIGHTS: Final = "allow the device's role logs:CreateLogGroup, logs:CreateLogStream and logs:PutLogEvents"


class CloudLogsError(InvalidInputError):
    """CloudWatch Logs refuses."""

    default_code = "logs-refused"


class CloudLogsUnreachableError(UnreachableError):
    """CloudWatch Logs cannot be asked now."""

    default_code = "logs-unreachable"


class CloudLogs:
    """The account's CloudWatch Logs; the first use raises what is wrong with the settings."""

    def __init__(self, options: AwsOptions, credentials: CredentialsProvider | None) -> None:
        self._options, self._credentials = options, credentials
        self._client: Any = None

    @property
    def region(self) -> str:
        """Where the logs go; raises as ``put``."""
        return str(self._used().meta.region_name)

    def put(self, group: str, stream: str, messages: Sequence[tuple[int, str]]) -> int:
        """Append messages with their times in ms, in order of time; makes what is missing of group and stream.

        Gives how many were refused as too old or too new.  Raises ``CloudLogsError`` or ``CloudLogsUnreachableError``.
        """
        entries = [{"timestamp": time_ms, "message": message} for time_ms, message in messages]
        try:
            answer = self._put(group, stream, entries)
        except (sdk_errors.ClientError, sdk_errors.BotoCoreError, VergeError, ValueError) as error:
            raise _translated(error, group) from error
        return _refused(answer.get("rejectedLogEventsInfo") or {}, len(entries))

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def _put(self, group: str, stream: str, entries: list[dict[str, Any]]) -> Any:
        client = self._used()
        try:
            return client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=entries)
        except client.exceptions.ResourceNotFoundException:
            with suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_group(logGroupName=group)
            with suppress(client.exceptions.ResourceAlreadyExistsException):
                client.create_log_stream(logGroupName=group, logStreamName=stream)
        return client.put_log_events(logGroupName=group, logStreamName=stream, logEvents=entries)

    def _used(self) -> Any:
        if self._client is None:
            try:
                self._client = sdk.session(self._options, self._credentials).client("logs", config=_CONFIG)
            except (sdk_errors.BotoCoreError, VergeError, ValueError) as error:
                raise _translated(error, "CloudWatch Logs") from error
        return self._client


def _refused(info: dict[str, int], count: int) -> int:
    """The first events up to an index are too old, the last from one on too new."""
    old = max(info.get("tooOldLogEventEndIndex", 0), info.get("expiredLogEventEndIndex", 0))
    return old + count - info.get("tooNewLogEventStartIndex", count)


def _translated(error: Exception, what: str) -> VergeError:
    if isinstance(error, VergeError):  # of the device's own credentials
        kind = CloudLogsUnreachableError if isinstance(error, UnreachableError) else CloudLogsError
        return kind(f"{what}: {error.message}", hint=error.hint)
    if isinstance(error, sdk_errors.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        later = status >= _SERVER_ERROR or code in _LATER
        said = f"{what}: CloudWatch Logs answers {code or status}"
        return (
            CloudLogsUnreachableError(said, hint="it is asked again") if later else CloudLogsError(said, hint=_RIGHTS)
        )
    if isinstance(error, sdk_errors.HTTPClientError | sdk_errors.ConnectionError):
        return CloudLogsUnreachableError(f"{what}: {error}", hint="check the network, the proxy and aws.region")
    return CloudLogsError(f"{what}: {error}", hint="check the table [aws] and the AWS SDK's settings")
