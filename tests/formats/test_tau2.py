from __future__ import annotations

import json
from typing import Any

import pytest

from isotrace.errors import ImportFormatError
from isotrace.formats.chat import BY_USER, SCRIPTED
from isotrace.formats.tau2 import Tau2Importer

IMPORTER = Tau2Importer()


def test_agent_and_user_simulator_call_tools_and_only_the_agent_calls_the_model(read_one, tau2_file):
    record, _ = read_one(IMPORTER, tau2_file)
    assert [(step.context.kind, step.skill_name, step.context.marks) for step in record.steps] == [
        ("llm", "llm.chat", [SCRIPTED]),
        ("tool", "check_bar", [BY_USER]),
        ("llm", "llm.chat", []),
        ("tool", "get_line", []),
        ("tool", "get_bill", []),
        ("llm", "llm.chat", []),
    ]
    assert [step.params for step in record.steps if step.context.kind == "tool"] == [
        {},
        {"id": "L1"},
        {"id": "B1"},
    ]


def test_an_llm_step_holds_the_settings_and_what_the_agent_was_shown_in_chat_form(read_one, tau2_file):
    record, _ = read_one(IMPORTER, tau2_file)
    assert record.steps[0].params == {"model": "gpt-4.1", "temperature": 0.0, "messages": []}
    shown = [
        {"role": "assistant", "content": "Hi!"},
        {"role": "user", "content": "My phone is dead."},
        {"role": "user", "content": "The bar is empty."},
    ]
    assert record.steps[2].params == {"model": "gpt-4.1", "temperature": 0.0, "messages": shown}

    def call(reference, name, arguments):
        function = {"name": name, "arguments": arguments}
        return {"id": {"$iso:id": reference}, "type": "function", "function": function}

    assert record.steps[5].params["messages"][3:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [call("2#0", "get_line", '{"id": "L1"}'), call("2#1", "get_bill", '{"id": "B1"}')],
        },
        {"role": "tool", "content": "active", "tool_call_id": {"$iso:id": "2#0"}},
        {"role": "tool", "content": "Error: no bill", "tool_call_id": {"$iso:id": "2#1"}},
    ]


def test_the_outcome_is_the_raw_answer_where_there_is_one(read_one, tau2_file):
    record, _ = read_one(IMPORTER, tau2_file)
    assert record.steps[2].outcome_data == tau2_file["simulations"][0]["messages"][5]["raw_data"]
    assert record.steps[5].outcome_data == {"role": "assistant", "content": "Restart it."}


def test_the_error_flag_alone_makes_a_tool_step_fail(read_one, tau2_file):
    tau2_file["simulations"][0]["messages"][6]["content"] = "Error: but not flagged"
    record, _ = read_one(IMPORTER, tau2_file)
    assert [step.status.value for step in record.steps[3:5]] == ["success", "failure"]
    assert (record.steps[4].outcome_category, record.steps[4].outcome_code) == ("PERMANENT", "tool_error")
    assert record.steps[4].context.error == "Error: no bill"


def test_a_message_time_is_the_end_of_its_step_and_costs_are_cents(read_one, tau2_file):
    record, _ = read_one(IMPORTER, tau2_file)
    assert [step.duration_ms for step in record.steps] == [500.0, 500.0, 1000.0, 1000.0, 250.0, 1750.0]
    assert [step.timestamp.strftime("%S.%f") for step in record.steps] == [
        "00.000000",
        "02.000000",
        "03.000000",
        "04.000000",
        "05.000000",
        "05.250000",
    ]
    assert record.total_cost_cents == pytest.approx(3.0)
    assert (record.started_at.isoformat(), record.completed_at.isoformat()) == (
        "2025-07-17T15:11:00+00:00",
        "2025-07-17T15:11:09+00:00",
    )


def test_the_run_says_what_the_source_knows(read_one, tau2_file):
    record, ledger = read_one(IMPORTER, tau2_file, "x/telecom.json.gz")
    assert record.metadata == {
        "source": "tau2-bench",
        "task": "13",
        "trial": 3,
        "model": "gpt-4.1",
        "label": "telecom",
        "source_id": "sim-1",
        "time": "zoneless",
        "reward": 1.0,
        "exit_status": "user_stop",
        "agent_cost_usd": 0.02,
        "user_cost_usd": 0.01,
        "duration_s": 9.0,
    }
    assert (record.agent_id, record.seed, record.status) == ("llm_agent", 1567, "completed")
    assert ledger.events[0].value("input") == {"id": "13", "ticket": "No service."}
    assert ledger.events[-1].value("result") == "Restart it."
    environment = ledger.events[0].value("environment")
    assert environment["domain"] == "telecom"
    assert len(environment["policy_sha256"]) == 64
    assert environment["tools_sha256"] is None


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        ("agent_stop", "completed"),
        (None, "completed"),
        ("max_steps", "failed"),
        ("too_many_errors", "failed"),
        ("agent_error", "failed"),
        ("infrastructure_error", "aborted"),
    ],
)
def test_the_reason_of_the_end_gives_the_status(read_one, tau2_file, reason, status):
    tau2_file["simulations"][0]["termination_reason"] = reason
    record, _ = read_one(IMPORTER, tau2_file)
    assert record.status == status
    assert record.metadata.get("exit_status") == reason


