"""What can be said of a model: which one, what it means, and how it is run.

The same words stand in a model's ``manifest.toml`` (``agent.inference.manifest``), in the configuration, in a recipe's
``Verge`` block (``agent.greengrass.deployments.blocks``) and on the command line; ``over`` puts one over another.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from msgspec import Meta, Struct
from msgspec.structs import asdict, replace

from agent.config.bounds import Name, OptionalPath, PathText, Text, Timeout
from agent.config.strict import KEYS
from agent.errors import ConfigError

__all__ = [
    "ANOMALY_KEYS",
    "CODE",
    "INPUT_KEYS",
    "RUN_KEYS",
    "STEPS",
    "TASK_KEYS",
    "ModelOptions",
    "ModelSettings",
    "Then",
    "tile",
]

STEPS: Final = ("preprocess", "postprocess")
CODE: Final = ("backend", "task", *STEPS)
"""What may be code of one's own, ``file.py:Name``."""
RUN_KEYS: Final = (
    "workers", "threads", "accelerator", "memory_mb", "deadline_s", "load_timeout_s", "autotune",
)  # fmt: skip
"""How a model is run, whichever model it is."""

Table: TypeAlias = dict[str, Any]
"""Its keys are known to the worker only, which refuses the others."""
TASK_KEYS: Final = (
    "activation",
    "anchors",
    "background",
    "binary",
    "blank",
    "boxes",
    "columns",
    "decoded",
    "decoder",
    "format",
    "image_threshold",
    "interpolated",
    "iou",
    "keypoint_names",
    "keypoints",
    "least",
    "map",
    "maps",
    "mask_scale",
    "max_bytes",
    "max_detections",
    "max_scale",
    "max_values",
    "min_scale",
    "names",
    "nms",
    "normalize",
    "normalized",
    "output",
    "outputs",
    "pixel_scale",
    "pixel_threshold",
    "planes",
    "ratios",
    "reduce_lowest",
    "scale",
    "scores",
    "sizes",
    "threshold",
    "top_k",
    "unclip",
    "version",
)
"""What the worker's own tasks know, for guesses at what somebody meant; a line for each, in order."""
INPUT_KEYS: Final = (
    "width", "height", "layout", "color", "mean", "std", "scale", "resize", "place", "pad", "crop", "upscale",
    "downscale", "multiple", "max_side", "interpolation", "others", "tile", "regions",
)  # fmt: skip
"""The same of its preprocessing."""
ANOMALY_KEYS: Final = ("normal", "classes", "colors")
"""The same of its verdict, but for the thresholds: these are looked for among the task's."""
_TILE: Final = re.compile(
    r"(?:(?P<columns>\d{1,4})x(?P<rows>\d{1,4})|(?P<size>\d{1,5}))(?:,overlap=(?P<overlap>0?\.?\d{1,6}))?(?P<with_whole>,whole)?",
    re.ASCII,
)


class ModelSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a model means; empty is what is said elsewhere, or what the model's file tells."""

    backend: Text = ""
    task: Text = ""
    labels: OptionalPath = ""
    gallery: OptionalPath = ""
    """A folder of known pictures by name, for the task ``embedding``."""
    input: Annotated[Table, Meta(extra_json_schema={KEYS: INPUT_KEYS})] = {}
    options: Annotated[Table, Meta(extra_json_schema={KEYS: TASK_KEYS})] = {}
    """The task's."""
    anomaly: Annotated[Table, Meta(extra_json_schema={KEYS: ANOMALY_KEYS})] = {}
    """When something is wrong with what is seen (``agent/inference/runtime/verdict.py``)."""
    backend_options: Table = {}
    preprocess: Text = ""
    """The model's own step between a decoded picture and ``input``; ``file.py:Name`` as for backend and task."""
    preprocess_options: Table = {}
    postprocess: Text = ""
    """The model's own step behind the task: predictions in, predictions out."""
    postprocess_options: Table = {}
    autotune: bool | None = None
    """Whether the fastest backend and number of threads are measured on the device."""
    then: Annotated[tuple[Then, ...], Meta(max_length=8)] = ()
    """Models that look at what this one detects."""

    def over(self, base: ModelSettings) -> Self:
        """These settings where they say something, those of ``base`` elsewhere; options are merged key by key.

        What ``base`` says to its own step or task is nothing to another one.
        """
        base = base.for_task(self.task)
        merged: dict[str, Any] = {}
        for key in ModelSettings.__struct_fields__:
            mine, theirs = getattr(self, key), getattr(base, key)
            if isinstance(mine, Mapping):
                step = key.removesuffix("_options")
                merged[key] = {**mine} if step in STEPS and getattr(self, step) else {**theirs, **mine}
            else:
                merged[key] = theirs if mine in ("", None, ()) else mine
        return replace(self, **merged)

    def for_task(self, task: str) -> Self:
        """These settings without what they say to their own task, where ``task`` is another one."""
        if task in ("", self.task) or self.task in ("", "auto"):
            return self
        return replace(self, options={}, anomaly={}, postprocess="", postprocess_options={}, then=())

    def settings(self) -> dict[str, Any]:
        """These fields alone, without those of a subclass."""
        return {key: value for key, value in asdict(self).items() if key in ModelSettings.__struct_fields__}


class Then(ModelSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A model that looks at what another one detects (``agent/inference/runtime/cascade.py``), and what it is given."""

    model: PathText
    """The name of a sample, a folder, or a model file; beside what names it."""
    classes: Annotated[tuple[Text, ...], Meta(max_length=1000)] = ()
    """Labels of the detections that it looks at; all where none is named."""
    align: Literal["box", "corners", "upright", "face"] = "box"
    margin: Annotated[float, Meta(ge=0, le=2)] = 0.0
    """How much wider than the box the crop is at each side, as a share of the box."""
    most: Annotated[int, Meta(ge=1, le=1000)] = 32
    """Detections of a frame that it looks at, the best ones."""
    turn: bool = False
    """Its label says by how many degrees the crop is turned: those behind it get it upright."""
    instead: bool = False
    """The texts that it reads stand in place of the boxes."""


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


def tile(text: str) -> Table:
    """``input.tile`` as it is written on a command line; raises ``ConfigError``.

    >>> tile("3x2")
    {'columns': 3, 'rows': 2}
    >>> tile("640,overlap=0.3,whole")
    {'size': 640, 'overlap': 0.3, 'with_whole': True}
    """
    found = _TILE.fullmatch(text.strip().lower())
    if found is None:
        hint = "give columns x rows or a tile's pixels: 3x2, 640, 3x2,overlap=0.3,whole"
        raise ConfigError(f"{text!r} says no tiles", code="option-wrong", hint=hint)
    said = {key: value for key, value in found.groupdict().items() if value}
    made = {"overlap": float, "with_whole": bool}
    return {key: made.get(key, int)(value) for key, value in said.items()}
