from __future__ import annotations

import base64
import gzip
import json
from collections import Counter
from typing import Any

import pytest

from isotrace.errors import ImportFormatError
from isotrace.formats.temporal import ENCODED, TemporalImporter
from isotrace.formats.tree import NO_PARAMS, NO_PROGRAM, UNFINISHED
from isotrace.ledger import seal

IMPORTER = TemporalImporter()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def payload(value: Any) -> dict[str, Any]:
    return {"metadata": {"encoding": b64(b"json/plain")}, "data": b64(json.dumps(value).encode())}


def payloads(*values: Any) -> dict[str, Any]:
    return {"payloads": [payload(value) for value in values]}


class History:
    """Writes a history's events, one a second; each method gives the event's id."""

    def __init__(self, *, upper: bool = False, numbers: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self.upper = upper
        self.numbers = numbers

    def add(self, type_: str, **attributes: Any) -> Any:
        id_: Any = len(self.events) + 1
        id_ = id_ if self.numbers else str(id_)
        name = "".join("_" + char if char.isupper() else char for char in type_).upper()
        self.events.append(
            {
                "eventId": id_,
                "eventTime": f"2024-03-25T22:18:{len(self.events):02}.646738123Z",
                "eventType": f"EVENT_TYPE{name}" if self.upper else type_,
                f"{type_[0].lower()}{type_[1:]}EventAttributes": attributes,
            }
        )
        return id_

    def start(self, *given: Any) -> None:
        self.add(
            "WorkflowExecutionStarted",
            workflowType={"name": "Order"},
            taskQueue={"name": "q1"},
            input=payloads(*given),
            originalExecutionRunId="r1",
            firstExecutionRunId="r0",
            workflowId="order-7",
            attempt=1,
        )

    def activity(self, name: str, *given: Any) -> Any:
        return self.add("ActivityTaskScheduled", activityType={"name": name}, input=payloads(*given))

    def file(self) -> dict[str, Any]:
        return {"events": self.events}


@pytest.fixture
def history() -> History:
    one = History()
    one.start({"item": "lamp"}, 2)
    one.add("WorkflowTaskCompleted", sdkMetadata={"sdkName": "temporal-go", "sdkVersion": "1.39.0"})
    charge = one.activity("charge", 20)
    ship = one.activity("ship", "lamp")
    one.add("ActivityTaskStarted", scheduledEventId=ship, attempt=1)
    one.add("ActivityTaskCompleted", scheduledEventId=ship, result=payloads("T-1"))
    failure = {"message": "card declined", "applicationFailureInfo": {"type": "CardError"}}
    one.add("ActivityTaskStarted", scheduledEventId=charge, attempt=2, lastFailure=failure)
    one.add("ActivityTaskCompleted", scheduledEventId=charge, result=payloads({"ok": True}))
    timer = one.add("TimerStarted", timerId="t", startToFireTimeout="3s")
    one.add("TimerFired", timerId="t", startedEventId=timer)
    one.add("WorkflowExecutionCompleted", result=payloads("done"))
    return one


def test_activities_and_timers_are_steps_from_their_first_event_to_their_last(read_one, history):
    record, _ = read_one(IMPORTER, history.file())
    assert [
        (one.context.lineage, one.context.kind, one.skill_name, one.params, one.outcome_data, one.duration_ms)
        for one in record.steps
    ] == [
        ((0,), "tool", "charge", {"args": [20]}, {"ok": True}, 5000.0),
        ((1,), "tool", "ship", {"args": ["lamp"]}, {"value": "T-1"}, 2000.0),
        ((2,), "timer", "timer", {"delay": "3s"}, {"value": None}, 1000.0),
    ]
    # 123 ns are below what a ledger keeps.
    assert record.steps[0].timestamp.isoformat() == "2024-03-25T22:18:02.646738+00:00"


def test_attempts_come_from_the_start_and_its_last_failure(read_one, history):
    record, _ = read_one(IMPORTER, history.file())
    assert [one.retry_count for one in record.steps] == [1, 0, 0]
    assert record.steps[0].context.attempts == [
        {
            "attempt": 0,
            "outcome_category": "PERMANENT",
            "outcome_code": "CardError",
            "error": "card declined",
        }
    ]


def test_the_events_stand_in_the_order_of_their_times(read_one, history):
    _, ledger = read_one(IMPORTER, history.file())
    assert [(event.type, event.facts.get("lineage")) for event in ledger.events] == [
        ("run_started", None),
        ("step_started", [0]),
        ("step_started", [1]),
        ("step_finished", [1]),
        ("step_attempt", [0]),
        ("step_finished", [0]),
        ("step_started", [2]),
        ("step_finished", [2]),
        ("run_finished", None),
    ]
    assert [event.time_us for event in ledger.events] == sorted(event.time_us for event in ledger.events)


@pytest.mark.parametrize(("upper", "numbers"), [(True, False), (False, True)])
def test_both_spellings_and_both_forms_of_ids_give_the_same_steps(read_one, history, upper, numbers):
    other = History(upper=upper, numbers=numbers)
    for event in history.events:
        (attributes,) = (value for key, value in event.items() if key.endswith("EventAttributes"))
        if numbers:
            attributes = {k: int(v) if k.endswith("EventId") else v for k, v in attributes.items()}
        other.add(event["eventType"], **attributes)
    expected, _ = read_one(IMPORTER, history.file())
    got, _ = read_one(IMPORTER, other.file())
    assert got.steps == expected.steps
    assert len(got.steps) == 3


def test_the_run_says_what_the_source_knows(read_one, history):
    record, ledger = read_one(IMPORTER, history.file(), "x/order.json")
    assert record.metadata == {
        "source": "temporal",
        "label": "order",
        "source_id": "r1",
        "workflow_id": "order-7",
        "attempt": "1",
        "replayability": [NO_PROGRAM],
    }
    assert (record.agent_id, record.status) == ("Order", "completed")
    assert ledger.events[0].value("input") == [{"item": "lamp"}, 2]
    assert ledger.events[0].value("environment") == {
        "task_queue": "q1",
        "sdkName": "temporal-go",
        "sdkVersion": "1.39.0",
    }
    assert ledger.events[-1].value("result") == "done"


@pytest.mark.parametrize(
    ("type_", "failure", "category", "code", "error"),
    [
        (
            "ActivityTaskTimedOut",
            {"message": "too late", "timeoutFailureInfo": {}},
            "TRANSIENT",
            "TimeoutError",
            "too late",
        ),
        ("ActivityTaskCanceled", None, "CANCELLED", "CancelledError", None),
        (
            "ActivityTaskFailed",
            {
                "message": "outer",
                "cause": {"message": "inner", "applicationFailureInfo": {"type": "ValidationError"}},
            },
            "VALIDATION",
            "ValidationError",
            "inner",
        ),
        ("ActivityTaskFailed", {"message": "oh"}, "PERMANENT", "failed", "oh"),
    ],
)
def test_how_an_activity_failed(read_one, history, type_, failure, category, code, error):
    one = History()
    one.start()
    act = one.activity("ship")
    one.add(type_, scheduledEventId=act, failure=failure)
    one.add("WorkflowExecutionFailed", failure={"message": "no"})
    record, ledger = read_one(IMPORTER, one.file())
    (step,) = record.steps
    assert (step.outcome_category, step.outcome_code, step.context.error) == (category, code, error)
    assert (record.status, ledger.events[-1].value("error")) == ("failed", "no")


def test_children_markers_signals_updates_and_calls_to_others(read_one):
    one = History()
    one.start()
    child = one.add("StartChildWorkflowExecutionInitiated", workflowType={"name": "Child"}, input=payloads(1))
    one.add("ChildWorkflowExecutionStarted", initiatedEventId=child, workflowExecution={"runId": "c1"})
    one.add("WorkflowExecutionSignaled", signalName="go", input=payloads("now"))
    one.add(
        "MarkerRecorded",
        markerName="SideEffect",
        details={"data": payloads(81), "side-effect-id": payloads(1)},
    )
    one.add(
        "MarkerRecorded", markerName="Version", details={"change-id": payloads("a"), "version": payloads(1)}
    )
    data = payloads({"ActivityType": "lookup", "Attempt": 2})
    one.add("MarkerRecorded", markerName="LocalActivity", details={"data": data, "result": payloads("found")})
    request = {"meta": {"updateId": "p1"}, "input": {"name": "add", "args": payloads(5)}}
    update = one.add("WorkflowExecutionUpdateAccepted", protocolInstanceId="p1", acceptedRequest=request)
    one.add("WorkflowExecutionUpdateCompleted", acceptedEventId=update, outcome={"success": payloads(6)})
    nexus = one.add("NexusOperationScheduled", service="s", operation="op", input=payload("in"))
    one.add("NexusOperationCompleted", scheduledEventId=nexus, result=payload("out"))
    other = {"workflowExecution": {"workflowId": "w2"}, "signalName": "stop", "input": payloads()}
    told = one.add("SignalExternalWorkflowExecutionInitiated", **other)
    one.add("SignalExternalWorkflowExecutionFailed", initiatedEventId=told, cause="NOT_FOUND")
    one.add("ChildWorkflowExecutionCompleted", initiatedEventId=child, result=payloads("grown"))
    one.add("SomethingOfTomorrow")
    one.add("WorkflowExecutionCompleted")
    record, _ = read_one(IMPORTER, one.file())
    assert [
        (step.context.kind, step.skill_name, step.params, step.outcome_data) for step in record.steps
    ] == [
        ("agent", "Child", {"args": [1]}, {"value": "grown"}),
        ("code", "signal", {"name": "go"}, {"args": ["now"]}),
        ("code", "SideEffect", {"side-effect-id": 1}, {"value": 81}),
        ("code", "Version", {"change-id": "a"}, {"value": 1}),
        ("tool", "lookup", {}, {"value": "found"}),
        ("code", "update", {"name": "add", "args": [5]}, {"value": 6}),
        ("tool", "s.op", {"args": ["in"]}, {"value": "out"}),
        ("tool", "signal workflow", {"workflow": "w2", "signal": "stop", "args": []}, None),
    ]
    assert record.steps[4].retry_count == 1
    assert record.steps[-1].outcome_code == "NOT_FOUND"
    assert record.metadata["unknown_events"] == {"SomethingOfTomorrow": 1}
    assert record.metadata["child_workflows"] == [{"runId": "c1"}]
    assert record.metadata["replayability"] == [NO_PROGRAM, NO_PARAMS]


def test_a_payload_in_another_encoding_stays_bytes(read_one):
    one = History()
    one.start()
    proto = {"metadata": {"encoding": b64(b"json/protobuf")}, "data": b64(b"{}")}
    plain = {"metadata": {"encoding": b64(b"binary/plain")}, "data": b64(b"\x00\x01")}
    null = {"metadata": {"encoding": b64(b"binary/null")}}
    one.add("WorkflowExecutionSignaled", signalName="s", input={"payloads": [proto, plain, null]})
    record, _ = read_one(IMPORTER, one.file())
    assert record.steps[0].outcome_data == {
        "args": [
            {"encoding": "json/protobuf", "data": {"$iso:bytes": b64(b"{}")}},
            {"$iso:bytes": b64(b"\x00\x01")},
            None,
        ]
    }
    assert ENCODED in record.metadata["replayability"]


def test_a_history_that_does_not_end_is_an_aborted_run(read_one, history):
    del history.events[3:]
    record, _ = read_one(IMPORTER, history.file())
    assert (record.status, record.metadata["abort_reason"]) == (
        "aborted",
        "the history ends before the workflow does",
    )
    assert record.metadata["replayability"] == [NO_PROGRAM, UNFINISHED]


def test_a_workflow_that_goes_on_as_another_is_completed(read_one):
    one = History()
    one.start()
    one.add("WorkflowExecutionContinuedAsNew", newExecutionRunId="r2", input=payloads(1))
    record, _ = read_one(IMPORTER, one.file())
    assert (record.status, record.metadata["continued_as"]) == ("completed", "r2")


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        (lambda events: events.pop(0), "/events/0/eventType"),
        (lambda events: events.clear(), "/events"),
        (lambda events: events[5].pop("eventTime"), "/events/5/eventTime"),
        (
            lambda events: events[5]["activityTaskCompletedEventAttributes"].update(scheduledEventId="99"),
            "/events/5/activityTaskCompletedEventAttributes/scheduledEventId",
        ),
        (
            lambda events: events[5]["activityTaskCompletedEventAttributes"]["result"]["payloads"][0].update(
                data="!"
            ),
            "/events/5/activityTaskCompletedEventAttributes/result/payloads/0/data",
        ),
        (
            lambda events: events[5]["activityTaskCompletedEventAttributes"]["result"]["payloads"][0].update(
                data=b64(b"{")
            ),
            "/events/5/activityTaskCompletedEventAttributes/result/payloads/0/data",
        ),
    ],
)
def test_what_is_no_history_is_an_error_that_says_where(read, history, change, pointer):
    change(history.events)
    with pytest.raises(ImportFormatError) as caught:
        read(IMPORTER, history.file())
    assert caught.value.pointer == pointer


