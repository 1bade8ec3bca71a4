"""What a comparison sees of a run: equal keys where `diff_traces` says parity, and only there."""

from __future__ import annotations

from dataclasses import replace
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


_FIELDS = (
    "params",
    "outcome",
    "kind",
    "code",
    "category",
    "status",
    "retry_count",
    "finished",
    "chunks",
    "skill",
)


@st.composite
def _pairs(draw: st.DrawFn) -> tuple[TraceRecord, TraceRecord]:
    """Two runs that are equal but for a step more, one field of a step, or how they begin or end."""
    common: list[Call] = draw(st.lists(_calls(), max_size=3))
    runs: list[TraceRecord] = []
    ends = draw(st.sampled_from(["equal", "equal", "result", "input", "status"]))
    for name in "ab":
        steps = list(common)
        change: str = draw(st.sampled_from(["none", "more", "field", "field", "field"]))
        if change == "more":
            steps.insert(draw(st.integers(0, len(steps))), draw(_calls()))
        elif steps and change == "field":
            at = draw(st.integers(0, len(steps) - 1))
            other, field = draw(_calls()), draw(st.sampled_from(_FIELDS))
            if (steps[at].status, steps[at].chunks) == (other.status, other.chunks) or field == "chunks":
                steps[at] = replace(steps[at], **{field: getattr(other, field)})
        runs.append(
            make_run(
                name,
                steps=steps,
                input=draw(st.sampled_from([{"id": 1}, {"id": 2}])) if ends == "input" else None,
                result=draw(st.sampled_from(["a", "A", {"id": 1}])) if ends == "result" else "a",
                status=draw(st.sampled_from(["completed", "failed"])) if ends == "status" else "completed",
            ).ledger.record()
        )
    return runs[0], runs[1]


@settings(deadline=None, max_examples=400)
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


_CALL = Call("s", {"v": 1}, {"w": 1})
_FAILED = Call("s", {"v": 1}, None, status="failure", category="TRANSIENT", code="E", error="x")
_STREAMED = Call("s", {"v": 1}, chunks=("a", "b"))
_CHANGED: list[tuple[Call, dict[str, Any], set[str]]] = [
    (_CALL, {}, set()),
    (_CALL, {"skill": "t"}, {"exact", "decisions", "skeleton"}),
    (_CALL, {"params": {"v": 2}}, {"exact", "decisions"}),
    (_CALL, {"retry_count": 1}, {"exact", "decisions"}),
    (_CALL, {"outcome": {"w": 2}}, {"exact"}),
    (_CALL, {"outcome": {"w": True}}, {"exact"}),
    (_CALL, {"outcome": None}, {"exact"}),
    (_CALL, {"kind": "llm"}, set()),
    (_CALL, {"cost_cents": 3.0, "duration_ms": 7.0}, set()),
    (_FAILED, {"code": "F"}, {"exact", "decisions"}),
    (_FAILED, {"category": "PERMANENT"}, {"exact", "decisions"}),
    (_FAILED, {"error": "y"}, set()),
    (_STREAMED, {"chunks": ("ab",)}, set()),
    (_STREAMED, {"chunks": ("a", "c")}, {"exact"}),
]


def _spelled(value: Any) -> str:
    """The same in each process: that of a set is not."""
    return "+".join(sorted(value)) or "nothing" if isinstance(value, set) else str(value)[:40]


@pytest.mark.parametrize("level", [level.value for level in Level])
@pytest.mark.parametrize(("call", "changed", "telling"), _CHANGED, ids=_spelled)
def test_each_field_of_a_step_counts_at_its_levels_as_in_a_diff(
    call: Call, changed: dict[str, Any], telling: set[str], level: str
) -> None:
    steps = (call, replace(call, **changed))
    one, other = (make_run("r", steps=[step], result=1).ledger.record() for step in steps)
    keys = [seeing.seen(record, level=Level(level)) for record in (one, other)]
    same = [[step.key for step in found if not isinstance(step, str)] for found in keys]
    assert (same[0] != same[1]) == (level in telling)
    assert diff_traces(one, other, level=level).parity.is_parity == (level not in telling)


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
