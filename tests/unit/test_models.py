from __future__ import annotations

import dataclasses
import inspect
import json
from datetime import UTC, datetime, timedelta, timezone
from enum import Enum
from typing import Any, get_type_hints

import pytest

from isotrace import hashing, models
from isotrace.errors import (
    ChecksumMismatchError,
    FieldError,
    IntegerRangeError,
    RecordGapError,
    SchemaUnsupportedError,
    StepOrderError,
    UnverifiedChecksumWarning,
)
from isotrace.models import (
    Erased,
    ParityResult,
    RunContext,
    StepContext,
    TraceRecord,
    TraceStatus,
    TraceStep,
    TraceSummary,
    Violation,
    _normalize_for_determinism,
    compare_traces,
)

START = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
COMMIT = "c" * 64


def step(index: int = 0, **changes: Any) -> TraceStep:
    fields: dict[str, Any] = {
        "step_index": index,
        "skill_name": "book",
        "params": {"city": "Zürich", "price": 20.0, "stops": [1, None]},
        "status": TraceStatus.SUCCESS,
        "outcome_category": "SUCCESS",
        "outcome_code": None,
        "outcome_data": {"value": 7},
        "cost_cents": 0.25,
        "duration_ms": 12.5,
        "retry_count": 0,
        "timestamp": START + timedelta(seconds=index),
    }
    return TraceStep(**{**fields, **changes})


def record(*steps: TraceStep, **changes: Any) -> TraceRecord:
    fields: dict[str, Any] = {
        "run_id": "run-1",
        "correlation_id": "corr-1",
        "tenant_id": "acme",
        "agent_id": "support",
        "plan": [{"goal": "book"}],
        "steps": list(steps),
        "started_at": START,
        "completed_at": START + timedelta(minutes=1),
        "status": "completed",
    }
    return TraceRecord(**{**fields, **changes})


CONTEXT = StepContext(
    kind="llm",
    lineage=(0, "eu", 1),
    effect="read",
    attempts=[{"attempt": 1, "outcome_category": "TRANSIENT", "error": Erased(COMMIT)}],
    start_seq=3,
    end_seq=4,
    raw_ids={"/messages/1/tool_call_id": "call_1"},
    error="timed out",
    child_run_id="run-2",
    marks=["thread"],
)

FULL = record(
    step(0, context=CONTEXT),
    step(1, status=TraceStatus.FAILURE, outcome_category="TRANSIENT", outcome_code="504", outcome_data=None),
    step(2, status=TraceStatus.SKIPPED, params={}, outcome_data={}, cost_cents=0.0, retry_count=2),
    step(3, status=TraceStatus.RETRY),
    agent_id=None,
    completed_at=None,
    status="running",
    metadata={"task": "13", "reward": 0},
    seed=0,
    frozen_timestamp="2026-01-01T00:00:00Z",
    root_hash="ab" * 32,
    violations=[Violation(2, START, "no-refunds", "over the limit"), Violation(None, START, "budget", "")],
    context=RunContext(origin_run_id="run-0", input="hi", result=None, error=Erased(COMMIT)),
)


# --- the contract to the letter -----------------------------------------------------

FIELDS = {
    TraceStep: """
        step_index: int; skill_name: str; params: dict[str, Any]; status: TraceStatus; outcome_category: str;
        outcome_code: str | None; outcome_data: dict[str, Any] | None; cost_cents: float; duration_ms: float;
        retry_count: int; timestamp: datetime
    """,
    TraceSummary: """
        run_id: str; correlation_id: str; tenant_id: str; agent_id: str | None; total_steps: int;
        success_count: int; failure_count: int; total_cost_cents: float; total_duration_ms: float;
        started_at: datetime; completed_at: datetime | None; status: str; violation_step_index: int | None;
        violation_timestamp: datetime | None; violation_policy_id: str | None; violation_reason: str | None
    """,
    TraceRecord: """
        run_id: str; correlation_id: str; tenant_id: str; agent_id: str | None; plan: list[dict[str, Any]];
        steps: list[TraceStep]; started_at: datetime; completed_at: datetime | None; status: str;
        metadata: dict[str, Any]; seed: int; frozen_timestamp: str | None; root_hash: str | None
    """,
    ParityResult: """
        is_parity: bool; original_signature: str; replay_signature: str; divergence_step: int | None;
        divergence_reason: str | None
    """,
}


