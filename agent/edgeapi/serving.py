"""The Open Inference Protocol put together, on each way in that the configuration names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from agent.config.edgeapi import ServingOptions
from agent.edgeapi.openinference.mqtt import MqttBounds, MqttServer
from agent.edgeapi.openinference.service import OpenInference
from agent.edgeapi.sockets import place
from agent.edgeapi.surroundings import Surroundings

__all__ = ["serving"]


@asynccontextmanager
async def serving(here: Surroundings, options: ServingOptions) -> AsyncIterator[None]:
    """Serve until left; each way in carries what it needs only where it is asked for."""
    service = OpenInference(here.plane, here.limits)
    token = options.token or ""
    async with AsyncExitStack() as stack:
        if options.http:
            from agent.edgeapi.openinference.http import HttpBounds, HttpServer  # noqa: PLC0415 h11

            http_bounds = HttpBounds(
                options.max_connections, options.max_message_bytes, options.max_bytes, options.max_json_bytes,
                options.timeout_s,
            )  # fmt: skip
            where = place(options.http, here.folder, options.tls)
            await stack.enter_async_context(HttpServer(where, service, token=token, bounds=http_bounds))
        if options.grpc:
            from agent.edgeapi.openinference import rpcs  # noqa: PLC0415 grpcio
            from agent.edgeapi.server import Server  # noqa: PLC0415

            server = Server(
                [place(options.grpc, here.folder, options.tls)], [rpcs.interface(service)],
                max_message_bytes=options.max_message_bytes, at_once=options.at_once, token=token,
            )  # fmt: skip
            await stack.enter_async_context(server)
        if options.mqtt:
            transport = here.transports[options.transport or next(iter(here.transports))]
            bounds = MqttBounds(options.at_once, options.max_bytes, options.max_json_bytes)
            over_mqtt = MqttServer(
                service, here.plane, transport, here.topics, answers=here.answers, bounds=bounds,
                report=lambda dropped: here.report("serving_dropped", dropped),
            )  # fmt: skip
            await stack.enter_async_context(over_mqtt)
        yield
