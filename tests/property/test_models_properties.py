"""Models as algebra: whatever is written is read back, and parity is an equivalence."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.errors import FieldError, RecordError
from isotrace.models import (
    Erased,
    RunContext,
    StepContext,
    TraceRecord,
    TraceStatus,
    TraceStep,
    TraceSummary,
    Violation,
    compare_traces,
)

naive = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29))  # noqa: DTZ001  # zones come below
zones = st.sampled_from([None, UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-3, minutes=-30))])
times = st.builds(lambda moment, zone: moment.replace(tzinfo=zone), naive, zones)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
maybe = st.none() | texts
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(texts, children, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(texts, plain, max_size=4)
gone = st.builds(Erased, st.binary(min_size=32, max_size=32).map(bytes.hex))
numbers = st.floats(0, 1e9)
contexts = st.builds(
    StepContext,
    kind=texts,
    lineage=st.lists(st.integers(0, 9) | texts, max_size=3).map(tuple),
    effect=texts,
    attempts=st.lists(st.dictionaries(texts, plain | gone, max_size=2), max_size=2),
    start_seq=st.none() | st.integers(0, 9),
    end_seq=st.none() | st.integers(0, 9),
    raw_ids=st.dictionaries(texts, texts, max_size=2) | gone,
    error=maybe | gone,
    child_run_id=maybe,
    marks=st.lists(texts, max_size=2),
)
outcomes = (
    objects | gone | st.none() | st.lists(plain | gone, max_size=3).map(lambda chunks: {"chunks": chunks})
)


def steps(params: st.SearchStrategy[Any]) -> st.SearchStrategy[TraceStep]:
    return st.builds(
        TraceStep,
        step_index=st.just(0),
        skill_name=texts,
        params=params,
        status=st.sampled_from(TraceStatus),
        outcome_category=texts,
        outcome_code=maybe,
        outcome_data=outcomes,
        cost_cents=numbers,
        duration_ms=numbers,
        retry_count=st.integers(0, 9),
        timestamp=times,
        context=st.none() | contexts,
    )


def numbered(found: list[TraceStep]) -> list[TraceStep]:
    for index, step in enumerate(found):
        step.step_index = index
    return found


def records(params: st.SearchStrategy[Any]) -> st.SearchStrategy[TraceRecord]:
    return st.builds(
        TraceRecord,
        run_id=texts,
        correlation_id=texts,
        tenant_id=texts,
        agent_id=maybe,
        plan=st.lists(objects, max_size=2) | gone,
        steps=st.lists(steps(params), max_size=4).map(numbered),
        started_at=times,
        completed_at=st.none() | times,
        status=texts,
        metadata=objects | gone,
        seed=st.integers(),
        frozen_timestamp=maybe,
        root_hash=maybe,
        violations=st.lists(
            st.builds(Violation, st.none() | st.integers(0, 9), times, texts, texts | gone), max_size=2
        ),
        context=st.none()
        | st.builds(RunContext, origin_run_id=maybe, input=plain | gone, result=plain | gone),
    )


@given(records(objects | gone))
def test_a_record_is_read_back_as_it_was_written(record: TraceRecord) -> None:
    assert TraceRecord.from_dict(record.to_dict()) == record
    back = TraceRecord.from_dict(json.loads(json.dumps(record.to_dict())))
    assert back == record
    # Equality does not tell 1 from 1.0 from True, nor {} from nothing within texts: this does.
    assert json.dumps(back.to_dict()) == json.dumps(record.to_dict())


@given(records(objects))
def test_a_summary_agrees_with_its_record(record: TraceRecord) -> None:
    summary = record.to_summary()
    assert isinstance(summary, TraceSummary)
    json.dumps(summary.to_dict())
    assert summary.total_steps == len(record.steps)
    assert summary.success_count + summary.failure_count <= summary.total_steps
    numbers_of = [one.step_index for one in record.violations if one.step_index is not None]
    assert summary.violation_step_index == (min(numbers_of) if numbers_of else None)
    assert (summary.violation_policy_id is None) == (not record.violations)


@given(records(objects), records(objects))
def test_parity_is_equality_of_signatures_and_symmetric(one: TraceRecord, other: TraceRecord) -> None:
    result, mirrored = compare_traces(one, other), compare_traces(other, one)
    assert result.is_parity == (one.determinism_signature() == other.determinism_signature())
    assert (result.is_parity, result.divergence_step) == (mirrored.is_parity, mirrored.divergence_step)
    assert compare_traces(one, one).is_parity


@given(records(objects), st.data())
def test_a_run_cut_short_ends_early(record: TraceRecord, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(record.steps)))
    short = TraceRecord.from_dict(
        {**record.to_dict(), "steps": [], "checksum": record_of([]).determinism_signature()}
    )
    short.steps = record.steps[:cut]
    result = compare_traces(record, short)
    if cut == len(record.steps):
        assert result.is_parity
    else:
        assert result.divergence_step == cut
        assert result.divergence_reason == f"EARLY_END: step count: {len(record.steps)} → {cut}"


def record_of(found: list[TraceStep]) -> TraceRecord:
    return TraceRecord("r", "c", "t", None, [], found, datetime(2026, 1, 1, tzinfo=UTC), None, "completed")


@given(records(objects), st.data())
def test_any_other_value_in_any_place_is_a_named_error_or_another_valid_record(
    record: TraceRecord, data: st.DataObject
) -> None:
    document = json.loads(json.dumps(record.to_dict()))
    places = list(containers_of(document))
    holder = data.draw(st.sampled_from(places))
    key = data.draw(st.sampled_from(sorted(holder) if isinstance(holder, dict) else range(len(holder))))
    holder[key] = data.draw(plain | st.just({"$iso:erased": "x"}))
    try:
        back = TraceRecord.from_dict(document)
    except RecordError:
        return
    except UserWarning:
        return
    TraceRecord.from_dict(back.to_dict())


def containers_of(node: Any) -> Any:
    if isinstance(node, dict | list) and node:
        yield node
        for child in node.values() if isinstance(node, dict) else node:
            yield from containers_of(child)


@pytest.mark.parametrize("model", [TraceRecord, TraceStep, Violation, StepContext, RunContext])
@given(data=plain)
def test_anything_that_is_no_model_is_a_named_error(model: Any, data: Any) -> None:
    with pytest.raises(FieldError):
        model.from_dict(data)
