"""What every gRPC server of ours does with what no client should send."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from agent.config.edgeapi import EdgeManagerOptions
from agent.edgeapi import wiring
from tests.support.edgeapi import surroundings


async def test_a_request_that_cannot_be_parsed_is_refused_and_fills_no_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        surroundings(tmp_path) as here,
        wiring.edge_manager(here, EdgeManagerOptions()) as socket,
        grpc.aio.insecure_channel(f"unix:{socket}") as channel,
    ):
        predict = channel.unary_unary("/AWS.SageMaker.Edge.Agent/Predict")
        for payload in (b"\xff", b"\x0a\xff\xff\xff\xff\x0f", bytes(range(1, 200))):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await predict(payload)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [record for record in caplog.records if record.levelname in {"WARNING", "ERROR"}] == []
