"""Small runs of each format, written by hand, and the real ones where they are at hand."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.source import open_source
from isotrace.ledger import Ledger, seal

_DATA = Path(__file__).parents[2] / "../shared/data"


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real runs."""
    if not _DATA.is_dir():
        pytest.skip("the real runs are not on this machine: ../shared/data is absent")
    return _DATA.resolve()


def _read(importer: Any, source: Any, where: str = "runs/some.json", **options: Any) -> list[Any]:
    data = source if isinstance(source, bytes) else json.dumps(source).encode()
    options = {"tenant_id": "default", **options}
    return list(importer.read(io.BytesIO(data), where=where, **options))


@pytest.fixture
def read():
    """Everything that an importer makes of some bytes, or of JSON."""
    return _read


@pytest.fixture
def read_one():
    """The record and the ledger of the one good run in some bytes or JSON."""

    def one(importer: Any, source: Any, where: str = "runs/some.json") -> tuple[Any, Ledger]:
        (run,) = _read(importer, source, where)
        assert isinstance(run, ImportedRun), run
        sealed = run.sealed or seal(run.events, run.seed or b"")
        return sealed.ledger.record(), sealed.ledger

    return one


@pytest.fixture
def read_file():
    """Everything that an importer makes of a file."""

    def from_file(importer: Any, path: Path) -> list[ImportedRun | ImportFormatError]:
        with open_source(path) as stream:
            return list(importer.read(stream, where=str(path), tenant_id="default"))

    return from_file


def _call(call_id: str, name: str, arguments: Any) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


@pytest.fixture
def tau_bench_run() -> dict[str, Any]:
    return {
        "task_id": 7,
        "reward": 0.5,
        "info": {"task": {"instruction": "Return the lamp."}, "user_cost": 0.25},
        "traj": [
            {"role": "system", "content": "# Policy"},
            {"role": "user", "content": "I want to return a lamp."},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [_call("call_abc123def", "find_user", '{"zip": 20.0, "name": "Zoë"}')],
            },
            {
                "role": "tool",
                "tool_call_id": "call_abc123def",
                "name": "find_user",
                "content": "Error: nobody",
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [_call("call_ghi456jkl", "think", "{'thought': 1}")],
            },
            {"role": "tool", "tool_call_id": "call_ghi456jkl", "name": "think", "content": ""},
            {"role": "assistant", "content": "I am sorry.", "tool_calls": None},
            {"role": "user", "content": "###STOP###"},
        ],
        "trial": 7,
        "records": {},
    }


@pytest.fixture
def tau2_file() -> dict[str, Any]:
    def message(role: str, second: float, **fields: Any) -> dict[str, Any]:
        return {"role": role, "content": None, "timestamp": f"2025-07-17T15:11:{second:09.6f}", **fields}

    def call(call_id: str, name: str, requestor: str, **arguments: Any) -> dict[str, Any]:
        return {"id": call_id, "name": name, "arguments": arguments, "requestor": requestor}

    def result(
        call_id: str, second: float, content: str, requestor: str, *, error: bool = False
    ) -> dict[str, Any]:
        return message("tool", second, id=call_id, content=content, requestor=requestor, error=error)

    return {
        "timestamp": "2025-07-17T15:20:00",
        "info": {
            "git_commit": "abc",
            "num_trials": 4,
            "agent_info": {"implementation": "llm_agent", "llm": "gpt-4.1", "llm_args": {"temperature": 0.0}},
            "user_info": {"llm": "gpt-4o"},
            "environment_info": {"domain_name": "telecom", "policy": "# Policy", "tool_defs": None},
        },
        "tasks": [{"id": "13", "ticket": "No service.", "evaluation_criteria": {"actions": []}}],
        "simulations": [
            {
                "id": "sim-1",
                "task_id": "13",
                "trial": 3,
                "seed": 1567,
                "start_time": "2025-07-17T15:11:00.000000",
                "end_time": "2025-07-17T15:11:09.000000",
                "duration": 9.0,
                "termination_reason": "user_stop",
                "agent_cost": 0.02,
                "user_cost": 0.01,
                "reward_info": {"reward": 1.0},
                "messages": [
                    message("assistant", 0.5, content="Hi!", cost=0.0, usage=None, raw_data=None),
                    message("user", 1.0, content="My phone is dead."),
                    message("user", 2.0, tool_calls=[call("call_user00001", "check_bar", "user")]),
                    result("call_user00001", 2.5, "empty", "user"),
                    message("user", 3.0, content="The bar is empty."),
                    message(
                        "assistant",
                        4.0,
                        tool_calls=[
                            call("call_agent0001", "get_line", "assistant", id="L1"),
                            call("call_agent0002", "get_bill", "assistant", id="B1"),
                        ],
                        cost=0.02,
                        usage={"prompt_tokens": 5, "completion_tokens": 2},
                        raw_data={
                            "finish_reason": "tool_calls",
                            "message": {
                                "role": "assistant",
                                "tool_calls": [
                                    _call("call_agent0001", "get_line", '{"id":"L1"}'),
                                    _call("call_agent0002", "get_bill", '{"id":"B1"}'),
                                ],
                            },
                        },
                    ),
                    result("call_agent0001", 5.0, "active", "assistant"),
                    result("call_agent0002", 5.25, "Error: no bill", "assistant", error=True),
                    message("assistant", 7.0, content="Restart it.", cost=0.01, usage={"prompt_tokens": 9}),
                ],
            }
        ],
    }


