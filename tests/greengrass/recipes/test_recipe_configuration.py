from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.errors import InvalidInputError
from agent.greengrass.recipes.configuration import MISSING, ConfigurationCorruptError, Leaf, Tree, differences, update

DASHBOARD = {
    "name": None,
    "mode": "REQUEST",
    "network": {"useHttps": True, "port": {"http": 80, "https": 443}},
    "tags": [],
}


def test_the_dashboard_of_the_documentation_goes_through_its_two_deployments():
    first = {"name": "Factory 2A", "network": {"useHttps": False, "port": {"http": 8080}}, "tags": ["a", "b"]}
    tree = update(None, reset=[], defaults=DASHBOARD, merge=first, timestamp=1000)
    assert tree.to_plain() == {
        "name": "Factory 2A",
        "mode": "REQUEST",
        "network": {"useHttps": False, "port": {"http": 8080, "https": 443}},
        "tags": ["a", "b"],
    }
    second = update(
        tree, reset=["/network/useHttps", "/tags"], defaults=DASHBOARD, merge={"tags": ["c", "d"]}, timestamp=2000
    )
    assert second.to_plain() == {
        "name": "Factory 2A",
        "mode": "REQUEST",
        "network": {"useHttps": True, "port": {"http": 8080, "https": 443}},
        "tags": ["c", "d"],
    }


MERGES = [
    # stored, merged, result
    ({"a": {"b": 1, "c": 2}}, {"a": {"b": 3}}, {"a": {"b": 3, "c": 2}}),
    ({"a": 1}, {"a": 2}, {"a": 2}),
    ({"a": [1, 2]}, {"a": [3]}, {"a": [3]}),
    ({"a": [1]}, {"a": 2}, {"a": 2}),
    ({"a": 1}, {"a": None}, {"a": None}),
    ({"a": 1}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    ({"a": {"b": 1}}, {"a": 1}, {"a": 1}),
    ({"a": {"b": 1}}, {"a": [1]}, {"a": [1]}),
    ({"a": {"b": 1}}, {"a": None}, {"a": None}),
    ({"Name": 1}, {"nAME": 2}, {"Name": 2}),
    ({"a": 1}, {"A": {"B": 1}}, {"a": {"B": 1}}),
    ({"a": {"b": 1}}, {"a": {}}, {"a": {"b": 1}}),
    ({}, {"a": {}}, {"a": {}}),
    ({"a": 1}, {"a": {}}, {"a": {}}),
]


@pytest.mark.parametrize(("stored", "merged", "expected"), MERGES)
def test_a_merge_does_what_the_table_says(stored, merged, expected):
    assert Tree.of(stored, 5).merge(merged, 5).to_plain() == expected


@pytest.mark.parametrize(("at", "expected"), [(9_000, "deployment"), (10_000, "deployment"), (11_000, "component")])
def test_what_is_newer_than_the_deployment_stays(at, expected):
    tree = Tree.of({"key": "old"}, 5).merge({"key": "component"}, at)
    assert update(tree, [], {}, {"key": "deployment"}, 10_000).to_plain() == {"key": expected}


@pytest.mark.parametrize(
    ("newer", "older"), [({"a": {"b": 1}}, {"a": 2}), ({"a": 2}, {"a": {"b": 1}}), ({"a": [1]}, {"a": {}})]
)
def test_what_is_newer_stays_also_when_its_kind_differs(newer, older):
    assert Tree.of(newer, 20).merge(older, 10).to_plain() == newer


def test_a_newer_leaf_does_not_keep_its_siblings():
    tree = Tree.of({"a": {"x": 1, "y": 1}}, 5).merge({"a": {"x": 2}}, 20)
    assert tree.merge({"a": {"x": 3, "y": 3}}, 10).to_plain() == {"a": {"x": 2, "y": 3}}


RESETS = [
    ([""], {}),
    (["/a", ""], {}),
    (["/a"], {"L": [1, 2], "m/n": {"~": 1}}),
    (["/a/B"], {"a": {"c": None}, "L": [1, 2], "m/n": {"~": 1}}),
    (["/a/b", "/a/c"], {"a": {}, "L": [1, 2], "m/n": {"~": 1}}),
    (["/A/C", "/l"], {"a": {"b": 1}, "m/n": {"~": 1}}),
    (["/m~1n/~0"], {"a": {"b": 1, "c": None}, "L": [1, 2], "m/n": {}}),
    (["/L/0", "/none", "/a/b/c", "a", "/"], {"a": {"b": 1, "c": None}, "L": [1, 2], "m/n": {"~": 1}}),
]


@pytest.mark.parametrize(("pointers", "expected"), RESETS)
def test_a_reset_deletes_what_its_pointers_address(pointers, expected):
    tree = Tree.of({"a": {"b": 1, "c": None}, "L": [1, 2], "m/n": {"~": 1}}, 5)
    assert tree.reset(pointers).to_plain() == expected


def test_a_deployment_resets_then_fills_then_merges():
    running = Tree.of({"kept": 1, "reset": 1, "both": 1}, 5)
    defaults = {"kept": 2, "reset": 2, "both": 2, "new": 2}
    after = update(running, reset=["/reset", "/both"], defaults=defaults, merge={"both": 3}, timestamp=10)
    assert after.to_plain() == {"kept": 1, "reset": 2, "both": 3, "new": 2}


def test_changed_defaults_do_not_reach_a_device_that_has_the_old_ones():
    before = {"a": 1, "gone": 1, "map": {"x": 1}, "null": None}
    old = update(None, [], before, None, 10)
    new = update(old, [], {"A": 2, "map": {"x": 2, "y": 2}, "null": 2}, None, 20, former=before)
    assert new.to_plain() == {"a": 1, "gone": 1, "map": {"x": 1, "y": 2}, "null": None}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"a": 1}, {"a": {"b": 2}}),
        ({"a": {"b": 2}}, {"a": 1}),
        ({"a": [1]}, {"a": {}}),
        ({"a": {"b": 1}}, {"a": None}),
        ({"a": {"b": 1}}, {"A": {"B": {"c": 2}}}),
    ],
)
def test_a_default_that_has_become_another_kind_replaces_what_was_stored(before, after):
    stored = update(None, [], before, None, 10)
    assert lowered(update(stored, [], after, None, 20, former=before).to_plain()) == lowered(after)
    assert lowered(update(stored, [], after, None, 20).to_plain()) == lowered(after)
    set_by_the_owner = update(None, [], before, before, 10)
    assert lowered(update(set_by_the_owner, [], after, None, 20, former=before).to_plain()) == lowered(after)


def test_what_the_owner_set_over_a_default_of_another_kind_stays_while_the_default_keeps_its_kind():
    stored = update(None, [], {"network": None}, {"network": {"port": 1}}, 10)
    after = update(stored, [], {"Network": "none"}, None, 20, former={"network": None})
    assert after.to_plain() == {"network": {"port": 1}}


def test_pointers_and_keys_read_without_case_and_not_into_lists():
    tree = Tree.of({"A": {"b": [1, 2]}}, 5)
    assert tree.get("") == {"A": {"b": [1, 2]}}
    assert tree.get("/a/B") == [1, 2]
    assert tree.at(["a", "b"]) == [1, 2]
    assert [tree.get(each) for each in ("/a/b/0", "/c", "a", "/A/b/x")] == [MISSING] * 4


def test_what_a_tree_gives_away_is_a_copy():
    mine = {"a": [1]}
    tree = Tree.of(mine, 5)
    mine["a"].append(2)
    tree.to_plain()["a"].append(3)
    assert tree.to_plain() == {"a": [1]}


def test_a_tree_tells_when_it_was_set_last():
    assert Tree.of({"a": 1}, 5).merge({"b": {"c": 1}}, 9).newest == 9
    assert Tree().newest == 1


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"5", b'{"at":1,"value":2}', b'{"at":"x","nodes":{}}', b'{"at":1,"nodes":[]}', b"\xff"]
)
def test_a_stored_configuration_that_cannot_be_read_is_our_error(text):
    with pytest.raises(ConfigurationCorruptError) as caught:
        Tree.load(text)
    assert isinstance(caught.value, InvalidInputError)


@pytest.mark.parametrize(
    ("before", "after", "paths"),
    [
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, [("a", "c")]),
        ({"a": 1}, {"A": 1}, []),
        ({"Key": 1}, {"kEY": 2}, [("kEY",)]),
        ({"a": 1}, {"a": True}, [("a",)]),
        ({"a": 1}, {"a": 1.0}, [("a",)]),
        ({"a": [1]}, {"a": [1, 2]}, [("a",)]),
        ({}, {"a": None}, [("a",)]),
        ({}, {"a": {"b": {"c": 1}, "d": 2}}, [("a", "b", "c"), ("a", "d")]),
        ({}, {"a": {}}, [("a",)]),
        ({"a": {}}, {"a": {}}, []),
        ({"a": {"b": 1}}, {"a": {}}, [("a", "b")]),
        ({"a": {"b": 1, "c": 2}}, {}, [("a",)]),
        ({"a": {"b": 1}}, {"a": 1}, [("a",)]),
        ({"a": 1}, {"a": {"b": 1}}, [("a", "b")]),
        ({"a": 1}, {"a": {}}, [("a",)]),
    ],
)
def test_differences_are_the_nodes_that_changed_came_or_went(before, after, paths):
    assert sorted(differences(Tree.of(before, 5), Tree.of(after, 9))) == paths


def test_a_path_is_spelled_as_it_is_stored_as_far_as_it_leads():
    tree = Tree.of({"Network": {"Port": 1}}, 5)
    assert tree.spelled(("network", "PORT")) == ("Network", "Port")
    assert tree.spelled(("network", "Port", "x", "Y")) == ("Network", "Port", "x", "Y")


@pytest.mark.parametrize(("at", "expected"), [(9_000, "deployment"), (10_000, "deployment"), (11_000, "own")])
def test_of_what_a_component_set_itself_clocks_decide(at, expected):
    tree = Tree.of({"key": "old"}, 5).put(("key",), "own", at, own=True)
    assert tree.newest_deployed == 0
    assert update(tree, [], {}, {"key": "deployment"}, 10_000).to_plain() == {"key": expected}


def test_what_a_deployment_planned_keeps_what_was_set_meanwhile_and_not_what_it_reset():
    since = Tree.of({"reset": 1, "kept": 1, "both": 1}, 5)
    planned = update(since, ["/reset", "/both"], {}, {"kept": 2, "newer": 2}, 10)
    now = since.put(("both",), 3, 11, own=True).put(("newer",), 3, 9, own=True).put(("map", "x"), 3, 11, own=True)
    assert planned.keeping(since, now).to_plain() == {"kept": 2, "both": 3, "newer": 2, "map": {"x": 3}}


keys = st.sampled_from(["a", "b", "c", "A", "B", "ab", ""])
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([0.0, 1.0, 2.5]),
    st.text(max_size=2),
    st.lists(st.integers(0, 3), max_size=2),
)
plains = st.dictionaries(
    keys, st.recursive(leaves, lambda inner: st.dictionaries(keys, inner, max_size=3), max_leaves=6), max_size=4
)
times = st.integers(2, 6)
trees = st.lists(st.tuples(plains, times), max_size=3).map(lambda steps: merged(Tree(), steps))


def merged(tree, steps):
    for plain, at in steps:
        tree = tree.merge(plain, at)
    return tree


def respelled(value, spell):
    return {spell(key): respelled(inner, spell) for key, inner in value.items()} if isinstance(value, dict) else value


def lowered(value):
    return respelled(value, str.lower)


def typed(value):
    """Equal only when numbers are of one kind: 1, 1.0 and True differ."""
    return json.dumps(value, sort_keys=True)


def leaves_of(tree):
    for _, node in tree.nodes.values():
        yield from [node] if isinstance(node, Leaf) else leaves_of(node)


@settings(max_examples=60)
@given(trees, times)
def test_law_merging_nothing_changes_nothing(tree, at):
    assert tree.merge({}, at) == tree
    assert update(tree, [], {}, None, at) == tree


@settings(max_examples=60)
@given(trees, plains, times)
def test_law_merging_twice_at_one_time_is_merging_once(tree, plain, at):
    once = tree.merge(plain, at)
    assert once.merge(plain, at) == once


