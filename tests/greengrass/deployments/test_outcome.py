"""How an end is told: Greengrass's words, AWS's limits."""

from __future__ import annotations

import errno
import itertools
import json

import pytest

from agent.aws.jobs.messages import Status, clean_details
from agent.errors import BackendUnavailableError, ConfigError, ModelRefusedError, WorkerLostError
from agent.greengrass.artifacts.errors import TYPES as ARTIFACT_TYPES
from agent.greengrass.artifacts.errors import ArtifactError, ArtifactUnreachableError
from agent.greengrass.deployments.outcome import (
    DetailedStatus,
    Outcome,
    error_stack,
    error_types,
    failed,
    job_details,
    status_details,
    topic_payload,
)
from agent.greengrass.errors import TYPES, DeploymentError, DeploymentRejectedError
from agent.greengrass.recipes.errors import LifecycleError, NoManifestError, RecipeError, VersionError


def chained(*errors: BaseException) -> BaseException:
    for error, cause in itertools.pairwise(errors):
        error.__cause__ = cause
    return errors[0]


@pytest.mark.parametrize(
    ("status", "job"),
    [
        (DetailedStatus.SUCCESSFUL, Status.SUCCEEDED),
        (DetailedStatus.FAILED_NO_STATE_CHANGE, Status.FAILED),
        (DetailedStatus.FAILED_ROLLBACK_COMPLETE, Status.FAILED),
        (DetailedStatus.FAILED_ROLLBACK_NOT_REQUESTED, Status.FAILED),
        (DetailedStatus.FAILED_UNABLE_TO_ROLLBACK, Status.FAILED),
        (DetailedStatus.REJECTED, Status.REJECTED),
    ],
)
def test_every_end_has_its_job_status(status, job) -> None:
    assert status.job_status is job
    assert Outcome(status).job_status is job


def test_every_end_is_in_the_table() -> None:
    assert all(status.job_status.terminal for status in DetailedStatus)


def test_the_stack_goes_from_the_failure_to_the_cause_and_repeats_nothing() -> None:
    error = chained(
        DeploymentError("whole", code="COMPONENT_PACKAGE_LOADING_ERROR"),
        ArtifactError("part"),
        ArtifactError("again"),
        ArtifactUnreachableError("link", code="TLS_HANDSHAKE_FAILURE"),
    )
    assert error_stack(error) == (
        "DEPLOYMENT_FAILURE",
        "COMPONENT_PACKAGE_LOADING_ERROR",
        "ARTIFACT_DOWNLOAD_ERROR",
        "TLS_HANDSHAKE_FAILURE",
    )
    assert error_types(error) == ("NETWORK_ERROR",)


def test_a_chain_that_bites_its_tail_ends() -> None:
    one, other = DeploymentError("one"), DeploymentError("other", code="IO_ERROR")
    one.__cause__, other.__cause__ = other, one
    assert error_stack(one) == ("DEPLOYMENT_FAILURE", "DEPLOYMENT_DOCUMENT_NOT_VALID", "IO_ERROR")


def test_what_was_silenced_on_purpose_stays_out() -> None:
    outer = DeploymentError("outer")
    outer.__context__ = ArtifactError("inner", code="ACCESS_DENIED")
    assert error_stack(outer) == ("DEPLOYMENT_FAILURE", "DEPLOYMENT_DOCUMENT_NOT_VALID", "ACCESS_DENIED")
    outer.__suppress_context__ = True
    assert error_stack(outer) == ("DEPLOYMENT_FAILURE", "DEPLOYMENT_DOCUMENT_NOT_VALID")


