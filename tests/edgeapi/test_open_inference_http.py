"""The Open Inference Protocol over HTTP: what clients send, what is refused, and what clients that misbehave cost."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import ssl
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NoReturn
from urllib.parse import quote

import numpy as np
import pytest

from agent.config.secrets import TlsFiles
from agent.edgeapi.openinference.body import HEADER_LENGTH
from agent.edgeapi.openinference.http import HttpBounds, HttpServer
from agent.edgeapi.openinference.service import OpenInference
from agent.edgeapi.sockets import TcpPlace, UnixPlace
from agent.errors import ConfigError, ModelRefusedError
from agent.inference.plane import InferencePlane
from tests.support.certs import Certificates
from tests.support.models import onnx_identity
from tests.support.serving import (
    CAT,
    MEANS,
    NUMBERS,
    Said,
    ask,
    binary,
    http_server,
    load,
    plain,
    plane_with_colours,
)
from tests.support.until import until

INFER = "/v2/models/colours/infer"


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[InferencePlane]:
    async with plane_with_colours(tmp_path) as made:
        yield made


@pytest.fixture
async def server(plane: InferencePlane) -> AsyncIterator[HttpServer]:
    async with http_server(plane) as made:
        yield made


def means(said: Said) -> list[float]:
    assert said.status == 200, said.body
    (output,) = said.json["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("means", "FP32", [1, 3])
    return np.frombuffer(said.behind, "<f4").tolist() if HEADER_LENGTH in said.headers else output["data"]


async def test_health_is_told_by_the_status_and_in_the_bodies_that_clients_look_at(server: HttpServer) -> None:
    live, ready, model = [
        await ask(server.port, "GET", path)
        for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/colours/ready")
    ]
    assert (live.status, live.json) == (200, {"live": True})
    assert (ready.status, ready.json) == (200, {"live": True, "ready": True})
    assert (model.status, model.json) == (200, {"name": "colours", "ready": True})
    assert (await ask(server.port, "GET", "/v2/models/other/ready")).status == 404


async def test_metadata_lists_the_networks_tensors_and_the_input_for_pictures(server: HttpServer) -> None:
    assert (await ask(server.port, "GET", "/v2")).json["extensions"] == ["binary_tensor_data", "classification"]
    assert (await ask(server.port, "GET", "/v2/models/colours")).json == {
        "name": "colours",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "images", "datatype": "FP32", "shape": [1, 3, 8, 8]},
            {"name": "image", "datatype": "BYTES", "shape": [1]},
        ],
        "outputs": [
            {"name": "means", "datatype": "FP32", "shape": [1, 3]},
            {"name": "predictions", "datatype": "BYTES", "shape": [1]},
        ],
    }


async def test_a_request_of_json_is_answered_with_json_its_numbers_nested_or_flat(server: HttpServer) -> None:
    flat = await ask(server.port, "POST", INFER, plain(id="7"))
    assert means(flat) == pytest.approx(MEANS.ravel())
    assert (flat.json["model_name"], flat.json["model_version"], flat.json["id"]) == ("colours", "1", "7")
    nested = {"name": "images", "shape": [1, 3, 8, 8], "datatype": "FP32", "data": NUMBERS.tolist()}
    assert means(await ask(server.port, "POST", INFER, json.dumps({"inputs": [nested]}).encode())) == means(flat)
    assert "id" not in (await ask(server.port, "POST", INFER, plain())).json


async def test_binary_data_goes_in_and_comes_out_as_it_is_asked_for(server: HttpServer) -> None:
    given = binary("images", "FP32", NUMBERS.shape, NUMBERS.tobytes())
    said = await ask(server.port, "POST", INFER, *given)
    assert said.headers["Content-Type"] == "application/octet-stream"
    assert means(said) == pytest.approx(MEANS.ravel())
    wanted = [{"name": "means", "parameters": {"binary_data": False}}]
    said = await ask(
        server.port, "POST", INFER, *binary("images", "FP32", NUMBERS.shape, NUMBERS.tobytes(), outputs=wanted)
    )
    assert HEADER_LENGTH not in said.headers
    assert means(said) == pytest.approx(MEANS.ravel())


async def test_a_body_without_a_header_is_the_one_input_or_a_picture_as_its_file_is(
    plane: InferencePlane, server: HttpServer
) -> None:
    await load(plane, "cats", "classifier")
    whole = {HEADER_LENGTH: "0"}
    assert means(await ask(server.port, "POST", INFER, NUMBERS.tobytes(), whole)) == pytest.approx(MEANS.ravel())
    said = await ask(server.port, "POST", "/v2/models/cats/infer", CAT.read_bytes(), whole)
    assert said.json["outputs"][0]["name"] == "predictions"
    assert json.loads(said.behind[4:])[0]["label"] == "Egyptian cat"
    assert (await ask(server.port, "POST", INFER, b"neither", whole)).status == 400


async def test_a_picture_goes_through_preprocessing_and_task_as_base64_and_as_bytes(
    plane: InferencePlane, server: HttpServer
) -> None:
    await load(plane, "cats", "classifier")
    text = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(CAT.read_bytes()).decode()]}
    said = await ask(server.port, "POST", "/v2/models/cats/infer", json.dumps({"inputs": [text]}).encode())
    (best, *_) = json.loads(said.json["outputs"][0]["data"][0])
    assert (best["label"], best["score"]) == ("Egyptian cat", pytest.approx(0.81, abs=0.05))
    data = CAT.read_bytes()
    given = binary("image", "BYTES", (1,), len(data).to_bytes(4, "little") + data)
    assert json.loads((await ask(server.port, "POST", "/v2/models/cats/infer", *given)).behind[4:])[0] == best


async def test_the_best_classes_are_told_as_score_and_index(server: HttpServer) -> None:
    wanted = [{"name": "means", "parameters": {"classification": 2}}]
    (output,) = (await ask(server.port, "POST", INFER, plain(outputs=wanted))).json["outputs"]
    assert (output["datatype"], output["shape"]) == ("BYTES", [1, 2])
    assert output["data"] == ["159.500000:2", "95.500000:1"]


async def test_a_compressed_body_is_unpacked_within_the_bounds(plane: InferencePlane) -> None:
    async with http_server(plane, HttpBounds(message_bytes=100_000)) as server:
        packed = {"Content-Encoding": "gzip"}
        assert means(await ask(server.port, "POST", INFER, gzip.compress(plain()), packed))
        assert (await ask(server.port, "POST", INFER, gzip.compress(bytes(200_000)), packed)).status == 413
        assert (await ask(server.port, "POST", INFER, b"no gzip", packed)).status == 400
        assert (await ask(server.port, "POST", INFER, b"x", {"Content-Encoding": "br"})).status == 415


async def test_names_that_a_path_escapes_are_found_and_versions_are_held_to(plane: InferencePlane) -> None:
    await load(plane, "shop.Cats@1.2.0#ab/cd", plane_file(plane), threads=1)
    async with http_server(plane) as server:
        for name in (quote("shop.Cats@1.2.0#ab/cd", safe=""), quote("shop.Cats@1.2.0#ab/cd"), "shop.Cats"):
            assert (await ask(server.port, "POST", f"/v2/models/{name}/versions/1/infer", plain())).status == 200
        wrong = await ask(server.port, "POST", "/v2/models/colours/versions/2/infer", plain())
        assert (wrong.status, wrong.json) == (404, {"error": "the model 'colours' has no version '2' (hint: it is 1)"})


def plane_file(plane: InferencePlane) -> str:
    return plane._models["colours"].pool.spec.manifest.file


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"{", 400, "not as the protocol has it"),
        (b'{"inputs": 7}', 400, "not as the protocol has it"),
        (plain("other"), 400, "other"),
        (plain(array=NUMBERS[:, :, :4]), 400, "images"),
        (json.dumps({"inputs": [{"name": "images", "datatype": "FP32", "shape": [1, 3, 8, 8]}]}).encode(), 400, "data"),
        (plain(outputs=[{"name": "other"}]), 400, "other"),
        (plain().replace(b"FP32", b"BF16"), 400, "BF16"),
        (plain().replace(b"FP32", b"INT8"), 400, "INT8"),
        (plain().replace(b"[0.0", b"[[0.0], 0.0"), 400, "unevenly"),
        (plain(parameters={"binary_data_output": 1}), 400, "binary_data_output"),
    ],
)
async def test_a_request_that_is_wrong_is_refused_with_a_sentence(
    server: HttpServer, body: bytes, status: int, words: str
) -> None:
    said = await ask(server.port, "POST", INFER, body)
    assert said.status == status, said.body
    assert words in said.json["error"]


async def test_paths_methods_and_lengths_that_mean_nothing_are_refused(server: HttpServer) -> None:
    assert (await ask(server.port, "GET", "/v1/models")).status == 404
    assert (await ask(server.port, "POST", "/v2/models/none/infer", plain())).status == 404
    refused = await ask(server.port, "GET", INFER)
    assert (refused.status, refused.headers["Allow"]) == (405, "POST")
    assert (await ask(server.port, "POST", INFER, plain(), {HEADER_LENGTH: "-1"})).status == 400
    assert (await ask(server.port, "POST", INFER, plain(), {HEADER_LENGTH: "99999"})).status == 400
    assert (await ask(server.port, "HEAD", "/v2/health/live")).body == b""


# -- who may -----------------------------------------------------------------------------------------------------------


async def test_without_the_token_nobody_is_answered(plane: InferencePlane) -> None:
    async with http_server(plane, token="open sesame") as server:
        assert (await ask(server.port, "GET", "/v2/health/live")).status == 401
        assert (await ask(server.port, "POST", INFER, plain(), {"Authorization": "Bearer no"})).status == 401
        assert means(await ask(server.port, "POST", INFER, plain(), {"Authorization": "Bearer open sesame"}))


async def test_a_web_page_may_not_ask(server: HttpServer) -> None:
    assert (await ask(server.port, "POST", INFER, plain(), {"Origin": "http://localhost:3000"})).status == 403


async def test_a_web_page_whose_name_leads_here_may_not_ask_either(plane: InferencePlane, server: HttpServer) -> None:
    for host, status in (("evil.example:8000", 403), ("evil.example", 403), ("", 403), ("localhost.evil.example", 403)):
        assert (await ask(server.port, "GET", "/v2/models/colours", headers={"Host": host})).status == status, host
    for host in ("localhost", "LOCALHOST.:1", "127.0.0.1:8000", "[::1]:8000", "192.168.7.1"):
        assert (await ask(server.port, "GET", "/v2/models/colours", headers={"Host": host})).status == 200, host
    async with http_server(plane, token="open sesame") as guarded:
        known = {"Host": "press.example", "Authorization": "Bearer open sesame"}
        assert (await ask(guarded.port, "GET", "/v2", headers=known)).status == 200


async def test_over_tls_only_clients_of_the_authority_are_served(
    plane: InferencePlane, certificates: Certificates
) -> None:
    files = TlsFiles(
        ca_file=str(certificates.ca), cert_file=str(certificates.server_cert), key_file=str(certificates.server_key)
    )
    async with HttpServer(TcpPlace("127.0.0.1", 0, files), OpenInference(plane)) as server:
        stranger = ssl.create_default_context(cafile=str(certificates.ca))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await ask(server.port, "POST", INFER, plain(), tls=stranger)
        known = ssl.create_default_context(cafile=str(certificates.ca))
        known.load_cert_chain(str(certificates.client_cert), str(certificates.client_key))
        large = binary("images", "FP32", NUMBERS.shape, NUMBERS.tobytes(), padding="x" * 300_000)
        assert means(await ask(server.port, "POST", INFER, *large, tls=known))


async def test_a_unix_socket_is_served_too_and_gone_afterwards(plane: InferencePlane, tmp_path: Path) -> None:
    path = tmp_path / "v2.sock"
    async with HttpServer(UnixPlace(path), OpenInference(plane)):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b'{"live":true}')
        writer.close()
    assert not path.exists()


async def test_a_port_that_another_server_has_is_told(plane: InferencePlane, server: HttpServer) -> None:
    with pytest.raises(ConfigError, match="nothing can listen"):
        async with HttpServer(TcpPlace("127.0.0.1", server.port), OpenInference(plane)):
            pass


# -- clients that misbehave --------------------------------------------------------------------------------------------


async def said(server: HttpServer, *parts: bytes) -> bytes:
    """All that comes back for these bytes, until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.transport.abort()


