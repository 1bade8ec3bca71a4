from __future__ import annotations

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isotrace.contracts import ImportedRun
from isotrace.errors import (
    ImportFormatError,
    IsotraceError,
    RecordCorruptError,
    RecordGapError,
    SchemaUnsupportedError,
)
from isotrace.events import Event
from isotrace.formats.jsonl import JsonlExporter, JsonlImporter
from isotrace.formats.source import Bounds, SourceStream
from isotrace.ledger import Ledger, erase, seal, verify
from isotrace.models import Erased

IMPORTER = JsonlImporter()


def a_ledger(run_id: str = "run-1", tenant_id: str = "default") -> Ledger:
    """A run with every type of event, values that other JSON writers would spell differently included."""
    started = {
        "scheme": "iso1",
        "run_id": run_id,
        "origin_run_id": run_id,
        "correlation_id": "c",
        "tenant_id": tenant_id,
        "agent_id": None,
        "seed": 0,
        "frozen_timestamp": None,
        "entry_point": {"module": "m"},
    }
    step = {"lineage": [0], "kind": "tool", "skill_name": "get", "effect": "read"}
    ended = {
        "lineage": [0],
        "status": "success",
        "outcome_category": "SUCCESS",
        "outcome_code": None,
        "cost_cents": 0.1,
        "duration_ms": 1e-07,
        "retry_count": 1,
        "marks": ["m"],
    }
    keyed = {**step, "lineage": [0, "eu", 1], "kind": "llm"}
    rows: list[tuple[str, dict[str, Any], dict[str, bytes | Erased]]] = [
        ("run_started", started, {"plan": b"[]", "input": b'"\xc3\xa9"', "metadata": b'{"task":"13"}'}),
        ("step_started", step, {"params": b'{"z":20.0,"a":1e-07}', "raw_ids": b'{"0#0":"call_1"}'}),
        ("step_attempt", {"lineage": [0], "attempt": 0, "outcome_category": "TRANSIENT"}, {"error": b'"e"'}),
        ("value_read", {"lineage": [], "source": "clock"}, {"value": b"1.5"}),
        ("step_finished", ended, {"outcome_data": b'{"value":"\\u001f\\\\\\""}'}),
        ("step_started", keyed, {"params": b"{}"}),
        ("step_chunk", {"lineage": [0, "eu", 1], "index": 0}, {"chunk": b'"x"'}),
        ("step_finished", {**ended, "lineage": [0, "eu", 1], "stream": True}, {}),
        ("violation", {"lineage": [0], "policy_id": "p"}, {"reason": b'"no"'}),
        ("run_finished", {"status": "completed", "step_count": 2}, {"result": b"null", "metadata": b"{}"}),
    ]
    events = [
        Event(seq, type_, 1_700_000_000_000_000 + seq, *rest) for seq, (type_, *rest) in enumerate(rows)
    ]
    return seal(events, bytes(range(32))).ledger


def exported(*ledgers: Ledger) -> bytes:
    stream = io.BytesIO()
    assert JsonlExporter().write(ledgers, stream) == len(ledgers)
    return stream.getvalue()


def read(data: bytes, **options: Any) -> list[ImportedRun | ImportFormatError]:
    options = {"where": "f.jsonl", "tenant_id": "default", **options}
    return list(IMPORTER.read(io.BytesIO(data), **options))


def ledgers_of(data: bytes) -> list[Ledger]:
    found = []
    for run in read(data):
        assert isinstance(run, ImportedRun), run
        assert run.sealed is not None
        verify(run.sealed.ledger)
        found.append(run.sealed.ledger)
    return found


def test_reading_what_was_written_gives_the_same_runs_and_writing_that_the_same_bytes():
    one, two = a_ledger("run-1"), a_ledger("run-2")
    data = exported(one, two)
    back = ledgers_of(data)
    assert [(ledger.events, ledger.root_hash) for ledger in back] == [
        (one.events, one.root_hash),
        (two.events, two.root_hash),
    ]
    assert exported(*back) == data
    assert [ledger.record() for ledger in back] == [one.record(), two.record()]


def test_a_line_is_an_event_with_the_values_it_commits_to_and_the_first_one_has_the_root():
    ledger = a_ledger()
    lines = [json.loads(line) for line in exported(ledger).splitlines()]
    assert [line["event"]["seq"] for line in lines] == list(range(10))
    assert lines[0]["ledger"] == {
        "schema": "1.0.0",
        "scheme": "iso1",
        "events": 10,
        "root_hash": ledger.root_hash,
    }
    assert all(set(line) == {"event", "values"} for line in lines[1:])
    value = lines[1]["values"]["params"]
    assert value == {"salt": ledger.salt_of(1, "params").hex(), "json": '{"z":20.0,"a":1e-07}'}
    assert "seed" not in lines[0]["ledger"]


