from __future__ import annotations

import json

import pytest

from isotrace.errors import ImportFormatError
from isotrace.formats.mini_swe_agent import MiniSweAgentImporter
from isotrace.formats.source import Bounds

IMPORTER = MiniSweAgentImporter()


def test_answers_and_calls_become_steps_with_the_words_that_hashes_see(read_one, mini_file):
    record, _ = read_one(IMPORTER, mini_file)
    assert [
        (step.skill_name, step.status.value, step.outcome_category, step.outcome_code)
        for step in record.steps
    ] == [
        ("llm.chat", "success", "SUCCESS", None),
        ("bash", "success", "SUCCESS", None),
        ("bash", "failure", "PERMANENT", "EXIT_1"),
        ("llm.chat", "success", "SUCCESS", None),
        ("bash", "failure", "TRANSIENT", "TimeoutExpired"),
        ("llm.chat", "success", "SUCCESS", None),
        ("bash", "success", "SUCCESS", None),
    ]
    assert record.steps[4].context.error == "it timed out"


def test_the_model_was_sent_all_messages_so_far_without_what_the_agent_noted_on_them(read_one, mini_file):
    record, _ = read_one(IMPORTER, mini_file)
    first = {"model": "deepseek/deepseek-chat", "temperature": 0.0, "messages": mini_file["messages"][:2]}
    assert record.steps[0].params == first
    sent = record.steps[5].params["messages"]
    assert len(sent) == 7
    assert not any("extra" in message for message in sent)
    # Of the four ids that an answer mints, #0 is its own and the others are the calls'.
    assert [message.get("tool_call_id") for message in sent] == [
        None,
        None,
        None,
        {"$iso:id": "0#1"},
        {"$iso:id": "0#2"},
        None,
        {"$iso:id": "3#1"},
    ]


def test_outcomes_are_the_raw_answer_and_the_text_with_what_it_does_not_show(read_one, mini_file):
    record, _ = read_one(IMPORTER, mini_file)
    assert record.steps[0].outcome_data == mini_file["messages"][2]["extra"]["response"]
    assert [step.outcome_data for step in record.steps[1:3]] == [
        {"content": "<returncode>0</returncode>a.py", "returncode": 0, "exception_info": ""},
        {
            "content": "<returncode>1</returncode>",
            "raw_output": "hidden",
            "returncode": 1,
            "exception_info": "",
        },
    ]


def test_times_are_the_ends_of_steps_and_the_first_begins_when_its_answer_was_created(read_one, mini_file):
    record, _ = read_one(IMPORTER, mini_file)
    assert record.started_at.timestamp() == 1000.0
    assert [step.duration_ms for step in record.steps] == [500.0, 500.0, 250.0, 1750.0, 60000.0, 1000.0, 0.0]
    assert record.completed_at.timestamp() == 1064.0
    assert [step.cost_cents for step in record.steps] == [0.1, 0.0, 0.0, 0.1, 0.0, 0.1, 0.0]
    assert "time" not in record.metadata


def test_the_submission_is_the_outcome_of_the_call_that_made_it(read_one, mini_file):
    record, ledger = read_one(IMPORTER, mini_file)
    assert record.steps[6].outcome_data == {"content": "the patch", "exit_status": "Submitted"}
    assert ledger.events[-1].value("result") == "the patch"
    assert record.status == "completed"


def test_of_several_calls_at_once_none_is_said_to_have_submitted(read_one, mini_file):
    calls = mini_file["messages"][7]["tool_calls"]
    calls.append(json.loads(json.dumps(calls[0]).replace("dddd", "eeee")))
    record, _ = read_one(IMPORTER, mini_file)
    assert [step.outcome_category for step in record.steps[6:]] == ["INDETERMINATE", "INDETERMINATE"]


def test_a_run_that_died_failed_and_says_of_what(read_one, mini_file):
    del mini_file["messages"][7]
    mini_file["messages"][-1] = {
        "role": "exit",
        "content": "",
        "extra": {"exit_status": "Timeout", "submission": "", "exception_str": "litellm.Timeout: 600 s"},
    }
    mini_file["info"] |= {
        "exit_status": "Timeout",
        "submission": "",
        "exception_str": "litellm.Timeout: 600 s",
    }
    record, ledger = read_one(IMPORTER, mini_file)
    assert (record.status, record.metadata["exit_status"]) == ("failed", "Timeout")
    assert ledger.events[-1].value("error") == "litellm.Timeout: 600 s"
    assert len(record.steps) == 5


def write(folder, mini_file, name="lib__lib-1.traj.json"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(mini_file))
    return path


def metadata_of(run):
    return run.events[0].value("metadata") | run.events[-1].value("metadata")


def test_the_folder_is_the_trial(read_file, tmp_path, mini_file):
    (run,) = read_file(IMPORTER, write(tmp_path / "rerun", mini_file))
    assert metadata_of(run) == {
        "source": "mini-swe-agent",
        "task": "lib__lib-1",
        "trial": "rerun",
        "model": "deepseek/deepseek-chat",
        "label": "lib__lib-1",
        "mini_version": "2.2.7",
        "exit_status": "Submitted",
        "agent_cost_usd": 0.004,
        "api_calls": 4,
    }


def test_a_folder_of_the_task_itself_is_not_the_trial(read_file, tmp_path, mini_file):
    (run,) = read_file(IMPORTER, write(tmp_path / "rerun" / "lib__lib-1", mini_file))
    assert metadata_of(run)["trial"] == "rerun"


