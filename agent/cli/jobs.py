"""``verge jobs``: AWS IoT Jobs on any broker.  ``serve`` is the service; the others send it requests over the broker.

The options of ``create`` are short on the command line and AWS's CreateJob in the request.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.structs import replace

from agent import logs
from agent.aws.jobs.service.caller import Caller, calling
from agent.aws.jobs.service.management import BASE
from agent.aws.jobs.service.serve import JobsService
from agent.aws.jobs.service.store import JobStore
from agent.aws.jobs.topics import GREENGRASS, PREFIX
from agent.cli import loop
from agent.cli.broker import broker_options, visiting
from agent.cli.output import echo, print_json
from agent.cli.tables import show_executions, show_groups, show_job, show_jobs
from agent.config.load import Config
from agent.config.transports import MqttOptions
from agent.errors import UnreachableError
from agent.mqtt.client import MqttTransport
from agent.mqtt.strangers import Strangers, tried
from agent.results.result import Ulids
from agent.service import serve as serve_until_signal

__all__ = ["command"]

log = logging.getLogger("agent.aws.jobs")

_LOOK_S = 0.5
_MAX_QUEUED = 100_000

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")
_UNITS = {"s": 1 / 60, "m": 1.0, "h": 60.0, "d": 1440.0}
_TYPES = ("FAILED", "REJECTED", "TIMED_OUT", "ALL")
_CRITERIA = {"notified": "numberOfNotifiedThings", "succeeded": "numberOfSucceededThings"}


# -- options of create ---------------------------------------------------------------------------------------


def _parse_document(_ctx: click.Context, _param: click.Parameter, value: str) -> msgspec.Raw:
    """A document from JSON text, a file, or ``-`` for standard input."""
    if value.lstrip().startswith("{"):
        text = value.encode()
    else:
        try:
            text = sys.stdin.buffer.read() if value == "-" else Path(value).read_bytes()
        except OSError as error:
            raise click.BadParameter(f"{value} cannot be read: {error.strerror}") from error
    try:
        msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"the document is no JSON: {error}") from error
    return msgspec.Raw(text)


def _parse_minutes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """``30`` is minutes; ``90s``, ``5m``, ``2h`` and ``1d`` name their unit.

    >>> _parse_minutes(None, None, "90s")
    1.5
    """
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is no time; write 30 for minutes, or 90s, 5m, 2h")
    return float(match[1]) * _UNITS[match[2] or "m"]


def _parse_increase(
    _ctx: click.Context, _param: click.Parameter, value: str | None
) -> tuple[float, dict[str, int]] | None:
    """``2:succeeded:10``: the factor and the criterion.

    >>> _parse_increase(None, None, "2:succeeded:10")
    (2.0, {'numberOfSucceededThings': 10})
    """
    if value is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?):(notified|succeeded):(\d+)", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not FACTOR:notified:N or FACTOR:succeeded:N")
    return float(match[1]), {_CRITERIA[match[2]]: int(match[3])}


def _parse_abort(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[dict[str, Any]]:
    """``failed:20%:5``: of at least 5 things that are done, 20 per cent failed.

    >>> _parse_abort(None, None, ("failed:20%:5",))[0]["thresholdPercentage"]
    20.0
    """
    criteria = []
    for value in values:
        match = re.fullmatch(r"([a-z_]+):(\d+(?:\.\d+)?)%(?::(\d+))?", value.lower())
        if match is None or match[1].upper() not in _TYPES:
            raise click.BadParameter(f"{value!r} is not TYPE:PERCENT%:MINIMUM; types: {', '.join(_TYPES).lower()}")
        criteria.append(
            {
                "failureType": match[1].upper(),
                "action": "CANCEL",
                "thresholdPercentage": float(match[2]),
                "minNumberOfExecutedThings": int(match[3] or 1),
            }
        )
    return criteria


def _parse_retry(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> list[dict[str, Any]]:
    """``2`` for any failure, ``timed_out:3`` for one type.

    >>> _parse_retry(None, None, ("timed_out:3",))
    [{'failureType': 'TIMED_OUT', 'numberOfRetries': 3}]
    """
    criteria = []
    for value in values:
        match = re.fullmatch(r"(?:(failed|timed_out|all):)?(\d+)", value.lower())
        if match is None:
            raise click.BadParameter(f"{value!r} is not N, failed:N or timed_out:N")
        criteria.append({"failureType": (match[1] or "all").upper(), "numberOfRetries": int(match[2])})
    return criteria


# -- commands -------------------------------------------------------------------------------------------------


@click.group("jobs")
def command() -> None:
    """Send jobs to things over any broker, with the protocol of AWS IoT Jobs.

    \b
    Examples:
      verge jobs serve --broker mqtt://127.0.0.1 --data ./jobs
      verge jobs create --targets line-1,line-2 --document deployment.json --wait
      verge jobs list
    """  # noqa: D301 click reads the backspace


@command.command("serve", short_help="Be the Jobs service of a broker.")
@broker_options
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="Where the jobs are kept.")
@click.option(
    "--prefix", metavar="TEXT",
    help=f"verge/aws where a broker refuses a leading $.  [default: aws_prefix of the file, or {PREFIX}]",
)  # fmt: skip
def serve(config: Config, data: Path | None, prefix: str | None) -> None:
    """Serve devices and `verge jobs` until SIGTERM or Ctrl-C; what is answered is on disk.

    \b
    Examples:
      verge jobs serve --broker mqtt://127.0.0.1 --data ./jobs
      verge jobs serve -c configs/local.toml
    """  # noqa: D301 click reads the backspace
    logs.configure(config.log_level)
    folder = data or Path(config.data_dir) / "jobs"
    if prefix is None:  # where the agent of the same file listens
        prefix = config.deployments.aws_prefix if config.deployments else PREFIX
    received = asyncio.run(serve_until_signal(_serving(config, folder, prefix), lambda: log.info("serving")))
    signal.signal(received, signal.SIG_DFL)
    os.kill(os.getpid(), received)


@command.command("create", short_help="Make a job.")
@broker_options
@click.option("--targets", required=True, metavar="T1,group:G", help="Things, and groups as group:NAME.")
@click.option("--document", required=True, callback=_parse_document, metavar="FILE|JSON|-", help="What is to be done.")
@click.option("--id", "job_id", metavar="ID", help="The job's name.  [default: a new one]")
@click.option("--description", default="", help="For people.")
@click.option("--namespace", default="", help=f"Send it in a namespace; {GREENGRASS} is Greengrass's.")
@click.option("--continuous", is_flag=True, help="Also for things that join a target group later.")
@click.option("--rate", type=click.IntRange(1), metavar="N", help="Notify at most N things in any minute.")
@click.option("--increase", callback=_parse_increase, metavar="F:succeeded:N", help="Times F each N things done.")
@click.option("--max-rate", type=click.IntRange(1), metavar="N", help="But never more than this.")
@click.option("--abort", multiple=True, callback=_parse_abort, metavar="TYPE:P%:MIN", help="Cancel past P% failures.")
@click.option("--timeout", callback=_parse_minutes, metavar="MIN", help="Per execution; 30 or 90s, 5m, 2h.")
@click.option("--retries", multiple=True, callback=_parse_retry, metavar="N", help="N, failed:N or timed_out:N.")
@click.option("--wait", is_flag=True, help="Until the job ends; the exit status is 1 unless all succeeded.")
@_json_option
def create(config: Config, wait: bool, as_json: bool, **options: Any) -> None:
    """Make a job for things and groups.

    \b
    Examples:
      verge jobs create --targets line-1 --document deployment.json --wait
      verge jobs create --targets group:hall-7 --document '{"components": {}}' --timeout 10m --retries 2
      verge jobs create --targets group:all --continuous --document deployment.json \\
          --rate 5 --increase 2:succeeded:10 --max-rate 100 --abort failed:20%:5
    """  # noqa: D301 click reads the backspace
    if wait and options["continuous"]:
        raise click.UsageError("a continuous job does not end: leave --wait away")
    if (options["increase"] or options["max_rate"]) and not options["rate"]:
        raise click.UsageError("--increase and --max-rate need --rate, the rate to begin with")
    job, executions = loop.run(_created(config, _request(**options), wait=wait))
    if as_json:
        print_json({**job, "executions": executions} if wait else job)
    else:
        show_job(job)
        if wait:
            echo()
            show_executions(executions)
    counts = job["processDetails"]
    if wait and counts["SUCCEEDED"] != sum(counts.values()):
        raise click.exceptions.Exit(1)


@command.command("list", short_help="All jobs, newest first.")
@broker_options
@_json_option
def list_(config: Config, as_json: bool) -> None:
    """All jobs, newest first."""
    _show(config, "list", {}, print_json if as_json else show_jobs)


@command.command("describe", short_help="One job.")
@broker_options
@click.argument("job_id", metavar="ID")
@_json_option
def describe(config: Config, job_id: str, as_json: bool) -> None:
    """One job."""
    _show(config, "describe", {"jobId": job_id}, print_json if as_json else show_job)


@command.command("executions", short_help="How a job stands on each thing.")
@broker_options
@click.argument("job_id", metavar="ID")
@_json_option
def executions(config: Config, job_id: str, as_json: bool) -> None:
    """How a job stands on each thing, every run of it."""
    _show(config, "executions", {"jobId": job_id}, print_json if as_json else show_executions)


@command.command("cancel", short_help="End a job, everywhere or on one thing.")
@broker_options
@click.argument("job_id", metavar="ID")
@click.option("--thing", default="", help="Only there.")
@click.option("--force", is_flag=True, help="What is in progress, too.")
@_json_option
def cancel(config: Config, job_id: str, thing: str, force: bool, as_json: bool) -> None:
    """End a job: what is queued, and with --force what is in progress.

    \b
    Examples:
      verge jobs cancel j1
      verge jobs cancel j1 --thing line-3 --force
    """  # noqa: D301 click reads the backspace
    request = {"jobId": job_id, "thing": thing, "force": force}
    person = _one_execution if thing else show_job
    _show(config, "cancel", request, print_json if as_json else person)


@command.command("delete", short_help="Forget a job.")
@broker_options
@click.argument("job_id", metavar="ID")
@click.option("--force", is_flag=True, help="Even one that is not at its end.")
@_json_option
def delete(config: Config, job_id: str, force: bool, as_json: bool) -> None:
    """Forget a job and its executions."""
    _show(config, "delete", {"jobId": job_id, "force": force}, print_json if as_json else _deleted)


@command.command("groups", short_help="Groups of things: show, add, remove.")
@broker_options
@click.argument("group", required=False)
@click.option("--add", default="", metavar="T1,T2", help="Put things into the group.")
@click.option("--remove", default="", metavar="T1,T2", help="Take things out of it.")
@_json_option
def groups(config: Config, group: str | None, add: str, remove: str, as_json: bool) -> None:
    """Show the groups, or change one; continuous jobs follow.

    \b
    Examples:
      verge jobs groups
      verge jobs groups hall-7 --add line-1,line-2
      verge jobs groups hall-7 --remove line-2
    """  # noqa: D301 click reads the backspace
    if (add or remove) and not group:
        raise click.UsageError("name the group that is to change")
    after = loop.run(_groups(config, group or "", _names(add), _names(remove)))
    (print_json if as_json else show_groups)(after)


# -- requests -------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _serving(config: Config, folder: Path, prefix: str) -> AsyncIterator[JobsService]:
    options = config.transports[config.first_transport].visiting(config.first_transport)
    name = f"{options.client_id}-jobs" if options.client_id else ""
    options = replace(options, client_id=name, max_queued_messages=max(options.max_queued_messages, _MAX_QUEUED))
    with JobStore(folder) as store:
        async with MqttTransport("jobs", options) as transport, JobsService(transport, store, prefix=prefix) as service:
            looking = asyncio.create_task(_look_for_strangers(options), name="agent.aws.jobs.strangers")
            try:
                yield service
            finally:
                looking.cancel()


async def _look_for_strangers(options: MqttOptions) -> None:
    """Say it when anybody may make jobs: whoever may ask is the broker's to say."""
    report = await tried(options, [f"{BASE}/list"])
    if report.strangers is Strangers.LET_IN:
        log.warning(
            "anybody may make jobs here: %s (hint: let nobody but whoever deploys write %s/+, as "
            "configs/mosquitto/verge.acl does; or sign the documents of jobs)",
            report.finding, BASE,
        )  # fmt: skip


