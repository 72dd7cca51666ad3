"""A client of S3's, made where something is first to be brought there."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from agent.aws.credentials import CredentialsProvider
from agent.config.aws import AwsOptions
from agent.errors import BackendUnavailableError

__all__ = ["s3"]

_CONNECT_S, _READ_S = 5, 30


def s3(aws: AwsOptions, credentials: CredentialsProvider | None) -> Callable[[], Any]:
    """What makes the client, and blocks; raises ``BackendUnavailableError`` where there is no boto3."""
    if find_spec("boto3") is None:
        raise BackendUnavailableError("S3 needs boto3", code="library-missing", hint="pip install 'verge-edge[aws]'")

    def client() -> Any:
        # Imported here, in a thread: it is slow to load.
        from botocore.config import Config  # noqa: PLC0415

        from agent.aws import sdk  # noqa: PLC0415

        # Whoever sends tries again itself, and for longer.
        config = Config(connect_timeout=_CONNECT_S, read_timeout=_READ_S, retries={"total_max_attempts": 2})
        return sdk.session(aws, credentials).client("s3", endpoint_url=aws.s3_endpoint_url, config=config)

    return client