def test_every_real_history_is_imported_with_its_activities_timers_and_markers(data, read_file):
    opening = {
        "ActivityTaskScheduled": "tool",
        "TimerStarted": "timer",
        "StartChildWorkflowExecutionInitiated": "agent",
    }
    paths = sorted((data / "temporal_histories").glob("*.json*"))
    assert len(paths) == 30
    for path in paths:
        raw = path.read_bytes()
        events = json.loads(gzip.decompress(raw) if path.suffix == ".gz" else raw)["events"]
        names = Counter(
            "".join(map(str.capitalize, one["eventType"].removeprefix("EVENT_TYPE_").split("_")))
            if one["eventType"].startswith("EVENT_TYPE_")
            else one["eventType"]
            for one in events
        )
        (run,) = read_file(IMPORTER, path)
        record: Any = seal(run.events, run.seed).ledger.record()
        kinds = Counter(step.context.kind for step in record.steps)
        assert (kinds["timer"], kinds["agent"]) == (
            names["TimerStarted"],
            names["StartChildWorkflowExecutionInitiated"],
        )
        assert kinds["tool"] >= names["ActivityTaskScheduled"]
        assert kinds["tool"] + kinds["code"] >= names["ActivityTaskScheduled"] + names["MarkerRecorded"]
        assert sum(names[name] for name in opening) <= len(record.steps)
        assert (record.status == "aborted") == (path.name == "bad-history.json")