def head(length: int, *more: str) -> bytes:
    return "\r\n".join(
        [f"POST {INFER} HTTP/1.1", "Host: localhost", f"Content-Length: {length}", *more, "", ""]
    ).encode()


async def test_requests_follow_each_other_on_one_connection_sent_ahead_or_not(server: HttpServer) -> None:
    first, last = head(len(plain())) + plain(), head(len(plain()), "Connection: close") + plain()
    assert (await said(server, first + first + last)).count(b"HTTP/1.1 200 OK") == 3


async def test_a_body_in_chunks_and_one_that_waits_to_be_asked_for_are_taken(server: HttpServer) -> None:
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(plain()), plain())
    head_of = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    assert b"200 OK" in await said(server, f"{head_of}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head(len(plain()), "Expect: 100-continue"))
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
    writer.write(plain())
    assert b"200 OK" in await reader.readline()
    writer.close()


async def test_bodies_are_bounded_each_and_together_and_the_client_reads_why(plane: InferencePlane) -> None:
    bounds = HttpBounds(message_bytes=100_000, all_bytes=150_000, json_bytes=1000)
    async with http_server(plane, bounds) as server:
        assert (await said(server, head(100_001), bytes(100_001))).startswith(b"HTTP/1.1 413")
        assert (await ask(server.port, "POST", INFER, plain())).status == 413
        _, holding = await asyncio.open_connection("127.0.0.1", server.port)
        holding.write(head(100_000))
        await until(lambda: server.held == 100_000)
        assert (await said(server, head(100_000), bytes(100_000))).startswith(b"HTTP/1.1 503")
        holding.close()
        await until(lambda: server.held == 0)
        chunked = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        assert (await said(server, chunked, b"c000\r\n%s\r\n" % bytes(0xC000) * 3)).startswith(b"HTTP/1.1 413")
        assert server.held == 0


async def test_slow_clients_and_too_many_lose_their_connections(plane: InferencePlane) -> None:
    async with http_server(plane, HttpBounds(connections=2, timeout_s=0.1)) as server:
        assert await said(server, head(1000), b"{") == b""
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(2)]
        await until(lambda: len(server._connections) == 2)
        assert await said(server) == b""
        assert server.refused == 1
        for _, writer in held:
            writer.close()


