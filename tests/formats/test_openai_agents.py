from __future__ import annotations

import json
from typing import Any

import pytest

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.openai_agents import OpenAIAgentsImporter
from isotrace.formats.tree import AS_SHOWN, NO_OUTCOME, NO_PARAMS, NO_PROGRAM, UNFINISHED
from isotrace.ledger import seal

IMPORTER = OpenAIAgentsImporter()
CALL = {"id": "call_abc123", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
ASKED = {"role": "user", "content": "Tokyo?"}
ANSWER = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_abc123", "content": "sunny"}
USAGE = {"input_tokens": 3, "output_tokens": 2}


def head(id_: str = "trace_1", **fields: Any) -> dict[str, Any]:
    return {
        "object": "trace",
        "id": id_,
        "workflow_name": "Trip",
        "group_id": "g1",
        "metadata": None,
        **fields,
    }


def span(
    id_: str, parent: str | None, begin: float, end: float | None, type_: str, **data: Any
) -> dict[str, Any]:
    fields = {key: data.pop(key, default) for key, default in (("error", None), ("trace_id", "trace_1"))}
    return {
        "object": "trace.span",
        "id": id_,
        "parent_id": parent,
        "started_at": f"2026-11-22T17:51:{begin:09.6f}+00:00",
        "ended_at": None if end is None else f"2026-11-22T17:51:{end:09.6f}+00:00",
        "span_data": {"type": type_, **data},
        **fields,
    }


def inner(type_: str) -> dict[str, Any]:
    return {"name": type_, "data": {"sdk_span_type": type_, "usage": USAGE}}


@pytest.fixture
def items() -> list[dict[str, Any]]:
    """In the order in which the exporter sends them: what ends first comes first."""
    config = {"temperature": 0.5, "top_p": None}
    return [
        head(),
        span(
            "s4",
            "s3",
            1,
            2,
            "generation",
            model="m",
            model_config=config,
            input=[ASKED],
            output=[ANSWER],
            usage=USAGE,
        ),
        span(
            "s6",
            "s3",
            2.2,
            2.5,
            "function",
            name="breaks",
            input="{}",
            output="no",
            error={"message": "it broke"},
        ),
        span("s5", "s3", 2.1, 3, "function", name="get_weather", input='{"city": "Tokyo"}', output="sunny"),
        span("s3", "s2", 0.9, 3.1, "custom", **inner("turn")),
        span(
            "s8",
            "s7",
            3.3,
            4,
            "generation",
            model="m",
            input=[ASKED, ANSWER, RESULT],
            output=[{"role": "assistant"}],
        ),
        span("s7", "s2", 3.2, 4.1, "custom", **inner("turn")),
        span("s2", "s1", 0.5, 5, "agent", name="Weather", tools=["get_weather"]),
        span("s1", None, 0.1, 5.5, "custom", **inner("task")),
    ]


def body(items: list[Any]) -> bytes:
    return json.dumps({"data": items}).encode()


def test_generations_and_functions_are_steps_and_turns_hold_them(read_one, items):
    record, _ = read_one(IMPORTER, body(items))
    assert [
        (one.context.lineage, one.context.kind, one.skill_name, one.duration_ms) for one in record.steps
    ] == [
        ((0, 0, 0, 0), "llm", "llm.chat", 1000.0),
        ((0, 0, 0, 1), "tool", "get_weather", 900.0),
        ((0, 0, 0, 2), "tool", "breaks", 300.0),
        ((0, 0, 1, 0), "llm", "llm.chat", 700.0),
    ]


def test_params_and_outcomes_are_what_the_spans_say(read_one, items):
    record, _ = read_one(IMPORTER, body(items))
    asked, weather, broken, last = record.steps
    assert asked.params == {"model": "m", "temperature": 0.5, "input": [ASKED]}
    assert asked.outcome_data == {"value": [ANSWER], "usage": USAGE}
    assert (weather.params, weather.outcome_data) == ({"city": "Tokyo"}, {"value": "sunny"})
    assert (broken.outcome_code, broken.context.error) == ("tool_error", "it broke")
    assert last.params["input"][2]["tool_call_id"] == {"$iso:id": "0.0.0.0#0"}


def test_the_run_says_what_the_source_knows(read_one, items):
    items[0]["metadata"] = {"k": "v"}
    items.append(span("s9", "s2", 4.5, 4.6, "hologram"))
    record, _ = read_one(IMPORTER, body(items), "x/trip.jsonl")
    assert record.metadata == {
        "source": "openai-agents",
        "model": "m",
        "label": "trip",
        "source_id": "trace_1",
        "name": "Trip",
        "group_id": "g1",
        "trace_metadata": {"k": "v"},
        "unknown_spans": {"hologram": 1},
        "replayability": [NO_PROGRAM, AS_SHOWN],
    }
    assert (record.agent_id, record.status) == ("Weather", "completed")
    assert record.started_at.isoformat() == "2026-11-22T17:51:00.100000+00:00"
    assert record.completed_at.isoformat() == "2026-11-22T17:51:05.500000+00:00"


def test_a_response_is_only_known_by_its_id(read_one, items):
    items[1] = span("s4", "s3", 1, 2, "response", response_id="resp_1", usage=USAGE)
    record, _ = read_one(IMPORTER, body(items))
    assert (record.steps[0].params, record.steps[0].outcome_data) == ({}, {"usage": USAGE})
    assert record.metadata["response_ids"] == {"0.0.0.0": "resp_1"}
    assert record.metadata["replayability"] == [NO_PROGRAM, AS_SHOWN, NO_OUTCOME, NO_PARAMS]


def test_handoffs_guardrails_custom_spans_and_the_asking_for_tools_are_steps(read_one):
    record, _ = read_one(
        IMPORTER,
        body(
            [
                span("1", None, 1, 2, "handoff", from_agent="A", to_agent="B"),
                span("2", None, 3, 4, "guardrail", name="polite", triggered=True),
                span("3", None, 5, 6, "custom", name="mine", data={"x": 1}),
                span("4", None, 7, 8, "mcp_tools", server="files", result=["read"]),
                span("5", None, 9, None, "function", name="slow", input="{}", output=None),
            ]
        ),
    )
    assert [(one.context.kind, one.skill_name, one.params, one.outcome_data) for one in record.steps] == [
        ("code", "handoff", {"from_agent": "A"}, {"to_agent": "B"}),
        ("code", "polite", {}, {"triggered": True}),
        ("code", "mine", {"x": 1}, None),
        ("retrieval", "mcp.list_tools", {"server": "files"}, {"value": ["read"]}),
        ("tool", "slow", {}, None),
    ]
    assert UNFINISHED in record.metadata["replayability"]


def test_an_agent_that_failed_makes_the_run_fail(read_one, items):
    items[7]["error"] = {"message": "Max turns exceeded", "data": {"max_turns": 1}}
    record, ledger = read_one(IMPORTER, body(items))
    assert (record.status, ledger.events[-1].value("error")) == ("failed", "Max turns exceeded")


@pytest.mark.parametrize("form", ["bodies", "items", "array", "spread out"])
def test_every_form_of_file_gives_the_same_runs(read, items, form):
    other = [{**one, "trace_id": "trace_2"} for one in items[1:]]
    mixed = [item for pair in zip(items[1:], other, strict=True) for item in pair] + [
        items[0],
        head("trace_2"),
    ]
    expected = read(IMPORTER, body(mixed))
    data = {
        "bodies": b"\n".join(body([one]) for one in mixed),
        "items": b"\n".join(json.dumps(one).encode() for one in mixed) + b"\n",
        "array": json.dumps(mixed).encode(),
        "spread out": json.dumps({"data": mixed}, indent=2).encode(),
    }[form]
    got = read(IMPORTER, data)
    assert [one.run_id for one in got] == [one.run_id for one in expected]
    assert [one.events for one in got] == [one.events for one in expected]
    assert len(expected) == 2


def test_bad_items_are_reported_and_the_runs_are_made_of_the_others(read, items):
    data = body([*items, {"object": "news"}, 7]) + b"\n" + body([span("x", None, 1, 2, "function")])[:-20]
    *errors, run = read(IMPORTER, data)
    assert [error.pointer for error in errors] == ["/0/data/9/object", "/0/data/10", "/1"]
    assert isinstance(run, ImportedRun)
    assert len(seal(run.events, run.seed or b"").ledger.record().steps) == 4


def test_a_trace_that_is_no_tree_is_reported_and_others_are_kept(read, items):
    double = span("s4", None, 1, 2, "agent", trace_id="trace_2")
    run, error = read(IMPORTER, body([*items, double, double]))
    assert isinstance(run, ImportedRun)
    assert (error.what, error.pointer) == ("two spans have one id", "/data/10")


def test_a_file_without_traces_is_an_error(read):
    with pytest.raises(ImportFormatError, match="a file without traces"):
        read(IMPORTER, b"")