@pytest.fixture
def mini_file() -> dict[str, Any]:
    def answer(content: str, second: float, *calls: dict[str, Any]) -> dict[str, Any]:
        return {
            "role": "assistant",
            "content": content,
            "tool_calls": list(calls),
            "extra": {
                "response": {
                    "id": f"chatcmpl-{second}",
                    "created": int(second),
                    "choices": [
                        {
                            "finish_reason": "tool_calls",
                            "message": {"role": "assistant", "tool_calls": list(calls)},
                        }
                    ],
                },
                "cost": 0.001,
                "timestamp": second,
            },
        }

    def result(call_id: str, content: str, second: float, **extra: Any) -> dict[str, Any]:
        extra = {"raw_output": "", "returncode": 0, "exception_info": "", "timestamp": second, **extra}
        return {"role": "tool", "tool_call_id": call_id, "content": content, "extra": extra}

    return {
        "info": {
            "model_stats": {"instance_cost": 0.004, "api_calls": 4},
            "config": {
                "model": {"model_name": "deepseek/deepseek-chat", "model_kwargs": {"temperature": 0.0}},
                "environment": {"image": "debian"},
            },
            "mini_version": "2.2.7",
            "exit_status": "Submitted",
            "submission": "the patch",
        },
        "messages": [
            {"role": "system", "content": "You can use a computer."},
            {"role": "user", "content": "Fix the bug."},
            answer(
                "Two things at once.",
                1000.5,
                _call("call_00_aaaaaaaa", "bash", '{"command": "ls"}'),
                _call("call_01_bbbbbbbb", "bash", '{"command": "false"}'),
            ),
            result("call_00_aaaaaaaa", "<returncode>0</returncode>a.py", 1001.0, raw_output="a.py"),
            result(
                "call_01_bbbbbbbb", "<returncode>1</returncode>", 1001.25, returncode=1, raw_output="hidden"
            ),
            answer("A long one.", 1003.0, _call("call_00_cccccccc", "bash", '{"command": "sleep 99"}')),
            result(
                "call_00_cccccccc",
                "timed out",
                1063.0,
                returncode=-1,
                exception_info="it timed out",
                exception_type="TimeoutExpired",
            ),
            answer(
                "Done.",
                1064.0,
                _call("call_00_dddddddd", "bash", '{"command": "echo COMPLETE && cat patch"}'),
            ),
            {
                "role": "exit",
                "content": "the patch",
                "extra": {"exit_status": "Submitted", "submission": "the patch"},
            },
        ],
        "trajectory_format": "mini-swe-agent-1.1",
        "instance_id": "lib__lib-1",
    }


def _json_exchange(url: str, sent: Any, got: Any, **response: Any) -> dict[str, Any]:
    return {
        "request": {"method": "POST", "uri": url, "headers": {}, "body": json.dumps(sent)},
        "response": {
            "status": {"code": 200, "message": "OK"},
            "headers": {"Content-Type": ["application/json"]},
            "body": {"string": json.dumps(got)},
            **response,
        },
    }


