"""boto3 with the agent's credentials.

boto3 is what the AWS guide names and what signs, follows a bucket's region and speaks with S3's cousins; it costs
32 MB and a third of a second, so whoever needs it imports this module when it is needed, in a thread.
"""

from __future__ import annotations

import logging
from typing import Any

import boto3
import botocore.session
from botocore.credentials import RefreshableCredentials

from agent.aws import answers
from agent.aws.credentials import CredentialsProvider
from agent.config.aws import AwsOptions

__all__ = ["session"]

# At its lower levels the SDK logs requests as they are signed, the session token with them.
for _name in ("boto3", "botocore", "urllib3"):
    logging.getLogger(_name).setLevel(logging.WARNING)
# It logs a refresh that failed with a traceback; the error itself is raised.
logging.getLogger("botocore.credentials").setLevel(logging.ERROR)


def session(options: AwsOptions, provider: CredentialsProvider | None) -> Any:
    """A ``boto3.Session`` with the provider's credentials, fetched when needed; without one, with the SDK's chain."""
    core = botocore.session.Session()
    if provider is not None:
        core.register_component("credential_provider", _Resolver(provider))
    return boto3.session.Session(botocore_session=core, region_name=options.place())


class _Resolver:
    """What botocore asks for credentials, in place of its chain."""

    def __init__(self, provider: CredentialsProvider) -> None:
        self._provider = provider

    def load_credentials(self) -> Any:
        """Credentials that botocore refreshes when the provider would."""
        return RefreshableCredentials.create_from_metadata(
            metadata=self._metadata(),
            refresh_using=self._metadata,
            method="verge",
            advisory_timeout=answers.EARLY_S,
            mandatory_timeout=answers.EARLY_S,
        )

    def _metadata(self) -> dict[str, str]:
        held = self._provider.get()
        return {
            "access_key": held.access_key,
            "secret_key": held.secret_key,
            "token": held.token,
            "expiry_time": held.expires.isoformat(),
        }
