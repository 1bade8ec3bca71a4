from __future__ import annotations

import json
from typing import Any

import pytest

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.langfuse import SEEN_TWICE, LangfuseImporter
from isotrace.formats.tree import AS_SHOWN, NO_OUTCOME, NO_PARAMS, NO_PROGRAM, UNFINISHED
from isotrace.ledger import seal
from isotrace.models import Usage

IMPORTER = LangfuseImporter()
CALL = {"id": "call_Kud0j0DxWS", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
ANSWER = {"choices": [{"message": {"role": "assistant", "tool_calls": [CALL]}}], "object": "chat.completion"}


def seen(id_: str, type_: str, begin: str, end: str | None, parent: str | None = None, **fields: Any) -> Any:
    return {
        "id": id_,
        "traceId": "t1",
        "parentObservationId": parent,
        "type": type_,
        "name": f"the {type_.lower()}",
        "startTime": f"2025-09-30T09:00:{begin}Z",
        "endTime": None if end is None else f"2025-09-30T09:00:{end}Z",
        "level": "DEFAULT",
        "input": None,
        "output": None,
        **fields,
    }


@pytest.fixture
def export() -> dict[str, Any]:
    return {
        "trace": {
            "id": "t1",
            "projectId": "p1",
            "name": "Weather",
            "timestamp": "2025-09-30T09:00:00.000Z",
            "sessionId": "s1",
            "tags": ["dev"],
            "input": '{"question": "Tokyo?"}',
            "output": "Sunny.",
            "metadata": '{"topic": "weather", "attributes": {"x": "1"}}',
            "scores": [{"name": "toxicity", "value": 0.5}],
        },
        "observations": [
            # Not in the order of time: the tree and the times decide.
            seen("o4", "TOOL", "02.500", "03.000", "o2", input={"city": "Tokyo"}, output="sunny"),
            seen(
                "o3",
                "GENERATION",
                "01.000",
                "02.000",
                "o2",
                model="gpt-4.1",
                modelParameters={"temperature": 1, "id": "resp_1", "created_at": 5},
                input=[{"role": "user", "content": "Tokyo?"}],
                output=ANSWER,
                usageDetails={"input": 5, "output": 2},
                totalCost=0.002,
            ),
            seen(
                "o5",
                "GENERATION",
                "04.000",
                "05.000",
                "o2",
                model="gpt-4.1",
                input=[{"role": "tool", "tool_call_id": "call_Kud0j0DxWS", "content": "sunny"}],
                output="Sunny.",
                usageDetails={"input": 9},
                totalCost=0.001,
            ),
            seen("o1", "CHAIN", "00.000", "06.000", input={"q": 1}, output={"a": 1}),
            seen("o2", "AGENT", "00.500", "05.500", "o1", name="Forecaster", input={"q": 1}),
            seen("o6", "SPAN", "05.750", "05.900", "o1", name="polish", input="Sunny.", output="Sunny!"),
            seen("o7", "SPAN", "05.950", "05.960", "o1", name="nothing in it"),
        ],
    }


def test_generations_and_tools_are_steps_and_what_holds_them_is_their_lineage(read_one, export):
    record, _ = read_one(IMPORTER, export)
    assert [(one.context.lineage, one.context.kind, one.skill_name) for one in record.steps] == [
        ((0, 0, 0), "llm", "llm.chat"),
        ((0, 0, 1), "tool", "the tool"),
        ((0, 0, 2), "llm", "llm.chat"),
        ((0, 1), "code", "polish"),
    ]
    assert [one.duration_ms for one in record.steps] == [1000.0, 500.0, 1000.0, 150.0]


def test_params_and_outcomes_are_what_the_source_shows(read_one, export):
    record, _ = read_one(IMPORTER, export)
    first, tool, last, code = record.steps
    assert first.params == {
        "model": "gpt-4.1",
        "temperature": 1,
        "input": [{"role": "user", "content": "Tokyo?"}],
    }
    assert first.outcome_data == {**ANSWER, "usage": {"input": 5, "output": 2}}
    assert first.context.usage == Usage("gpt-4.1", 5, 2)
    assert (tool.params, tool.outcome_data) == ({"city": "Tokyo"}, {"value": "sunny"})
    assert last.params["input"][0]["tool_call_id"] == {"$iso:id": "0.0.0#0"}
    assert last.outcome_data == {"value": "Sunny.", "usage": {"input": 9}}
    assert (code.params, code.outcome_data) == ({"arguments": "Sunny."}, {"value": "Sunny!"})
    assert record.total_cost_cents == pytest.approx(0.3)


def test_the_run_says_what_the_source_knows(read_one, export):
    record, ledger = read_one(IMPORTER, export, "x/weather.json")
    assert record.metadata == {
        "source": "langfuse",
        "model": "gpt-4.1",
        "label": "weather",
        "source_id": "t1",
        "name": "Weather",
        "session_id": "s1",
        "tags": ["dev"],
        "scores": {"toxicity": 0.5},
        "trace_metadata": {"topic": "weather"},
        "replayability": [NO_PROGRAM, AS_SHOWN],
    }
    assert (record.status, record.agent_id) == ("completed", "Forecaster")
    assert ledger.events[0].value("input") == {"question": "Tokyo?"}
    assert ledger.events[-1].value("result") == "Sunny."
    assert record.completed_at.isoformat() == "2025-09-30T09:00:06+00:00"


@pytest.mark.parametrize(
    ("message", "category", "code"),
    [
        ("openai.RateLimitError: 429", "TRANSIENT", "RateLimitError"),
        ("No such city", "PERMANENT", "tool_error"),
        (None, "PERMANENT", "tool_error"),
    ],
)
def test_a_level_of_error_makes_a_step_fail(read_one, export, message, category, code):
    export["observations"][0] |= {"level": "ERROR", "statusMessage": message, "output": None}
    record, _ = read_one(IMPORTER, export)
    tool = record.steps[1]
    assert (tool.status.value, tool.outcome_category, tool.outcome_code) == ("failure", category, code)
    assert tool.context.error == message
    assert record.status == "completed"


@pytest.mark.parametrize(
    ("written", "read"),
    [("Sunny.", "Sunny."), ('"Sunny."', "Sunny."), ('"{\\"a\\": 1}"', {"a": 1}), ("42", "42"), ([1], [1])],
)
def test_texts_of_the_trace_may_be_json_once_or_twice_over(read_one, export, written, read):
    export["trace"]["output"] = written
    _, ledger = read_one(IMPORTER, export)
    assert ledger.events[-1].value("result") == read


def test_a_failed_root_makes_the_run_fail(read_one, export):
    export["observations"][3] |= {"level": "ERROR", "statusMessage": "gave up"}
    record, ledger = read_one(IMPORTER, export)
    assert (record.status, ledger.events[-1].value("error")) == ("failed", "gave up")


def test_a_span_that_its_attributes_call_a_tool_is_one_under_the_name_they_give(read_one, export):
    export["observations"][0] |= {
        "type": "SPAN",
        "metadata": {"attributes": {"openinference.span.kind": "TOOL", "tool.name": "get_weather"}},
    }
    record, _ = read_one(IMPORTER, export)
    assert (record.steps[1].context.kind, record.steps[1].skill_name) == ("tool", "get_weather")


def test_a_call_seen_by_two_instrumentations_costs_once(read_one, export):
    inner = seen("o8", "GENERATION", "01.100", "01.900", "o3", model="gpt-4.1", input="Tokyo?", output="{}")
    export["observations"].append({**inner, "totalCost": 0.002})
    record, _ = read_one(IMPORTER, export)
    twice = record.steps[1]
    assert (twice.context.lineage, twice.context.marks, twice.cost_cents) == ((0, 0, 0, 0), [SEEN_TWICE], 0.0)
    assert record.total_cost_cents == pytest.approx(0.3)


def test_the_grade_names_what_is_missing(read_one, export):
    export["observations"][0] |= {"endTime": None, "output": None}
    export["observations"][1] |= {"input": None}
    export["observations"][2] |= {"output": None}
    record, _ = read_one(IMPORTER, export)
    assert record.metadata["replayability"] == [NO_PROGRAM, AS_SHOWN, NO_PARAMS, UNFINISHED, NO_OUTCOME]
    assert record.steps[1].outcome_category == "INDETERMINATE"


def test_an_export_without_times_of_its_own_takes_those_of_its_spans(read_one, export):
    del export["trace"]["timestamp"]
    for one in export["observations"]:
        one["startTime"] = one["startTime"].removesuffix("Z")
        one["endTime"] = one["endTime"].removesuffix("Z")
    record, _ = read_one(IMPORTER, export)
    assert record.metadata["time"] == "zoneless"
    assert record.started_at.isoformat() == "2025-09-30T09:00:00+00:00"


def test_a_trace_may_hold_its_observations_and_good_runs_stand_beside_bad_ones(read, export):
    other = {**export["trace"], "observations": export["observations"]}
    bad = {"trace": export["trace"], "observations": [seen("a", "SPAN", "01", "02"), {"id": "b"}]}
    one, error, two = read(IMPORTER, [export, bad, other])
    assert isinstance(one, ImportedRun)
    assert isinstance(two, ImportedRun)
    assert one.run_id != two.run_id
    assert [event.facts for event in one.events[1:]] == [event.facts for event in two.events[1:]]
    assert (error.pointer, error.what) == ("/1/observations/1/startTime", "a field is missing")


@pytest.mark.parametrize(
    ("spans", "what"),
    [
        ([seen("a", "SPAN", "01", "02"), seen("a", "SPAN", "01", "02")], "two spans have one id"),
        (
            [seen("a", "SPAN", "01", "02", "b"), seen("b", "SPAN", "01", "02", "a")],
            "the parents of a span go in a circle",
        ),
        (
            [seen(str(i), "SPAN", "01", "02", str(i - 1)) for i in range(200)],
            "the spans are nested too deeply",
        ),
    ],
)
def test_what_is_no_tree_is_an_error(read, export, spans, what):
    with pytest.raises(ImportFormatError, match=what):
        read(IMPORTER, {"trace": export["trace"], "observations": spans})


def test_cut_off_and_foreign_files_are_named_errors(read, export):
    for data in (json.dumps(export).encode()[:-9], b"", b"7", b"{}"):
        with pytest.raises(ImportFormatError):
            read(IMPORTER, data)


def test_the_same_export_gives_the_same_root_and_another_one_another_run(read_one, read, export):
    (once,), (again,) = read(IMPORTER, export), read(IMPORTER, export)
    assert (once.run_id, seal(once.events, once.seed).ledger.root_hash) == (
        again.run_id,
        seal(again.events, again.seed).ledger.root_hash,
    )
    export["trace"]["id"] = "t2"
    (other,) = read(IMPORTER, export)
    assert other.run_id != once.run_id


def test_every_real_export_is_imported_with_its_generations_and_tools(data, read_file):
    found = {}
    for path in sorted((data / "langfuse_framework_traces").glob("*.json")):
        (run,) = read_file(IMPORTER, path)
        record: Any = seal(run.events, run.seed).ledger.record()
        source = json.loads(path.read_bytes())["observations"]
        kinds = [one.context.kind for one in record.steps]
        assert kinds.count("llm") == sum(one["type"] == "GENERATION" for one in source)
        assert kinds.count("tool") >= sum(one["type"] == "TOOL" for one in source)
        found[path.name.split("-20")[0]] = [
            one.skill_name for one in record.steps if one.context.kind != "llm"
        ]
    assert found == {
        "agno": ["duckduckgo_search"],
        "autogen": [],
        "google-adk": ["say_hello"],
        "langgraph": ["should_continue", "Web-Search", "should_continue"],
        "openai-agents": ["get_weather"],
        "openai-assistants": ["create_assistant", "run_assistant"],
        "pydantic-ai-tools": ["get_pun_suggestion", "get_dad_joke_suggestion", "get_one_liner_suggestion"],
    }
