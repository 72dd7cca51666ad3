"""The ONNX copy that the bench makes of a TFLite network is the same network."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from agent.config.models import ModelOptions
from agent.inference.manifest import SAMPLES, resolve
from agent.inference.runtime import decode
from agent.inference.runtime.session import Session
from scripts.benchmarks import frames, onnxcopy, tflite

CLASSIFIER, DETECTOR = (SAMPLES / name / "model.tflite" for name in ("classifier", "detector"))


def outputs(model: str, **told: Any) -> list[list[np.ndarray]]:
    """What the network itself answers to each sample picture."""
    session = Session(resolve(ModelOptions(source=model), Path.cwd()).request(threads=1)["model"] | told)
    pictures = [decode.decode(path.read_bytes(), "jpeg", None) for path in sorted(frames.PICTURES.glob("*.jpg"))]
    return [session.backend.run([session.preprocess(picture)[0]]) for picture in pictures]


def copied(file: Path, kind: str, folder: Path) -> dict[str, Any]:
    """What a session is told of the copy beside the sample's manifest."""
    path = folder / f"{kind}.onnx"
    onnxcopy.write(tflite.read(file), path, kind)
    given = resolve(ModelOptions(source=file.parent.name), Path.cwd()).manifest.input
    return {"file": str(path), "backend": "onnx", "input": given | {"layout": "NCHW"}}


def test_the_copy_of_a_network_of_floats_has_the_same_outputs_in_the_same_order(tmp_path: Path):
    told = copied(DETECTOR, "float", tmp_path)
    for original, copy in zip(outputs("detector"), outputs("detector", **told), strict=True):
        for one, other in zip(original, copy, strict=True):
            np.testing.assert_allclose(other, one, atol=1e-3)


def test_the_float_copy_of_a_quantised_network_differs_by_no_more_than_quantisation(tmp_path: Path):
    told = copied(CLASSIFIER, "float", tmp_path)
    for (original,), (copy,) in zip(outputs("classifier"), outputs("classifier", **told), strict=True):
        np.testing.assert_allclose(copy, original, atol=0.1)
        assert copy.argmax() == original.argmax()


def test_the_int8_copy_holds_the_integers_of_the_file_and_their_scales(tmp_path: Path):
    network = tflite.read(CLASSIFIER)
    copied(CLASSIFIER, "int8", tmp_path)
    held = {each.name: onnx.numpy_helper.to_array(each) for each in onnx.load(tmp_path / "int8.onnx").graph.initializer}
    weights = [step.inputs[1] for step in network.operators if step.name in {"CONV_2D", "FULLY_CONNECTED"}]
    stored = [weight for weight in weights if weight.dtype == "int8"]
    assert len(stored) == 33
    for weight in stored:
        assert weight.constant is not None
        assert weight.quantisation is not None
        np.testing.assert_array_equal(np.sort(held[f"{weight.name}/stored"], None), np.sort(weight.constant, None))
        np.testing.assert_array_equal(held[f"{weight.name}/scale"], weight.quantisation.scale)
    assert (tmp_path / "int8.onnx").stat().st_size < 1.2 * CLASSIFIER.stat().st_size


def test_a_network_with_an_operator_that_has_no_copy_is_refused_by_its_name(tmp_path: Path):
    network = tflite.read(CLASSIFIER)
    strange = replace(network.operators[0], name="UNIDIRECTIONAL_SEQUENCE_LSTM")
    with pytest.raises(tflite.UnknownOperatorError, match="UNIDIRECTIONAL_SEQUENCE_LSTM"):
        onnxcopy.write(replace(network, operators=(strange,)), tmp_path / "copy.onnx", "float")
    assert not (tmp_path / "copy.onnx").exists()