@pytest.fixture
def cassette() -> dict[str, Any]:
    call = _call("call_abcdef123", "get_weather", '{"city":"Rome"}')
    asked = {"role": "assistant", "content": None, "tool_calls": [call]}
    question = {"role": "user", "content": "Rome?"}
    return {
        "version": 1,
        "interactions": [
            _json_exchange(
                "https://api.openai.com/v1/chat/completions",
                {"model": "gpt-4o", "messages": [question]},
                {"id": "chatcmpl-1234567", "choices": [{"finish_reason": "tool_calls", "message": asked}]},
                headers={
                    "Content-Type": ["application/json"],
                    "Date": ["Tue, 12 May 2026 22:03:02 GMT"],
                    "openai-processing-ms": ["1500"],
                    "Set-Cookie": ["session=very-secret"],
                },
            ),
            {
                "request": {
                    "method": "get",
                    "uri": "https://weather.example:8443/v1?city=Rome&api_key=very-secret#now",
                    "headers": {"Authorization": ["Bearer very-secret"]},
                    "body": None,
                },
                "response": {
                    "status": {"code": 302, "message": "Found"},
                    "headers": {
                        "Location": ["https://cdn.example/rome?X-Amz-Signature=very-secret&v=2"],
                        "content-type": ["text/plain"],
                        "Date": ["Tue, 12 May 2026 22:03:05 GMT"],
                    },
                    "body": {"string": "over there"},
                },
            },
            {
                "request": {
                    "method": "POST",
                    "uri": "https://api.openai.com/v1/chat/completions",
                    "headers": {},
                    "parsed_body": {
                        "model": "gpt-4o",
                        "stream": True,
                        "messages": [
                            question,
                            asked,
                            {"role": "tool", "tool_call_id": "call_abcdef123", "content": "21"},
                        ],
                    },
                },
                "response": {
                    "status": {"code": 200, "message": "OK"},
                    "headers": {"content-type": ["text/event-stream; charset=utf-8"]},
                    "body": {
                        "string": 'data: {"choices":[{"delta":{"content":"21 "}}]}\n\n'
                        ': ping\n\ndata: {"choices":[{"delta":{"content":"degrees"}}]}\n\ndata: [DONE]\n\n'
                    },
                },
            },
            _json_exchange(
                "https://api.anthropic.com/v1/messages?beta=true",
                {"model": "claude", "max_tokens": 9, "messages": [question]},
                None,
                status={"code": 429, "message": "Too Many Requests"},
                headers={"retry-after": ["4"], "content-type": ["application/json"]},
                body={
                    "string": '{"type":"error","error":{"type":"rate_limit_error","message":"Slow down."}}'
                },
            ),
        ],
    }


@pytest.fixture
def swe_agent_file() -> dict[str, Any]:
    def answer(text: str, action: str, *calls: dict[str, Any]) -> dict[str, Any]:
        own = {"thought": text, "action": action, "agent": "main", "message_type": "action"}
        return {"role": "assistant", "content": text, "tool_calls": list(calls) or None, **own}

    def observed(role: str, text: str, *ids: str) -> dict[str, Any]:
        own = {"agent": "main", "message_type": "observation", "tool_call_ids": list(ids) or None}
        return {"role": role, "content": text, **own}

    def entry(text: str, action: str, observation: str, state: Any, **more: Any) -> dict[str, Any]:
        return {
            "action": action,
            "observation": observation,
            "response": text,
            "thought": text,
            "state": state,
            **more,
        }

    state = {"open_file": "n/a", "working_dir": "/repo"}
    return {
        "environment": "main",
        "trajectory": [
            entry("Look around.", "ls -a", "a.py", state, execution_time=0.25),
            entry("No command here.", "", "You gave no command.", json.dumps(state)),
            entry("I submit.", "submit\n", "diff --git", json.dumps(state)),
        ],
        "history": [
            {"role": "system", "content": "You are a programmer.", "agent": "main"},
            {"role": "user", "content": "A demonstration.", "agent": "main", "is_demo": True},
            {"role": "assistant", "content": "I submit.", "agent": "main", "is_demo": True},
            observed("user", "Fix the bug."),
            answer("Look around.", "ls -a", _call("call_swe0000001", "bash", '{"command": "ls -a"}')),
            observed("tool", "a.py\n(Open file: n/a)", "call_swe0000001"),
            answer("I submit.", "submit\n"),
        ],
        "info": {
            "exit_status": "submitted",
            "submission": "diff --git",
            "model_stats": {"instance_cost": 0.5, "tokens_sent": 10, "tokens_received": 2, "api_calls": 3},
        },
        "replay_config": json.dumps(
            {"agent": {"model": {"name": "gpt-4o", "temperature": 0.0}}, "env": {"repo": {"repo_name": "r"}}}
        ),
    }