@pytest.mark.parametrize("model", FIELDS, ids=lambda model: model.__name__)
def test_fields_have_the_names_types_and_order_of_the_contract(model: Any) -> None:
    wanted = [field.strip() for field in FIELDS[model].split(";")]
    found = [f"{field.name}: {field.type}" for field in dataclasses.fields(model)]
    assert found[: len(wanted)] == wanted


@pytest.mark.parametrize("model", FIELDS, ids=lambda model: model.__name__)
def test_what_is_added_to_the_contract_is_optional_and_comes_last(model: Any) -> None:
    wanted = FIELDS[model].count(": ")
    for field in dataclasses.fields(model)[wanted:]:
        assert field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def test_the_statuses_are_strings() -> None:
    assert TraceStatus.__bases__ == (str, Enum)
    assert {status.name: status.value for status in TraceStatus} == {
        "SUCCESS": "success",
        "FAILURE": "failure",
        "RETRY": "retry",
        "SKIPPED": "skipped",
    }


def test_methods_and_counters_are_those_of_the_contract() -> None:
    for method in ("to_dict", "from_dict", "determinism_hash"):
        assert callable(getattr(TraceStep, method))
    for method in ("to_dict", "from_dict", "to_summary", "determinism_signature"):
        assert callable(getattr(TraceRecord, method))
    for counter in ("total_cost_cents", "total_duration_ms", "success_count", "failure_count"):
        assert isinstance(inspect.getattr_static(TraceRecord, counter), property)
    assert callable(TraceSummary.to_dict)
    assert callable(ParityResult.to_dict)
    assert str(inspect.signature(_normalize_for_determinism)) == "(value: 'Any') -> 'Any'"
    assert (
        str(inspect.signature(compare_traces))
        == "(original: 'TraceRecord', replay: 'TraceRecord') -> 'ParityResult'"
    )
    assert get_type_hints(compare_traces)["return"] is ParityResult


def test_the_schema_version_belongs_to_the_class() -> None:
    assert TraceRecord.SCHEMA_VERSION == "1.0.0"
    assert "SCHEMA_VERSION" not in {field.name for field in dataclasses.fields(TraceRecord)}


def test_normalization_is_what_hashes_see() -> None:
    assert repr(_normalize_for_determinism({"a": [0.12345678, -0.0, 1]})) == "{'a': [0.123457, 0.0, 1]}"


def test_every_public_name_exists() -> None:
    assert [name for name in models.__all__ if not hasattr(models, name)] == []


# --- dictionaries -------------------------------------------------------------------


def test_every_field_round_trips() -> None:
    assert TraceRecord.from_dict(FULL.to_dict()) == FULL
    assert TraceRecord.from_dict(json.loads(json.dumps(FULL.to_dict()))) == FULL


@pytest.mark.parametrize(
    "outcome", [None, {}, {"value": None}, {"value": 0}, {"value": ""}, {"value": False}]
)
def test_nothing_null_empty_and_zero_stay_apart(outcome: dict[str, Any] | None) -> None:
    back = TraceStep.from_dict(step(outcome_data=outcome).to_dict())
    assert repr(back.outcome_data) == repr(outcome)


def test_a_record_says_its_schema_scheme_and_checksum() -> None:
    data = FULL.to_dict()
    assert (data["schema_version"], data["scheme"]) == ("1.0.0", "iso1")
    assert data["checksum"] == FULL.determinism_signature()


def test_a_step_as_a_dictionary() -> None:
    assert step(4).to_dict() == {
        "step_index": 4,
        "skill_name": "book",
        "params": {"city": "Zürich", "price": 20.0, "stops": [1, None]},
        "status": "success",
        "outcome_category": "SUCCESS",
        "outcome_code": None,
        "outcome_data": {"value": 7},
        "cost_cents": 0.25,
        "duration_ms": 12.5,
        "retry_count": 0,
        "timestamp": "2026-01-02T03:04:09.000006Z",
        "context": None,
    }


def test_times_are_written_in_utc_and_read_with_any_offset() -> None:
    tokyo = timezone(timedelta(hours=9))
    moment = datetime(2026, 1, 2, 12, 4, 5, 6, tzinfo=tokyo)
    assert step(timestamp=moment).to_dict()["timestamp"] == "2026-01-02T03:04:05.000006Z"
    assert (
        step(timestamp=datetime(9, 1, 2, tzinfo=UTC)).to_dict()["timestamp"] == "0009-01-02T00:00:00.000000Z"
    )
    for text in (
        "2026-01-02T12:04:05.000006+09:00",
        "2026-01-02T03:04:05.000006Z",
        "2026-01-02T03:04:05.000006",
    ):
        assert TraceStep.from_dict({**step().to_dict(), "timestamp": text}).timestamp == START