@asynccontextmanager
async def _caller(config: Config) -> AsyncIterator[Caller]:
    """A caller on the first broker of the configuration; raises ``BrokerUnreachableError``."""
    async with visiting(config, config.first_transport, "jobs-cli") as visit, calling(visit) as caller:
        yield caller


def _show(config: Config, verb: str, request: dict[str, Any], show: Callable[[Any], None]) -> None:
    show(loop.run(_ask(config, verb, request)))


async def _ask(config: Config, verb: str, request: dict[str, Any]) -> Any:
    async with _caller(config) as caller:
        return await caller.ask(verb, request)


async def _created(config: Config, request: dict[str, Any], *, wait: bool) -> tuple[Any, list[Any]]:
    """The job, and when it was waited for, its executions."""
    async with _caller(config) as caller:
        job = await caller.ask("create", request)
        if not wait:
            return job, []
        this = {"jobId": job["jobId"]}
        while job["status"] == "IN_PROGRESS":
            await asyncio.sleep(_LOOK_S)
            with suppress(UnreachableError):  # a service or broker that restarts is waited for
                job = await caller.ask("describe", this)
        return job, await caller.ask("executions", this)


async def _groups(config: Config, group: str, add: Sequence[str], remove: Sequence[str]) -> Any:
    async with _caller(config) as caller:
        for verb, things in (("group-add", add), ("group-remove", remove)):
            if things:
                await caller.ask(verb, {"group": group, "things": things})
        known = await caller.ask("groups")
        return {group: known.get(group, [])} if group else known


