"""An artifact that is to stand somewhere: which, where, and with which mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from agent.greengrass.artifacts.digest import Digest
from agent.greengrass.artifacts.uri import file_name
from agent.greengrass.recipes.recipe import Artifact, Permission, Unarchive

__all__ = ["EXECUTE", "READ", "ArtifactRequest", "mode_of"]

READ: Mapping[Permission, int] = {Permission.NONE: 0o400, Permission.OWNER: 0o440, Permission.ALL: 0o444}
EXECUTE: Mapping[Permission, int] = {Permission.NONE: 0, Permission.OWNER: 0o550, Permission.ALL: 0o555}


def mode_of(read: Permission, execute: Permission) -> int:
    """The file mode of an artifact's permissions; nobody may write."""
    return READ[read] | EXECUTE[execute]


@dataclass(frozen=True, slots=True)
class ArtifactRequest:
    """An artifact that is to stand at ``file``, and unpacked in the folder ``unpack_to`` if that is given."""

    uri: str
    file: Path
    digest: Digest | None = None
    mode: int = 0o440
    unpack_to: Path | None = None
    inventory: Path | None = None
    """Where it is written down what came, so that the files can be checked."""

    @classmethod
    def of(cls, artifact: Artifact, files: Path, unarchived: Path, inventory: Path | None = None) -> Self:
        """An artifact of a recipe in Greengrass's layout: ``files`` and ``unarchived`` are the version's folders.

        Raises:
            ArtifactError: its URI or digest cannot be read.
        """
        file = files / file_name(artifact.uri)
        return cls(
            artifact.uri,
            file,
            Digest.parse(artifact.digest, artifact.algorithm) if artifact.digest else None,
            mode_of(artifact.read, artifact.execute),
            unarchived / file.stem if artifact.unarchive is Unarchive.ZIP else None,
            inventory,
        )
