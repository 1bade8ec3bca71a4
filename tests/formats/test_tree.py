"""The order in which overlapping work stands in a ledger."""

from __future__ import annotations

from typing import Any

from isotrace.formats.chat import Identity
from isotrace.formats.node import Node
from isotrace.formats.source import DEFAULT_BOUNDS
from isotrace.formats.tree import Span, TreeRun, Work, grown


def work(lineage: tuple[int, ...], begin: int, end: int | None, **fields: Any) -> Work:
    return Work(lineage, "tool", "work", {}, begin, end, outcome=1, **fields)


def order(*steps: Work) -> list[tuple[str, list[int], int]]:
    """Each event of a run of these steps: what, of which step, when."""
    identity = Identity("f", "default", list(range(3)), {}, None, None, {})
    run = TreeRun(Node({}, "f.json"), identity, DEFAULT_BOUNDS)
    run.add(steps)
    events = run.finish("completed").events[1:-1]
    return [(event.type.removeprefix("step_"), event.facts["lineage"], event.time_us) for event in events]


def test_steps_stand_in_the_order_of_their_times_however_they_are_given() -> None:
    one, two = work((0,), 1, 4), work((1,), 2, 3)
    expected = [("started", [0], 1), ("started", [1], 2), ("finished", [1], 3), ("finished", [0], 4)]
    assert order(one, two) == order(two, one) == expected


def test_at_one_time_a_step_ends_before_the_next_begins() -> None:
    assert order(work((0,), 1, 2), work((1,), 2, 2)) == [
        ("started", [0], 1),
        ("finished", [0], 2),
        ("started", [1], 2),
        ("finished", [1], 2),
    ]


def test_at_one_time_a_step_ends_after_what_begins_inside_of_it() -> None:
    assert order(work((0,), 1, 2), work((0, 0), 2, 2)) == [
        ("started", [0], 1),
        ("started", [0, 0], 2),
        ("finished", [0], 2),
        ("finished", [0, 0], 2),
    ]


def test_an_attempt_stands_between_what_happened_before_and_after_it() -> None:
    failed = (2, {"attempt": 0, "outcome_category": "TRANSIENT", "outcome_code": None}, "no")
    late = (9, failed[1], None)
    assert order(work((0,), 1, 5, attempts=[failed, late]), work((1,), 3, 4)) == [
        ("started", [0], 1),
        ("attempt", [0], 2),
        ("started", [1], 3),
        ("finished", [1], 4),
        ("attempt", [0], 5),
        ("finished", [0], 5),
    ]


def test_a_step_does_not_end_before_it_begins() -> None:
    assert order(work((0,), 5, 2)) == [("started", [0], 5), ("finished", [0], 5)]


def test_spans_are_numbered_by_time_below_their_parents() -> None:
    def span(id_: str, parent: str | None, begin: int) -> Span:
        return Span(id_, parent, begin, Node({}, "f.json"))

    spans = [span("c", "a", 9), span("b", "a", 2), span("a", None, 1), span("d", "not there", 0)]
    assert [(one.id, one.lineage) for one in grown(spans)] == [
        ("d", (0,)),
        ("a", (1,)),
        ("b", (1, 0)),
        ("c", (1, 1)),
    ]
