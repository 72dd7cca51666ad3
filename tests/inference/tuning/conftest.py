"""Models whose behaviour hangs on how they are run, and what is kept of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from agent.config.models import ModelOptions
from agent.inference.manifest import ModelSpec, resolve
from tests.support.unruly import PLUGINS


@pytest.fixture
def moody(tmp_path: Path) -> Callable[..., ModelSpec]:
    """A model with a mood for each ``accelerator threads``."""

    def made(moods: Mapping[str, str], **options: object) -> ModelSpec:
        folder = tmp_path / "moody"
        folder.mkdir(exist_ok=True)
        (folder / "model.moody").write_text("".join(f"{way}: {mood}\n" for way, mood in moods.items()))
        (folder / "labels.txt").write_text("calm\nfine\nodd\n")
        settings = {
            "source": str(folder / "model.moody"),
            "backend": "moody:Moody",
            "task": "image-classification",
            "labels": str(folder / "labels.txt"),
            "python_path": (str(Path(__file__).parent / "plugins"), str(PLUGINS)),
            "autotune": True,
        }
        return resolve(ModelOptions(**{**settings, **options}), folder)

    return made
