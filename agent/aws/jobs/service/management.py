"""The requests of ``verge jobs`` over a queue: a verb and JSON in, JSON out.  Pure.

A request goes to ``verge/jobs/<verb>`` with an MQTT 5 response topic under ``verge/jobs/answers/``; the answer is
``{"result": …}`` or ``{"error": {"code", "message", "hint"}}``.  Answers go nowhere else, so that nobody can have the
service publish what they may not.  Who may ask is the broker's to say: its access list for ``verge/jobs/#``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import msgspec

from agent.aws.jobs.messages import Code, Status
from agent.aws.jobs.service.job import Execution, JobError, JobRecord, JobSpec
from agent.aws.jobs.service.queue import JobQueue
from agent.aws.jobs.service.repository import Run
from agent.errors import VergeError

__all__ = ["ANSWERS", "BASE", "VERBS", "failure", "manage"]

BASE = "verge/jobs"
ANSWERS = f"{BASE}/answers/"

Result = Mapping[str, Any] | list[dict[str, Any]] | list[str]


class _Request(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """The request of every verb other than create."""

    job_id: str = ""
    thing: str = ""
    group: str = ""
    things: tuple[str, ...] = ()
    force: bool = False


def manage(queue: JobQueue, verb: str, payload: bytes, now: float) -> bytes:
    """Serve a request: its answer."""
    try:
        if verb not in VERBS:
            raise JobError(f"there is no verb {verb!r}", hint=f"known: {', '.join(VERBS)}")
        return msgspec.json.encode({"result": VERBS[verb](queue, payload or b"{}", now)})
    except VergeError as error:
        return failure(error.code, error.message, error.hint)
    except msgspec.ValidationError as error:
        return failure(Code.INVALID_REQUEST, f"the request is not as it should be: {error}")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return failure(Code.INVALID_JSON, f"the request is no JSON: {error}")


def failure(code: str, message: str, hint: str | None = None) -> bytes:
    """The answer to a request that failed."""
    return msgspec.json.encode({"error": {"code": str(code), "message": message, "hint": hint}})


# -- one function a verb --------------------------------------------------------------------------------------


def _create(queue: JobQueue, payload: bytes, now: float) -> Result:
    spec = msgspec.json.decode(payload, type=JobSpec)
    # The document is a view of the payload until it is copied.
    job = queue.create(msgspec.structs.replace(spec, document=spec.document.copy()), now)
    return _job(queue.run(job.spec.job_id))


def _list(queue: JobQueue, _payload: bytes, _now: float) -> Result:
    runs = sorted(queue.repository.runs.values(), key=lambda run: -run.job.created_at)
    return [_outline(run) for run in runs]


def _describe(queue: JobQueue, payload: bytes, _now: float) -> Result:
    return _job(queue.run(_read(payload).job_id))


def _executions(queue: JobQueue, payload: bytes, _now: float) -> Result:
    run = queue.run(_read(payload).job_id)
    return [_execution(one) for history in run.executions.values() for one in history]


def _cancel(queue: JobQueue, payload: bytes, now: float) -> Result:
    request = _read(payload)
    if request.thing:
        return _execution(queue.cancel_execution(request.job_id, request.thing, now, force=request.force))
    queue.cancel(request.job_id, now, force=request.force)
    return _job(queue.run(request.job_id))


def _delete(queue: JobQueue, payload: bytes, _now: float) -> Result:
    request = _read(payload)
    queue.delete(request.job_id, force=request.force)
    return {"jobId": request.job_id}


def _groups(queue: JobQueue, _payload: bytes, _now: float) -> Result:
    return {name: list(things) for name, things in sorted(queue.repository.groups.items())}


def _group_add(queue: JobQueue, payload: bytes, now: float) -> Result:
    request = _read(payload)
    return list(queue.change_group(request.group, now, add=request.things))


def _group_remove(queue: JobQueue, payload: bytes, now: float) -> Result:
    request = _read(payload)
    return list(queue.change_group(request.group, now, remove=request.things))


VERBS: Final[Mapping[str, Callable[[JobQueue, bytes, float], Result]]] = MappingProxyType(
    {
        "create": _create,
        "list": _list,
        "describe": _describe,
        "executions": _executions,
        "cancel": _cancel,
        "delete": _delete,
        "groups": _groups,
        "group-add": _group_add,
        "group-remove": _group_remove,
    }
)


def _read(payload: bytes) -> _Request:
    return msgspec.json.decode(payload, type=_Request)


# -- results --------------------------------------------------------------------------------------------------


def _outline(run: Run) -> dict[str, Any]:
    job: JobRecord = run.job
    return {
        "jobId": job.spec.job_id,
        "status": job.status,
        "targets": job.spec.targets,
        "targetSelection": job.spec.target_selection,
        "namespaceId": job.spec.namespace_id,
        "description": job.spec.description,
        "createdAt": job.created_at,
        "lastUpdatedAt": job.last_updated_at,
        "completedAt": job.completed_at,
        "reasonCode": job.reason_code,
        "processDetails": _counts(run.tally, len(run.waiting)),
    }


def _job(run: Run) -> dict[str, Any]:
    spec = run.job.spec
    return {
        **_outline(run),
        "document": spec.document,
        "jobExecutionsRolloutConfig": spec.job_executions_rollout_config,
        "abortConfig": spec.abort_config,
        "timeoutConfig": spec.timeout_config,
        "jobExecutionsRetryConfig": spec.job_executions_retry_config,
    }


def _counts(tally: Counter[Status], waiting: int) -> dict[str, int]:
    return {"WAITING": waiting, **{status.value: tally[status] for status in Status}}


def _execution(one: Execution) -> dict[str, Any]:
    return {
        "jobId": one.job_id,
        "thingName": one.thing,
        "executionNumber": one.number,
        "status": one.status,
        "statusDetails": one.details,
        "versionNumber": one.version,
        "queuedAt": one.queued_at,
        "startedAt": one.started_at,
        "lastUpdatedAt": one.last_updated_at,
    }
