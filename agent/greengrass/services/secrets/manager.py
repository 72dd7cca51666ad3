"""The secret manager: which secret a component means, and where its value comes from.

A folder's secrets are there whenever the agent's configuration names the folder; those of the cloud while
``aws.greengrass.SecretManager`` is deployed with ``cloudSecrets``.  Of one that is in both, the folder's is served.

Secrets of the cloud are fetched when they are configured and when a component asks for a refresh.  Between that, and
where the cloud is not reached or refuses, the cache serves: a device that is offline has its secrets, and to take one
from it for good it has to leave ``cloudSecrets``.  Of a folder's secret the previous value is the one that was read
before it changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from agent.aws.credentials import CredentialsProvider
from agent.aws.detached import detached
from agent.config.aws import AwsOptions
from agent.errors import UnreachableError, VergeError
from agent.greengrass.services.secrets import folder as files
from agent.greengrass.services.secrets.cache import SecretCache
from agent.greengrass.services.secrets.secret import (
    CURRENT,
    CloudSecret,
    Kept,
    Secret,
    SecretError,
    configured,
    folder_arn,
    merged,
    names,
    succeeded,
)

if TYPE_CHECKING:
    from agent.greengrass.services.secrets.cloud import SecretsClient

__all__ = ["SECRET_MANAGER", "SecretManager"]

log = logging.getLogger(__name__)

SECRET_MANAGER: Final = "aws.greengrass.SecretManager"  # noqa: S105 a name


class SecretManager:
    """Secrets of a ``folder`` (None: there is none) and of the cloud."""

    def __init__(
        self, folder: Path | None, cache: SecretCache, aws: AwsOptions, credentials: CredentialsProvider | None = None
    ) -> None:
        self._folder, self._cache = folder, cache
        self._aws, self._credentials = aws, credentials
        self._wanted: tuple[CloudSecret, ...] = ()
        self._kept: Kept | None = None
        self._client: SecretsClient | None = None
        self._deployed = False
        self._noted: list[str] = []
        self._fetching, self._storing = asyncio.Lock(), asyncio.Lock()

    @property
    def serves(self) -> bool:
        """Whether there is anything that secrets come from."""
        return self._deployed or self._folder is not None

    async def apply(self, configuration: Mapping[str, Any] | None) -> None:
        """Have the secrets that a configuration names; None: none of the cloud.  Raises ``ConfigError``.

        Until each is fetched the cache serves; what cannot be fetched is said in the log.
        """
        self._wanted, self._deployed = configured(configuration or {}), configuration is not None
        if configuration is None:
            client, self._client = self._client, None
            if client is not None:
                await asyncio.to_thread(client.close)
            return
        state = await self._state()
        for arn in state.cloud.keys() - {one.arn for one in self._wanted}:
            del state.cloud[arn]
        in_folder = {form: name for name, arn in (await self._in_folder()).items() for form in _forms(arn)}
        for wanted in self._wanted:
            if name := in_folder.get(wanted.arn):
                log.info("the secret %s is that of the folder, and not that of the cloud", name)
            else:
                await self._fetch_labels(wanted)
        await self._save()

    async def find(self, secret_id: str) -> str | None:
        """The ARN of the secret that is meant; None where there is no such secret.

        One that is configured and was never fetched is fetched.  Raises ``VergeError`` where that does not succeed.
        """
        for name, arn in (await self._in_folder()).items():
            if secret_id in {name, *_forms(arn)}:
                return arn
        cloud = (await self._state()).cloud
        for wanted in self._wanted:
            kept = cloud.get(wanted.arn)
            if kept is not None and secret_id in {kept.name, wanted.arn, *_forms(kept.arn)}:
                return kept.arn
            if kept is None and secret_id in names(wanted.arn):
                fetched = await self._fetch(wanted, CURRENT, again=False)
                await self._save()
                return fetched.arn
        return None

    async def get(self, arn: str, stage: str = CURRENT, *, refresh: bool = False) -> Secret | None:
        """A secret with all its versions that are here; with ``refresh`` the stage is fetched first.

        One that was made anew at AWS comes with its new ARN; None: there is none any more.  Raises ``VergeError`` and
        ``OSError`` where it cannot be read; a refresh that fails is none.
        """
        name = next((name for name, known in (await self._in_folder()).items() if known == arn), None)
        if name is not None and self._folder is not None:
            return await self._of_file(name, arn, await asyncio.to_thread(files.read, self._folder, name))
        cloud = (await self._state()).cloud
        wanted = next((one for one in self._wanted if one.arn in cloud and cloud[one.arn].arn == arn), None)
        if wanted is None:
            return None
        if refresh:
            try:
                await self._fetch(wanted, stage)
            except VergeError as error:
                log.warning("%s: what was read last is served", error)
            else:
                await self._save()
        return cloud.get(wanted.arn)

    # -- files ---------------------------------------------------------------------------------------------------------

    async def _in_folder(self) -> dict[str, str]:
        """The names of the folder's secrets and their ARNs; one that is not there any more is forgotten."""
        if self._folder is None:
            return {}
        errors: list[OSError] = []
        folder = self._folder
        found = await asyncio.to_thread(lambda: list(files.listed(folder, errors.append)))
        self._note([f"the folder of secrets {error.filename} cannot be read: {error.strerror}" for error in errors])
        kept = (await self._state()).folder
        if (gone := kept.keys() - set(found)) and not errors:
            for name in gone:
                del kept[name]
            await self._save()
        region, account = self._aws.place() or "", self._aws.account
        return {name: folder_arn(name, self._wanted, region=region, account=account) for name in found}

    def _note(self, problems: list[str]) -> None:
        """Log what is the matter with the folder, once while it lasts."""
        if problems != self._noted:
            self._noted = problems
            for problem in problems:
                log.warning("%s: give it to the agent's user", problem)

    async def _of_file(self, name: str, arn: str, value: str | bytes) -> Secret:
        kept = (await self._state()).folder
        identity = await asyncio.to_thread(self._cache.identity, name, value)
        before = kept.get(name) or Secret(arn, name)
        secret = succeeded(replace(before, arn=arn), identity, value)
        if secret != before:
            kept[name] = secret
            await self._save()
        return secret

    # -- the cloud -----------------------------------------------------------------------------------------------------

    async def _fetch_labels(self, wanted: CloudSecret) -> None:
        for label in wanted.labels:
            try:
                await self._fetch(wanted, label)
            except VergeError as error:
                kept = (await self._state()).cloud
                left = "what was read last is served" if wanted.arn in kept else "it is not served yet"
                log.warning("%s: %s", error, left)
                if isinstance(error, UnreachableError):
                    return

    async def _fetch(self, wanted: CloudSecret, stage: str, *, again: bool = True) -> Secret:
        """A secret with a stage of it as it is now; one after the other, however many components ask.

        Where it is not needed ``again``, what another has fetched meanwhile will do.
        """
        kept = (await self._state()).cloud
        async with self._fetching:
            if not again and wanted.arn in kept:
                return kept[wanted.arn]
            # The end of the agent does not wait for a server that does not answer.
            work = partial(self._fetch_now, wanted, stage)
            fetched = await asyncio.wrap_future(detached(work, "verge-secrets"))
            before = kept.get(wanted.arn)
            if before is not None and before.arn == fetched.arn:
                fetched = merged(before, fetched.versions[0])
            if wanted in self._wanted:
                kept[wanted.arn] = fetched
            return fetched

    def _fetch_now(self, wanted: CloudSecret, stage: str) -> Secret:
        if self._client is None:
            # Imported here: boto3 is slow and large, and most devices have no secrets in the cloud.
            try:
                from agent.greengrass.services.secrets.cloud import SecretsClient  # noqa: PLC0415
            except ModuleNotFoundError as error:
                hint = "pip install 'verge-edge[aws]'"
                sentence = f"secrets of the cloud need boto3, and {error.name} is not installed"
                raise SecretError(sentence, hint=hint) from error
            self._client = SecretsClient(self._aws, self._credentials)
        return self._client.fetch(wanted, stage)

    # -- the cache -----------------------------------------------------------------------------------------------------

    async def _state(self) -> Kept:
        """What is kept; only the event loop changes it."""
        async with self._storing:
            if self._kept is None:
                try:
                    self._kept = await asyncio.to_thread(self._cache.load)
                except OSError as error:
                    log.warning("the cache of secrets cannot be read: %s", error)
                    self._kept = Kept({}, {})
            return self._kept

    async def _save(self) -> None:
        state = await self._state()
        async with self._storing:
            try:
                await asyncio.to_thread(self._cache.save, Kept(dict(state.cloud), dict(state.folder)))
            except OSError as error:  # they are served from memory
                log.warning("secrets are not kept for the next start of the agent: %s", error)


def _forms(arn: str) -> tuple[str, str]:
    """An ARN, and the same without the six characters behind the name."""
    return arn, arn[: -len("-xxxxxx")]
