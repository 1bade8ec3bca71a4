from __future__ import annotations

import pytest

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.chat import NO_RAW_ANSWER, REBUILT
from isotrace.formats.source import detect_format
from isotrace.formats.swe_agent import NO_TRAJECTORY, SweAgentImporter
from isotrace.formats.tree import NO_PROGRAM
from isotrace.registry import importers

IMPORTER = SweAgentImporter()
STATE = {"open_file": "n/a", "working_dir": "/repo"}


def test_each_entry_is_an_llm_step_and_its_action_a_tool_step(read_one, swe_agent_file):
    record, _ = read_one(IMPORTER, swe_agent_file)
    assert [(step.context.kind, step.skill_name, step.duration_ms) for step in record.steps] == [
        ("llm", "llm.chat", 0.0),
        ("tool", "bash", 250.0),
        ("llm", "llm.chat", 0.0),
        ("llm", "llm.chat", 0.0),
        ("tool", "bash", 0.0),
    ]
    assert record.steps[1].params == {"command": "ls -a"}
    assert record.steps[1].outcome_data == {"observation": "a.py", "state": STATE}
    assert record.steps[4].params == {"command": "submit\n"}
    assert record.steps[4].outcome_data == {"observation": "diff --git", "state": STATE}


def test_an_llm_step_was_sent_the_history_before_its_answer_demonstrations_included(read_one, swe_agent_file):
    record, _ = read_one(IMPORTER, swe_agent_file)
    prompts = [
        {"role": "system", "content": "You are a programmer."},
        {"role": "user", "content": "A demonstration."},
        {"role": "assistant", "content": "I submit."},
        {"role": "user", "content": "Fix the bug."},
    ]
    assert record.steps[0].params == {"model": "gpt-4o", "temperature": 0.0, "messages": prompts}
    minted = {"$iso:id": "0#0"}
    assert record.steps[2].params["messages"][4:] == [
        {
            "role": "assistant",
            "content": "Look around.",
            "tool_calls": [
                {
                    "id": minted,
                    "type": "function",
                    "function": {"name": "bash", "arguments": '{"command": "ls -a"}'},
                }
            ],
        },
        {"role": "tool", "content": "a.py\n(Open file: n/a)", "tool_call_id": minted},
    ]


def test_an_answer_that_the_history_does_not_have_is_put_together_from_its_entry(read_one, swe_agent_file):
    record, _ = read_one(IMPORTER, swe_agent_file)
    assert record.steps[2].outcome_data == {
        "role": "assistant",
        "content": "No command here.",
        "thought": "No command here.",
        "action": "",
    }
    assert record.steps[3].params["messages"][6:] == [
        {"role": "assistant", "content": "No command here."},
        {"role": "user", "content": "You gave no command."},
    ]


def test_a_query_is_what_the_model_was_sent(read_one, swe_agent_file):
    query = [{"role": "user", "content": "Fix it, briefly.", "agent": "main"}]
    for entry in swe_agent_file["trajectory"]:
        entry["query"] = query
    record, ledger = read_one(IMPORTER, swe_agent_file)
    sent = [step.params["messages"] for step in record.steps if step.context.kind == "llm"]
    assert sent == [[{"role": "user", "content": "Fix it, briefly."}]] * 3
    assert ledger.events[-1].value("metadata")["replayability"] == [NO_PROGRAM, NO_RAW_ANSWER]


def test_the_run_says_what_the_source_knows(read_one, swe_agent_file):
    record, ledger = read_one(IMPORTER, swe_agent_file, "gpt4__default/lib__lib-1/lib__lib-1.traj.gz")
    assert record.metadata == {
        "source": "swe-agent",
        "task": "lib__lib-1",
        "trial": "gpt4__default",
        "model": "gpt-4o",
        "time": "absent",
        "exit_status": "submitted",
        "agent_cost_usd": 0.5,
        "api_calls": 3,
        "tokens_sent": 10,
        "tokens_received": 2,
        "replayability": [NO_PROGRAM, NO_RAW_ANSWER, REBUILT],
    }
    assert (record.status, ledger.events[-1].value("result")) == ("completed", "diff --git")
    assert ledger.events[0].value("input") == {"instance_id": "lib__lib-1", "prompt": "Fix the bug."}
    assert ledger.events[0].value("environment")["repo"] == {"repo_name": "r"}


def test_the_model_is_the_first_part_of_the_folder_where_no_settings_name_it(read_one, swe_agent_file):
    del swe_agent_file["replay_config"]
    record, _ = read_one(IMPORTER, swe_agent_file, "gpt4__default/lib__lib-1.traj")
    assert record.metadata["model"] == "gpt4"


@pytest.mark.parametrize(
    ("exit_status", "status"),
    [
        ("submitted", "completed"),
        (None, "completed"),
        ("exit_cost", "failed"),
        ("submitted (exit_cost)", "failed"),
    ],
)
def test_every_exit_but_a_submission_is_a_failure(read_one, swe_agent_file, exit_status, status):
    swe_agent_file["info"]["exit_status"] = exit_status
    record, _ = read_one(IMPORTER, swe_agent_file)
    assert record.status == status


def test_a_history_alone_is_imported_and_graded(read_one, swe_agent_file):
    record, _ = read_one(IMPORTER, {"history": swe_agent_file["history"]})
    assert [step.skill_name for step in record.steps] == ["llm.chat", "bash", "llm.chat", "bash"]
    assert record.steps[1].outcome_data == {"observation": "a.py\n(Open file: n/a)"}
    assert NO_TRAJECTORY in record.metadata["replayability"]
    assert any(reason.startswith("unfinished:") for reason in record.metadata["replayability"])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"trajectory": {}}, "/trajectory"),
        ({"history": [1]}, "/history/0"),
        ({"info": {"model_stats": {"api_calls": "3"}}}, "/info/model_stats/api_calls"),
        ({"trajectory": None, "history": None}, ""),
    ],
)
def test_a_file_of_the_wrong_shape_is_an_error_that_says_where(read, swe_agent_file, change, pointer):
    with pytest.raises(ImportFormatError) as caught:
        read(IMPORTER, swe_agent_file | change, "x.traj")
    assert (caught.value.where, caught.value.pointer) == ("x.traj", pointer)


def test_every_real_trajectory_is_imported_with_all_its_steps(data, read_file):
    found = []
    for path in sorted(data.glob("swe_agent/**/*.gz")):
        assert (told := detect_format(path, importers().values())) is not None
        assert told.name == IMPORTER.name
        (run,) = read_file(IMPORTER, path)
        assert isinstance(run, ImportedRun), run
        kinds = [event.facts["kind"] for event in run.events if event.type == "step_started"]
        assert kinds == ["llm", "tool"] * (len(kinds) // 2)
        found.append(len(kinds) // 2)
    assert sorted(found) == [5, 5, 11, 11, 11, 11, 12, 12, 13, 14]