@pytest.mark.parametrize(
    ("error", "codes", "types"),
    [
        *(
            (
                DeploymentError("n", code=code),
                ("NO_AVAILABLE_COMPONENT_VERSION", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET"),
                ("REQUEST_ERROR",),
            )
            for code in ("NO_AVAILABLE_COMPONENT_VERSION", "COMPONENT_VERSION_REQUIREMENTS_NOT_MET")
        ),
        (
            DeploymentError("s", code="COMPONENT_BROKEN"),
            ("COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"),
            ("USER_COMPONENT_ERROR",),
        ),
        (ModelRefusedError("m"), ("COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"), ("USER_COMPONENT_ERROR",)),
        (WorkerLostError("w"), ("COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"), ("USER_COMPONENT_ERROR",)),
        (BackendUnavailableError("b"), ("COMPONENT_UPDATE_ERROR", "COMPONENT_BROKEN"), ("DEPENDENCY_ERROR",)),
        (ConfigError("c"), ("COMPONENT_CONFIGURATION_NOT_VALID",), ()),
        (RecipeError("r"), ("RECIPE_PARSE_ERROR",), ("COMPONENT_RECIPE_ERROR",)),
        (VersionError("v"), ("COMPONENT_VERSION_NOT_VALID",), ("COMPONENT_RECIPE_ERROR",)),
        (NoManifestError("n"), ("LOCAL_RECIPE_NOT_FOUND",), ("DEVICE_ERROR",)),
        (LifecycleError("l"), ("RUN_CONFIG_NOT_VALID",), ("COMPONENT_ERROR",)),
        (OSError(errno.ENOSPC, "full"), ("DISK_SPACE_CRITICAL",), ("DEVICE_ERROR",)),
        (PermissionError(errno.EACCES, "no"), ("IO_ERROR",), ()),
        (ConnectionResetError("gone"), ("NETWORK_ERROR",), ("NETWORK_ERROR",)),
        (DeploymentError("d"), ("DEPLOYMENT_DOCUMENT_NOT_VALID",), ()),
        (KeyError("bug"), (), ("UNKNOWN_ERROR",)),
    ],
)
def test_every_package_s_errors_speak_greengrass(error, codes, types) -> None:
    assert error_stack(error) == ("DEPLOYMENT_FAILURE", *codes)
    assert error_types(error) == types


def test_the_artifacts_and_the_deployments_agree_on_every_type() -> None:
    assert {code: TYPES[code] for code in ARTIFACT_TYPES} == ARTIFACT_TYPES


def test_a_rejection_begins_its_stack_as_one() -> None:
    outcome = failed(DetailedStatus.REJECTED, DeploymentRejectedError("old", code="REJECTED_STALE_DEPLOYMENT"))
    assert outcome.stack == ("DEPLOYMENT_REJECTED", "REJECTED_STALE_DEPLOYMENT")
    assert outcome.types == ()


def test_a_job_s_details_are_texts_that_the_service_takes() -> None:
    outcome = failed(DetailedStatus.FAILED_ROLLBACK_COMPLETE, ModelRefusedError("m" * 3000, hint="mend it"))
    details = job_details(outcome)
    assert details["detailed-deployment-status"] == "FAILED_ROLLBACK_COMPLETE"
    assert json.loads(details["deployment-error-types"]) == ["USER_COMPONENT_ERROR"]
    assert clean_details(details) == details


def test_a_long_stack_is_cut_between_codes() -> None:
    codes = tuple(f"CODE_{number:04}" for number in range(500))
    text = job_details(Outcome(DetailedStatus.FAILED_NO_STATE_CHANGE, "c", codes))["deployment-error-stack"]
    assert len(text) <= 1024
    assert tuple(json.loads(text)) == codes[: len(json.loads(text))]
    assert len(json.loads(text)) > 80


def test_a_success_tells_no_failure() -> None:
    done = Outcome(DetailedStatus.SUCCESSFUL)
    assert job_details(done) == {"detailed-deployment-status": "SUCCESSFUL"}
    assert status_details(done) == {
        "detailedStatus": "SUCCESSFUL",
        "failureCause": "",
        "errorStack": [],
        "errorTypes": [],
    }


def test_the_topic_tells_which_deployment_and_how_its_job_would_stand() -> None:
    payload = topic_payload("d1", failed(DetailedStatus.FAILED_NO_STATE_CHANGE, DeploymentError("no", hint="do")))
    assert payload == {
        "id": "d1",
        "status": "FAILED",
        "detailedStatus": "FAILED_NO_STATE_CHANGE",
        "failureCause": "no (hint: do)",
        "cause": "no",
        "hint": "do",
        "errorStack": ["DEPLOYMENT_FAILURE", "DEPLOYMENT_DOCUMENT_NOT_VALID"],
        "errorTypes": [],
    }


def test_notes_reach_the_topic_and_the_job_and_stay_away_where_there_are_none() -> None:
    noted = Outcome(DetailedStatus.SUCCESSFUL, notes=("com.a stays: group thinggroup/lab requires it",))
    assert topic_payload("d", noted)["notes"] == list(noted.notes)
    assert json.loads(job_details(noted)["deployment-notes"]) == list(noted.notes)
    assert "notes" not in topic_payload("d", Outcome(DetailedStatus.SUCCESSFUL))
    assert "deployment-notes" not in job_details(Outcome(DetailedStatus.SUCCESSFUL))