async def test_a_head_is_bounded_and_what_is_no_http_is_refused(server: HttpServer) -> None:
    assert (await said(server, b"GET /v2 HTTP/1.1\r\nX: " + b"x" * 20_000)).startswith(b"HTTP/1.1 431")
    assert (await said(server, b"\x16\x03\x01\x02\r\n\r\n")).startswith(b"HTTP/1.1 400")
    assert (await said(server, head(5, "Content-Length: 6"), b"12345")).startswith(b"HTTP/1.1 400")


async def test_a_client_that_leaves_before_its_answer_costs_nothing(server: HttpServer) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(head(len(plain())) + plain())
    await until(lambda: server.held or any(one.answering for one in server._connections))
    writer.transport.abort()
    await until(lambda: not server._connections)
    assert server.held == 0
    assert means(await ask(server.port, "POST", INFER, plain()))


async def test_a_request_in_work_is_answered_when_the_server_leaves(plane: InferencePlane) -> None:
    async with http_server(plane) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(head(len(plain())) + plain())
        await until(lambda: any(one.answering for one in server._connections))
    assert b"200 OK" in await asyncio.wait_for(reader.read(), 10)
    writer.close()


async def test_a_body_whose_end_is_told_in_two_ways_is_refused(server: HttpServer) -> None:
    """Whoever stands in front may have read the other one."""
    both = head(4, "Transfer-Encoding: chunked") + b"0\r\n\r\nGET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    told = await said(server, both)
    assert (told.count(b"HTTP/1.1"), told[:12]) == (1, b"HTTP/1.1 400")


