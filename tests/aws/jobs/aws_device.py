"""A device that speaks with AWS's own Jobs client, told what to do by lines of JSON.

It is a process of its own because its library is native code with threads of its own, which may end a process that
takes its parts down one by one; this one leaves all at once.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import Any

from awscrt import mqtt_request_response
from awsiot import ServiceStreamOptions, V2ServiceException, iotjobs, mqtt5_client_builder

_PATIENCE_S = 10
_speaking = threading.Lock()


def say(told: dict[str, Any]) -> None:
    with _speaking:
        print(json.dumps(told, default=str), flush=True)


def plain(value: Any) -> Any:
    """A modelled value as what JSON can say; what was not given is left away."""
    if hasattr(value, "__slots__"):
        return {name: plain(inner) for name in value.__slots__ if (inner := getattr(value, name)) is not None}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list) else value


def connected(port: int, ca: str, cert: str, key: str) -> Any:
    up = threading.Event()
    client = mqtt5_client_builder.mtls_from_path(
        cert_filepath=cert,
        pri_key_filepath=key,
        ca_filepath=ca,
        endpoint="127.0.0.1",
        port=port,
        client_id=f"aws-device-{os.getpid()}",
        on_lifecycle_connection_success=lambda _: up.set(),
    )
    client.start()
    assert up.wait(_PATIENCE_S), "no connection"
    return client


def main() -> None:
    port, *files = sys.argv[1:]
    client = connected(int(port), *files)
    options = mqtt_request_response.ClientOptions(
        max_request_response_subscriptions=8, max_streaming_subscriptions=8, operation_timeout_in_seconds=_PATIENCE_S
    )
    jobs = iotjobs.IotJobsClientV2(client, options)
    asks = {
        "get-pending": (jobs.get_pending_job_executions, iotjobs.GetPendingJobExecutionsRequest),
        "start-next": (jobs.start_next_pending_job_execution, iotjobs.StartNextPendingJobExecutionRequest),
        "describe": (jobs.describe_job_execution, iotjobs.DescribeJobExecutionRequest),
        "update": (jobs.update_job_execution, iotjobs.UpdateJobExecutionRequest),
    }
    watches = {
        "next": (jobs.create_next_job_execution_changed_stream, iotjobs.NextJobExecutionChangedSubscriptionRequest),
        "list": (jobs.create_job_executions_changed_stream, iotjobs.JobExecutionsChangedSubscriptionRequest),
    }
    streams = []
    for line in sys.stdin:
        told = json.loads(line)
        verb = told.pop("do")
        if verb in asks:
            ask, kind = asks[verb]
            try:
                say({"accepted": plain(ask(kind(**told)).result(_PATIENCE_S))})
            except V2ServiceException as error:
                say({"rejected": plain(error.modeled_error)})
        else:
            watch, kind = watches[verb]
            there = threading.Event()
            stream_options = ServiceStreamOptions(
                incoming_event_listener=lambda event, verb=verb: say({verb: plain(event)}),
                subscription_status_listener=lambda _, there=there: there.set(),
            )
            streams.append(watch(kind(**told), stream_options))
            streams[-1].open()
            assert there.wait(_PATIENCE_S), "no subscription"
            say({"watching": verb})
    os._exit(0)


if __name__ == "__main__":
    main()