def test_a_bare_array_of_simulations_with_nothing_but_messages_is_read(read_one):
    messages = [
        {"content": "Hello", "role": "assistant", "tool_calls": None, "turn_idx": 0},
        {"content": "Help", "role": "user", "tool_calls": None, "turn_idx": 1},
        {
            "content": None,
            "role": "assistant",
            "tool_calls": [{"id": "c1", "name": "look", "arguments": {"at": 1}, "requestor": "assistant"}],
            "turn_idx": 2,
        },
        {"content": "seen", "id": "c1", "requestor": "assistant", "role": "tool", "turn_idx": 3},
    ]
    record, _ = read_one(
        IMPORTER, [{"id": 5, "reward_info": {"reward": 0.0}, "messages": messages}], "y.json"
    )
    assert [step.skill_name for step in record.steps] == ["llm.chat", "llm.chat", "look"]
    assert record.metadata == {
        "source": "tau2-bench",
        "label": "y",
        "source_id": "5",
        "time": "absent",
        "reward": 0.0,
    }
    # Without a word on raw answers, nothing says that the greeting was scripted.
    assert record.steps[0].context.marks == []
    assert record.correlation_id == record.run_id


def test_times_with_a_zone_are_not_marked_and_a_given_duration_counts(read_one, tau2_file):
    simulation = tau2_file["simulations"][0]
    for message in simulation["messages"]:
        message["timestamp"] += "+02:00"
    simulation["start_time"] += "+02:00"
    simulation["end_time"] += "+02:00"
    simulation["messages"][-1]["generation_time_seconds"] = 1.5
    record, _ = read_one(IMPORTER, tau2_file)
    assert "time" not in record.metadata
    assert record.started_at.isoformat() == "2025-07-17T13:11:00+00:00"
    assert record.steps[-1].duration_ms == 1500.0


def test_a_clock_that_jumps_back_gives_no_negative_duration(read_one, tau2_file):
    tau2_file["simulations"][0]["messages"][5]["timestamp"] = "2025-07-17T15:10:00"
    record, _ = read_one(IMPORTER, tau2_file)
    assert min(step.duration_ms for step in record.steps) == 0.0


def test_trials_of_a_task_share_a_correlation_and_nothing_else(read, tau2_file):
    first = tau2_file["simulations"][0]
    tau2_file["simulations"] = [first, first | {"id": "sim-2", "trial": 0}, first]
    one, two, again = read(IMPORTER, tau2_file)
    assert one.run_id == again.run_id != two.run_id
    assert one.events[0].facts["correlation_id"] == two.events[0].facts["correlation_id"]


def test_simulations_before_the_settings_are_read_with_them(read_one, tau2_file):
    turned = {key: tau2_file[key] for key in ("simulations", "tasks", "info")}
    assert read_one(IMPORTER, turned)[0] == read_one(IMPORTER, tau2_file)[0]


def test_of_a_file_that_is_cut_off_the_whole_simulations_are_kept(read, tau2_file):
    first = tau2_file["simulations"][0]
    tau2_file["simulations"] = [first | {"id": f"sim-{i}"} for i in range(3)]
    text = json.dumps(tau2_file).encode()
    *runs, error = read(IMPORTER, text[:-30])
    assert [run.events[0].value("metadata")["source_id"] for run in runs] == ["sim-0", "sim-1"]
    assert (error.what, error.pointer) == ("the file is cut off", "/simulations/2")
    *runs, error = read(IMPORTER, text[:-1])
    assert len(runs) == 3
    assert (error.what, error.pointer) == ("the file is cut off", "")


BAD: list[Any] = [
    (["messages", 5, "tool_calls", 0, "name"], None, "/messages/5/tool_calls/0/name"),
    (["messages", 6, "error"], "no", "/messages/6/error"),
    (["messages", 6, "id"], "call_other", "/messages/6/id"),
    (["messages", 5, "timestamp"], "yesterday", "/messages/5/timestamp"),
    (["messages", 5, "timestamp"], "0001-01-01T00:00:00+23:59", "/messages/5/timestamp"),
    (["messages", 5, "cost"], "much", "/messages/5/cost"),
    (["messages", 5, "raw_data"], [], "/messages/5/raw_data"),
    (["messages"], None, "/messages"),
    (["seed"], 2**60, "/seed"),
    (["reward_info"], 1.0, "/reward_info"),
    (["start_time"], 12, "/start_time"),
]


@pytest.mark.parametrize(("path", "value", "pointer"), BAD)
def test_a_bad_simulation_is_reported_with_its_place_and_the_good_ones_are_kept(
    read, tau2_file, path, value, pointer
):
    good = tau2_file["simulations"][0]
    bad = json.loads(json.dumps(good))
    node = bad
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    tau2_file["simulations"] = [bad, good]
    error, run = read(IMPORTER, tau2_file, "f.json")
    assert isinstance(error, ImportFormatError)
    assert (error.where, error.pointer) == ("f.json", f"/simulations/0{pointer}")
    assert not isinstance(run, ImportFormatError)


@pytest.mark.parametrize(
    ("source", "pointer"),
    [
        ({}, ""),
        ({"info": {}}, ""),
        ({"simulations": {}}, ""),
        ({"simulations": [], "info": []}, "/info"),
        ({"simulations": [], "tasks": 1}, "/tasks"),
        ({"simulations": [], "info": {"agent_info": {"llm": 4}}}, "/info/agent_info/llm"),
    ],
)
def test_a_file_of_another_layout_is_a_named_error(read, source, pointer):
    with pytest.raises(ImportFormatError) as caught:
        read(IMPORTER, source, "f.json")
    assert (caught.value.where, caught.value.pointer) == ("f.json", pointer)


def test_a_key_that_stands_twice_at_the_top_is_an_error(read, tau2_file):
    text = json.dumps(tau2_file)[:-1] + ', "simulations": []}'
    *_, error = read(IMPORTER, text.encode())
    assert (error.what, error.pointer) == ("an object names a key twice", "/simulations")
