from __future__ import annotations

import json
from typing import Any

import pytest

from isotrace.errors import ImportFormatError
from isotrace.formats.source import Bounds
from isotrace.formats.tau_bench import TauBenchImporter

IMPORTER = TauBenchImporter()


def test_a_run_becomes_llm_and_tool_steps_in_the_order_of_its_messages(read_one, tau_bench_run):
    record, _ = read_one(IMPORTER, [tau_bench_run], "runs/l0-4o.json")
    traj = tau_bench_run["traj"]
    assert [
        (step.skill_name, step.status.value, step.outcome_category, step.outcome_code)
        for step in record.steps
    ] == [
        ("llm.chat", "success", "SUCCESS", None),
        ("find_user", "failure", "PERMANENT", "tool_error"),
        ("llm.chat", "success", "SUCCESS", None),
        ("think", "success", "SUCCESS", None),
        ("llm.chat", "success", "SUCCESS", None),
    ]
    assert [(step.context.kind, step.context.lineage, step.context.effect) for step in record.steps] == [
        ("llm", (0,), "read"),
        ("tool", (1,), "write"),
        ("llm", (2,), "read"),
        ("tool", (3,), "write"),
        ("llm", (4,), "read"),
    ]
    assert record.steps[0].params == {"messages": traj[:2]}
    assert record.steps[0].outcome_data == traj[2]
    assert record.steps[1].outcome_data == {"content": "Error: nobody"}
    assert record.steps[1].context.error == "Error: nobody"
    assert record.status == "completed"


def test_arguments_are_read_where_they_are_an_object_and_kept_as_they_came_where_not(read_one, tau_bench_run):
    record, _ = read_one(IMPORTER, [tau_bench_run])
    assert record.steps[1].params == {"zip": 20.0, "name": "Zoë"}
    assert record.steps[3].params == {"arguments": "{'thought': 1}"}


@pytest.mark.parametrize(
    "arguments", ["", "[1]", "null", '"x"', '{"a": NaN}', '{"a": 1, "a": 2}', "{", "1e999"]
)
def test_arguments_that_are_no_strict_json_object_are_kept_as_they_came(read_one, tau_bench_run, arguments):
    tau_bench_run["traj"][2]["tool_calls"][0]["function"]["arguments"] = arguments
    record, _ = read_one(IMPORTER, [tau_bench_run])
    assert record.steps[1].params == {"arguments": arguments}


def test_large_integers_and_reserved_keys_are_kept_under_tags(read_one, tau_bench_run):
    tau_bench_run["traj"][2]["tool_calls"][0]["function"]["arguments"] = '{"id": 9007199254740993}'
    tau_bench_run["traj"][4]["tool_calls"][0]["function"]["arguments"] = '{"x": {"$iso:id": "0#0"}}'
    tau_bench_run["info"]["user_cost"] = None
    record, _ = read_one(IMPORTER, [tau_bench_run])
    assert record.steps[1].params == {"id": {"$iso:int": "9007199254740993"}}
    assert record.steps[3].params == {"x": {"$iso:dict": [["$iso:id", "0#0"]]}}


def test_minted_ids_stand_as_references_in_params_and_raw_beside_them(read_one, tau_bench_run):
    record, _ = read_one(IMPORTER, [tau_bench_run])
    messages = record.steps[4].params["messages"]
    assert messages[2]["tool_calls"][0]["id"] == {"$iso:id": "0#0"}
    assert messages[3]["tool_call_id"] == {"$iso:id": "0#0"}
    assert messages[5]["tool_call_id"] == {"$iso:id": "2#0"}
    assert record.steps[4].context.raw_ids == {"0#0": "call_abc123def", "2#0": "call_ghi456jkl"}
    assert record.steps[0].context.raw_ids == {}


def test_two_runs_that_differ_in_minted_ids_alone_have_one_signature(read_one, tau_bench_run):
    first, _ = read_one(IMPORTER, [tau_bench_run])
    again = (
        json.dumps([tau_bench_run])
        .replace("call_abc123def", "call_zzz999zzz")
        .replace("call_ghi", "call_xyz")
    )
    second, _ = read_one(IMPORTER, again.encode())
    assert first.run_id != second.run_id
    assert first.determinism_signature() == second.determinism_signature()


