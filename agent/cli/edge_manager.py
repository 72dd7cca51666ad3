"""``verge edge-manager``: SageMaker Edge Manager's agent as a program, by its own command line and configuration."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import platform
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import click
from msgspec.structs import replace

from agent import logs
from agent.aws.iot import IotCredentials
from agent.cli.output import echo
from agent.edgeapi.edge_manager.settings import Settings, of_json
from agent.edgeapi.needed import servers
from agent.errors import ConfigError, VergeError
from agent.files import make_folder, under
from agent.inference.plane import InferencePlane
from agent.service import raise_descriptor_limit, serve
from agent.topics import level
from agent.users import worker_user

__all__ = ["command"]

_PATH = click.Path(path_type=Path)


class _Serving:
    def __init__(self) -> None:
        self.leaving: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def hang_up(self) -> None:
        """SIGHUP: what units of the old agent end it with."""
        if not self.leaving.done():
            self.leaving.set_result(0)


@click.command("edge-manager")
@click.option("-a", "--address", "socket", required=True, type=_PATH, metavar="SOCKET", help="The Unix socket.")
@click.option("-c", "--config", "config", required=True, type=_PATH, metavar="FILE", help="The agent's JSON file.")
@click.option("-f", "--force", is_flag=True, help="Take the socket that a dead agent left.")
@click.option(
    "-m", "--max-message", "most_bytes", type=click.IntRange(1024, (1 << 31) - 1), metavar="BYTES",
    help="The longest request that is taken.",
)  # fmt: skip
def command(socket: Path, config: Path, force: bool, most_bytes: int | None) -> None:
    """Serve SageMaker Edge Manager's clients, without a broker.

    Reads the JSON file that AWS's own agent reads, and takes its arguments.  SIGTERM, SIGHUP or Ctrl-C ends it.
    What it keeps is below sagemaker_edge_local_data_root_path, or else in the user's state folder.

    \b
    Example:
      verge edge-manager -a /tmp/edge_agent -c sagemaker_edge_config.json -f
    """  # noqa: D301 click reads the backspace
    try:
        settings = of_json(config.read_bytes(), str(config))
    except OSError as error:
        raise ConfigError(f"{config} cannot be read: {error.strerror}", code="config-missing") from error
    logs.configure("debug" if settings.verbose else "info")
    raise_descriptor_limit()
    options = replace(settings.options, socket=str(Path.cwd() / socket))
    if most_bytes is not None:
        options = replace(options, max_message_bytes=most_bytes)
    running = _running(dataclasses.replace(settings, options=options), config.absolute().parent, force)
    ended = asyncio.run(
        serve(running, leaving=lambda serving: serving.leaving, reload=lambda serving: serving.hang_up())
    )
    if isinstance(ended, signal.Signals):
        signal.signal(ended, signal.SIG_DFL)
        os.kill(os.getpid(), ended)


@asynccontextmanager
async def _running(settings: Settings, folder: Path, force: bool) -> AsyncIterator[_Serving]:
    """A plane and the server, at work until left; raises what keeps them from starting."""
    wiring = servers()
    thing = settings.thing or platform.node() or "verge"
    data_dir = under(folder, settings.data_root) if settings.data_root else _state_folder(thing)
    try:
        make_folder(data_dir)
        async with (
            asyncio.TaskGroup() as tasks,
            InferencePlane(tasks, data_dir / "quarantine") as plane,
        ):
            here = wiring.Surroundings(
                thing, data_dir, folder, plane, user=worker_user(""), aws=settings.aws,
                credentials=IotCredentials.of(settings.aws, thing),
            )  # fmt: skip
            async with wiring.edge_manager(here, settings.options, working=Path.cwd(), replace=force) as socket:
                echo(f"listening at {socket}")
                yield _Serving()
    except OSError as error:
        raise ConfigError(f"nothing can be kept in {data_dir}: {error.strerror}", code="disk-denied") from error
    except BaseExceptionGroup as group:
        _, others = group.split(VergeError)
        raise (group if others else group.exceptions[0]) from None


def _state_folder(thing: str) -> Path:
    base = os.environ.get("STATE_DIRECTORY") or os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "verge-edge-manager" / level(thing)
