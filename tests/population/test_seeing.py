"""What a comparison sees of a run: equal keys where `diff_traces` says parity, and only there."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.compare import Level, Rules, diff_traces
from isotrace.errors import UsageError
from isotrace.ledger import erase
from isotrace.models import TraceRecord
from isotrace.population import seeing
from isotrace.testing.runs import Call, make_run

_VALUES = st.sampled_from(
    [1, 1.0, 1 + 1e-12, 2, True, None, "a", "A ", [1], [1, 2], {"id": 1}, {"id": 2}, {}]
)
_RULES = st.sampled_from(
    [
        Rules(),
        Rules.parse(ignore=["/id"]),
        Rules.parse(ignore=["/v/id", "/result"]),
        Rules.parse(ignore=["s:/v"]),
        Rules.parse(normalize=["case"]),
    ]
)


@st.composite
def _calls(draw: st.DrawFn) -> Call:
    fails = draw(st.integers(0, 4)) == 0
    return Call(
        skill=draw(st.sampled_from("st")),
        params={"v": draw(_VALUES), "id": draw(st.integers(0, 1))},
        outcome=None if fails else {"v": draw(_VALUES), "id": draw(st.integers(0, 1))},
        kind=draw(st.sampled_from(["tool", "llm"])),
        status="failure" if fails else "success",
        category=draw(st.sampled_from(["PERMANENT", "TRANSIENT"])) if fails else "SUCCESS",
        code=draw(st.sampled_from([None, "E"])) if fails else None,
        error="x" if fails else None,
        retry_count=draw(st.integers(0, 1)),
        finished=draw(st.integers(0, 5)) > 0,
        chunks=() if fails else draw(st.sampled_from([(), ("a", "b"), ("ab",), ("a", "c")])),
    )


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[TraceRecord, TraceRecord]:
    """Two runs that have most of their steps in common."""
    common: list[Call] = draw(st.lists(_calls(), max_size=3))
    runs: list[TraceRecord] = []
    for name in "ab":
        steps = list(common)
        change: str = draw(st.sampled_from(["none", "more", "other"]))
        if change == "more":
            steps.insert(draw(st.integers(0, len(steps))), draw(_calls()))
        elif steps and change == "other":
            steps[draw(st.integers(0, len(steps) - 1))] = draw(_calls())
        runs.append(
            make_run(
                name,
                steps=steps,
                input=draw(st.sampled_from([{"id": 1}, {"id": 2}])),
                result=draw(st.sampled_from(["a", "A", {"id": 1}])),
                status=draw(st.sampled_from(["completed", "completed", "failed"])),
            ).ledger.record()
        )
    return runs[0], runs[1]


@settings(deadline=None)
@given(_pairs(), st.sampled_from(list(Level)), _RULES, st.sampled_from([(), ("tool",), ("llm", "tool")]))
def test_equal_keys_are_parity_and_parity_is_equal_keys(
    pair: tuple[TraceRecord, TraceRecord], level: Level, rules: Rules, kinds: tuple[str, ...]
) -> None:
    one, other = (seeing.seen(record, level=level, rules=rules, kinds=kinds) for record in pair)
    parity = diff_traces(*pair, level=level, rules=rules, kinds=kinds or None).parity
    if isinstance(one, str) or isinstance(other, str):
        # No step at all is a path too, but no behaviour: nothing was compared.
        assert not parity.is_parity or one == other == seeing.NOTHING
        return
    equal = [step.key for step in one] == [step.key for step in other]
    assert equal == parity.is_parity


def _record(**more: Any) -> TraceRecord:
    return make_run("r", steps=[Call("s", {"v": 1}, {"w": 1})], **more).ledger.record()


def test_path_over_hashes_is_the_signature_of_the_run() -> None:
    run = make_run("r", steps=[Call("s", {"v": 1}, {"w": 1}), Call("t")])
    steps = seeing.seen(run.ledger.record())
    assert not isinstance(steps, str)
    assert seeing.signature_of(steps) == run.projection.signature
    assert [(step.skill, step.kind, step.status) for step in steps] == [
        ("s", "tool", "success"),
        ("t", "tool", "success"),
    ]


def test_run_of_which_nothing_is_seen_says_why() -> None:
    assert seeing.seen(_record(), kinds=["llm"]) == "without a compared step"
    run = make_run("r", steps=[Call("s", {"v": 1}, {"w": 1})])

    erased = erase(run.ledger, {(1, "params")}).record()
    assert seeing.seen(erased) == "with erased steps"
    assert not isinstance(seeing.seen(erased, level=Level.SKELETON), str)
    record = _record()
    record.context = None
    assert seeing.seen(record, level=Level.OUTCOME) == "without a recorded result"
    record.steps[0].step_index = 7
    assert seeing.seen(record) == "that contradict themselves"


def test_tolerances_are_refused_with_the_reason() -> None:
    with pytest.raises(UsageError, match="a may be near b and b near c"):
        seeing.check_rules(Rules.parse(tolerance=["0.1"]))
    seeing.check_rules(Rules.parse(ignore=["/id"], budget=["cost=5%"]))
