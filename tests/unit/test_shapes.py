"""The two events that are written in one go: what is read back is what the long way would have kept."""

from __future__ import annotations

from enum import Enum
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from isotrace.errors import RecordCorruptError
from isotrace.record.journal import Journal, read_journal
from isotrace.record.lines import framed, json_bytes
from isotrace.record.memory_journal import MemoryJournal
from isotrace.record.shapes import (
    AT_ONCE,
    PLAIN,
    STARTED,
    SUCCEEDED,
    VALUE_NAMES,
    WRAPPED,
    Facts,
    named_facts,
)
from isotrace.record.snapshot import NOT_JSON, json_form, snapshot

SEED = bytes(32)
SKILL = {"kind": "tool", "skill_name": 'search "100%"', "effect": "read"}
STARTED_FACTS: Facts = ((0, "item 7", 3), SKILL)
SUCCEEDED_FACTS: Facts = ((0, 1), WRAPPED | AT_ONCE, 2.5, 1_234_567)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.sampled_from(["$iso:object", "$"]) | st.integers(), inner)
    ),
    max_leaves=30,
)


def journals(folder: Any) -> list[Journal | MemoryJournal]:
    return [Journal.create(folder, "r1", "acme", SEED), MemoryJournal("r1", "acme", SEED)]


@given(history=st.lists(values, max_size=4))
@example(history=["x" * 3000, "x" * 3000 + "y", ["x" * 3000]])
@example(history=["\ud800", {"$iso:object": 1}, {1: 2}, 2**60, float("nan"), 1e16])
def test_an_event_in_one_go_is_the_event_of_the_long_way(
    tmp_path_factory: pytest.TempPathFactory, history: list[Any]
) -> None:
    for journal in journals(tmp_path_factory.mktemp("journals")):
        kept = []
        for value in history:
            for type_, facts in ((STARTED, STARTED_FACTS), (SUCCEEDED, SUCCEEDED_FACTS)):
                if json_form(value) == NOT_JSON or not journal.append_json(type_, 17, facts, value, "slot"):
                    continue
                kept.append((type_, json_bytes(named_facts(facts)), snapshot(value).data))
        events = journal.content().events
        assert [event.seq for event in events] == list(range(len(kept)))
        assert [
            (event.type, orjson.dumps(event.facts), event.values[VALUE_NAMES[event.type]]) for event in events
        ] == kept
        assert {event.time_us for event in events} <= {17}
        journal.remove()


def test_facts_by_name() -> None:
    assert named_facts(STARTED_FACTS) == {"lineage": (0, "item 7", 3), **SKILL}
    assert list(named_facts(((4,), PLAIN | WRAPPED | AT_ONCE, 0.0, 1_999)).items()) == [
        ("lineage", (4,)),
        ("status", "success"),
        ("outcome_category", "SUCCESS"),
        ("outcome_code", None),
        ("plain", True),
        ("wrapped", True),
        ("at_once", True),
        ("cost_cents", 0.0),
        ("duration_ms", 0.002),
        ("retry_count", 0),
    ]


@pytest.mark.parametrize(
    "value",
    ["\ud800", {"a": {"$iso:object": 1}}, {"$iso:object": "x" * 5000}, {1: 2}, 2**60, object(), Enum],
    ids=repr,
)
def test_what_needs_a_snapshot_is_refused_and_leaves_nothing_behind(tmp_path: Any, value: Any) -> None:
    for journal in journals(tmp_path):
        assert not journal.append_json(STARTED, 1, STARTED_FACTS, value)
        assert journal.append_json(STARTED, 2, STARTED_FACTS, {"a": 1})
        assert [(event.seq, event.time_us) for event in journal.content().events] == [(0, 2)]


def test_a_history_that_grows_is_written_once(tmp_path: Any) -> None:
    journal = Journal.create(tmp_path, "r1", "acme", SEED)
    history: list[str] = []
    for number in range(50):
        history.append(f"{number} " * 500)
        assert journal.append_json(STARTED, number, STARTED_FACTS, {"messages": history}, "chat")
    read = read_journal(journal.path).events
    assert orjson.loads(bytes(read[-1].values["params"])) == {"messages": history}  # type: ignore[arg-type]  # nothing is erased
    assert journal.path.stat().st_size < 3 * len(orjson.dumps(history))


@pytest.mark.parametrize(
    "body",
    [
        b'["step_started",0,1,[0],{"kind":"tool"}]',
        b'["step_started",0,1,[0],{"kind":7},{}]',
        b'["step_started",0,1,[0.5],{},{}]',
        b'["step_started",0,1,[0],{},{},{}]',
        b'["step_started",1,1,[0],{},{}]',
        b'["step_finished",0,1,[0],8,0.0,1,{}]',
        b'["step_finished",0,1,[0],-1,0.0,1,{}]',
        b'["step_finished",0,1,[0],0,0.0,0.5,{}]',
        b'["step_finished",0,1,[0],0,"free",1,{}]',
        b'["step_chunk",0,1,[0],{}]',
        b'["step_started",0,1,[0],{},{}',
        b'["step_started",0,1,[0],{},\xff]',
    ],
)
def test_a_line_of_another_shape_is_corrupt(tmp_path: Any, body: bytes) -> None:
    journal = Journal.create(tmp_path, "r1", "acme", SEED)
    path = tmp_path / "odd.journal"
    path.write_bytes(journal.path.read_bytes() + framed(body))
    with pytest.raises(RecordCorruptError) as caught:
        read_journal(path)
    assert caught.value.where == f"{path}, line 2"


def test_a_monotonic_clock_that_goes_back_costs_no_run(tmp_path: Any) -> None:
    journal = Journal.create(tmp_path, "r1", "acme", SEED)
    assert journal.append_json(SUCCEEDED, 1, ((0,), 0, 0.0, -1_500), {})
    assert read_journal(journal.path).events[0].facts["duration_ms"] == -0.002
