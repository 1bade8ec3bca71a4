"""What went into a run and came out of it, from the ledger to a dictionary and back."""

import copy
from datetime import UTC, datetime

import pytest

from isotrace.errors import FieldError, SchemeMismatchError
from isotrace.events import Event, fold
from isotrace.jsondiff import MISSING
from isotrace.models import Erased, RunContext, TraceRecord, compare_traces

START = {
    "scheme": "iso1",
    "run_id": "r1",
    "origin_run_id": "r0",
    "correlation_id": "c",
    "tenant_id": "default",
    "agent_id": None,
    "seed": 7,
    "frozen_timestamp": None,
    "entry_point": {"function": "agents:support"},
    "parent": {"run_id": "p", "lineage": [0, 1]},
}


def ledger(**result: bytes | Erased) -> list[Event]:
    return [
        Event(0, "run_started", 0, dict(START), {"input": b'{"task":1}', "environment": b'{"python":"3"}'}),
        Event(1, "run_finished", 1, {"status": "completed", "step_count": 0}, dict(result)),
    ]


def record(context: RunContext | None = None) -> TraceRecord:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return TraceRecord("r", "c", "default", None, [], [], moment, None, "completed", context=context)


def test_the_fold_reads_input_environment_result_and_identity() -> None:
    assert fold(ledger(result=b"[1]")).context == RunContext(
        scheme="iso1",
        origin_run_id="r0",
        entry_point={"function": "agents:support"},
        parent={"run_id": "p", "lineage": [0, 1]},
        input={"task": 1},
        environment={"python": "3"},
        result=[1],
    )


@pytest.mark.parametrize("result", [None, 0, {}, [], "", False, {"a": None}, Erased("ab")])
def test_every_result_survives_a_dictionary(result: object) -> None:
    original = record(RunContext(result=result))
    assert TraceRecord.from_dict(original.to_dict()) == original


def test_a_result_of_none_is_not_the_lack_of_a_result() -> None:
    nothing, null = fold(ledger()), fold(ledger(result=b"null"))
    assert nothing.context
    assert null.context
    assert nothing.context.result is MISSING
    assert null.context.result is None
    assert "result" not in nothing.to_dict()["context"]
    assert TraceRecord.from_dict(nothing.to_dict()) == nothing
    assert copy.deepcopy(nothing) == nothing


def test_a_record_without_a_context_stays_without() -> None:
    assert TraceRecord.from_dict(record().to_dict()) == record()
    older = {key: value for key, value in record().to_dict().items() if key != "context"}
    assert TraceRecord.from_dict(older).context is None


def test_a_context_of_the_wrong_type_is_named_with_its_place() -> None:
    data = record(RunContext()).to_dict()
    data["context"]["parent"] = "p"
    with pytest.raises(FieldError) as raised:
        TraceRecord.from_dict(data)
    assert raised.value.pointer == "/context/parent"


def test_runs_of_two_schemes_are_not_compared() -> None:
    with pytest.raises(SchemeMismatchError, match="iso1"):
        compare_traces(record(RunContext()), record(RunContext(scheme="iso2")))
