"""Where things are on the disk: Greengrass's folders below one root, so that recipes find what they expect."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

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
    def recipes(self) -> Path:
        """One recipe a file."""
        return self.root / "packages" / "recipes"

    @property
    def cache(self) -> Path:
        """Artifacts by digest."""
        return self.root / "packages" / "cache"

    @property
    def logs(self) -> Path:
        """One log a component."""
        return self.root / "logs"

    @property
    def run(self) -> Path:
        """Records of processes, by which a new agent finds what an old one left running."""
        return self.root / "run"

    def artifacts(self, name: str, version: Version) -> Path:
        """The files of a component version."""
        return self.root / "packages" / "artifacts" / name / str(version)

    def unarchived(self, name: str, version: Version) -> Path:
        """Its unpacked archives, a folder each."""
        return self.root / "packages" / "artifacts-unarchived" / name / str(version)

    def folders(self, name: str, version: Version) -> tuple[Path, Path]:
        """Both folders of a component version."""
        return self.artifacts(name, version), self.unarchived(name, version)

    def all_folders(self) -> list[Path]:
        """Both folders of every component version that is there, wanted or not."""
        packages = self.root / "packages"
        return [*packages.glob("artifacts/*/*"), *packages.glob("artifacts-unarchived/*/*")]

    def work(self, name: str) -> Path:
        """Where a component's scripts run."""
        return self.root / "work" / name

    def values(self, name: str, version: Version, configuration: dict[str, object]) -> Values:
        """What the variables of a component's scripts stand for."""
        return Values.under(str(self.root), name, version, configuration)
