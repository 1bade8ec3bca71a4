"""Streamed answers in the record: hashed and compared as a whole, served in their pieces."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import openai
import pytest

from isotrace.compare import diff_traces
from isotrace.ledger import verify
from isotrace.models import TraceRecord, TraceStep
from isotrace.operations import erase, find_text, step_values

if TYPE_CHECKING:
    from tests.capture.server import Server
    from tests.record.lab import Lab, Taken

pytestmark = pytest.mark.usefixtures("captured")


def chunk(run: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    head = {"id": f"chatcmpl-{run}", "object": "chat.completion.chunk", "created": 17, "model": "gpt-x"}
    return {**head, "choices": [choice]}


def asks_for_a_tool(run: str, *arguments: str) -> list[Any]:
    """A stream that asks for one call, whose id is another in each run."""
    call = {"index": 0, "id": f"call_{run}", "type": "function", "function": {"name": "get", "arguments": ""}}
    pieces = [{"tool_calls": [{"index": 0, "function": {"arguments": one}}]} for one in arguments]
    return [
        chunk(run, {"role": "assistant", "tool_calls": [call]}),
        *(chunk(run, piece) for piece in pieces),
        chunk(run, {}, "tool_calls"),
        "[DONE]",
    ]


def says(run: str, *words: str) -> list[Any]:
    return [*(chunk(run, {"content": word}) for word in words), chunk(run, {}, "stop"), "[DONE]"]


def agent_of(server: Server) -> Any:
    def agent() -> str:
        """Asks, answers the call that comes back, and asks again."""
        client = openai.OpenAI(base_url=server.url, api_key="sk-secret", max_retries=0)
        messages: list[Any] = [{"role": "user", "content": "where?"}]
        with client.chat.completions.stream(model="gpt-x", messages=messages) as stream:
            answer = stream.get_final_completion().choices[0].message
        assert answer.tool_calls
        call = answer.tool_calls[0]
        messages += [
            {"role": "assistant", "tool_calls": [{"id": call.id, "type": "function", "function": {
                "name": call.function.name, "arguments": call.function.arguments}}]},
            {"role": "tool", "tool_call_id": call.id, "content": f"result of {call.id}"},
        ]  # fmt: skip
        with client.chat.completions.stream(model="gpt-x", messages=messages) as stream:
            return stream.get_final_completion().choices[0].message.content or ""

    return agent


def record(lab: Lab, server: Server, *streams: list[Any]) -> Taken:
    server.scripted = list(streams)
    taken = lab.record(agent_of(server))
    assert taken.error is None
    return taken


def digests(lab: Lab, taken: Taken) -> list[tuple[bytes | None, bytes | None]]:
    rows = lab.store.steps(taken.record.run_id, tenant_id="default")
    return [(row.determinism_hash, row.outcome_digest) for row in rows]


def test_the_outcome_of_a_stream_is_its_answer_and_the_pieces_stand_beside_it(
    lab: Lab, server: Server
) -> None:
    taken = record(lab, server, asks_for_a_tool("aaaaaaaa", '{"a"', ": 1}"), says("aaaaaaab", "He", "re"))
    first, second = taken.record.steps
    assert first.outcome_data == {
        "id": "chatcmpl-aaaaaaaa",
        "object": "chat.completion",
        "created": 17,
        "model": "gpt-x",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": "call_aaaaaaaa",
                            "type": "function",
                            "function": {"name": "get", "arguments": '{"a": 1}'},
                        }
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
    }
    assert second.outcome_data is not None
    assert second.outcome_data["choices"][0]["message"]["content"] == "Here"
    assert second.context is not None
    assert second.context.chunks is not None
    assert second.context.chunks[1] == {"data": chunk("aaaaaaab", {"content": "He"})}
    assert "partial" not in second.context.marks
    assert TraceRecord.from_dict(json.loads(json.dumps(taken.record.to_dict()))) == taken.record
    verify(taken.ledger)


def test_a_second_run_with_other_ids_in_other_pieces_takes_the_same_path(lab: Lab, server: Server) -> None:
    one = record(lab, server, asks_for_a_tool("aaaaaaaa", '{"a"', ": 1}"), says("aaaaaaab", "He", "re"))
    whole, *parts = asks_for_a_tool("zzzzzzzz", '{"a": 1}')
    call = whole["choices"][0]["delta"]["tool_calls"][0]
    more = {"index": 0, "id": "zzz", "function": {"arguments": ""}}
    rest = chunk("zzzzzzzz", {"tool_calls": [more]})
    call["id"] = "call_zzzzz"
    other = record(lab, server, [whole, rest, *parts], says("zzzzzzzx", "H", "er", "e"))
    assert digests(lab, one) == digests(lab, other)
    assert str(lab.replay(other, agent_of(server)).verdict) == "MATCH"
    params = other.record.steps[1].params
    assert params == one.record.steps[1].params
    assert params["messages"][2]["tool_call_id"] == {"$iso:id": "0#1"}
    assert params["messages"][2]["content"] == "result of $iso:id(0#1)"
    diff = diff_traces(one.record, other.record, level="exact")
    assert str(diff.verdict) == "MATCH"
    assert [(str(found.code), str(found.severity), found.index) for found in diff.divergences] == [
        ("STREAM_CHANGED", "info", 0),
        ("STREAM_CHANGED", "info", 1),
    ]


def test_other_content_is_another_output(lab: Lab, server: Server) -> None:
    one = record(lab, server, asks_for_a_tool("aaaaaaaa", "{}"), says("aaaaaaab", "He", "re"))
    other = record(lab, server, asks_for_a_tool("aaaaaaaa", "{}"), says("aaaaaaab", "The", "re"))
    diff = diff_traces(one.record, other.record, level="exact")
    (found,) = diff.divergences
    assert (str(found.code), found.index) == ("OUTPUT_CHANGED", 1)
    assert found.pointers == ["/choices/0/message/content"]


def test_it_replays_with_its_ledger_and_without(lab: Lab, server: Server) -> None:
    taken = record(lab, server, asks_for_a_tool("aaaaaaaa", '{"a"', ": 1}"), says("aaaaaaab", "He", "re"))
    server.stop()
    for source in (taken.ledger, taken.record, TraceRecord.from_dict(taken.record.to_dict())):
        result = lab.replay(source, agent_of(server))
        assert (str(result.verdict), result.divergences, result.value) == ("MATCH", [], "Here")
        assert (result.receipt.served, result.receipt.blocked) == (2, 0)


def test_a_call_that_is_made_before_its_stream_ends_has_the_same_params(lab: Lab, server: Server) -> None:
    def agent() -> str:
        client = openai.OpenAI(base_url=server.url, api_key="sk-secret", max_retries=0)
        ask: Any = client.chat.completions.create
        stream = ask(model="gpt-x", messages=[{"role": "user", "content": "where?"}], stream=True)
        call = next(stream).choices[0].delta.tool_calls[0]
        result = {"role": "tool", "tool_call_id": call.id, "content": "here"}
        ask(model="gpt-x", messages=[result])
        stream.close()
        return str(call.id)

    params = []
    for run in ("aaaaaaaa", "zzzzzzzz"):
        server.scripted = [asks_for_a_tool(run, "{", "}")]
        taken = lab.record(agent)
        assert taken.value == f"call_{run}"
        params.append(taken.record.steps[1].params)
        assert str(lab.replay(taken, agent).verdict) == "MATCH"
    assert params[0] == params[1]
    assert params[0]["messages"][0]["tool_call_id"] == {"$iso:id": "0#1"}


def test_an_answer_that_was_cancelled_is_kept_as_far_as_it_came(lab: Lab, server: Server) -> None:
    server.words = [f"word{number} " for number in range(40)]

    async def agent() -> list[str]:
        client = openai.AsyncOpenAI(base_url=server.url, api_key="sk-secret", max_retries=0)
        seen: list[str] = []

        async def one() -> None:
            messages: Any = [{"role": "user", "content": "go on"}]
            stream = await client.chat.completions.create(model="gpt-x", messages=messages, stream=True)
            async for piece in stream:
                seen.append(piece.choices[0].delta.content or "")
                if len(seen) == 3:
                    task.cancel()

        task = asyncio.create_task(one())
        await asyncio.gather(task, return_exceptions=True)
        return seen

    taken = lab.record(agent)
    (step,) = taken.record.steps
    assert step.outcome_data is not None
    assert step.context is not None
    assert "partial" in step.context.marks
    said = step.outcome_data["choices"][0]["message"]["content"]
    assert said.startswith("word0 word1 word2 ")
    assert "word39" not in said
    server.stop()
    result = lab.replay(taken, agent)
    assert (str(result.verdict), result.value) == ("MATCH", taken.value)


def test_an_answer_that_is_cut_off_in_one_run_only_is_told(lab: Lab, server: Server) -> None:
    tool = asks_for_a_tool("aaaaaaaa", "{}")
    one = record(lab, server, tool, says("aaaaaaab", "He", "re"))
    whole = record(lab, server, tool, says("aaaaaaab", "He", "re"))
    step: TraceStep = whole.record.steps[1]
    cut = whole.record
    cut.steps[1].context = step.context
    assert step.context
    assert step.context.chunks
    assert cut.steps[1].context
    cut.steps[1].context.chunks = step.context.chunks[:2]
    cut.steps[1].context.marks = ["closed_early", "partial"]
    diff = diff_traces(one.record, cut, level="exact")
    (found,) = diff.divergences
    assert (str(found.code), str(found.severity)) == ("STREAM_CHANGED", "error")
    assert found.message.startswith("the answer is cut off in the replay only")


def test_what_was_said_in_several_pieces_is_erased_from_all_of_them(lab: Lab, server: Server) -> None:
    taken = record(lab, server, asks_for_a_tool("aaaaaaaa", "{}"), says("aaaaaaab", "my pass", "word is x"))
    run_id = taken.record.run_id
    found = find_text(lab.store, run_id, "password", tenant_id="default")
    chosen = step_values(lab.store, run_id, 1, ["outcome_data"], tenant_id="default")
    held = {(event.seq, name) for event in taken.events if event.lineage == (1,) for name in event.values}
    pieces = {(seq, name) for seq, name in held if name in ("chunk", "outcome_data")}
    assert set(found.targets[run_id]) >= pieces
    assert set(chosen.targets[run_id]) == pieces
    erase(lab.store, found, tenant_id="default", reason="a secret")
    left = lab.ledger(run_id)
    verify(left)
    assert b"word" not in b"".join(
        data
        for event in left.events
        if event.lineage == (1,)
        for data in event.values.values()
        if type(data) is bytes
    )
    result = lab.replay(left, agent_of(server))
    assert [str(one.code) for one in result.divergences] == ["RECORD_GAP"]
