from __future__ import annotations

import contextlib
import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import InvalidInputError
from agent.greengrass.recipes.errors import VersionError
from agent.greengrass.recipes.versions import Requirement, Version

RANGES = [
    # requirement, versions it allows, versions it does not
    ("^1.1.0", ["1.1.0", "1.9.9"], ["1.0.9", "2.0.0", "2.0.0-rc.1", "1.2.0-rc.1"]),
    ("^0.2.3", ["0.2.3", "0.2.9"], ["0.2.2", "0.3.0"]),
    ("^0.0.3", ["0.0.3"], ["0.0.2", "0.0.4"]),
    ("^1.2.3-beta.2", ["1.2.3-beta.2", "1.2.3-rc", "1.2.3", "1.9.0"], ["1.2.3-beta.1", "1.2.4-beta.3", "2.0.0-a"]),
    ("~1.2", ["1.2.0", "1.2.9"], ["1.1.9", "1.3.0"]),
    ("~1.2.3", ["1.2.3", "1.2.9"], ["1.2.2", "1.3.0"]),
    ("~2.1.0", ["2.1.0", "2.1.12"], ["2.0.9", "2.2.0"]),
    ("~1", ["1.0.0", "1.9.0"], ["0.9.9", "2.0.0"]),
    ("1", ["1.0.0", "1.9.0"], ["0.9.9", "2.0.0", "2.0.0-rc.1"]),
    ("1.2", ["1.2.0", "1.2.9"], ["1.1.9", "1.3.0"]),
    ("1.x", ["1.0.0", "1.9.0"], ["2.0.0"]),
    ("1.2.*", ["1.2.0", "1.2.9"], ["1.3.0"]),
    ("1.2.X", ["1.2.0", "1.2.9"], ["1.3.0"]),
    ("1.2.3 - 2.3.4", ["1.2.3", "2.3.4"], ["1.2.2", "2.3.5"]),
    ("1.2.3 - 2.3", ["1.2.3", "2.3.9"], ["2.4.0", "2.4.0-a"]),
    (">=1.0.0 <2.0.0", ["1.0.0", "1.9.9"], ["0.9.9", "2.0.0", "1.5.0-rc.1"]),
    (">= 1.0.0  < 2.0.0", ["1.0.0"], ["2.0.0"]),
    ("1.0.0 || >=2.0.0", ["1.0.0", "2.0.0", "3.1.4"], ["1.0.1", "1.9.9"]),
    ("", ["0.0.0", "9.9.9", "1.0.0-rc.1"], []),
    ("*", ["0.0.0", "9.9.9", "1.0.0-rc.1"], []),
    ("latest", ["0.0.0", "9.9.9", "1.0.0-rc.1"], []),
    ("v1.0.0", ["1.0.0", "1.0.0+7"], ["1.0.1", "1.0.0-rc.1"]),
    ("=1.0.0", ["1.0.0"], ["1.0.1"]),
    ("==1.0.0", ["1.0.0"], ["1.0.1"]),
    ("1.0.0+build", ["1.0.0", "1.0.0+other"], ["1.0.1"]),
    (">=1.0.0", ["1.0.0", "2.0.0", "1.1.0-rc.1"], ["1.0.0-rc.1", "0.9.0"]),
    ("^1.0.0--x", ["1.0.0--x", "1.0.0", "1.5.0"], ["1.0.0--w", "2.0.0"]),
    # What npm says where Greengrass's own library errs.
    (">1.0", ["1.1.0"], ["1.0.5"]),
    ("<2", ["1.9.9"], ["2.0.0", "2.0.0-rc.1"]),
    (">=2", ["2.0.0"], ["1.9.9"]),
    ("=1.0", ["1.0.0", "1.0.7"], ["1.1.0"]),
    ("<=1.2", ["1.2.9"], ["1.3.0", "1.3.0-rc.1"]),
    ("1.0.0-1", ["1.0.0-1"], ["1.0.0", "1.0.0-2"]),
    (">=2.0.0-0 <3.0.0", ["2.0.0-alpha", "2.0.0", "2.9.0"], ["2.1.0-alpha", "3.0.0", "3.0.0-alpha"]),
]


@pytest.mark.parametrize(("text", "allowed", "refused"), RANGES)
def test_a_requirement_means_what_npm_says(text, allowed, refused):
    requirement = Requirement.parse(text)
    assert [each for each in allowed if not requirement.allows(Version.parse(each))] == []
    assert [each for each in refused if requirement.allows(Version.parse(each))] == []


@pytest.mark.parametrize(
    "text",
    ["1.0.0, 2.0.0", "foo", ">", "^", "1.0.0.0", "01.2.3", "1.2.3 - 2 - 3", "=>1.0.0", "1１.0.0", "!1.0.0", "1" * 2000],
)
def test_what_is_no_range_is_refused_under_greengrass_code(text):
    with pytest.raises(VersionError, match="is not a version requirement") as caught:
        Requirement.parse(text)
    assert isinstance(caught.value, InvalidInputError)
    assert caught.value.code == "COMPONENT_VERSION_NOT_VALID"
    assert caught.value.error_type == "COMPONENT_RECIPE_ERROR"
    assert caught.value.hint