def test_the_run_says_what_the_source_knows_and_what_it_does_not(read_one, tau_bench_run):
    record, _ = read_one(IMPORTER, [tau_bench_run], "runs/tool-calling-l0-4o.json.gz")
    assert record.metadata == {
        "source": "tau-bench",
        "task": "7",
        "trial": 7,
        "label": "tool-calling-l0-4o",
        "time": "absent",
        "reward": 0.5,
        "user_cost_usd": 0.25,
    }
    assert (record.agent_id, record.tenant_id, record.seed) == ("tau-bench", "default", 42)
    assert record.started_at.timestamp() == record.completed_at.timestamp() == 0
    assert record.total_cost_cents == record.total_duration_ms == 0


def test_a_crashed_run_has_no_steps_and_failed(read, tau_bench_run):
    crash = {
        "task_id": 1,
        "trial": 1,
        "reward": 0.0,
        "traj": [],
        "info": {"error": "('Connection aborted.')", "traceback": "Traceback …"},
    }
    (run,) = read(IMPORTER, [crash])
    assert [event.type for event in run.events] == ["run_started", "run_finished"]
    assert run.events[1].facts == {"status": "failed", "step_count": 0}
    assert run.events[1].value("error") == "('Connection aborted.')"
    assert run.events[1].value("metadata") == {"reward": 0.0, "exit_status": "error"}


def test_the_same_source_gives_the_same_run_and_root_and_its_file_name_tells_it_apart(
    read_one, tau_bench_run
):
    one, one_ledger = read_one(IMPORTER, [tau_bench_run], "a/l0.json")
    same, same_ledger = read_one(IMPORTER, json.dumps([tau_bench_run], indent=2).encode(), "b/l0.json.gz")
    other, _ = read_one(IMPORTER, [tau_bench_run], "a/l1.json")
    assert (one.run_id, one.root_hash, one_ledger.seed) == (same.run_id, same.root_hash, same_ledger.seed)
    assert other.run_id != one.run_id
    assert other.correlation_id == one.correlation_id


def test_a_tenant_of_its_own_has_runs_of_its_own(read, tau_bench_run):
    (ours,) = read(IMPORTER, [tau_bench_run])
    (theirs,) = read(IMPORTER, [tau_bench_run], tenant_id="acme")
    assert ours.run_id != theirs.run_id
    assert ours.seed != theirs.seed
    assert theirs.events[0].facts["tenant_id"] == theirs.tenant_id == "acme"


def test_a_call_without_a_result_is_a_step_that_never_ended(read_one, tau_bench_run):
    del tau_bench_run["traj"][3]
    record, ledger = read_one(IMPORTER, [tau_bench_run])
    assert (record.steps[1].status.value, record.steps[1].outcome_category) == ("failure", "INDETERMINATE")
    assert record.steps[1].outcome_data is None
    assert sum(event.type == "step_finished" for event in ledger.events) == 4


def test_results_pair_by_position_though_ids_repeat(read_one, tau_bench_run):
    text = json.dumps([tau_bench_run]).replace("call_ghi456jkl", "call_abc123def")
    record, _ = read_one(IMPORTER, text.encode())
    assert [step.outcome_data for step in record.steps if step.context.kind == "tool"] == [
        {"content": "Error: nobody"},
        {"content": ""},
    ]


def test_of_parallel_calls_the_id_decides_where_results_come_in_another_order(read_one, tau_bench_run):
    traj = tau_bench_run["traj"]
    traj[2]["tool_calls"].append(traj[4]["tool_calls"][0])
    traj[4:6] = []
    traj.insert(3, {"role": "tool", "tool_call_id": "call_ghi456jkl", "name": "think", "content": "second"})
    record, ledger = read_one(IMPORTER, [tau_bench_run])
    assert [(step.skill_name, step.outcome_data) for step in record.steps[1:3]] == [
        ("find_user", {"content": "Error: nobody"}),
        ("think", {"content": "second"}),
    ]
    assert [event.lineage for event in ledger.events if event.type == "step_finished"] == [
        (0,),
        (2,),
        (1,),
        (3,),
    ]


