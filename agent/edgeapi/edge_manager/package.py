"""What SageMaker's packaging wrote beside a model: ``sagemaker_edge_manifest``, JSON without a suffix.

Its signature is AWS's, in a form that is not public, and nobody can make one any more: the file is read as plain facts,
and says nothing of who made the model.  What a deployment brings is held against its digests when it is deployed.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from agent.files import head
from agent.inference import manifest
from agent.inference.manifest import ModelSpec

__all__ = ["MANIFEST", "packaged"]

log = logging.getLogger(__name__)

MANIFEST: Final = "sagemaker_edge_manifest"
_MOST_BYTES: Final = 1 << 20
_LONGEST: Final = 256


def packaged(spec: ModelSpec) -> ModelSpec:
    """The model for tensors alone, with the name and version that its package says; without it there is no name."""
    path = Path(spec.manifest.file)
    facts = _facts((path if path.is_dir() else path.parent) / MANIFEST)
    raw = manifest.raw(spec)
    name = facts.get("model_name", "")
    version = facts.get("model_version") or spec.manifest.version
    return replace(raw, manifest=replace(raw.manifest, name=_text(name), version=_text(version)))


def _text(value: Any) -> str:
    """A text that can be written as UTF-8: JSON may have halves of surrogate pairs."""
    return str(value)[:_LONGEST].encode("utf-8", "replace").decode()


def _facts(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(head(path, _MOST_BYTES))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        log.warning("%s is not read: %s", path, error)
        return {}
    facts = found.get("metadata") if isinstance(found, dict) else None
    return facts if isinstance(facts, dict) else {}
