"""Replacing minted ids can be undone, whatever the params hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isotrace.canonical import check, value_bytes
from isotrace.minted import MintedIds, restore, strip_volatile
from isotrace.plain import to_plain

IDS = st.sampled_from(
    ["call_abcdef", "toolu_01XYZ", "D681PevKs", "call_1", "chatcmpl-9", "fc_longer_than_that"]
)
TEXTS = st.lists(
    IDS
    | st.sampled_from(
        ["$iso:id(", "$iso:id(0#0)", "!)", ")", "0#1", '"', "\\n", " ", "é", "x", "$iso:", "_", "-"]
    ),
    max_size=4,
).map("".join)
PLAIN = st.recursive(
    TEXTS | st.integers(-5, 5) | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS | st.integers(0, 3), inner, max_size=3),
    max_leaves=8,
).map(to_plain)
LINEAGES = st.sampled_from(["0", "0.2[a(b)].1", '3["é\\]', "0[#1"])


@given(st.lists(st.tuples(LINEAGES, st.lists(IDS, max_size=3)), max_size=4), PLAIN)
def test_replacing_can_be_undone_and_leaves_no_id_behind(learnt, params):
    minted = MintedIds()
    known = set()
    for lineage, ids in learnt:
        minted.learn(lineage, {"role": "assistant", "tool_calls": [{"id": text} for text in ids]})
        known.update(ids)
    assert len(minted) == len(known)
    data = value_bytes(params)
    plain, raw = minted.replace(params)
    check(plain)
    assert value_bytes(params) == data
    assert value_bytes(restore(plain, raw)) == data
    assert not known & set(strings(plain))
    assert minted.may_occur_in(data) or not raw


def strings(node):
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, child in node.items():
            yield key
            yield from strings(child)
    elif isinstance(node, list):
        for child in node:
            yield from strings(child)


@given(
    PLAIN,
    st.sampled_from(["choices", "tool_calls", "output", "candidates", "content", "type", "role"]),
    PLAIN,
)
def test_stripping_is_idempotent_and_never_raises(a, key, b):
    for value in (a, {key: a, "role": "assistant", "object": "response", "id": b}, {"chunks": [a, {key: b}]}):
        stripped = strip_volatile(value)
        check(stripped)
        assert strip_volatile(stripped) == stripped
