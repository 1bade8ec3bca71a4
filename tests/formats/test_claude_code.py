from __future__ import annotations

import json
from typing import Any

import pytest

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.chat import SCRIPTED
from isotrace.formats.claude_code import NO_PROMPT, ClaudeCodeImporter
from isotrace.formats.tree import AS_SHOWN, NO_PROGRAM, UNFINISHED
from isotrace.ledger import seal

IMPORTER = ClaudeCodeImporter()


class Session:
    """Writes a session's lines; each follows the one before unless it says otherwise."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, type_: str, second: float, **fields: Any) -> None:
        before = self.lines[-1]["uuid"] if self.lines else None
        line = {
            "parentUuid": before,
            "isSidechain": False,
            "sessionId": "s1",
            "type": type_,
            "cwd": "/src/lamp",
        }
        line |= {"version": "2.0.5", "gitBranch": "main", "uuid": f"u{len(self.lines)}"}
        self.lines.append({**line, "timestamp": f"2025-10-03T23:59:{second:06.3f}Z", **fields})

    def user(self, second: float, content: Any, **fields: Any) -> None:
        self.add("user", second, message={"role": "user", "content": content}, **fields)

    def result(self, second: float, id_: str, content: Any, *, error: bool = False, **fields: Any) -> None:
        block = {"type": "tool_result", "tool_use_id": id_, "content": content, "is_error": error}
        self.user(second, [block], **fields)

    def answer(self, second: float, id_: str, *content: Any, tokens: int = 1, **fields: Any) -> None:
        message: dict[str, Any] = {
            "id": id_,
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-5",
        }
        message |= {"content": list(content), "stop_reason": None, "usage": {"output_tokens": tokens}}
        self.add("assistant", second, message={**message, **fields.pop("message", {})}, **fields)

    def data(self) -> bytes:
        return b"\n".join(json.dumps(line).encode() for line in self.lines) + b"\n"


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def use(id_: str, name: str, **given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": name, "input": given}


def shown(record: Any) -> list[Any]:
    return [(one.context.lineage, one.context.kind, one.skill_name) for one in record.steps]


@pytest.fixture
def session() -> Session:
    one = Session()
    one.user(1, "What is here?")
    one.answer(3, "msg_1", text("I look."))
    one.answer(3.5, "msg_1", use("toolu_01aaa", "Bash", command="ls"), tokens=26)
    one.result(5, "toolu_01aaa", "a.py", toolUseResult={"stdout": "a.py", "stderr": ""})
    one.answer(7, "msg_2", use("toolu_01bbb", "Read", file="b.py"))
    one.result(7.5, "toolu_01bbb", "no such file", error=True, toolUseResult="Error: no such file")
    one.answer(9, "msg_3", text("Only a.py."), message={"stop_reason": "end_turn"})
    return one


def test_answers_and_tool_calls_are_steps(read_one, session):
    record, _ = read_one(IMPORTER, session.data())
    assert shown(record) == [
        ((0,), "llm", "llm.chat"),
        ((1,), "tool", "Bash"),
        ((2,), "llm", "llm.chat"),
        ((3,), "tool", "Read"),
        ((4,), "llm", "llm.chat"),
    ]
    assert [one.duration_ms for one in record.steps] == [2500.0, 1500.0, 2000.0, 500.0, 1500.0]


def test_the_streamed_parts_of_an_answer_are_one_step_with_the_last_usage(read_one, session):
    record, _ = read_one(IMPORTER, session.data())
    answer = record.steps[0].outcome_data
    assert answer["content"] == [text("I look."), use("toolu_01aaa", "Bash", command="ls")]
    assert answer["usage"] == {"output_tokens": 26}
    assert record.steps[0].params == {
        "model": "claude-sonnet-4-5",
        "messages": [{"role": "user", "content": "What is here?"}],
    }


def test_an_answer_is_sent_all_messages_before_it(read_one, session):
    record, _ = read_one(IMPORTER, session.data())
    minted = {"$iso:id": "0#0"}
    assert record.steps[2].params["messages"][1:] == [
        {
            "role": "assistant",
            "content": [text("I look."), {**use("", "Bash", command="ls"), "id": minted}],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": minted, "content": "a.py", "is_error": False}],
        },
    ]
    assert record.steps[2].context.raw_ids == {"0#0": "toolu_01aaa"}
    assert [len(one.params["messages"]) for one in record.steps if one.context.kind == "llm"] == [1, 3, 5]


def test_a_tool_step_has_the_tool_s_own_result_and_fails_by_its_flag(read_one, session):
    record, _ = read_one(IMPORTER, session.data())
    good, bad = record.steps[1], record.steps[3]
    assert (good.params, good.outcome_data) == ({"command": "ls"}, {"stdout": "a.py", "stderr": ""})
    assert (bad.status.value, bad.outcome_code, bad.context.error) == (
        "failure",
        "tool_error",
        "no such file",
    )
    assert bad.outcome_data == {"value": "Error: no such file"}


def test_the_run_says_what_the_source_knows(read_one, session):
    session.lines.insert(0, {"type": "summary", "summary": "Looking around", "leafUuid": "u9"})
    session.lines.append({"type": "attachment-of-tomorrow", "uuid": "x"})
    record, ledger = read_one(IMPORTER, session.data(), "x/one.jsonl")
    assert record.metadata == {
        "source": "claude-code",
        "model": "claude-sonnet-4-5",
        "label": "one",
        "source_id": "s1",
        "summaries": ["Looking around"],
        "left_out": {"summary": 1},
        "unknown_lines": {"attachment-of-tomorrow": 1},
        "replayability": [NO_PROGRAM, AS_SHOWN, NO_PROMPT],
    }
    assert (record.agent_id, record.status) == ("claude-code", "completed")
    assert ledger.events[0].value("input") == "What is here?"
    assert ledger.events[0].value("environment") == {
        "cwd": "/src/lamp",
        "gitBranch": "main",
        "version": "2.0.5",
    }
    assert ledger.events[-1].value("result") == "Only a.py."


@pytest.mark.parametrize("by", ["agent", "prompt", None])
def test_a_sidechain_stands_inside_of_the_call_that_started_it(read_one, by):
    one = Session()
    one.user(1, "Go.")
    one.answer(2, "msg_1", use("toolu_task1", "Task", prompt="Find it." if by == "prompt" else "?"))
    side = {"isSidechain": True} if by == "prompt" else {"isSidechain": True, "agentId": "a1"}
    one.user(3, "Find it.", **side | {"parentUuid": None})
    one.answer(4, "msg_2", use("toolu_grep1", "Grep", pattern="it"), **side)
    one.result(5, "toolu_grep1", "a.py:1", **side)
    one.answer(6, "msg_3", text("Line 1."), **side)
    told = {"status": "completed", **({"agentId": "a1"} if by == "agent" else {})}
    one.result(7, "toolu_task1", [text("Line 1.")], toolUseResult=told, parentUuid="u1")
    one.answer(8, "msg_4", text("It is in line 1."))
    record, _ = read_one(IMPORTER, one.data())
    place = (2,) if by is None else (1,)
    assert shown(record) == [
        ((0,), "llm", "llm.chat"),
        ((1,), "tool", "Task"),
        ((*place, 0), "llm", "llm.chat"),
        ((*place, 1), "tool", "Grep"),
        ((*place, 2), "llm", "llm.chat"),
        ((3,) if by is None else (2,), "llm", "llm.chat"),
    ]
    # Neither conversation sees the other's messages.
    assert [len(step.params["messages"]) for step in record.steps if step.context.kind == "llm"] == [
        1,
        1,
        3,
        3,
    ]


def test_two_sidechains_that_claim_one_call_have_places_of_their_own(read_one):
    one = Session()
    one.user(1, "Go.")
    one.answer(2, "msg_1", use("toolu_task1", "Task", prompt="Find it."))
    for second, agent in ((3, "a1"), (5, "a2")):
        side: dict[str, Any] = {"isSidechain": True, "agentId": agent}
        one.user(second, "Find it.", **side | {"parentUuid": None})
        one.answer(second + 1, f"msg_{agent}", text("Line 1."), **side)
        one.result(second + 1.5, "toolu_task1", "x", toolUseResult={"agentId": agent})
    record, _ = read_one(IMPORTER, one.data())
    assert [step.context.lineage for step in record.steps] == [(0,), (1,), (1, 0), (2, 0)]


def test_an_agent_s_own_file_is_a_run_of_its_own(read_one, session):
    for line in session.lines:
        line |= {"isSidechain": True, "agentId": "b1f5d80e"}
    record, _ = read_one(IMPORTER, session.data())
    assert [one.context.lineage for one in record.steps] == [(0,), (1,), (2,), (3,), (4,)]
    assert record.metadata["agent"] == "b1f5d80e"


def test_a_prompt_that_goes_back_leaves_out_what_was_said_since(read_one, session):
    session.user(20, "What else?", parentUuid="u3")
    session.answer(21, "msg_4", text("Nothing."))
    record, _ = read_one(IMPORTER, session.data())
    assert len(record.steps[4].params["messages"]) == 5
    assert [one["role"] for one in record.steps[5].params["messages"]] == [
        "user",
        "assistant",
        "user",
        "user",
    ]
    assert record.metadata["left_out"] == {"went_back": 1}


def test_a_summary_that_compacts_the_session_begins_a_new_conversation(read_one, session):
    session.user(20, "So far: a.py.", isCompactSummary=True)
    session.answer(21, "msg_4", text("Good."))
    record, _ = read_one(IMPORTER, session.data())
    assert record.steps[5].params["messages"] == [{"role": "user", "content": "So far: a.py."}]


def test_repeated_lines_count_once_and_a_result_without_a_call_is_told(read_one, session):
    session.lines += session.lines[:3]
    session.result(30, "toolu_elsewhere", "?")
    session.lines[-1]["uuid"] = "new"
    record, _ = read_one(IMPORTER, session.data())
    assert len(record.steps) == 5
    assert record.metadata["left_out"] == {"results_without_call": 1}


def test_an_api_error_is_a_failed_answer_that_no_model_gave(read_one, session):
    session.answer(20, "x1", text("API Error: 529"), message={"model": "<synthetic>"}, isApiErrorMessage=True)
    record, _ = read_one(IMPORTER, session.data())
    last = record.steps[-1]
    assert (last.outcome_code, last.context.error, last.context.marks) == (
        "api_error",
        "API Error: 529",
        [SCRIPTED],
    )
    assert record.metadata["model"] == "claude-sonnet-4-5"


def test_a_call_without_a_result_is_unfinished(read_one, session):
    del session.lines[5:]
    record, _ = read_one(IMPORTER, session.data())
    assert record.steps[-1].outcome_category == "INDETERMINATE"
    assert UNFINISHED in record.metadata["replayability"]


def test_bad_lines_are_reported_and_the_run_is_made_of_the_others(read, session):
    data = session.data() + b'{"type": "user", "message": 7}\n{"type": "assis'
    bad, cut, run = read(IMPORTER, data)
    assert (bad.pointer, bad.what) == ("/7/message", "a field has the wrong type")
    assert cut.pointer.startswith("/8")
    assert isinstance(run, ImportedRun)
    record: Any = seal(run.events, run.seed or b"").ledger.record()
    assert (len(record.steps), record.metadata["bad_lines"]) == (5, 2)


def test_a_file_without_messages_is_an_error(read):
    for data in (b"", b'{"type": "summary", "summary": "x"}\n'):
        with pytest.raises(ImportFormatError, match="a session without messages"):
            read(IMPORTER, data)


def test_every_real_line_is_read(data, read):
    folder = data / "coding_agent_messages/claude-code"
    paths = sorted(folder.glob("*/*.jsonl"))
    assert len(paths) > 50
    lines = b"\n".join(path.read_bytes().strip() for path in paths)
    (run,) = read(IMPORTER, lines)
    record: Any = seal(run.events, run.seed or b"").ledger.record()
    rows = [json.loads(line) for line in lines.splitlines()]
    uses = {
        block["id"]: block["name"]
        for row in rows
        if row["type"] == "assistant"
        for block in row["message"]["content"]
        if block["type"] == "tool_use"
    }
    tools = [one for one in record.steps if one.context.kind == "tool"]
    assert {one.skill_name for one in tools} == set(uses.values())
    assert all(one.outcome_data for one in tools if one.context.end_seq is not None)
    assert "unknown_lines" not in record.metadata