@pytest.mark.parametrize("text", ["=" * 1024, " " * 512 + "x" * 512, "1." * 512, "v=" * 512, "1.0.0-" + "-" * 1018])
def test_no_text_keeps_the_range_reader_busy(text):
    began = time.process_time()
    with contextlib.suppress(VersionError):
        Requirement.parse(text)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("text", ["1.0.0", "0.0.0", "999999.999999.999999", "1.0.0-rc.1", "1.0.0-0.x-y", "1.0.0+b.007"])
def test_a_version_reads_and_writes_the_same_text(text):
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.0",
        "v1.0.0",
        " 1.0.0",
        "1.0.0\n",
        "01.0.0",
        "1.0.0-01",
        "1.0.0-",
        "1.0.0+",
        "1.0.0-a..b",
        "1.0.1000000",
        "1.0.0-" + "a" * 60,
        "１.0.0",
        "{COMPONENT_VERSION}",
    ],
)
def test_a_version_is_strict_semver_of_bounded_size(text):
    with pytest.raises(VersionError, match="is not a version") as caught:
        Version.parse(text)
    assert caught.value.code == "COMPONENT_VERSION_NOT_VALID"


def test_versions_are_ordered_by_semver_precedence():
    texts = [
        "1.0.0-1",
        "1.0.0-9",
        "1.0.0-10",
        "1.0.0-9a",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta.2",
        "1.0.0-beta.11",
        "1.0.0-rc.1",
        "1.0.0",
        "1.0.1",
        "1.2.0",
        "1.10.0",
        "2.0.0-a",
        "2.0.0",
    ]
    for lower, higher in pairwise(map(Version.parse, texts)):
        assert lower < higher
        assert lower.precedence < higher.precedence


def test_build_metadata_has_no_precedence_but_keeps_the_order_total():
    one, other = Version.parse("1.0.0+1"), Version.parse("1.0.0+2")
    assert one.precedence == other.precedence
    assert one != other
    assert one < other


def test_alternatives_of_one_depender_do_not_mix_with_another():
    both = Requirement.all([Requirement.parse("1.0.0 || >=2.0.0"), Requirement.parse("<2.5.0 || 4.0.0")])
    assert [each for each in ("1.0.0", "2.1.0", "3.0.0", "4.0.0") if both.allows(Version.parse(each))] == [
        "1.0.0",
        "2.1.0",
        "4.0.0",
    ]
    assert str(both) == "1.0.0 || >=2.0.0 and <2.5.0 || 4.0.0"


def test_no_requirement_at_all_is_satisfied_by_everything():
    assert str(Requirement.all([])) == "*"
    assert Requirement.all([]).allows(Version.parse("0.0.0-a"))


numbers = st.integers(0, 4)
identifiers = st.one_of(st.integers(0, 12), st.sampled_from(["a", "b", "rc", "x-1", "-"]))
versions = st.builds(
    Version,
    numbers,
    numbers,
    numbers,
    st.lists(identifiers, max_size=3).map(tuple),
    st.sampled_from(["", "", "b1", "b2"]),
)
operators = st.sampled_from(["", "=", "<", "<=", ">", ">=", "^", "~"])
plain_versions = versions.map(lambda version: str(version).split("+")[0])
partials = st.sampled_from(["*", "1", "1.x", "2.1", "0.2.*"])
comparators = st.builds("{}{}".format, operators, st.one_of(plain_versions, partials))
alternatives = st.lists(comparators, min_size=1, max_size=2).map(" ".join)
requirements = st.lists(alternatives, min_size=1, max_size=2).map(" || ".join).map(Requirement.parse)


@settings(max_examples=100)
@given(versions, versions, versions)
def test_law_the_order_of_versions_is_total(a, b, c):
    assert [a < b, a == b, a > b].count(True) == 1
    if a <= b <= c:
        assert a <= c
    assert (a == b) == (str(a) == str(b))


@settings(max_examples=100)
@given(versions)
def test_law_a_version_survives_its_text(version):
    assert Version.parse(str(version)) == version


@settings(max_examples=100)
@given(requirements, requirements, versions)
def test_law_an_intersection_allows_what_each_allows(a, b, version):
    assert Requirement.all([a, b]).allows(version) == (a.allows(version) and b.allows(version))
    assert Requirement.all([a, a]) == a


@settings(max_examples=100)
@given(requirements, versions)
def test_law_a_requirement_survives_its_text_and_ignores_build(requirement, version):
    assert Requirement.parse(str(requirement)) == requirement
    bare = Version(version.major, version.minor, version.patch, version.prerelease)
    assert requirement.allows(version) == requirement.allows(bare)


@settings(max_examples=100)
@given(st.text(max_size=40))
def test_law_any_text_is_a_requirement_or_our_error(text):
    try:
        Requirement.parse(text).allows(Version(1, 0, 0))
    except VersionError:
        return
