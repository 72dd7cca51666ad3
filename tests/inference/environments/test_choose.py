"""Which runtime a host can have is decided from names and numbers alone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.tags import sys_tags
from packaging.utils import canonicalize_name

from agent.inference.environments import survey
from agent.inference.environments.choose import WheelSource, choose, parse_pins
from agent.inference.environments.combinations import FAMILIES
from agent.inference.environments.errors import UnsupportedRuntimeError
from agent.inference.environments.host import NEWEST, OLDEST, Host, Interpreter
from agent.inference.environments.wheels import lacking, read, tags


def python(minor: int, **facts) -> Interpreter:
    usual = {"path": f"/opt/python3.{minor}", "version": (3, minor, 1), "machine": "x86_64", "libc_version": (2, 36)}
    return Interpreter(**(usual | facts))


def host(*minors: int, flags=("avx",)) -> Host:
    return Host(tuple(python(minor) for minor in minors), frozenset(flags))


WHEELS = (
    "tflite_runtime-2.14.0-cp311-cp311-manylinux2014_x86_64.whl",
    "numpy-1.26.4-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "opencv_python_headless-4.10.0.84-cp37-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "ai_edge_litert-2.3.0-cp311-cp311-manylinux_2_27_x86_64.whl",
    "ai_edge_litert-2.3.0-cp313-cp313-manylinux_2_27_x86_64.whl",
    "numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "numpy-2.5.5-cp313-cp313-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    "opencv_python_headless-5.0.0.93-cp37-abi3-manylinux_2_28_x86_64.whl",
    "dlr-1.6.0-py2.py3-none-manylinux1_x86_64.whl",
    "README.txt",
    "nonsense.whl",
)
LITERT, LITERT_1, TFLITE = FAMILIES["litert"]


def chosen(family: str, on: Host, wheels=WHEELS, *, index=False, pins=()):
    house = None if wheels is None else read(wheels)
    return choose(FAMILIES[family], on, wheelhouse=house, index=index, pins=parse_pins(pins))


def test_the_table_covers_every_family_and_each_combination_says_what_it_needs() -> None:
    assert set(FAMILIES) == {"litert", "onnx", "opencv", "dlr"}
    for combinations in FAMILIES.values():
        assert len({each.name for each in combinations}) == len(combinations)
        for each in combinations:
            names = {canonicalize_name(Requirement(text).name) for text in each.requirements}
            assert {"numpy", "opencv-python-headless"} <= names
            assert each.machines
            assert OLDEST <= each.oldest <= (each.newest or NEWEST) <= NEWEST


async def test_tags_made_from_facts_are_those_that_the_interpreter_makes_for_itself(tmp_path) -> None:
    here = next(each for each in (await survey.host(tmp_path)).interpreters if each.own)
    assert tags(here) == list(sys_tags())


def test_the_best_of_the_table_comes_first_and_the_agents_own_python_before_others() -> None:
    choice = chosen("litert", host(11, 13))
    assert [(each.combination, each.interpreter.version[1]) for each in choice.candidates] == [
        (LITERT, 11), (LITERT, 13), (TFLITE, 11),
    ]  # fmt: skip
    assert all(each.source is WheelSource.WHEELHOUSE for each in choice.candidates)


def test_a_wheelhouse_goes_before_the_index() -> None:
    choice = chosen("dlr", host(11), index=True)
    assert [each.source for each in choice.candidates][:2] == [WheelSource.WHEELHOUSE, WheelSource.WHEELHOUSE]
    assert choice.candidates[-1].source is WheelSource.INDEX


def test_without_a_python_that_is_old_enough_the_index_has_no_tflite_runtime_and_the_reason_says_so() -> None:
    choice = chosen("litert", host(12, 13), None, index=True, pins=["tflite-runtime==2.14.0"])
    assert choice.candidates == ()
    assert "tflite-runtime 2.14 + numpy 1.26 from the package index: no Python ≤ 3.11 here (3.12.1, 3.13.1)" in (
        choice.rejected
    )
    assert (
        "ai-edge-litert 2 + numpy 2 from the package index: tflite-runtime==2.14.0 asks for another package"
        in choice.rejected
    )


def test_a_wheel_for_another_python_is_named_with_the_pythons_it_does_not_serve() -> None:
    choice = chosen("litert", host(12), pins=["tflite-runtime"])
    assert choice.candidates == ()
    assert choice.rejected[-1] == (
        "tflite-runtime 2.14 + numpy 1.26 from the wheelhouse: "
        "tflite-runtime 2.14.0 is there for cp311 manylinux2014_x86_64 only (3.12.1)"
    )


def test_a_wheelhouse_with_a_wheel_of_ones_own_making_is_believed_over_the_table() -> None:
    own = ["tflite_runtime-2.14.0-cp313-cp313-linux_x86_64.whl", "numpy-1.26.4-cp313-cp313-linux_x86_64.whl", WHEELS[2]]
    assert [each.combination for each in chosen("litert", host(13), own).candidates] == [TFLITE]


def test_a_pin_chooses_the_combination_that_it_fits() -> None:
    choice = chosen("litert", host(11), pins=["numpy==1.26.4"])
    assert [each.combination for each in choice.candidates] == [TFLITE]
    numpy = next(Requirement(text) for text in choice.candidates[0].requirements if text.startswith("numpy"))
    assert list(numpy.specifier.filter(["1.26.3", "1.26.4", "2.4.6"])) == ["1.26.4"]
    assert choice.rejected[0].endswith("numpy==1.26.4 is asked, the combination has numpy>=2")


def test_a_package_that_no_combination_has_is_installed_beside_it() -> None:
    assert "pillow>=10" in chosen("dlr", host(11), None, index=True, pins=["pillow>=10"]).candidates[0].requirements


def test_a_pin_whose_marker_does_not_hold_needs_no_wheel() -> None:
    assert chosen("dlr", host(11), pins=["pillow; python_version < '3.10'"]).candidates


@pytest.mark.parametrize("text", ["numpy=1", "", "-r secrets.txt", "numpy @ https://example.com/numpy.whl", "--pre"])
def test_a_requirement_that_is_none_or_names_an_address_is_refused(text) -> None:
    with pytest.raises(UnsupportedRuntimeError) as refused:
        parse_pins([text])
    assert refused.value.code == "runtime-requirement"


def test_without_avx_the_wheels_that_may_want_it_are_tried_last() -> None:
    assert chosen("litert", host(11, flags=())).candidates[0].combination is TFLITE
    assert chosen("litert", host(11)).candidates[0].combination is LITERT


def test_an_old_c_library_takes_only_old_wheels() -> None:
    old = Host((python(11, libc_version=(2, 17)),), frozenset({"avx"}))
    assert [each.combination for each in chosen("litert", old).candidates] == [TFLITE]
    musl = Host((python(11, libc="musl", libc_version=(1, 2)),), frozenset({"avx"}))
    assert chosen("litert", musl).candidates == ()


def test_another_machine_gets_nothing_that_is_not_made_for_it() -> None:
    arm = Host((python(11, machine="aarch64"),), frozenset({"asimd"}))
    assert chosen("litert", arm).candidates == ()
    assert (
        chosen("dlr", arm, None, index=True)
        .rejected[0]
        .endswith("the index has it for x86_64, not for aarch64 (3.11.1)")
    )
    assert chosen("litert", arm, None, index=True).candidates[0].combination is LITERT


def test_a_python_without_venv_is_no_place_to_build() -> None:
    bare = Host((python(11, venv=False),), frozenset({"avx"}))
    assert chosen("litert", bare).candidates == ()
    assert "it cannot make virtual environments" in chosen("litert", bare).rejected[0]


def test_without_any_python_the_interpreters_that_were_passed_over_are_named() -> None:
    nobody = Host((), passed_over=("/usr/bin/python3 is CPython 3.6.9, workers run on CPython 3.9 to 3.14",))
    assert chosen("litert", nobody).rejected == ("no Python that a worker runs on was found", *nobody.passed_over)


hosts = st.builds(
    lambda minors, machine, glibc, flags: Host(
        tuple(python(minor, machine=machine, libc_version=(2, glibc)) for minor in minors), frozenset(flags)
    ),
    st.lists(st.integers(9, 14), unique=True, max_size=4),
    st.sampled_from(["x86_64", "aarch64", "armv7l"]),
    st.integers(17, 40),
    st.sets(st.sampled_from(["avx", "asimd", "neon"])),
)
houses = st.none() | st.lists(st.sampled_from(WHEELS), unique=True)
pinned = st.lists(
    st.sampled_from(["numpy==1.26.4", "numpy<2", "tflite-runtime", "ai-edge-litert>=2", "dlr"]), max_size=2
)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FAMILIES)), hosts, houses, st.booleans(), pinned)
def test_whatever_the_host_each_combination_is_a_candidate_or_has_a_reason(family, on, wheels, index, pins) -> None:
    choice = chosen(family, on, wheels, index=index, pins=pins)
    for source, there in ((WheelSource.WHEELHOUSE, wheels is not None), (WheelSource.INDEX, index)):
        for combination in FAMILIES[family]:
            stands = any(each.combination is combination and each.source is source for each in choice.candidates)
            rejected = any(line.startswith(f"{combination.name} from {source}: ") for line in choice.rejected)
            assert stands + rejected == (there and bool(on.interpreters))
    stock = read(wheels or ())
    for each in choice.candidates:
        assert each.interpreter in on.interpreters
        merged = {canonicalize_name(Requirement(text).name): Requirement(text) for text in each.requirements}
        for pin in parse_pins(pins):
            assert set(pin.specifier) <= set(merged[canonicalize_name(pin.name)].specifier)
        if each.source is WheelSource.WHEELHOUSE:
            assert not any(lacking(asked, stock, tags(each.interpreter)) for asked in merged.values())


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=60))
def test_any_file_name_is_a_wheel_or_is_left_out(name) -> None:
    assert len(read([name])) in {0, 1}