def test_a_naive_time_is_utc() -> None:
    naive = step(timestamp=START.replace(tzinfo=None))
    assert naive == step() == TraceStep.from_dict(naive.to_dict())


def test_a_status_may_be_given_as_text() -> None:
    assert step(status="failure").status is TraceStatus.FAILURE
    with pytest.raises(ValueError, match="done"):
        step(status="done")


def test_a_missing_seed_is_42() -> None:
    data = record(step()).to_dict()
    del data["seed"]
    assert TraceRecord.from_dict(data).seed == 42
    assert TraceRecord.from_dict({**data, "seed": 0}).seed == 0


def test_optional_fields_may_be_missing() -> None:
    data = record(step(), agent_id=None, completed_at=None).to_dict()
    for name in (
        "agent_id",
        "completed_at",
        "metadata",
        "frozen_timestamp",
        "root_hash",
        "violations",
        "context",
    ):
        del data[name]
    del data["steps"][0]["context"]
    assert TraceRecord.from_dict(data) == record(step(), agent_id=None, completed_at=None)


def test_unknown_fields_are_left_out_of_account() -> None:
    data = record(step()).to_dict()
    data["later"] = 1
    data["steps"][0]["later"] = 1
    assert TraceRecord.from_dict({**data, "schema_version": "1.7.0"}) == record(step())


WRONG: list[tuple[str, Any, str]] = [
    ("/run_id", 7, "/run_id"),
    ("/run_id", None, "/run_id"),
    ("/tenant_id", ["acme"], "/tenant_id"),
    ("/agent_id", 1, "/agent_id"),
    ("/plan", {}, "/plan"),
    ("/plan", ["goal"], "/plan/0"),
    ("/steps", {}, "/steps"),
    ("/steps/0", [], "/steps/0"),
    ("/steps/1/step_index", True, "/steps/1/step_index"),
    ("/steps/1/step_index", 1.0, "/steps/1/step_index"),
    ("/steps/1/step_index", "1", "/steps/1/step_index"),
    ("/steps/0/params", None, "/steps/0/params"),
    ("/steps/0/params", [], "/steps/0/params"),
    ("/steps/0/status", "done", "/steps/0/status"),
    ("/steps/0/status", 1, "/steps/0/status"),
    ("/steps/0/outcome_category", None, "/steps/0/outcome_category"),
    ("/steps/0/outcome_code", 404, "/steps/0/outcome_code"),
    ("/steps/0/outcome_data", [], "/steps/0/outcome_data"),
    ("/steps/0/cost_cents", "1", "/steps/0/cost_cents"),
    ("/steps/0/cost_cents", True, "/steps/0/cost_cents"),
    ("/steps/0/duration_ms", float("nan"), "/steps/0/duration_ms"),
    ("/steps/0/retry_count", None, "/steps/0/retry_count"),
    ("/steps/0/timestamp", "yesterday", "/steps/0/timestamp"),
    ("/steps/0/timestamp", "0001-01-01T00:00:00+09:00", "/steps/0/timestamp"),
    ("/steps/0/timestamp", 0, "/steps/0/timestamp"),
    ("/steps/0/context", 1, "/steps/0/context"),
    ("/steps/0/context/lineage", [True], "/steps/0/context/lineage"),
    ("/steps/0/context/marks", [1], "/steps/0/context/marks"),
    ("/steps/0/context/attempts", [1], "/steps/0/context/attempts/0"),
    ("/steps/0/context/error", 1, "/steps/0/context/error"),
    ("/started_at", "", "/started_at"),
    ("/completed_at", 1, "/completed_at"),
    ("/status", None, "/status"),
    ("/metadata", [], "/metadata"),
    ("/seed", 1.5, "/seed"),
    ("/frozen_timestamp", 1, "/frozen_timestamp"),
    ("/root_hash", 1, "/root_hash"),
    ("/violations", {}, "/violations"),
    ("/violations/0/policy_id", None, "/violations/0/policy_id"),
    ("/violations/0/reason", None, "/violations/0/reason"),
    ("/violations/0/step_index", "x", "/violations/0/step_index"),
    ("/schema_version", "one", "/schema_version"),
    ("/schema_version", "1.0", "/schema_version"),
    ("/schema_version", 1, "/schema_version"),
    ("/checksum", 1, "/checksum"),
    ("/scheme", 1, "/scheme"),
]