def test_what_is_erased_is_withheld_and_the_root_stays():
    ledger = erase(a_ledger(), {(1, "params"), (4, "outcome_data")})
    data = exported(ledger)
    assert rb"\"z\"" not in data
    (back,) = ledgers_of(data)
    assert back.root_hash == a_ledger().root_hash
    assert isinstance(back.events[1].values["params"], Erased)
    assert exported(back) == data
    (run,) = read(data)
    assert isinstance(run, ImportedRun)
    assert run.sealed is not None
    assert run.sealed.projection.signature is None


def test_a_value_whose_salt_is_gone_can_not_be_exported():
    ledger = a_ledger()
    with pytest.raises(RecordGapError, match="the salt of a value is gone"):
        exported(Ledger(ledger.events, ledger.root_hash, None, {}))


def test_a_run_without_a_root_is_read_and_its_root_is_what_its_events_give():
    lines = [json.loads(line) for line in exported(a_ledger()).splitlines()]
    del lines[0]["ledger"]
    (back,) = ledgers_of("\n".join(map(json.dumps, lines)).encode())
    assert back.root_hash == a_ledger().root_hash


def test_blank_lines_and_other_spacing_change_nothing():
    lines = exported(a_ledger()).splitlines()
    spaced = b"\n\n".join(json.dumps(json.loads(line)).encode() + b"\r" for line in lines)
    assert [ledger.events for ledger in ledgers_of(spaced)] == [a_ledger().events]


# --- tampering ------------------------------------------------------------------------


def only_error(data: bytes) -> ImportFormatError:
    (error,) = read(data)
    assert isinstance(error, ImportFormatError)
    assert error.where == "f.jsonl"
    return error


def changed(line: int, change: Any) -> bytes:
    lines = exported(a_ledger()).splitlines(keepends=True)
    body = json.loads(lines[line])
    change(body)
    lines[line] = json.dumps(body).encode() + b"\n"
    return b"".join(lines)


def test_a_dropped_event_is_named():
    lines = exported(a_ledger()).splitlines(keepends=True)
    error = only_error(b"".join(lines[:3] + lines[4:]))
    assert isinstance(error.__cause__, RecordCorruptError)
    assert (error.what, error.expected, error.run_id) == ("an event is missing", "event 3", "run-1")


@pytest.mark.parametrize(
    ("run_id", "why"),
    [
        ("@last", "`@last` is a name on the command line"),
        ("@", "does not start with @"),
        ("r" * 201, "1 to 200 characters"),
        ("", "1 to 200 characters"),
        ("a\x1b[2J", "control characters"),
        ("a\nb", "control characters"),
    ],
)
def test_a_run_id_that_could_be_taken_for_something_else_is_refused(run_id: str, why: str):
    error = only_error(exported(a_ledger(run_id)))
    assert (error.pointer, why in error.what) == ("/0/event/run_id", True)


def test_two_swapped_events_are_named():
    lines = exported(a_ledger()).splitlines(keepends=True)
    lines[3], lines[4] = lines[4], lines[3]
    error = only_error(b"".join(lines))
    assert isinstance(error.__cause__, RecordCorruptError)
    assert (error.what, error.expected, error.got) == ("events are out of order", "event 3", "event 4")


def test_a_repeated_event_is_named():
    lines = exported(a_ledger()).splitlines(keepends=True)
    lines[4] = lines[3]
    assert (
        str(only_error(b"".join(lines)))
        == "an event stands twice in the run (f.jsonl, run run-1, at '/0'); got event 3"
    )


@pytest.mark.parametrize("kept", range(1, 10))
def test_a_cut_tail_is_named(kept):
    lines = exported(a_ledger()).splitlines(keepends=True)
    error = only_error(b"".join(lines[:kept]))
    assert isinstance(error.__cause__, RecordCorruptError)
    assert (error.what, error.expected) == ("the run's tail is cut", "10 events")


def test_a_tail_cut_in_the_middle_of_a_line_is_named():
    error = only_error(exported(a_ledger())[:-20])
    assert (error.what, error.pointer) == ("the file is cut off", "/9/values")


def test_a_dropped_beginning_is_named():
    lines = exported(a_ledger()).splitlines(keepends=True)
    error = only_error(b"".join(lines[1:]))
    assert (error.what, error.expected, error.got) == (
        "events of no run",
        "run_started first",
        "step_started",
    )


def test_an_altered_value_is_named_with_its_place():
    error = only_error(exported(a_ledger()).replace(b"20.0", b"21.0"))
    assert isinstance(error.__cause__, RecordCorruptError)
    assert error.what == "the value 'params' of event 1 is not the one that it commits to: it was altered"
    assert error.pointer == "/1/values/params"


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body["event"].update(skill_name="put"),
        lambda body: body["event"].update(time="2023-11-14T22:13:21.000001Z"),
        lambda body: body["event"].update(extra=1),
        lambda body: body["event"].pop("raw_ids") and body["values"].pop("raw_ids"),
        lambda body: body["event"].update(other={"commit": "0" * 64}),
    ],
)
def test_an_altered_fact_or_a_commitment_more_or_less_is_named(change):
    error = only_error(changed(1, change))
    assert isinstance(error.__cause__, RecordCorruptError)
    assert error.what.startswith("the events do not give the run's root")


def test_another_root_is_named():
    error = only_error(changed(0, lambda body: body["ledger"].update(root_hash="0" * 64)))
    assert (error.expected, error.got) == ("0" * 64, a_ledger().root_hash)


def test_one_bad_run_does_not_lose_those_around_it():
    runs = [exported(a_ledger(f"run-{i}")) for i in range(3)]
    for bad in (
        runs[1].replace(b"20.0", b"21.0"),
        runs[1][: len(runs[1]) // 2] + b"\n",
        b"".join(runs[1].splitlines(keepends=True)[2:]),
        b"garbage\n",
        runs[1].replace(b'"ledger"', b'"lodger"'),
    ):
        found = read(runs[0] + bad + runs[2])
        good = [run.run_id for run in found if isinstance(run, ImportedRun)]
        assert good == ["run-0", "run-2"]
        assert len(found) > 2


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_flipped_bit_is_found_or_changes_nothing(data):
    ledger = a_ledger()
    raw = bytearray(exported(ledger))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= 1 << data.draw(st.integers(0, 7))
    found = read(bytes(raw))
    if not any(isinstance(item, ImportFormatError) for item in found):
        (back,) = ledgers_of(bytes(raw))
        assert (back.events, back.root_hash) == (ledger.events, ledger.root_hash)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_bytes_cut_out_doubled_or_replaced_give_named_errors_and_never_another_run(data):
    ledger = a_ledger()
    raw = exported(ledger)
    begin, end = sorted((data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, len(raw)))))
    middle = data.draw(
        st.sampled_from([b"", raw[begin:end] * 2, b"\n", b"\x00", b"[" * 1000, b'{"event":{}}'])
    )
    try:
        found = read(raw[:begin] + middle + raw[end:])
    except ImportFormatError:
        return
    for item in found:
        if isinstance(item, ImportedRun):
            assert item.sealed is not None
            assert item.sealed.ledger.root_hash == ledger.root_hash


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_consistent_file_with_facts_and_values_of_any_type_gives_a_run_or_a_named_error(data):
    """An attacker can commit to anything: types are checked whatever the root says."""
    events = [Event(e.seq, e.type, e.time_us, dict(e.facts), dict(e.values)) for e in a_ledger().events]
    event = data.draw(st.sampled_from(events))
    names = sorted({*event.facts, *event.values, "metadata", "error", "marks"})
    name = data.draw(st.sampled_from(names))
    value = data.draw(JSON)
    if name in event.facts:
        event.facts[name] = value
    else:
        event.values[name] = json.dumps(value).encode()
    try:
        ledger = Ledger(events, "0" * 64, bytes(32))
        raw = exported(ledger)
    except (IsotraceError, TypeError):
        return
    lines = raw.splitlines(keepends=True)
    body = json.loads(lines[0])
    del body["ledger"]
    lines[0] = json.dumps(body).encode() + b"\n"
    for item in read(b"".join(lines), as_tenant=True):
        if isinstance(item, ImportedRun):
            assert item.sealed is not None
            item.sealed.ledger.record().to_dict()


# --- what is refused ------------------------------------------------------------------


def test_a_run_of_another_tenant_is_refused_unless_it_is_taken_over():
    data = exported(a_ledger(tenant_id="acme"))
    error = only_error(data)
    assert (error.what, error.expected, error.got) == ("the run belongs to another tenant", "default", "acme")
    (run,) = read(data, as_tenant=True)
    assert isinstance(run, ImportedRun)
    assert run.sealed is not None
    assert (run.tenant_id, run.sealed.tenant_id) == ("default", "default")
    assert exported(run.sealed.ledger) == data


