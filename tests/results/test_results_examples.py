from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import agent.results

MODULES = sorted(module.name for module in pkgutil.walk_packages(agent.results.__path__, "agent.results."))


@pytest.mark.parametrize("name", MODULES)
def test_every_example_in_a_docstring_runs(name):
    assert doctest.testmod(importlib.import_module(name)).failed == 0
