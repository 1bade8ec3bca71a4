from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import pytest

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.chat import NO_RAW_ANSWER, REBUILT
from isotrace.formats.inspect_events import BY_SCORER, NO_CALL
from isotrace.formats.inspect_logs import NO_TOOL_CALL, InspectImporter
from isotrace.formats.source import Bounds, detect_format
from isotrace.formats.tree import AS_SHOWN, NO_PARAMS, NO_PROGRAM
from isotrace.ledger import seal, verify
from isotrace.registry import importers

IMPORTER = InspectImporter()


@pytest.fixture
def samples(read, inspect_log):
    """The records of the two samples of a small log: one with events, one with messages alone."""

    def records(log: Any = None, where: str = "logs/guess.json") -> list[Any]:
        found = []
        for run in read(IMPORTER, inspect_log if log is None else log, where):
            assert isinstance(run, ImportedRun), run
            ledger = seal(run.events, run.seed or b"").ledger
            verify(ledger)
            found.append(ledger.record())
        return found

    return records


def zipped(log: dict[str, Any], header: str = "header.json", members: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with ZipFile(out, "w", ZIP_DEFLATED) as file:
        for sample in log["samples"]:
            file.writestr(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", json.dumps(sample))
        for name, content in (members or {}).items():
            file.writestr(f"samples/{name}.json", content)
        file.writestr(header, json.dumps({key: log[key] for key in ("version", "status", "eval")}))
    return out.getvalue()


def test_events_become_steps_and_what_stands_in_a_tools_span_stands_inside_of_its_step(samples):
    steps = samples()[0].steps
    assert [(one.context.lineage, one.context.kind, one.skill_name, one.duration_ms) for one in steps] == [
        ((0,), "llm", "llm.chat", 1000.0),
        ((1,), "tool", "bash", 1500.0),
        ((1, 0), "code", "sandbox.exec", 250.0),
        ((2,), "llm", "llm.chat", 1000.0),
        ((3,), "llm", "llm.chat", 500.0),
    ]
    assert (steps[2].status.value, steps[2].outcome_code) == ("failure", "EXIT_1")
    assert steps[2].params == {"cmd": "cat x"}
    assert steps[2].outcome_data == {"result": 1, "output": "?"}


def test_the_providers_request_and_answer_are_taken_where_they_are_and_attachments_put_back(samples):
    steps = samples()[0].steps
    asked = [{"role": "user", "content": "Where is x?"}]
    assert steps[0].params == {"model": "gpt", "messages": asked}
    assert steps[0].outcome_data["id"] == "chatcmpl-1"
    assert (steps[1].params, steps[1].outcome_data) == ({"cmd": "cat x"}, {"value": "no such file"})
    assert steps[3].params == {"model": "openai/gpt", "input": asked}
    assert steps[3].outcome_data == {"model": "gpt", "choices": []}


def test_failed_calls_that_a_later_one_encloses_are_its_attempts(samples):
    step = samples()[0].steps[3]
    assert step.retry_count == 1
    assert step.context.attempts == [
        {"attempt": 1, "outcome_category": "PERMANENT", "outcome_code": "Slow", "error": "Slow('!')"}
    ]


def test_a_failed_call_that_none_encloses_is_a_failed_step(samples, inspect_log):
    events = inspect_log["samples"][0]["events"]
    del events[6]
    step = samples()[0].steps[3]
    assert (step.status.value, step.outcome_code, step.context.error) == ("failure", "Slow", "Slow('!')")


def test_calls_of_a_scorer_are_marked(samples):
    assert [step.context.marks for step in samples()[0].steps] == [[], [], [], [], [BY_SCORER]]


@pytest.mark.parametrize(
    ("kind", "category"),
    [("timeout", "TRANSIENT"), ("parsing", "VALIDATION"), ("approval", "POLICY"), ("unknown", "PERMANENT")],
)
def test_a_tools_error_makes_its_step_fail(samples, inspect_log, kind, category):
    inspect_log["samples"][0]["events"][3]["error"] = {"type": kind, "message": "why"}
    step = samples()[0].steps[1]
    assert (step.status.value, step.outcome_category, step.outcome_code) == ("failure", category, kind)
    assert step.context.error == "why"


def test_a_sample_without_events_is_taken_from_its_messages(samples):
    record = samples()[1]
    assert [(step.skill_name, step.outcome_code, step.context.marks) for step in record.steps] == [
        ("llm.chat", None, []),
        ("bash", "timeout", []),
        ("python", None, [NO_TOOL_CALL]),
    ]
    assert record.steps[0].params == {
        "model": "openai/gpt",
        "temperature": 0.0,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert record.steps[1].params == {"cmd": "cat x"}
    assert record.metadata["time"] == "absent"
    assert record.metadata["replayability"] == [NO_PROGRAM, REBUILT, NO_RAW_ANSWER, NO_PARAMS]


def test_the_run_says_what_the_source_knows(samples, read, inspect_log):
    first, second = samples()
    assert first.metadata == {
        "source": "inspect",
        "task": "guess/13",
        "trial": 2,
        "model": "openai/gpt",
        "label": "guess",
        "source_id": "uuid-1",
        "eval_run_id": "r1",
        "eval_id": "e1",
        "eval_task_id": "t1",
        "reward": 0.5,
        "scores": {"graded": "P", "exact": False},
        "total_time_s": 8.0,
        "replayability": [NO_PROGRAM, AS_SHOWN, NO_CALL],
    }
    assert (first.status, first.started_at.isoformat()) == ("completed", "2025-05-12T20:27:00+00:00")
    run = read(IMPORTER, inspect_log)[0]
    assert run.events[0].value("input") == "Where is x?"
    assert run.events[-1].value("result") == "done"
    assert second.status == "failed"
    assert read(IMPORTER, inspect_log)[1].events[-1].value("error") == "the sample ran into a limit: token"


@pytest.mark.parametrize(
    ("value", "reward"), [("C", 1.0), ("I", 0.0), (True, 1.0), (0.25, 0.25), ("text", None), (None, None)]
)
def test_a_reward_is_a_number_or_a_grade(samples, inspect_log, value, reward):
    inspect_log["samples"][0]["scores"] = {"one": {"value": value}}
    assert samples()[0].metadata.get("reward") == reward


def test_a_sample_with_an_error_failed(read, inspect_log):
    inspect_log["samples"][0]["error"] = {"message": "it broke", "traceback": "…"}
    end = read(IMPORTER, inspect_log)[0].events[-1]
    assert (end.facts["status"], end.value("error")) == ("failed", "it broke")


@pytest.mark.parametrize("header", ["header.json", "_journal/start.json"])
def test_an_archive_gives_the_same_runs_as_its_json(samples, inspect_log, header):
    plain = samples(inspect_log, "logs/guess.json")
    archived = samples(zipped(inspect_log, header), "logs/guess.eval")
    assert archived == plain


def test_a_bad_member_is_reported_and_the_others_are_kept(read, inspect_log):
    found = read(IMPORTER, zipped(inspect_log, members={"9_epoch_1": "{", "a\nb": "{}"}), "guess.eval")
    assert [type(one) for one in found] == [ImportedRun, ImportedRun, ImportFormatError, ImportFormatError]
    assert found[2].where == "guess.eval/samples/9_epoch_1.json"
    assert found[3].what == "a member has a name that no sample has"


def test_a_log_without_samples_is_an_error_not_an_empty_answer(read, inspect_log):
    for source in (
        inspect_log | {"samples": []},
        {key: value for key, value in inspect_log.items() if key != "samples"},
        zipped(inspect_log | {"samples": []}),
    ):
        with pytest.raises(ImportFormatError, match="the log holds no samples"):
            read(IMPORTER, source)


def test_attachments_can_not_make_a_value_too_large(read, inspect_log):
    sample = inspect_log["samples"][0]
    sample["attachments"]["aaaa"] = "x" * 10_000
    sample["input"] = ["attachment://aaaa"] * 200
    bounded = InspectImporter(Bounds(run=1_000_000))
    error, other = read(bounded, inspect_log)
    assert (error.what, error.pointer) == (
        "a value is too large with its attachments",
        "/samples/0/input",
    )
    assert isinstance(other, ImportedRun)


def test_tools_inside_of_tools_are_bounded_and_parents_in_a_circle_end(samples, read, inspect_log):
    events = inspect_log["samples"][0]["events"]
    for one in events:
        if one["event"] == "span_begin":
            one["parent_id"] = one["id"]
    assert len(samples()[0].steps) == 5

    def event(type_: str, span: str | None, **fields: Any) -> dict[str, Any]:
        return {"event": type_, "timestamp": "2025-05-12T20:27:00Z", "span_id": span, **fields}

    deep: list[dict[str, Any]] = []
    for level in range(100):
        outer = f"s{level - 1}" if level else None
        deep.append(event("tool", outer, function="t", arguments={}, result=""))
        deep.append(event("span_begin", f"s{level}", id=f"s{level}", parent_id=outer, type="tool", name="t"))
    inspect_log["samples"][0]["events"] = deep
    assert read(IMPORTER, inspect_log)[0].what == "tools are nested too deeply"


def test_events_that_older_logs_keep_inside_of_a_tool_stand_inside_of_its_step(samples, inspect_log):
    events = inspect_log["samples"][0]["events"]
    events[3]["events"] = [events.pop(4)]
    assert [step.context.lineage for step in samples()[0].steps][:3] == [(0,), (1,), (1, 0)]


# --- the real logs ------------------------------------------------------------------------

REAL = {
    "2025-05-12T20-27-36-04-00_browser.json": (1, {"llm": 5, "tool": 4, "code": 10}),
    "2025-05-12T20-28-13-04-00_popularity.json": (3, {"llm": 3}),
    "2025-05-12T20-28-26-04-00_security-guide.json": (3, {"llm": 6}),
    "2025-09-15T15-04-34-04-00_popularity_CuCFPdqnwXupUkxp69nJ2a.eval": (50, {"llm": 50}),
    "2025-09-15T15-06-47-04-00_popularity_A2Ld8PcXe79grUc5trBXEb.eval": (100, {"llm": 100}),
    "2025-09-15T15-07-04-04-00_popularity_CzDPvkooKpp4d24wMPkx5d.eval": (100, {"llm": 100}),
    "log_message_deduplication.eval": (1, {"llm": 6, "tool": 5, "code": 5}),
    "log_streaming.eval": (4, {"llm": 4}),
    "log_tool_call_error.json": (1, {"tool": 11}),
    "retry-2-then-success.eval": (1, {"llm": 1}),
}


def test_every_real_log_is_imported_with_all_its_samples_and_events(data, read_file):
    paths = sorted(data.glob("inspect_logs/*"))
    assert {path.name for path in paths} == {*REAL, "2025-05-12T20-28-13-04-00_no-samples.json"}
    for path in paths:
        assert (told := detect_format(path, importers().values())) is not None
        assert told.name == IMPORTER.name
        if path.name not in REAL:
            with pytest.raises(ImportFormatError, match="the log holds no samples"):
                read_file(IMPORTER, path)
            continue
        runs = read_file(IMPORTER, path)
        assert all(isinstance(run, ImportedRun) for run in runs), runs
        events = [event for run in runs for event in run.events]
        kinds = Counter(event.facts["kind"] for event in events if event.type == "step_started")
        assert (len(runs), dict(kinds)) == REAL[path.name]
        assert not any(b"attachment://" in value for event in events for value in event.values.values())


def test_the_retries_of_a_real_log_are_attempts_of_one_step(data, read_file):
    (run,) = read_file(IMPORTER, data / "inspect_logs/retry-2-then-success.eval")
    (step,) = seal(run.events, run.seed or b"").ledger.record().steps
    assert (step.retry_count, step.outcome_data and step.outcome_data["completion"]) == (2, "ok")
    assert step.params["input"][0]["content"] == "hello"