BAD: list[Any] = [
    (
        ["traj", 3, "tool_call_id"],
        "call_other",
        "/0/traj/3/tool_call_id",
        "a tool's result names another call",
    ),
    (["traj", 2, "tool_calls"], None, "/0/traj/3/tool_call_id", "a tool's result follows no call"),
    (["traj", 2, "tool_calls"], {}, "/0/traj/2/tool_calls", "a field has the wrong type"),
    (
        ["traj", 2, "tool_calls", 0, "function", "name"],
        3,
        "/0/traj/2/tool_calls/0/function/name",
        "a field has",
    ),
    (["traj", 1, "role"], None, "/0/traj/1/role", "a field has the wrong type"),
    (["traj", 1], [], "/0/traj/1", "a field has the wrong type"),
    (["traj"], None, "/0/traj", "a field has the wrong type"),
    (["reward"], "much", "/0/reward", "a field has the wrong type"),
    (["reward"], 10**400, "/0/reward", "a field has the wrong type"),
    (["trial"], True, "/0/trial", "a field has the wrong type"),
    (["task_id"], None, "/0/task_id", "a run names no task"),
    (["info"], "text", "/0/info", "a field has the wrong type"),
]


@pytest.mark.parametrize(("path", "value", "pointer", "what"), BAD)
def test_a_bad_run_is_reported_with_its_place_and_the_good_ones_are_kept(
    read, tau_bench_run, path, value, pointer, what
):
    bad = json.loads(json.dumps(tau_bench_run))
    node = bad
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    error, run = read(IMPORTER, [bad, tau_bench_run], "runs/some.json")
    assert isinstance(error, ImportFormatError)
    assert (error.where, error.pointer) == ("runs/some.json", pointer)
    assert error.what.startswith(what)
    assert run.run_id == read(IMPORTER, [tau_bench_run], "runs/some.json")[0].run_id


@pytest.mark.parametrize(
    ("text", "what", "pointer"),
    [
        (b"", "the file is empty", ""),
        (b"{}", "unknown layout", ""),
        (b"tau", "unknown layout", ""),
        (b"\xff\xfe", "unknown layout", ""),
        (b"[", "the file is cut off", "/0"),
        (b"[{]", "not JSON", "/0"),
        (b'[{"a": 1, "a": 2}]', "an object names a key twice", "/0/a"),
        (b'[{"a": NaN}]', "JSON has no such number", "/0/a"),
        (b'[{"a": "\\ud800"}]', "a string holds a lone surrogate", "/0/a"),
        (b'[{"a": "\xff"}]', "not UTF-8", "/0"),
        (b"[" + b"[" * 200 + b"]" * 200 + b"]", "a value is nested too deeply", "/0"),
        (b"[{}] x", "not JSON", ""),
    ],
)
def test_what_is_no_file_of_runs_is_a_named_error(read, text, what, pointer):
    try:
        error = read(IMPORTER, text, "f.json")[-1]
    except ImportFormatError as raised:
        error = raised
    assert isinstance(error, ImportFormatError)
    assert (error.what.partition(":")[0], error.where) == (what, "f.json")
    assert error.pointer is not None
    assert error.pointer.startswith(pointer)


def test_of_a_file_that_is_cut_off_the_whole_runs_are_kept_and_the_cut_is_reported(read, tau_bench_run):
    text = json.dumps([tau_bench_run | {"task_id": i} for i in range(3)]).encode()
    *runs, error = read(IMPORTER, text[:-20])
    assert [run.events[0].value("metadata")["task"] for run in runs] == ["0", "1"]
    assert (error.what, error.pointer) == ("the file is cut off", "/2")


def test_bounds_hold_for_the_file_a_run_and_its_ledger(read, tau_bench_run):
    text = json.dumps([tau_bench_run] * 2).encode()
    *runs, error = read(TauBenchImporter(Bounds(total=len(text) - 9)), text)
    assert len(runs) == 1
    assert error.what == "the file is too large"
    errors = read(TauBenchImporter(Bounds(run=100)), text)
    assert [error.what for error in errors] == ["a run is too large"] * 2
    # A short file whose steps repeat all messages before them: 8 KB that ask for 12 MB.
    many = tau_bench_run | {"traj": [{"role": "assistant", "content": ""}] * 1000}
    (error,) = read(TauBenchImporter(Bounds(ledger=5_000_000)), [many])
    assert error.what.startswith("a run is too large: its LLM steps")
    assert error.pointer == "/0"
