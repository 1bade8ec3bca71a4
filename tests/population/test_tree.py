"""The tree of a group's paths."""

from __future__ import annotations

import json
import random

import pytest
from branching_laws import behaviour  # type: ignore[import-not-found]  # conftest finds it
from hypothesis import given
from hypothesis import strategies as st

from isotrace.population import tree_of

GROUP = [
    behaviour("abcde", 4, passed=4, cost=8.0, duration=400.0),
    behaviour("abcx", 3, passed=1, cost=3.0, duration=90.0),
    behaviour("abc", 2, passed=0),
    behaviour("abcdf", 1, passed=1, cost=2.0),
]


def drawn(tree) -> list[tuple[str, int, int, int | None]]:
    """(steps, runs, runs that end there, parent) of each node."""
    return [
        ("".join(step.skill for step in node.steps), node.tally.runs, node.ending.runs, node.parent)
        for node in tree.nodes
    ]


def test_common_steps_are_one_node_and_larger_branches_come_first() -> None:
    tree = tree_of(GROUP)
    assert drawn(tree) == [
        ("abc", 10, 2, None),
        ("d", 5, 0, 0),
        ("e", 4, 4, 1),
        ("f", 1, 1, 1),
        ("x", 3, 3, 0),
    ]
    assert (tree.runs, tree.paths, tree.first_divergence) == (10, 4, 3)
    assert tree.root.children == (1, 4)


def test_a_branch_knows_its_share_its_success_and_what_it_costs() -> None:
    node = tree_of(GROUP).nodes[1]
    assert (node.share, node.of_parent, node.depth, node.start, node.stop) == (0.5, 0.5, 1, 3, 4)
    assert (node.success.part, node.success.whole) == (5, 5)
    assert (node.mean_cost_cents, node.mean_duration_ms) == (2.0, 80.0)
    assert node.runs == ("run-abcde-0", "run-abcdf-0", "run-abcde-1", "run-abcde-2", "run-abcde-3")


def test_a_group_of_one_path_does_not_diverge() -> None:
    tree = tree_of([behaviour("abc", 5)])
    assert drawn(tree) == [("abc", 5, 5, None)]
    assert tree.first_divergence is None


def test_no_run_at_all_is_a_tree_with_an_empty_root() -> None:
    tree = tree_of([])
    assert drawn(tree) == [("", 0, 0, None)]
    assert tree.first_divergence is None
    json.dumps(tree.to_dict())


def test_one_path_that_comes_twice_is_one_path() -> None:
    tree = tree_of([behaviour("ab", 2, name="a"), behaviour("ab", 3, name="b")])
    assert drawn(tree) == [("ab", 5, 5, None)]


def test_paths_of_ten_thousand_steps_make_no_deep_tree() -> None:
    long = ["s"] * 10_000
    comb = [behaviour([*long[:length], "x"], 1) for length in range(0, 10_000, 500)]
    tree = tree_of(comb)
    assert tree.paths == 20
    assert max(node.depth for node in tree.nodes) == 19
    assert len(json.dumps(tree.to_dict())) > 1000


@pytest.mark.parametrize(("name", "expected"), [("signature", "6162636465"), ("ending", 4), ("count", 4)])
def test_a_tree_is_plain_data(name, expected) -> None:
    assert tree_of(GROUP).to_dict()["nodes"][2][name] == expected


PATHS = st.dictionaries(st.text("abc", max_size=7), st.integers(1, 9), min_size=1, max_size=12)


@given(PATHS, st.randoms())
def test_a_tree_does_not_depend_on_the_order_of_its_paths(paths, source: random.Random) -> None:
    group = [behaviour(path, runs, cost=runs / 7) for path, runs in paths.items()]
    assert tree_of(group) == tree_of(source.sample(group, len(group)))


@given(PATHS)
def test_shares_add_up_and_every_path_can_be_read_off_the_tree(paths) -> None:
    tree = tree_of([behaviour(path, runs) for path, runs in paths.items()])
    read = {}
    texts: dict[int | None, str] = {None: ""}
    for node in tree.nodes:
        assert node.tally.runs == node.ending.runs + sum(tree.nodes[c].tally.runs for c in node.children)
        assert node.share == node.tally.runs / tree.runs
        texts[node.index] = texts[node.parent] + "".join(step.skill for step in node.steps)
        assert node.stop == len(texts[node.index])
        if node.ending.runs:
            read[texts[node.index]] = node.ending.runs
        assert node.branches != 1 or not node.children, "a chain is one node"
    assert read == paths


@given(PATHS)
def test_the_first_divergence_is_the_first_index_at_which_not_all_agree(paths) -> None:
    at = [{path[index : index + 1] for path in paths} for index in range(8)]
    expected = next((index for index, skills in enumerate(at) if len(skills) > 1), None)
    assert tree_of([behaviour(path, runs) for path, runs in paths.items()]).first_divergence == expected
