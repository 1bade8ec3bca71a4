"""Outcomes as large and as deep as can be kept: what is put around them must not lose the run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from isotrace.canonical import MAX_BYTES, MAX_DEPTH, MAX_NODES, check
from isotrace.ledger import verify
from isotrace.record import adopt_journals, current_run, flush, run, skill
from isotrace.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.record.lab import Lab


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


# A million nodes are converted, written, read and hashed one by one: seconds each time.
MANY_NODES = "as many nodes as can be"

EDGES = {
    "as deep as can be": nested(MAX_DEPTH),
    "too deep": nested(5000),
    MANY_NODES: [0] * (MAX_NODES - 1),
    "as many bytes as can be": "z" * (MAX_BYTES - 5),
}


@pytest.mark.parametrize(
    "edge", [pytest.param(edge, marks=[pytest.mark.slow] * (edge == MANY_NODES)) for edge in EDGES]
)
@pytest.mark.parametrize("how", ["returned", "yielded", "returned by a generator"])
def test_a_value_at_the_limits_is_sealed(lab: Lab, edge: str, how: str) -> None:
    """The wrapped outcome is within the limits, and a part that had to be cut is named in the grade."""

    @skill(effect="read")
    def returned() -> Any:
        return EDGES[edge]

    @skill(effect="read")
    def yielded() -> Generator[Any, Any, Any]:
        if how == "yielded":
            yield EDGES[edge]
        return EDGES[edge] if how != "yielded" else None

    taken = lab.record(lambda: returned() if how == "returned" else list(yielded()))
    assert taken.error is None
    (step,) = taken.record.steps
    check(step.outcome_data)
    assert lab.store.get(taken.record.run_id, tenant_id="default").summary.status == "completed"
    verify(taken.ledger)
    assert taken.grade != "replayable"


@pytest.mark.parametrize("depth", [1, MAX_DEPTH - 2])
def test_a_value_that_leaves_room_for_what_is_around_it_is_kept_whole(lab: Lab, depth: int) -> None:
    @skill(effect="read")
    def yielded() -> Iterator[Any]:
        yield nested(depth)

    taken, result = lab.again(lambda: list(yielded()))
    assert taken.record.steps[0].outcome_data == {"chunks": [nested(depth)]}
    assert (taken.grade, result.value) == ("replayable", [nested(depth)])


@pytest.mark.parametrize("depth", [MAX_DEPTH - 2, MAX_DEPTH - 1, MAX_DEPTH, 5000])
def test_an_input_and_a_result_that_were_cut_are_cut_alike_in_a_replay(lab: Lab, depth: int) -> None:
    def agent() -> None:
        opened = current_run()
        assert opened is not None
        opened.set_result(nested(depth))

    _, result = lab.again(agent, input=nested(depth), plan=[{"step": nested(depth)}])
    assert result.divergences == []


@pytest.mark.parametrize(
    ("chunk", "count"),
    [
        pytest.param("z" * (7 << 20), 10, id="bytes"),
        pytest.param([0] * 100_000, 11, id="nodes", marks=pytest.mark.slow),
    ],
)
def test_a_stream_beyond_the_limits_is_kept_whole(tmp_path: Path, chunk: Any, count: int) -> None:
    """Each chunk is small; what they add up to has no digest, and everything else that a run has."""

    @skill(effect="read")
    def stream() -> Iterator[Any]:
        for _ in range(count):
            yield chunk

    store = SqliteStore(tmp_path / "traces.db")
    try:
        with run("lab", store=store) as opened:
            assert len(list(stream())) == count
        assert flush(60)
        ledger = store.ledger(opened.run_id, tenant_id="default")
        verify(ledger)
        assert ledger.record().steps[0].outcome_data == {"chunks": [chunk] * count}
        (row,) = store.steps(opened.run_id, tenant_id="default")
        assert row.outcome_digest is None
        assert row.path is not None
        assert adopt_journals(store) == []
    finally:
        store.close()


@pytest.mark.slow
def test_params_that_grow_beyond_the_limits_by_the_stand_ins_of_ids_stay_as_they_were(lab: Lab) -> None:
    calls = [{"id": f"call_{n}", "type": "function", "function": {"name": "x"}} for n in range(10)]

    @skill(kind="llm")
    def chat() -> dict[str, Any]:
        return {"role": "assistant", "tool_calls": calls}

    @skill(effect="read")
    def tool(ids: list[str], text: str) -> int:
        return len(ids) + len(text)

    ids = ["call_1"] * 100
    text = "z" * (MAX_BYTES - 1100)
    taken = lab.record(lambda: (chat(), tool(ids, text)))
    assert taken.record.steps[1].params == {"ids": ids, "text": text}
    verify(taken.ledger)


@pytest.mark.slow
def test_numbers_that_are_longer_in_canonical_form_leave_a_step_without_a_digest(lab: Lab) -> None:
    @skill(effect="read")
    def tool(numbers: list[float], text: str) -> dict[str, Any]:
        return {"value": [numbers, text]}

    # Five bytes each as they are recorded, 21 in canonical form.
    numbers, text = [1e20] * 100_000, "z" * (MAX_BYTES - 1_000_000)
    taken = lab.record(lambda: tool(numbers, text))
    (row,) = lab.store.steps(taken.record.run_id, tenant_id="default")
    assert (row.determinism_hash, row.path, row.outcome_digest) == (None, None, None)
    assert taken.record.steps[0].params == {"numbers": numbers, "text": text}
