"""``verge trust order`` and ``verge trust forget``: on a device, what its documents have to be newer than.

Both work on the files of the agent's data folder, as its user or as root, while the agent runs or not: it reads them
before each decision.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click

from agent.cli.output import echo, json_option, local_time, print_json
from agent.config.load import data_folders, load
from agent.errors import ConfigError
from agent.greengrass.deployments.layout import Layout
from agent.greengrass.trust.order import EVERY_GROUP, Record, forgotten
from agent.greengrass.trust.record import OrderRecord

__all__ = ["COMMANDS"]

_PATH = click.Path(path_type=Path)
_DATA_DIR = click.option("--data-dir", type=_PATH, metavar="DIR", help="The device's data folder.")
_CONFIG = click.option("-c", "--config", "path", type=_PATH, metavar="FILE", help="The agent's TOML file.")


@click.command("order")
@_DATA_DIR
@_CONFIG
@json_option
def _order(data_dir: Path | None, path: Path | None, as_json: bool) -> None:
    """On the device: show of when the newest document of each group is; what is older is stale.

    \b
    Examples:
      verge trust order
      verge trust order --config /etc/verge/verge.toml --json
    """  # noqa: D301 click reads the backspace
    folder = _folder(data_dir, path)
    _print(folder, _record(folder).read(), as_json=as_json)


@click.command("forget")
@click.argument("group", required=False)
@click.option("--all", "every", is_flag=True, help="Every group's.")
@click.option("--entirely", is_flag=True, help="Also what is not ahead: old signed documents count again then.")
@_DATA_DIR
@_CONFIG
@json_option
def _forget(
    group: str | None, every: bool, entirely: bool, data_dir: Path | None, path: Path | None, as_json: bool
) -> None:
    """On the device: forget that a group's newest document is ahead of the clock.

    For documents that are refused as stale since one was taken that is of the future.  From then on those count that
    are newer than now; the agent may run meanwhile.  Groups are thinggroup/NAME, thing/NAME and LOCAL_DEPLOYMENT;
    rollbacks, which bind every group, are forgotten along.

    \b
    Examples:
      verge trust forget LOCAL_DEPLOYMENT
      verge trust forget thinggroup/lab --config /etc/verge/verge.toml
      verge trust forget --all --data-dir /var/lib/verge
    """  # noqa: D301 click reads the backspace
    if bool(group) == every:
        raise click.UsageError("name a GROUP, as `verge trust order` shows it, or say --all")
    folder = _folder(data_dir, path)
    record, now_ms = _record(folder), int(time.time() * 1e3)
    before = record.read()
    meant = {name for name in before.groups if every or name in {group, EVERY_GROUP}}
    if not meant:
        known = ", ".join(sorted(before.groups)) or "none"
        raise ConfigError(
            f"no document of {group or 'any group'} is remembered", code="no-group", hint=f"there are {known}"
        )
    if not entirely and not any(before.groups[name].time_ms > now_ms for name in meant):
        raise ConfigError(
            f"nothing of {group or 'any group'} is ahead of this device's clock",
            code="not-ahead",
            hint="send the document with a new creationTimestamp (verge trust sign gives one); --entirely forgets the "
            "newest all the same, and then old signed documents count again",
        )
    changed = record.update(partial(forgotten, group=group, now_ms=now_ms, entirely=entirely))
    _print(folder, changed, as_json=as_json)


COMMANDS = (_order, _forget)


def _folder(data_dir: Path | None, path: Path | None) -> Path:
    if data_dir is not None:
        return data_dir
    folders = data_folders(load(path) if path is not None else None)
    return next((folder for folder in folders if OrderRecord(Layout(folder).order).exists), folders[0])


def _record(folder: Path) -> OrderRecord:
    record = OrderRecord(Layout(folder).order)
    hint = "run it on the device as the agent's user or as root, and name its data folder: --data-dir or --config"
    try:
        there = record.exists
    except PermissionError:
        there = False
    if not there or not os.access(Layout(folder).order.parent, os.W_OK):
        raise ConfigError(
            f"there is no record of deployments in {folder} that can be read", code="no-record", hint=hint
        )
    return record


def _print(folder: Path, record: Record, *, as_json: bool) -> None:
    if as_json:
        print_json({"data_dir": str(folder), "groups": _plain(record)})
        return
    for group, newest in _plain(record).items():
        signed = f", signed by {', '.join(newest['signers'])}" if newest["signers"] else ""
        name = "rollbacks" if group == EVERY_GROUP else group
        echo(f"{name}: newer than {local_time(newest['newest'])}{signed}")
    if not record.groups:
        echo(f"{folder}: no document with a time of its own was taken so far")


def _plain(record: Record) -> Mapping[str, Any]:
    return {
        group: {
            "newest": datetime.fromtimestamp(mark.time_ms / 1e3, UTC).isoformat(timespec="milliseconds"),
            "signers": list(mark.signers),
        }
        for group, mark in sorted(record.groups.items())
    }