async def test_what_bodies_are_unpacked_to_counts_as_what_they_hold(plane: InferencePlane) -> None:
    class Service(OpenInference):
        async def infer(self, *_: object) -> NoReturn:
            held.append(server.held)
            raise ModelRefusedError("seen")

    held: list[int] = []
    packed = gzip.compress(b"{}" + b" " * 50_000)
    service = Service(plane)
    bounds = HttpBounds(message_bytes=100_000, all_bytes=60_000)
    async with HttpServer(TcpPlace("127.0.0.1", 0), service, bounds=bounds) as server:
        body = gzip.compress(b'{"inputs": []}' + b" " * 50_000)
        assert (await ask(server.port, "POST", INFER, body, {"Content-Encoding": "gzip"})).status == 400
        assert held[0] >= 50_000
        await until(lambda: server.held == 0)
        server.held = 20_000  # others'
        assert (await ask(server.port, "POST", INFER, packed, {"Content-Encoding": "gzip"})).status == 503
        server.held = 0
        cut = {"Content-Encoding": "gzip"}
        assert (await ask(server.port, "POST", INFER, gzip.compress(plain())[:-9], cut)).status == 400


async def test_a_client_that_hangs_up_afterwards_has_time_to_read_its_answer(
    plane: InferencePlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent.edgeapi.openinference.http._DRAIN_S", 0.05)
    pixels = np.zeros((1, 3, 640, 640), np.float32)
    await load(plane, "mirror", onnx_identity(Path(plane_file(plane)).with_name("mirror.onnx"), pixels.shape))
    async with http_server(plane) as server:
        name = (await ask(server.port, "GET", "/v2/models/mirror")).json["inputs"][0]["name"]
        data, headers = binary(name, "FP32", pixels.shape, pixels.tobytes())
        lines = [f"{key}: {value}" for key, value in headers.items()]
        asking = head(len(data), "Connection: close", *lines).replace(b"colours", b"mirror") + data
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        assert isinstance(writer.transport, asyncio.Transport)
        writer.transport.pause_reading()
        writer.write(asking)
        await until(lambda: any(one._slow for one in server._connections))
        await asyncio.sleep(0.2)  # as long as it takes to be hung up on
        writer.transport.resume_reading()
        assert len(await asyncio.wait_for(reader.read(), 10)) > pixels.nbytes
        writer.close()


async def test_elements_without_end_are_not_unpacked(plane: InferencePlane, server: HttpServer) -> None:
    await load(plane, "cats", "classifier")
    given = binary("image", "BYTES", (1,), bytes(8_000_000))
    tracemalloc.start()
    try:
        assert (await ask(server.port, "POST", "/v2/models/cats/infer", *given)).status == 400
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 100_000_000
