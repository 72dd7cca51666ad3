"""Where things are on the disk: Greengrass's folders below one root, so that recipes find what they expect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agent.files import make_folder, open_way, passage
from agent.greengrass.recipes.variables import Values
from agent.greengrass.recipes.versions import Version

__all__ = ["Layout"]


@dataclass(frozen=True, slots=True)
class Layout:
    """The folders below ``root``."""

    root: Path

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.root / "deployments" / "ledger.db"

    @property
    def order(self) -> Path:
        """The record of the order of deployments; its copy lies beside it."""
        return self.root / "deployments" / "order"

    @property
    def trust(self) -> Path:
        """What the device trusts: its key list, and how fresh it is."""
        return self.root / "trust"

    @property
    def packages(self) -> Path:
        """Recipes, artifacts and their cache."""
        return self.root / "packages"

    @property
    def recipes(self) -> Path:
        """One recipe a file."""
        return self.packages / "recipes"

    @property
    def cache(self) -> Path:
        """Artifacts by digest."""
        return self.packages / "cache"

    @property
    def inventories(self) -> Path:
        """What came for each component version, by which its files are checked."""
        return self.packages / "inventories"

    @property
    def logs(self) -> Path:
        """One log a component."""
        return self.root / "logs"

    @property
    def log_positions(self) -> Path:
        """How far each log is uploaded."""
        return self.root / "uploads" / "logs"

    @property
    def run(self) -> Path:
        """Records of processes, by which a new agent finds what an old one left running."""
        return self.root / "run"

    @property
    def socket(self) -> Path:
        """Where components talk to the agent."""
        return self.root / "ipc.socket"

    @property
    def secrets(self) -> Path:
        """The cache of components' secrets, encrypted; a folder of theirs may well be called ``secrets``."""
        return self.root / "secret-cache"

    def make(self) -> None:
        """Have every folder stand with its mode, those of an earlier agent too; raises ``OSError``.

        A component's user passes through to its files and sees none of the agent's.
        """
        make_folder(self.root, passage())
        open_way(self.root)
        artifacts, unarchived = self.packages / "artifacts", self.packages / "artifacts-unarchived"
        for way in (self.packages, artifacts, unarchived, self.root / "work"):
            make_folder(way, passage(), ours=True)
        for private in (self.recipes, self.cache, self.inventories, self.ledger.parent, self.logs, self.run):
            make_folder(private, ours=True)

    def artifacts(self, name: str, version: Version) -> Path:
        """The files of a component version."""
        return self.packages / "artifacts" / name / str(version)

    def unarchived(self, name: str, version: Version) -> Path:
        """Its unpacked archives, a folder each."""
        return self.packages / "artifacts-unarchived" / name / str(version)

    def inventory(self, name: str, version: Version | str) -> Path:
        """What came for a component version."""
        return self.inventories / name / f"{version}.json"

    def folders(self, name: str, version: Version) -> tuple[Path, Path]:
        """Both folders of a component version."""
        return self.artifacts(name, version), self.unarchived(name, version)

    def all_folders(self) -> list[Path]:
        """Both folders of every component version that is there, wanted or not."""
        return [*self.packages.glob("artifacts/*/*"), *self.packages.glob("artifacts-unarchived/*/*")]

    def work(self, name: str) -> Path:
        """Where a component's scripts run."""
        return self.root / "work" / name

    def values(self, name: str, version: Version, configuration: Mapping[str, object]) -> Values:
        """What the variables of a component's scripts stand for."""
        return Values.under(str(self.root), name, version, configuration)