@pytest.mark.parametrize(
    ("line", "change", "what"),
    [
        (0, lambda b: b["ledger"].update(schema="2.0.0"), "the run is of another major schema version"),
        (0, lambda b: b["ledger"].update(scheme="iso2"), "the run is of another scheme"),
        (0, lambda b: b["event"].update(scheme="iso2"), "the run is of another scheme"),
        (1, lambda b: b["event"].update(type="step_dreamt"), "unknown event type"),
    ],
)
def test_what_a_newer_version_wrote_is_named_as_such(line, change, what):
    # The root of a newer file is right: what is not understood is not called corrupt.
    lines = changed(line, change).splitlines(keepends=True)
    if line == 1:
        body = json.loads(lines[0])
        del body["ledger"]
        lines[0] = json.dumps(body).encode() + b"\n"
    error = only_error(b"".join(lines))
    assert isinstance(error.__cause__, SchemaUnsupportedError)
    assert error.what == what


@pytest.mark.parametrize(
    ("line", "change", "pointer"),
    [
        (0, lambda b: b["ledger"].update(events="10"), "/0/ledger/events"),
        (0, lambda b: b["ledger"].update(root_hash="A" * 64), "/0/ledger/root_hash"),
        (0, lambda b: b["event"].update(run_id=7), "/0/event/run_id"),
        (0, lambda b: b["event"].update(run_id=""), "/0/event/run_id"),
        (0, lambda b: b["event"].update(run_id="x" * 600), "/0/event/run_id"),
        (0, lambda b: b["event"].update(seed=True), "/0/event/seed"),
        (0, lambda b: b["event"].pop("tenant_id"), "/0/event/tenant_id"),
        (1, lambda b: b.pop("values"), "/1/values"),
        (1, lambda b: b.update(more=1), "/1/more"),
        (1, lambda b: b["event"].update(seq=-1), "/1/event/seq"),
        (1, lambda b: b["event"].update(seq=1.0), "/1/event/seq"),
        (1, lambda b: b["event"].update(time="2023-11-14T22:13:20Z"), "/1/event/time"),
        (1, lambda b: b["event"].update(lineage=[None]), "/1/event/lineage"),
        (1, lambda b: b["event"].update(lineage=[2**53]), "/1/event/lineage/0"),
        (1, lambda b: b["values"]["params"].pop("salt"), "/1/values/params"),
        (1, lambda b: b["values"]["params"].update(salt="xyz"), "/1/values/params/salt"),
        (1, lambda b: b["values"]["params"].update(json=1), "/1/values/params/json"),
        (1, lambda b: b["values"].update(more={"salt": "0" * 64, "json": "1"}), "/1/values/more"),
        (4, lambda b: b["event"].update(status="fine"), "/4/event/status"),
        (4, lambda b: b["event"].update(cost_cents="1"), "/4/event/cost_cents"),
        (4, lambda b: b["event"].update(marks=[1]), "/4/event/marks"),
    ],
)
def test_a_missing_or_wrong_field_is_named_with_its_line(line, change, pointer):
    assert only_error(changed(line, change)).pointer == pointer


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_an_empty_file_is_a_named_error(data):
    with pytest.raises(ImportFormatError, match="the file is empty"):
        read(data)


@pytest.mark.parametrize(
    "data",
    [b"1\n", b"[]\n", b"{\n", b"\xff\n", b"{}\n", b'{"event":1,"values":{}}\n', b'{"event":{}}', b"{}x\n"],
)
def test_a_line_that_is_none_of_ours_is_a_named_error(data):
    assert only_error(data).pointer is not None


def test_bounds_hold_for_the_file_and_a_run():
    data = exported(a_ledger("run-0"), a_ledger("run-1"))
    small = JsonlImporter(Bounds(ledger=3000))
    errors = list(small.read(io.BytesIO(data), where="f", tenant_id="default"))
    assert [error.what for error in errors if isinstance(error, ImportFormatError)] == [
        "a run is too large"
    ] * 2
    short = JsonlImporter(Bounds(total=100))
    (error,) = short.read(io.BytesIO(data * 100), where="f", tenant_id="default")
    assert isinstance(error, ImportFormatError)


def test_a_compressed_file_that_is_cut_off_keeps_the_whole_runs():
    import gzip
    import os

    first = exported(a_ledger("run-0"))
    noise = a_ledger("run-1")
    noise.events[0].values["input"] = json.dumps(os.urandom(50_000).hex()).encode()
    packed = gzip.compress(first + exported(seal(noise.events, bytes(32)).ledger))
    stream: Any = SourceStream(io.BytesIO(packed[:-10_000]), "f")
    run, error = IMPORTER.read(stream, where="f", tenant_id="default")
    assert isinstance(run, ImportedRun)
    assert isinstance(error, ImportFormatError)
    assert error.what == "the compressed data is cut off"