def changed(data: dict[str, Any], pointer: str, value: Any) -> dict[str, Any]:
    place: Any = data
    *path, last = pointer[1:].split("/")
    for part in path:
        place = place[int(part) if isinstance(place, list) else part]
    if value is ...:
        del place[last]
    else:
        place[int(last) if isinstance(place, list) else last] = value
    return data


@pytest.mark.parametrize(("pointer", "value", "blamed"), WRONG, ids=lambda part: str(part)[:40])
def test_a_wrong_type_is_refused_with_its_place(pointer: str, value: Any, blamed: str) -> None:
    with pytest.raises(FieldError) as caught:
        TraceRecord.from_dict(changed(FULL.to_dict(), pointer, value))
    assert caught.value.pointer == blamed


REQUIRED = [
    "/schema_version",
    "/run_id",
    "/correlation_id",
    "/tenant_id",
    "/plan",
    "/steps",
    "/started_at",
    "/status",
    "/steps/0/step_index",
    "/steps/0/skill_name",
    "/steps/0/params",
    "/steps/0/status",
    "/steps/0/outcome_category",
    "/steps/0/cost_cents",
    "/steps/0/duration_ms",
    "/steps/0/retry_count",
    "/steps/0/timestamp",
    "/steps/0/context/kind",
    "/violations/0/timestamp",
]


@pytest.mark.parametrize("pointer", REQUIRED)
def test_a_missing_field_is_named(pointer: str) -> None:
    with pytest.raises(FieldError) as caught:
        TraceRecord.from_dict(changed(FULL.to_dict(), pointer, ...))
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("data", [None, [], "x", 1])
def test_what_is_no_dictionary_is_refused(data: Any) -> None:
    for model in (TraceRecord, TraceStep, Violation, StepContext):
        with pytest.raises(FieldError):
            model.from_dict(data)


@pytest.mark.parametrize("version", ["2.0.0", "10.0.0", "0.9.0"])
def test_another_major_version_is_refused(version: str) -> None:
    with pytest.raises(SchemaUnsupportedError) as caught:
        TraceRecord.from_dict({**FULL.to_dict(), "schema_version": version})
    assert (caught.value.expected, caught.value.got) == ("1.0.0", version)


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("/steps/0/params/price", 20.1),
        ("/steps/0/skill_name", "cook"),
        ("/steps/1/status", "success"),
        ("/steps/1/outcome_category", "PERMANENT"),
        ("/steps/1/outcome_code", None),
        ("/steps/2/retry_count", 3),
        ("/checksum", "0" * 64),
        ("/checksum", None),
    ],
)
def test_altered_content_does_not_pass_its_checksum(pointer: str, value: Any) -> None:
    with pytest.raises(ChecksumMismatchError):
        TraceRecord.from_dict(changed(FULL.to_dict(), pointer, value))


def test_a_dropped_step_is_out_of_order() -> None:
    data = FULL.to_dict()
    del data["steps"][1]
    with pytest.raises(StepOrderError) as caught:
        TraceRecord.from_dict(data)
    assert (caught.value.pointer, caught.value.expected, caught.value.got) == ("/steps/1/step_index", 1, 2)


@pytest.mark.parametrize("scheme", [None, "sha16"])
def test_a_checksum_of_another_scheme_can_not_be_verified(scheme: str | None) -> None:
    data = {**FULL.to_dict(), "scheme": scheme, "checksum": "deadbeef"}
    if scheme is None:
        del data["scheme"]
    with pytest.warns(UnverifiedChecksumWarning, match="run-1"):
        assert TraceRecord.from_dict(data) == FULL


# --- erased content -----------------------------------------------------------------


def erased(value: Any = None) -> Any:
    return Erased(COMMIT)


def test_erased_content_round_trips_and_is_no_null() -> None:
    context = dataclasses.replace(CONTEXT, error=erased(), raw_ids=erased())
    gone = record(
        step(0, params=erased(), outcome_data=erased(), context=context),
        step(1, outcome_data={"chunks": ["a", erased(), {"b": 1}], "closed": True}),
        plan=erased(),
        metadata=erased(),
        violations=[Violation(0, START, "p", erased())],
    )
    data = json.loads(json.dumps(gone.to_dict()))
    assert data["checksum"] is None
    assert data["steps"][0]["params"] == {"$iso:erased": COMMIT}
    assert TraceRecord.from_dict(data) == gone


