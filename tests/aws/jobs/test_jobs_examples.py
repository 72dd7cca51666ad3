"""The examples in the docstrings say what happens."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = (
    "agent.aws.jobs.messages",
    "agent.aws.jobs.retry",
    "agent.aws.jobs.shadow",
    "agent.aws.jobs.topics",
    "agent.cli.jobs",
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed
