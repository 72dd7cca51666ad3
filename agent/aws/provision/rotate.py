"""A new certificate by job, while the old one stays in use until the new one is proved.

The document of the job::

    {"operation": "verge:rotate-certificate", "template": "verge-rotation", "parameters": {"SerialNumber": "17"}}

New key → signed over the connection that is there → registered by the template, which makes the certificate active and
attaches it to the same thing → connected with it → the links of the identity's folder changed.  Whatever fails before
that leaves the old one in use.  A connection lasts: the transport uses the new one from its next connection on, and
``verge provision rollback`` goes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec.structs import replace

from agent.aws.jobs.client import JobsClient
from agent.aws.jobs.execution import Job
from agent.aws.jobs.messages import Status
from agent.aws.provision.errors import ProvisioningError
from agent.aws.provision.home import AUTHORITIES, CERTIFICATE, KEY, Home
from agent.aws.provision.identity import FleetProvisioning
from agent.aws.provision.keys import certificate_facts, check_pair, new_key, request
from agent.aws.provision.prove import prove
from agent.config.strict import convert
from agent.config.transports import IotCoreOptions
from agent.errors import ConfigError, VergeError
from agent.mqtt.transport import Transport

__all__ = ["OPERATION", "RotateOptions", "Rotation", "is_rotation", "read_rotation", "rotate"]

OPERATION: Final = "verge:rotate-certificate"
log = logging.getLogger(__name__)


class RotateOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The job document."""

    operation: Literal["verge:rotate-certificate"]
    template: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z_-]{1,36}$")]
    parameters: dict[str, str] = {}
    """For the template; ``ThingName`` is the thing's where it is not given."""


def is_rotation(document: bytes) -> bool:
    """Whether a job document asks for this operation, well or badly."""
    try:
        content: Any = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return isinstance(content, dict) and content.get("operation") == OPERATION


def read_rotation(document: bytes) -> RotateOptions:
    """The job document; raises ``ProvisioningError`` for a document that is not as it should be."""
    try:
        return convert(RotateOptions, msgspec.json.decode(document), "the job document")
    except (msgspec.DecodeError, UnicodeDecodeError, ConfigError) as error:
        raise ProvisioningError(f"{error}", code="bad-document", hint="it needs operation and template") from error


async def rotate(
    rotation: RotateOptions,
    thing: str,
    home: Home,
    options: IotCoreOptions,
    transport: Transport,
    *,
    timeout_s: float = 30.0,
) -> Mapping[str, str]:
    """Rotate over the connected ``transport``; the report.  Raises ``VergeError``, and then nothing has changed.

    ``options`` are those of the transport, whose files are the current ones of ``home``.
    """
    before = certificate_facts(home.current.certificate.read_bytes())
    identity = FleetProvisioning(transport, timeout_s=timeout_s)
    with home.staging() as staged:
        key = new_key()
        staged.write(KEY, key)
        signed = await identity.sign(request(key, thing))
        staged.write(CERTIFICATE, signed.certificate)
        registered = await identity.register(
            rotation.template, signed.token, {"ThingName": thing, **rotation.parameters}
        )
        if registered.thing != thing:
            raise ProvisioningError(
                f"the template registered the certificate for {registered.thing}, not for {thing}",
                code="another-thing",
                hint="let the template take the thing's name from the parameter ThingName",
            )
        facts = check_pair(signed.certificate, key)
        if home.current.authorities is not None:
            staged.write(AUTHORITIES, home.current.authorities.read_bytes())
        files = {"cert_file": str(staged.certificate), "key_file": str(staged.key)}
        proof = await prove(replace(options, **files), thing)
        home.keep(staged)
    return {
        "certificateId": signed.id,
        "previousCertificateId": before.id,
        "expires": f"{facts.ends:%Y-%m-%dT%H:%M:%SZ}",
        "proof": str(proof),
    }


class Rotation:
    """Runs what it ``takes`` in ``tasks``; ``options`` are those of ``transport``."""

    def __init__(self, thing: str, options: IotCoreOptions, transport: Transport, tasks: asyncio.TaskGroup) -> None:
        self._thing = thing
        self._options = options
        self._transport = transport
        self._tasks = tasks
        self._running: set[asyncio.Task[None]] = set()
        self._alone = asyncio.Lock()

    def takes(self, job: Job) -> bool:
        """Whether the job is for this and for no deployment."""
        return is_rotation(job.document)

    def begin(self, job: Job, client: JobsClient) -> None:
        """Run the job and report its end to ``client``, also where it was cancelled meanwhile."""
        task = self._tasks.create_task(self._run(job, client), name="agent.aws.provision.rotation")
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def close(self) -> None:
        """Break off what runs; the job is handed out again."""
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, job: Job, client: JobsClient) -> None:
        client.report(job, Status.IN_PROGRESS, {"step": "rotating"})
        try:
            async with self._alone:
                home = Home.of(self._options.cert_file)
                report = await rotate(read_rotation(job.document), self._thing, home, self._options, self._transport)
        except (VergeError, OSError) as error:
            log.warning("the certificate was not rotated, the old one stays in use: %s", error)
            code, message = getattr(error, "code", "disk"), getattr(error, "message", str(error))
            client.report(job, Status.FAILED, {"code": code, "reason": message})
        else:
            log.warning("certificate %s is in use from the next connection on", report["certificateId"])
            client.report(job, Status.SUCCEEDED, report)
