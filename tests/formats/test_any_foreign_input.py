"""Whatever stands in a file of spans, lines or events, an importer gives good runs and named errors."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.source import HEAD_BYTES, open_source
from isotrace.ledger import seal, verify
from isotrace.models import TraceRecord
from isotrace.registry import importer, importers

SPAN = {"traceId": "t", "level": "ERROR", "statusMessage": "ValueError: no", "metadata": '{"attributes": {}}'}
EVENT = {"eventTime": "2024-03-25T22:18:26.646738Z"}
ARGS = {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "MA=="}]}
LINE = {"isSidechain": False, "sessionId": "s", "timestamp": "2025-10-03T23:59:15.607Z"}


def _span(id_: str, type_: str, parent: str | None, **fields: Any) -> dict[str, Any]:
    times = {"startTime": "2025-06-11T14:01:32.598Z", "endTime": "2025-06-11T14:01:33.598Z"}
    return {**SPAN, **times, "id": id_, "type": type_, "name": type_, "parentObservationId": parent, **fields}


def _event(id_: str, type_: str, **attributes: Any) -> dict[str, Any]:
    key = f"{type_[0].lower()}{type_[1:]}EventAttributes"
    return {**EVENT, "eventId": id_, "eventType": type_, key: attributes}


def _line(uuid: str, parent: str | None, role: str, content: Any, **fields: Any) -> dict[str, Any]:
    message = {"id": "m1", "type": "message", "role": role, "content": content, "usage": {}}
    return {**LINE, "uuid": uuid, "parentUuid": parent, "type": role, "message": message, **fields}


def _agents_span(id_: str, parent: str | None, **data: Any) -> dict[str, Any]:
    times = {"started_at": "2026-11-22T17:51:35.603724+00:00", "ended_at": "2026-11-22T17:51:36.603724+00:00"}
    span = {"object": "trace.span", "id": id_, "trace_id": "t", "parent_id": parent, **times}
    return {**span, "span_data": data, "error": None}


SAMPLES: dict[str, list[Any]] = {
    "langfuse": [
        {
            "trace": {"id": "t", "timestamp": "2025-06-11T14:01:32.598Z", "input": "{}", "scores": []},
            "observations": [
                _span("a", "AGENT", None),
                _span(
                    "b", "GENERATION", "a", input=[], output={"role": "assistant"}, usageDetails={"input": 1}
                ),
                _span("c", "GENERATION", "b", input="x", output="y", modelParameters={}, totalCost=0.5),
                _span("d", "TOOL", "a", input={"x": 1}, output="z"),
            ],
        }
    ],
    "temporal": [
        {
            "events": [
                _event("1", "WorkflowExecutionStarted", workflowType={"name": "W"}, input=ARGS),
                _event("2", "ActivityTaskScheduled", activityType={"name": "A"}, input=ARGS),
                _event(
                    "3", "ActivityTaskStarted", scheduledEventId="2", attempt=2, lastFailure={"message": "m"}
                ),
                _event("4", "ActivityTaskCompleted", scheduledEventId="2", result=ARGS),
                _event("5", "MarkerRecorded", markerName="Version", details={"data": ARGS}),
                _event("6", "WorkflowExecutionCompleted", result=ARGS),
            ]
        }
    ],
    "claude-code": [
        _line("1", None, "user", "Go."),
        _line(
            "2",
            "1",
            "assistant",
            [{"type": "tool_use", "id": "toolu_1", "name": "Task", "input": {"prompt": "p"}}],
        ),
        _line("3", None, "user", "p", isSidechain=True, agentId="a"),
        _line("4", "3", "assistant", [{"type": "text", "text": "x"}], isSidechain=True, agentId="a"),
        _line("5", "2", "user", [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}]),
        {"type": "summary", "summary": "s"},
    ],
    "openai-agents": [
        {"data": [{"object": "trace", "id": "t", "workflow_name": "w", "metadata": {"k": "v"}}]},
        {
            "data": [
                _agents_span("a", None, type="agent", name="A"),
                _agents_span(
                    "b", "a", type="generation", model="m", input=[], output=[{"role": "assistant"}]
                ),
                _agents_span("c", "a", type="function", name="f", input="{}", output="x"),
                _agents_span("d", "a", type="custom", name="turn", data={"sdk_span_type": "turn"}),
                _agents_span("e", "d", type="response", response_id="r", usage={"requests": 1}),
            ]
        },
    ],
}
FORMATS = list(SAMPLES)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["a", "b", "2", "TOOL", "GENERATION", "user", "$iso:id", "0001-01-01", "{}", "toolu_1"])
)
KEYS = ["id", "type", "content", "$iso:id", "payloads", "metadata", "message", "uuid"]
JSON = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3),
    max_leaves=6,
)
MANY = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def written(sources: list[Any]) -> bytes:
    return b"\n".join(json.dumps(source).encode() for source in sources)


def outcome(name: str, data: bytes) -> list[Any]:
    """What an importer makes of the bytes; every good run is sealed and read back."""
    found: list[Any] = []
    try:
        found.extend(importer(name).read(io.BytesIO(data), where="f.json", tenant_id="default"))
    except ImportFormatError as error:
        found.append(error)
    for item in found:
        if isinstance(item, ImportFormatError):
            assert (item.where, type(item.pointer)) == ("f.json", str)
            continue
        assert isinstance(item, ImportedRun)
        assert item.seed is not None
        ledger = seal(item.events, item.seed).ledger
        verify(ledger)
        assert [event.time_us for event in ledger.events] == sorted(event.time_us for event in ledger.events)
        record = ledger.record()
        assert TraceRecord.from_dict(json.loads(json.dumps(record.to_dict()))) == record
    return found


def places(node: Any) -> list[tuple[Any, Any]]:
    """Every container and key or index in a JSON value."""
    found: list[tuple[Any, Any]] = []
    for key, child in node.items() if isinstance(node, dict) else enumerate(node):
        found.append((node, key))
        if isinstance(child, dict | list):
            found.extend(places(child))
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_the_samples_are_good(name):
    assert [type(item) for item in outcome(name, written(SAMPLES[name]))] == [ImportedRun]


@pytest.mark.parametrize("name", FORMATS)
@MANY
@given(data=st.data())
def test_any_value_replaced_removed_or_repeated(name, data):
    sources = json.loads(json.dumps(SAMPLES[name]))
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(sources)
        if not found:
            break
        node, key = data.draw(st.sampled_from(found))
        action = data.draw(st.sampled_from(["replace", "remove", "repeat"]))
        if action == "replace":
            node[key] = data.draw(JSON)
        elif action == "remove":
            del node[key]
        elif isinstance(node, list):
            node.insert(key, node[key])
    outcome(name, written(sources))


@pytest.mark.parametrize("name", FORMATS)
@MANY
@given(data=st.data())
def test_any_byte_changed_or_cut(name, data):
    raw = bytearray(written(SAMPLES[name]))
    at = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        raw[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del raw[at:]
    assert outcome(name, bytes(raw))


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=150, deadline=None)
@given(
    value=JSON | st.fixed_dictionaries({"observations": JSON, "events": JSON, "data": JSON, "message": JSON})
)
def test_any_json_at_all(name, value):
    outcome(name, json.dumps(value).encode())


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=100))
def test_any_bytes_at_all(name, data):
    assert all(isinstance(item, ImportFormatError) for item in outcome(name, data)) or data.strip() == b"[]"


@pytest.mark.parametrize("name", FORMATS)
def test_depth_without_content(name):
    for source in (b"[" * 1_000_000, b'{"events":' * 100_000, b'{"observations":[' + b"[" * 200_000):
        assert [type(item) for item in outcome(name, source)] == [ImportFormatError]


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("langfuse", "langfuse_framework_traces/*.json"),
        ("temporal", "temporal_histories/*.json*"),
        ("claude-code", "coding_agent_messages/claude-code/[atu]*/*.jsonl"),
        ("tau2-bench", "tau2/*"),
        ("mini-swe-agent", "mini_swe_agent/format_versions/*"),
    ],
)
def test_real_files_are_told_apart(data, name, pattern):
    paths = sorted(data.glob(pattern))
    assert paths
    for path in paths:
        with open_source(path) as stream:
            head = stream.read(HEAD_BYTES)
        assert [one.name for one in importers().values() if one.detect(head, str(path))] == [name]