@pytest.fixture
def inspect_log() -> dict[str, Any]:
    def event(type_: str, second: float, span: str | None, **fields: Any) -> dict[str, Any]:
        return {"event": type_, "timestamp": _iso(second), "span_id": span, **fields}

    def begin(span: str, type_: str, second: float, name: str, parent: str | None = None) -> dict[str, Any]:
        return event("span_begin", second, span, id=span, type=type_, name=name, parent_id=parent)

    message = {"role": "user", "content": "attachment://aaaa"}
    call = {"id": "call_insp00001", "function": "bash", "arguments": {"cmd": "attachment://bbbb"}}
    answer = {"role": "assistant", "content": "", "tool_calls": [_call("call_insp00001", "bash", "{}")]}
    events = [
        begin("solver", "solver", 0.0, "generate"),
        event(
            "model",
            1.0,
            "solver",
            completed=_iso(2.0),
            model="openai/gpt",
            input=[message],
            tools=[],
            config={},
            output={"choices": [{"stop_reason": "tool_calls"}]},
            call={
                "request": {"model": "gpt", "messages": [message]},
                "response": {"id": "chatcmpl-1", "choices": [{"message": answer}]},
            },
        ),
        begin("inside", "tool", 3.0, "bash", "solver"),
        event("tool", 2.5, "solver", completed=_iso(4.0), result="no such file", error=None, **call),
        event(
            "sandbox", 3.25, "inside", completed=_iso(3.5), action="exec", cmd="cat x", result=1, output="?"
        ),
        event("model", 5.5, "solver", input=[], input_refs=[[0, 1]], model="m", output={}, error="Slow('!')"),
        event(
            "model",
            5.0,
            "solver",
            completed=_iso(6.0),
            model="openai/gpt",
            input=[],
            input_refs=[[0, 1]],
            output={"model": "gpt", "choices": []},
        ),
        begin("scorer", "scorer", 7.0, "model_graded"),
        event(
            "model", 7.5, "scorer", completed=_iso(8.0), model="m", input=[message], output={"choices": []}
        ),
        event("score", 8.0, "scorer", score={"value": "C"}),
    ]
    sample = {
        "id": 13,
        "epoch": 2,
        "uuid": "uuid-1",
        "input": "attachment://aaaa",
        "target": "x",
        "messages": [],
        "output": {"completion": "done"},
        "scores": {"note": {"value": {"a": 1}}, "graded": {"value": "P"}, "exact": {"value": False}},
        "events": events,
        "events_data": {"messages": [message], "calls": []},
        "attachments": {"aaaa": "Where is x?", "bbbb": "cat x"},
        "total_time": 8.0,
    }
    told = {
        "id": "s",
        "epoch": 1,
        "messages": [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Yes?", "tool_calls": [call]},
            {
                "role": "tool",
                "content": "",
                "tool_call_id": "call_insp00001",
                "error": {"type": "timeout", "message": "too slow"},
            },
            {"role": "tool", "content": "left over", "function": "python"},
        ],
        "limit": {"type": "token", "limit": 10},
        "attachments": {"bbbb": "cat x"},
    }
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "task": "guess",
            "task_id": "t1",
            "run_id": "r1",
            "eval_id": "e1",
            "model": "openai/gpt",
            "model_generate_config": {"temperature": 0.0, "top_p": None},
            "packages": {"inspect_ai": "0.3.100"},
        },
        "samples": [sample, told],
    }


def _iso(second: float) -> str:
    return f"2025-05-12T20:27:{second:09.6f}+00:00"
