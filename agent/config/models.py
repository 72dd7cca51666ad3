"""What can be said of a model: which one, what it means, and how it is run.

The same words stand in a model's ``manifest.toml`` (``agent.inference.manifest``), in the configuration, in a recipe's
``Verge`` block (``agent.greengrass.deployments.blocks``) and on the command line; ``over`` puts one over another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Self, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from agent.config.bounds import Name, OptionalPath, PathText, Text, Timeout

__all__ = ["CODE", "RUN_KEYS", "STEPS", "ModelOptions", "ModelSettings"]

STEPS: Final = ("preprocess", "postprocess")
CODE: Final = ("backend", "task", *STEPS)
"""What may be code of one's own, ``file.py:Name``."""
RUN_KEYS: Final = (
    "workers", "threads", "accelerator", "memory_mb", "deadline_s", "load_timeout_s", "autotune",
)  # fmt: skip
"""How a model is run, whichever model it is."""

Table: TypeAlias = dict[str, Any]
"""Its keys are known to the worker only, which refuses the others."""


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model means; empty is what is said elsewhere, or what the model's file tells."""

    backend: Text = ""
    task: Text = ""
    labels: OptionalPath = ""
    input: Table = {}
    options: Table = {}
    """The task's."""
    backend_options: Table = {}
    preprocess: Text = ""
    """The model's own step between a decoded picture and ``input``; ``file.py:Name`` as for backend and task."""
    preprocess_options: Table = {}
    postprocess: Text = ""
    """The model's own step behind the task: predictions in, predictions out."""
    postprocess_options: Table = {}
    autotune: bool | None = None
    """Whether the fastest backend and number of threads are measured on the device."""

    def over(self, base: ModelSettings) -> Self:
        """These settings where they say something, those of ``base`` elsewhere; options are merged key by key.

        What ``base`` says to its own step is nothing to another one.
        """
        merged: dict[str, Any] = {}
        for key in ModelSettings.__struct_fields__:
            mine, theirs = getattr(self, key), getattr(base, key)
            if isinstance(mine, Mapping):
                step = key.removesuffix("_options")
                merged[key] = {**mine} if step in STEPS and getattr(self, step) else {**theirs, **mine}
            else:
                merged[key] = theirs if mine in ("", None) else mine
        return replace(self, **merged)

    def settings(self) -> dict[str, Any]:
        """These fields alone, without those of a subclass."""
        return {key: value for key, value in asdict(self).items() if key in ModelSettings.__struct_fields__}


class ModelOptions(ModelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model in the configuration: which one, what to override, and how to run it."""

    source: OptionalPath
    """The name of a sample, a folder, or a model file."""
    usual_options: Table = {}
    """Options that hold where neither the manifest nor ``options`` says otherwise; not for a task of one's own."""
    accelerator: Name = "auto"
    workers: Annotated[int, Meta(ge=1, le=64)] = 1
    threads: Annotated[int, Meta(ge=0, le=256)] = 0
    """Per worker; 0 shares the machine's processors between the workers."""
    memory_mb: Annotated[int, Meta(ge=0, le=1 << 24)] = 0
    """How much a worker may take beyond the loaded model; 0 is no limit."""
    deadline_s: Timeout = 2.0
    """At least this long may a picture take before its worker counts as hung."""
    load_timeout_s: Timeout = 120.0
    interpreter: OptionalPath = ""
    """Another Python for the workers; empty is the agent's own."""
    python_path: tuple[PathText, ...] = ()
    """Folders in which a worker finds backends and tasks named ``module:Class``."""
    environment: dict[Annotated[str, Meta(pattern=r"^[^=\x00]+\Z", description="a variable's name")], Text] = {}