@pytest.mark.parametrize(
    ("resolved", "unresolved", "reward"),
    [(["lib__lib-1"], [], 1.0), (["other"], ["lib__lib-1"], 0.0), ([], [], None)],
)
def test_a_report_beside_the_folder_grades_the_run(
    read_file, tmp_path, mini_file, resolved, unresolved, reward
):
    path = write(tmp_path / "rerun", mini_file)
    report = tmp_path / "swebench_report.rerun.json"
    report.write_text(json.dumps({"resolved_ids": resolved, "unresolved_ids": unresolved}))
    (run,) = read_file(IMPORTER, path)
    assert metadata_of(run).get("reward") == reward


@pytest.mark.parametrize("text", ["", "[]", '{"resolved_ids": 1}', "{"])
def test_a_report_that_can_not_be_read_is_reported_and_the_run_is_kept(read_file, tmp_path, mini_file, text):
    path = write(tmp_path / "rerun", mini_file)
    report = tmp_path / "swebench_report.rerun.json"
    report.write_text(text)
    error, run = read_file(IMPORTER, path)
    assert isinstance(error, ImportFormatError)
    assert error.where == str(report)
    assert "reward" not in metadata_of(run)


def fenced(command, fence="mswea_bash_command"):
    return {"role": "assistant", "content": f"I think.\n\n```{fence}\n{command}\n```"}


OLD = [
    {"role": "system", "content": "One bash block."},
    {"role": "user", "content": "Fix it."},
    fenced("ls -la"),
    {"role": "user", "content": "<returncode>2</returncode>\n<output>\n</output>"},
    {"role": "assistant", "content": "No command at all."},
    {"role": "user", "content": "Please give exactly one command."},
    fenced("cat a\ncat b", "bash"),
    {"role": "user", "content": "<returncode>0</returncode>"},
    fenced("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"),
    {"role": "user", "content": "the patch"},
]


def test_an_old_bare_array_of_messages_is_read_by_its_fenced_blocks(read_one):
    record, _ = read_one(IMPORTER, OLD, "versions/old.json")
    assert [(step.skill_name, step.outcome_code) for step in record.steps] == [
        ("llm.chat", None),
        ("bash", "EXIT_2"),
        ("llm.chat", None),
        ("llm.chat", None),
        ("bash", None),
        ("llm.chat", None),
        ("bash", None),
    ]
    assert [step.params for step in record.steps if step.context.kind == "tool"] == [
        {"command": "ls -la"},
        {"command": "cat a\ncat b"},
        {"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"},
    ]
    assert record.metadata == {
        "source": "mini-swe-agent",
        "trial": "versions",
        "label": "old",
        "time": "absent",
    }
    assert record.status == "completed"


def test_two_blocks_are_no_command_and_an_open_one_is_none(read_one):
    two = {"role": "assistant", "content": fenced("a")["content"] + fenced("b")["content"]}
    open_ = {"role": "assistant", "content": "```bash\n" * 200_000}
    record, _ = read_one(IMPORTER, [*OLD[:2], two, open_])
    assert [step.skill_name for step in record.steps] == ["llm.chat", "llm.chat"]


def test_commands_that_the_agent_parsed_itself_are_taken_from_there(read_one, mini_file):
    mini_file["messages"] = [
        *OLD[:2],
        {"role": "assistant", "content": "x", "extra": {"actions": [{"command": "ls"}, {"command": "pwd"}]}},
        {"role": "user", "content": "a.py", "extra": {"returncode": 0}},
        {"role": "user", "content": "/", "extra": {"returncode": 0}},
        {"role": "user", "content": "More."},
    ]
    record, _ = read_one(IMPORTER, mini_file)
    assert [(step.params, step.outcome_data) for step in record.steps[1:]] == [
        ({"command": "ls"}, {"content": "a.py", "returncode": 0}),
        ({"command": "pwd"}, {"content": "/", "returncode": 0}),
    ]


def test_the_agent_telling_the_model_off_is_no_result(read_one):
    refused = {"role": "user", "content": "Format error", "extra": {"interrupt_type": "FormatError"}}
    record, _ = read_one(IMPORTER, [*OLD[:3], refused])
    assert record.steps[1].outcome_category == "INDETERMINATE"


BAD = [
    (["messages", 2, "extra", "timestamp"], -1, "/messages/2/extra/timestamp"),
    (["messages", 2, "extra", "timestamp"], 1e300, "/messages/2/extra/timestamp"),
    (["messages", 2, "extra", "cost"], {}, "/messages/2/extra/cost"),
    (["messages", 2, "extra", "response"], 1, "/messages/2/extra/response"),
    (["messages", 3, "extra", "returncode"], "0", "/messages/3/extra/returncode"),
    (["messages", 3, "extra"], [], "/messages/3/extra"),
    (["messages", 3], None, "/messages/3/role"),
    (["messages"], {}, "/messages"),
    (["info", "config", "model"], "m", "/info/config/model"),
    (["info", "exit_status"], 1, "/info/exit_status"),
]


@pytest.mark.parametrize(("path", "value", "pointer"), BAD)
def test_a_wrong_type_is_a_named_error_with_its_place(read, mini_file, path, value, pointer):
    node = mini_file
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value
    with pytest.raises(ImportFormatError) as caught:
        read(IMPORTER, mini_file, "f.json")
    assert (caught.value.where, caught.value.pointer) == ("f.json", pointer)


@pytest.mark.parametrize("text", [b"", b"1", b'"x"', b"{", b'{"info": {}}', b'{"messages": [}'])
def test_what_is_no_trajectory_is_a_named_error(read, text):
    with pytest.raises(ImportFormatError) as caught:
        read(IMPORTER, text, "f.json")
    assert caught.value.where == "f.json"


def test_a_trajectory_over_the_bound_is_refused(read, mini_file):
    with pytest.raises(ImportFormatError, match="the file is too large"):
        read(MiniSweAgentImporter(Bounds(run=1000)), mini_file)
