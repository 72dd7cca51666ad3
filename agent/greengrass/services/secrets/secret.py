"""What a secret is: its names, its versions and their stages.  Nothing here shows a value in its ``repr``.

A secret is meant by its name, by its ARN, or by its ARN without the six characters that AWS puts behind the name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from agent.errors import ConfigError, InvalidInputError, UnreachableError

__all__ = [
    "CURRENT",
    "PREVIOUS",
    "CloudSecret",
    "Kept",
    "Secret",
    "SecretError",
    "SecretUnreachableError",
    "Version",
    "configured",
    "folder_arn",
    "merged",
    "names",
    "succeeded",
]

# msgspec decodes no union of the two; the only place it decodes them from is authenticated.
if TYPE_CHECKING:
    Value: TypeAlias = str | bytes
else:
    Value = Any

CURRENT: Final = "AWSCURRENT"
PREVIOUS: Final = "AWSPREVIOUS"
_ARN: Final = re.compile(r"arn:[\w-]+:secretsmanager:([\w-]+):(\d{12}):secret:(.+)")
_SUFFIX: Final = re.compile(r"-[A-Za-z0-9]{6}$")
_NO_ACCOUNT: Final = "000000000000"
_NO_REGION: Final = "local"


class SecretError(InvalidInputError):
    """A secret cannot be had, however often it is asked for."""

    default_code = "secret"


class SecretUnreachableError(UnreachableError):
    """A secret cannot be had now."""

    default_code = "secret-unreachable"


class Version(Struct, frozen=True):
    """One value of a secret: a text, or bytes that are none."""

    id: str
    stages: tuple[str, ...]
    value: Value

    def __repr__(self) -> str:
        return f"Version(id={self.id!r}, stages={self.stages!r})"


class Secret(Struct, frozen=True):
    """The versions of a secret that are here, each of another id."""

    arn: str
    name: str
    versions: tuple[Version, ...] = ()

    def version(self, *, identity: str = "", stage: str = CURRENT) -> Version | None:
        """The version of an id, where one is given, else of a stage; None where it is not here."""
        if identity:
            return next((one for one in self.versions if one.id == identity), None)
        return next((one for one in self.versions if stage in one.stages), None)


class Kept(Struct, frozen=True):
    """All that is kept of secrets between two runs of the agent; who holds it changes its tables."""

    cloud: dict[str, Secret] = {}
    """By the ARN under which the configuration names them."""
    folder: dict[str, Secret] = {}
    """By name."""


class CloudSecret(Struct, frozen=True):
    """A secret that a component's configuration asks for; ``labels`` are the stages of it."""

    arn: str
    labels: tuple[str, ...] = (CURRENT,)

    @property
    def region(self) -> str:
        """Where it is."""
        return self.arn.split(":")[3]


def configured(configuration: Mapping[str, Any]) -> tuple[CloudSecret, ...]:
    """The ``cloudSecrets`` of a configuration; the current version is always among those asked for.

    Raises ``ConfigError`` with the path of what is wrong.
    """
    key = next((one for one in configuration if one.lower() == "cloudsecrets"), "")
    given = configuration.get(key) or ()
    if not isinstance(given, list | tuple):
        raise ConfigError("cloudSecrets is no list", hint='write [{"arn": "…", "labels": []}]', path="cloudSecrets")
    return tuple(_configured(one, f"cloudSecrets[{place}]") for place, one in enumerate(given))


def _configured(given: Any, path: str) -> CloudSecret:
    arn, labels = (given.get("arn"), given.get("labels") or ()) if isinstance(given, Mapping) else (None, ())
    if not isinstance(arn, str) or not _ARN.fullmatch(arn):
        hint = "write arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME-xxxxxx"
        raise ConfigError(f"{path} has no ARN of a secret", hint=hint, path=f"{path}.arn")
    if not isinstance(labels, list | tuple) or not all(isinstance(one, str) and one for one in labels):
        raise ConfigError(f"{path}.labels is no list of texts", hint="name stages, or none", path=f"{path}.labels")
    return CloudSecret(arn, tuple(dict.fromkeys((CURRENT, *labels))))


def names(arn: str) -> frozenset[str]:
    """Everything that may mean the secret of an ARN, which may be one without its six characters.

    >>> sorted(names("arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-a1b2c3"))[-2:]
    ['db', 'db-a1b2c3']
    """
    found = _ARN.fullmatch(arn)
    name = found[3] if found else arn
    return frozenset({arn, _SUFFIX.sub("", arn), name, _SUFFIX.sub("", name)})


def folder_arn(name: str, wanted: Iterable[CloudSecret] = (), *, region: str = "", account: str = "") -> str:
    """The ARN of a secret that no account has, so that policies can name it as they name any other.

    Policies of components are written for ARNs, most of them for all devices of a fleet at once.  So it is that under
    which a configuration names the secret for the cloud, where one does; else one made up of the device's region and
    account, and of six characters that are the same on every device: they come from the name alone.

    >>> folder_arn("db", region="eu-west-1", account="123456789012")
    'arn:aws:secretsmanager:eu-west-1:123456789012:secret:db-7bdc25'
    """
    suffix = hashlib.sha256(name.encode()).hexdigest()[:6]
    for one in wanted:
        written = _ARN.fullmatch(one.arn)
        if written and written[3] == name:
            return f"{one.arn}-{suffix}"
        if written and _SUFFIX.sub("", written[3]) == name:
            return one.arn
    return f"arn:aws:secretsmanager:{region or _NO_REGION}:{account or _NO_ACCOUNT}:secret:{name}-{suffix}"


def succeeded(secret: Secret, identity: str, value: str | bytes) -> Secret:
    """A secret whose current value is this one; what was current is the previous one."""
    current = secret.version()
    if current is not None and current.id == identity:
        return secret
    before = () if current is None else (replace(current, stages=(PREVIOUS,)),)
    return replace(secret, versions=(Version(identity, (CURRENT,), value), *before))


def merged(secret: Secret, version: Version) -> Secret:
    """A secret with a version as it is now: a stage is of one version only, and one without any stage is gone."""
    others = [
        replace(one, stages=left)
        for one in secret.versions
        if one.id != version.id and (left := tuple(stage for stage in one.stages if stage not in version.stages))
    ]
    return replace(secret, versions=(version, *others))