def _request(
    *, targets: str, document: Any, job_id: str | None, description: str, namespace: str, continuous: bool,
    rate: int | None, increase: tuple[float, dict[str, int]] | None, max_rate: int | None,
    abort: list[Any], timeout: float | None, retries: list[Any],
) -> dict[str, Any]:  # fmt: skip
    """The CreateJob request that the options of ``create`` make."""
    request: dict[str, Any] = {
        "jobId": job_id or Ulids().new().lower(),
        "targets": _names(targets),
        "document": document,
        "description": description,
        "namespaceId": namespace,
        "targetSelection": "CONTINUOUS" if continuous else "SNAPSHOT",
        "abortConfig": {"criteriaList": abort},
        "timeoutConfig": {"inProgressTimeoutInMinutes": timeout},
        "jobExecutionsRetryConfig": {"criteriaList": retries},
    }
    rollout: dict[str, Any] = {"maximumPerMinute": rate}
    if increase is not None:
        factor, criteria = increase
        growing = {"baseRatePerMinute": rate, "incrementFactor": factor, "rateIncreaseCriteria": criteria}
        rollout = {"maximumPerMinute": max_rate, "exponentialRate": growing}
    return {**request, "jobExecutionsRolloutConfig": rollout}


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _one_execution(execution: Any) -> None:
    show_executions([execution])


def _deleted(job: Any) -> None:
    echo(f"{job['jobId']} is deleted")
