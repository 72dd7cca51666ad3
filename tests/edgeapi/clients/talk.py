"""A client with generated stubs, as applications have them: python talk.py STUBS SOCKET MODEL; a line of JSON says
what it was answered.

It is a program of its own, since stubs of two ``.proto`` files that declare the same names do not go into one process.
"""

from __future__ import annotations

import importlib
import json
import struct
import sys
import time
from typing import Any

import grpc

DATA = struct.pack("<6f", *range(6))


class Client:
    """Calls rpcs, and remembers how each was answered."""

    def __init__(self, stub: Any, messages: Any) -> None:
        self._stub = stub
        self.messages = messages
        self.told: dict[str, Any] = {}

    def ask(self, word: str, rpc: str, **fields: Any) -> Any:
        """The answer to ``rpc``; its status is remembered as ``word``."""
        try:
            answer = getattr(self._stub, rpc)(getattr(self.messages, f"{rpc}Request")(**fields), timeout=60)
        except grpc.RpcError as error:
            self.told[word] = error.code().name
            return None
        self.told[word] = "OK"
        return answer


def main(stubs: str, socket: str, model: str) -> None:
    """Every rpc, and every status that is documented for it."""
    sys.path.insert(0, stubs)
    messages = importlib.import_module("agent_pb2")
    with grpc.insecure_channel(f"unix://{socket}") as channel:
        client = Client(importlib.import_module("agent_pb2_grpc").AgentStub(channel), messages)
        unknown(client, model)
        tensor = load(client, model)
        output = predict(client, tensor)
        capture(client, tensor, output)
        if "handle" in messages.LoadModelRequest.DESCRIPTOR.fields_by_name:
            handles(client, model, tensor)
        client.ask("unload", "UnLoadModel", name="net")
    print(json.dumps(client.told))


def unknown(client: Client, model: str) -> None:
    """What is asked before there is a model."""
    client.ask("unload unknown", "UnLoadModel", name="net")
    client.ask("predict unknown", "Predict", name="net")
    client.ask("describe unknown", "DescribeModel", name="net")
    client.ask("capture unknown", "CaptureData", model_name="net", capture_id="c0")
    client.ask("load nothing", "LoadModel", name="net", url="/nowhere")
    client.ask("load bad name", "LoadModel", name="-net", url=model)
    client.ask("load damaged", "LoadModel", name="net", url=__file__)


def load(client: Client, model: str) -> Any:
    """A tensor that the loaded model takes."""
    loaded = client.ask("load", "LoadModel", name="net", url=model).model
    (wanted,) = loaded.input_tensor_metadatas
    client.told["names"] = [
        name.decode() if isinstance(name := each.name, bytes) else name
        for each in (*loaded.input_tensor_metadatas, *loaded.output_tensor_metadatas)
    ]
    client.ask("load twice", "LoadModel", name="net", url=model)
    client.told["described"] = client.ask("describe", "DescribeModel", name="net").model == loaded
    client.told["listed"] = [one.name for one in client.ask("list", "ListModels").models]
    return client.messages.Tensor(tensor_metadata=wanted, byte_data=DATA)


def predict(client: Client, tensor: Any) -> Any:
    """What the model answers."""
    messages, wanted = client.messages, tensor.tensor_metadata
    (output,) = client.ask("predict", "Predict", name="net", tensors=[tensor]).tensors
    client.told["answer"] = [struct.unpack("<6f", output.byte_data), list(output.tensor_metadata.shape)]
    client.ask("predict bare", "Predict", name="net", tensors=[messages.Tensor(byte_data=DATA)])
    metadata = messages.TensorMetadata(name=wanted.name, data_type=messages.INT32, shape=wanted.shape)
    other = messages.Tensor(tensor_metadata=metadata, byte_data=DATA)
    client.ask("predict type", "Predict", name="net", tensors=[other])
    client.ask("predict count", "Predict", name="net", tensors=[tensor, tensor])
    return output


def capture(client: Client, tensor: Any, output: Any) -> None:
    """Captures, until the one that is taken is written."""
    messages = client.messages
    more = getattr(messages, "AuxiliaryData", None) or messages.AuxilaryData
    client.ask(
        "capture", "CaptureData", model_name="net", capture_id="c1", input_tensors=[tensor], output_tensors=[output],
        inputs=[more(name="x", encoding=messages.JSON, byte_data=b"{}")],
    )  # fmt: skip
    client.ask("capture twice", "CaptureData", model_name="net", capture_id="c1")
    client.ask("capture bad id", "CaptureData", model_name="net", capture_id="../c")
    soon = messages.Timestamp(seconds=int(time.time()) + 3600)
    client.ask("capture future", "CaptureData", model_name="net", capture_id="c2", inference_timestamp=soon)
    state = messages.CaptureDataStatus.Name
    while client.ask("status", "GetCaptureDataStatus", capture_id="c1").status == messages.IN_PROGRESS:
        time.sleep(0.01)
    client.told["state"] = state(client.ask("status", "GetCaptureDataStatus", capture_id="c1").status)
    client.told["unknown"] = state(client.ask("status unknown", "GetCaptureDataStatus", capture_id="none").status)


def handles(client: Client, model: str, tensor: Any) -> None:
    """What newer clients say in a name's place."""
    client.ask("handle load", "LoadModel", handle="second", url=model)
    client.ask("handle predict", "Predict", handle="second", tensors=[tensor])
    client.ask("handle describe", "DescribeModel", handle="second")
    client.ask("handle capture", "CaptureData", model_handle="second", capture_id="c3")
    client.ask("handle two", "Predict", name="net", handle="second", tensors=[tensor])
    client.ask("handle unload", "UnLoadModel", handle="second")


if __name__ == "__main__":
    main(*sys.argv[1:])