@settings(max_examples=60)
@given(trees, plains)
def test_law_defaults_that_stay_as_they_are_never_overwrite(tree, defaults):
    filled = tree.fill(lowered(defaults), lowered(defaults))
    before = {id(leaf) for leaf in leaves_of(tree)}
    assert before <= {id(leaf) for leaf in leaves_of(filled)}
    assert filled.fill(lowered(defaults), lowered(defaults)) == filled


@settings(max_examples=60)
@given(plains.map(lowered), plains.map(lowered), times)
def test_law_the_later_of_two_merges_wins_in_whichever_order_they_come(earlier, later, at):
    in_order = Tree().merge(earlier, at).merge(later, at + 1)
    out_of_order = Tree().merge(later, at + 1).merge(earlier, at)
    assert typed(in_order.to_plain()) == typed(out_of_order.to_plain())


@settings(max_examples=60)
@given(trees, plains.map(lowered), times)
def test_law_the_case_of_keys_does_not_matter(tree, plain, at):
    for operate in (Tree.merge, lambda tree, plain, _: tree.fill(plain)):
        one, other = operate(tree, plain, at), operate(tree, respelled(plain, str.upper), at)
        assert typed(lowered(one.to_plain())) == typed(lowered(other.to_plain()))


@settings(max_examples=60)
@given(plains.map(lowered), times)
def test_law_values_keep_their_kind(plain, at):
    assert typed(Tree.of(plain, at).to_plain()) == typed(plain)
    assert typed(Tree.load(Tree.of(plain, at).dump()).to_plain()) == typed(plain)


@settings(max_examples=60)
@given(trees)
def test_law_a_tree_survives_its_store_with_its_times(tree):
    assert Tree.load(tree.dump()) == tree


@settings(max_examples=60)
@given(trees, st.lists(st.sampled_from(["/a", "/B", "/c/a", "/a/b/a", "/"]), max_size=3))
def test_law_what_was_reset_is_gone_and_resetting_twice_is_resetting_once(tree, pointers):
    after = tree.reset(pointers)
    assert [after.get(each) for each in pointers] == [MISSING] * len(pointers)
    assert after.reset(pointers) == after


def paths_of(tree, path=()):
    for key, node in tree.nodes.values():
        yield (*path, key)
        if isinstance(node, Tree):
            yield from paths_of(node, (*path, key))


@settings(max_examples=60)
@given(trees, trees)
def test_law_there_are_differences_exactly_where_values_differ(one, other):
    found = list(differences(one, other))
    assert bool(found) == (typed(lowered(one.to_plain())) != typed(lowered(other.to_plain())))
    assert len(set(found)) == len(found)
    known = {tuple(map(str.lower, path)) for tree in (one, other) for path in paths_of(tree)}
    assert {tuple(map(str.lower, path)) for path in found} <= known


@settings(max_examples=60)
@given(trees, plains.map(lowered), times, times)
def test_law_what_was_set_while_a_deployment_was_planned_is_as_if_it_had_been_set_before(tree, plain, own_at, at):
    set_before = tree.merge(plain, own_at + 10, own=True)
    planned = update(tree, [], {}, plain, at)
    assert planned.keeping(tree, set_before).to_plain() == set_before.merge(plain, at).to_plain()
    assert planned.keeping(tree, tree) == planned


@settings(max_examples=60)
@given(trees, plains, times)
def test_law_what_a_component_set_is_marked_as_its_own_and_survives_its_store(tree, plain, at):
    after = tree.merge(plain, at, own=True)
    assert Tree.load(after.dump()) == after
    assert after.newest_deployed <= max(tree.newest_deployed, at)
    assert after.mapped(lambda value: value) == after


@settings(max_examples=60)
@given(trees, st.lists(keys, min_size=1, max_size=3), plains, times)
def test_law_what_is_put_at_a_path_is_merged_there(tree, path, plain, at):
    after = tree.put(path, plain, at + 10)
    assert typed(after.at(path)) == typed(
        (tree.node(path) if isinstance(tree.node(path), Tree) else Tree()).merge(plain, at + 10).to_plain()
    )
