"""The table of operations against Amazon's own model."""

import inspect

from awsiot.greengrasscoreipc import model

from agent.greengrass.ipc import errors
from agent.greengrass.ipc.errors import IpcError
from agent.greengrass.ipc.shapes import NAMESPACE, SHAPES


def operations():
    for name, one in inspect.getmembers(model, inspect.isclass):
        if name.startswith("_") and name.endswith("Operation"):
            yield one


def test_every_operation_of_the_model_is_in_the_table_with_its_events():
    events = {one._model_name().removeprefix(NAMESPACE): one._response_stream_type() for one in operations()}
    assert {name: shape.event for name, shape in SHAPES.items()} == {
        name: "" if event is None else event.__name__ for name, event in events.items()
    }


def test_every_error_that_the_table_names_is_one_of_the_models():
    known = {name for name, one in inspect.getmembers(model, inspect.isclass) if issubclass(one, Exception)}
    assert {error for shape in SHAPES.values() for error in shape.errors} <= known


def test_every_error_class_here_has_the_name_of_its_shape():
    ours = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, IpcError)]
    assert {one.shape for one in ours if one is not IpcError} == {one.__name__ for one in ours if one is not IpcError}
