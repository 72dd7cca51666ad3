"""What a changed configuration asks of a running agent (pure): what is taken at once, and what needs a restart.

==========================  ========================================================================================
part                        taken at once
==========================  ========================================================================================
``log_level``               always
``models``                  thresholds and everything else of them, also their files, manifests and galleries: a
                            changed one is loaded beside the one that serves and takes over between two frames
``streams``                 inputs, filters, outputs, snapshots; also streams that are new or gone
``deployments``             ``trusted_keys``
everything else             never: transports, folders, where deployments come from
==========================  ========================================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import structs

from agent.config.deployments import DeploymentOptions
from agent.config.load import Config
from agent.config.models import ModelOptions
from agent.config.streams import StreamOptions

__all__ = ["Reload", "difference"]

_TABLES = ("transports",)


@dataclass(frozen=True, slots=True)
class Reload:
    """The way from one configuration to another."""

    log_level: str | None = None
    models: Mapping[str, ModelOptions] = field(default_factory=dict)
    """Those that are new, or other than before."""
    removed_models: tuple[str, ...] = ()
    streams: Mapping[str, StreamOptions] = field(default_factory=dict)
    """Those that are new, other than before, or over a model that is."""
    removed: tuple[str, ...] = ()
    trusted_keys: DeploymentOptions | None = None
    restart: tuple[str, ...] = ()
    """The keys that count only after a restart."""

    @property
    def taken(self) -> tuple[str, ...]:
        """The keys that count at once."""
        keys = [] if self.log_level is None else ["log_level"]
        keys += [f"models.{name}" for name in (*self.models, *self.removed_models)]
        keys += [f"streams.{name}" for name in (*self.streams, *self.removed)]
        return (*keys, *(["deployments.trusted_keys"] if self.trusted_keys else []))


def difference(old: Config, new: Config, renewed: Collection[str] = ()) -> Reload:
    """What is to be done so that an agent with the ``old`` one has the ``new`` one.

    ``renewed`` are the models whose files are others than those that serve.
    """
    models = {name: model for name, model in new.models.items() if old.models.get(name) != model or name in renewed}
    streams = {
        name: stream
        for name, stream in new.streams.items()
        if old.streams.get(name) != stream or (stream.model in models and stream.model in old.models)
    }
    keys = _with_keys_of(old.deployments, new.deployments) if old.deployments != new.deployments else None
    return Reload(
        log_level=new.log_level if new.log_level != old.log_level else None,
        models=models,
        removed_models=tuple(name for name in old.models if name not in new.models),
        streams=streams,
        removed=tuple(name for name in old.streams if name not in new.streams),
        trusted_keys=new.deployments if keys != old.deployments and keys is not None else None,
        restart=tuple(_restart(old, new)),
    )


def _with_keys_of(old: DeploymentOptions | None, new: DeploymentOptions | None) -> DeploymentOptions | None:
    """The old options with the new keys; None where there are no such options, or another list says who may."""
    if old is None or new is None or new.trust_list or old.trust_list:
        return None
    return structs.replace(old, trusted_keys=new.trusted_keys)


def _restart(old: Config, new: Config) -> Iterator[str]:
    taken = {"log_level", "models", "streams", "deployments"}
    for key in Config.__struct_fields__:
        before, after = getattr(old, key), getattr(new, key)
        if key in _TABLES:
            yield from (f"{key}.{name}" for name in _unlike(before, after))
        elif key not in taken and before != after:
            yield key
    keys = _with_keys_of(old.deployments, new.deployments)
    if (keys or old.deployments) != new.deployments:
        yield from _fields(keys or old.deployments, new.deployments)


def _fields(old: DeploymentOptions | None, new: DeploymentOptions | None) -> Iterator[str]:
    if old is None or new is None:
        yield "deployments"
        return
    yield from (f"deployments.{key}" for key in old.__struct_fields__ if getattr(old, key) != getattr(new, key))


def _unlike(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