def test_an_erased_step_has_no_hash_and_its_run_no_signature() -> None:
    gone = step(3, params=erased())
    with pytest.raises(RecordGapError, match="step 3"):
        gone.determinism_hash()
    with pytest.raises(RecordGapError):
        record(step(0), step(1, params=erased())).determinism_signature()


def test_an_erased_outcome_changes_no_hash() -> None:
    assert step(outcome_data=erased()).determinism_hash() == step().determinism_hash()


def test_a_kept_checksum_of_erased_params_can_not_be_verified() -> None:
    data = {**record(step(params=erased())).to_dict(), "checksum": "ab" * 32}
    with pytest.warns(UnverifiedChecksumWarning):
        TraceRecord.from_dict(data)


# --- hashes and counters ------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"step_index": 9},
        {"outcome_data": None},
        {"cost_cents": 9.0},
        {"duration_ms": 9.0},
        {"timestamp": START + timedelta(days=1)},
        {"context": CONTEXT},
        {"params": {"stops": (1, None), "price": 20, "city": "Zürich"}},
        {"params": {"city": "Zürich", "price": 20.0000004, "stops": [1, None]}},
    ],
)
def test_what_a_hash_does_not_see(change: dict[str, Any]) -> None:
    assert step(**change).determinism_hash() == step().determinism_hash()


@pytest.mark.parametrize(
    "change",
    [
        {"skill_name": "cook"},
        {"params": {}},
        {"status": TraceStatus.SKIPPED},
        {"outcome_category": "PERMANENT"},
        {"outcome_code": "404"},
        {"retry_count": 1},
    ],
)
def test_what_a_hash_sees(change: dict[str, Any]) -> None:
    assert step(**change).determinism_hash() != step().determinism_hash()


def test_params_without_a_canonical_form_have_no_hash() -> None:
    with pytest.raises(IntegerRangeError) as caught:
        step(params={"id": 2**60}).determinism_hash()
    assert caught.value.pointer == "/id"


def test_an_empty_run_has_a_signature() -> None:
    assert record().determinism_signature() == hashing.path_start().hex()
    assert TraceRecord.from_dict(record().to_dict()) == record()


@pytest.mark.parametrize("indexes", [[1], [0, 0], [1, 0], [0, 2]])
def test_steps_are_numbered_from_zero_without_gaps(indexes: list[int]) -> None:
    wrong = record(*map(step, indexes))
    for act in (wrong.determinism_signature, wrong.to_dict, lambda: compare_traces(wrong, record())):
        with pytest.raises(StepOrderError):
            act()


def test_counters_are_over_all_steps() -> None:
    assert (FULL.total_cost_cents, FULL.total_duration_ms) == (0.75, 50.0)
    assert (FULL.success_count, FULL.failure_count) == (1, 1)
    assert (record().total_cost_cents, record().success_count) == (0.0, 0)


def test_costs_add_up_without_noise() -> None:
    assert record(*(step(i, cost_cents=0.1) for i in range(10))).total_cost_cents == 1.0


# --- summaries ----------------------------------------------------------------------


def test_a_summary_tells_of_the_first_violation() -> None:
    violations = [
        Violation(None, START, "budget", "too dear"),
        Violation(5, START + timedelta(seconds=1), "late", "r5"),
        Violation(2, START + timedelta(seconds=9), "first", "r2"),
    ]
    summary = record(step(), agent_id=None, violations=violations).to_summary()
    assert summary == TraceSummary(
        run_id="run-1",
        correlation_id="corr-1",
        tenant_id="acme",
        agent_id=None,
        total_steps=1,
        success_count=1,
        failure_count=0,
        total_cost_cents=0.25,
        total_duration_ms=12.5,
        started_at=START,
        completed_at=START + timedelta(minutes=1),
        status="completed",
        violation_step_index=2,
        violation_timestamp=START + timedelta(seconds=9),
        violation_policy_id="first",
        violation_reason="r2",
    )


def test_a_violation_of_no_step_is_told_if_there_is_no_other() -> None:
    summary = record(violations=[Violation(None, START, "budget", "too dear")]).to_summary()
    assert (summary.violation_step_index, summary.violation_policy_id) == (None, "budget")


def test_a_summary_without_violations_has_none() -> None:
    data = record(step(), completed_at=None).to_summary().to_dict()
    assert {name: data[name] for name in data if name.startswith("violation")} == dict.fromkeys(
        ["violation_step_index", "violation_timestamp", "violation_policy_id", "violation_reason"]
    )
    assert (data["started_at"], data["completed_at"]) == ("2026-01-02T03:04:05.000006Z", None)
    json.dumps(data)
