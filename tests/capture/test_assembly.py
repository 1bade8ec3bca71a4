"""Streamed answers: put together from their events, they are what the provider gives without streaming."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from isotrace.hashing import outcome_digest
from isotrace.minted import MintedIds
from isotrace.record.assembly import Assembler, StreamedAnswers, assembled
from isotrace.record.capture.splitters import EventSplitter

_CASSETTES = Path(__file__).parents[2] / "../shared/data/vcr/pydantic_ai/models/cassettes"
_BEGUN = {"status": 200}


def events(body: bytes) -> list[Any]:
    """The pieces as a capture records them."""
    splitter = EventSplitter()
    return [_BEGUN, *(event for event, _ in splitter.feed(body)), *(event for event, _ in splitter.end())]


def sse(*data: Any, named: bool = False) -> bytes:
    texts = [one if isinstance(one, str) else json.dumps(one) for one in data]
    names = [f"event: {one['type']}\n" if named else "" for one in data]
    return "".join(f"{name}data: {text}\n\n" for name, text in zip(names, texts, strict=True)).encode()


def recorded(name: str) -> list[bytes]:
    """The streamed bodies of a real cassette."""
    if not _CASSETTES.is_dir():
        pytest.skip("the real cassettes are not on this machine: ../shared/data is absent")
    path = _CASSETTES / name
    found = yaml.safe_load(path.read_text())["interactions"]
    return [one["response"]["body"]["string"].encode() for one in found]


def answering(body: bytes) -> httpx2.Client:
    """A client whose server answers with this stream."""

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=body)

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def without_nulls(value: Any) -> Any:
    """What is said: SDKs fill in what the provider left out."""
    if isinstance(value, dict):
        return {
            key: without_nulls(one)
            for key, one in value.items()
            if one is not None and key not in ("parsed", "parsed_arguments", "parsed_output")
        }
    return [without_nulls(one) for one in value] if isinstance(value, list) else value


# --- OpenAI's chat completions ------------------------------------------------------------


def chat_by_sdk(body: bytes) -> Any:
    client = openai.OpenAI(api_key="x", base_url="http://model/v1", http_client=answering(body))
    with client.chat.completions.stream(model="m", messages=[]) as stream:
        whole = without_nulls(stream.get_final_completion().to_dict())
    for choice in whole["choices"]:
        for call in choice["message"].get("tool_calls", ()):
            del call["index"]  # not in an answer that comes whole
    return whole


@pytest.mark.parametrize("number", [0, 1])
def test_real_chat_completions_are_as_the_sdk_accumulates_them(number: int) -> None:
    body = recorded("test_openai/test_run_stream_sync_streams_real_model.yaml")[number]
    answer = assembled(events(body))
    assert answer is not None
    assert without_nulls(answer.message) == chat_by_sdk(body)
    assert not answer.partial


def chunk(*choices: Any, **more: Any) -> dict[str, Any]:
    head = {"id": "chatcmpl-1234567", "object": "chat.completion.chunk", "created": 17, "model": "m-1"}
    return {**head, "choices": list(choices), **more}


def delta(index: int = 0, finish: str | None = None, **fields: Any) -> dict[str, Any]:
    return {"index": index, "delta": fields, "finish_reason": finish}


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"arguments": arguments, **({"name": more.pop("name")} if "name" in more else {})}
    return {"index": index, "function": function, **more}


CHAT = [
    chunk(delta(0, role="assistant", content=""), delta(1, role="assistant", content=None)),
    chunk(delta(0, content="Hel"), delta(1, refusal="I can't")),
    chunk(delta(0, content="lo"), delta(1, "stop", refusal=" do that")),
    chunk(delta(0, tool_calls=[call(0, "", id="call_aaaaaaaa", type="function", name="get")])),
    chunk(
        delta(0, tool_calls=[call(0, '{"a":'), call(1, "{", id="call_bbbbbbbb", type="function", name="put")])
    ),
    chunk(delta(0, tool_calls=[call(1, "}"), call(0, "1}")])),
    chunk(delta(0, "tool_calls")),
    chunk(usage={"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}),
]


def test_choices_refusals_and_parallel_calls_are_as_the_sdk_accumulates_them() -> None:
    body = sse(*CHAT, "[DONE]")
    answer = assembled(events(body))
    assert answer is not None
    assert without_nulls(answer.message) == chat_by_sdk(body)
    assert answer.message["choices"][0]["message"]["tool_calls"] == [
        {"id": "call_aaaaaaaa", "type": "function", "function": {"name": "get", "arguments": '{"a":1}'}},
        {"id": "call_bbbbbbbb", "type": "function", "function": {"name": "put", "arguments": "{}"}},
    ]


def test_servers_that_repeat_or_number_nothing_are_understood() -> None:
    first = {"id": "call_aaaaaaaa", "type": "function", "function": {"name": "get", "arguments": "{"}}
    more = {"function": {"arguments": "}"}}
    other = {"id": "call_bbbbbbbb", "type": "function", "function": {"name": "get", "arguments": "{}"}}
    pieces = [
        chunk(delta(role="assistant", tool_calls=[first])),
        chunk(delta(role="assistant", tool_calls=[more])),
        chunk(delta(0, "tool_calls", role="assistant", tool_calls=[other])),
    ]
    answer = assembled(events(sse(*pieces)))
    assert answer is not None
    message = answer.message["choices"][0]["message"]
    assert message["role"] == "assistant"
    assert [one["function"]["arguments"] for one in message["tool_calls"]] == ["{}", "{}"]


def test_thinking_of_mistral_and_reasoning_of_deepseek() -> None:
    def thinking(text: str) -> list[Any]:
        return [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]

    pieces = [
        chunk(delta(role="assistant", content="")),
        chunk(delta(content=thinking("Let "), reasoning_content="We")),
        chunk(delta(content=thinking("me see"), reasoning_content="ll")),
        chunk(delta(content="It is ")),
        chunk(delta(0, "stop", content="6")),
    ]
    answer = assembled(events(sse(*pieces)))
    assert answer is not None
    assert answer.message["choices"][0]["message"] == {
        "role": "assistant",
        "content": [*thinking("Let me see"), {"type": "text", "text": "It is 6"}],
        "reasoning_content": "Well",
    }


def test_a_text_completion() -> None:
    pieces = [
        {"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [{"index": 0, "text": text}]}
        for text in ("Hel", "lo")
    ]
    answer = assembled(events(sse(*pieces, "[DONE]")))
    assert answer is not None
    assert answer.message["choices"] == [{"index": 0, "text": "Hello"}]
    assert not answer.partial


# --- OpenAI's responses -------------------------------------------------------------------

RESPONSES = [
    *(
        (f"test_openai_responses/{name}.yaml", number)
        for name, count in (
            ("test_openai_responses_phase_streamed_on_part_start", 2),
            ("test_openai_include_raw_annotations_streaming", 3),
        )
        for number in range(count)
    ),
]


@pytest.mark.parametrize(("name", "number"), RESPONSES)
def test_real_responses_are_what_the_last_event_holds(name: str, number: int) -> None:
    body = recorded(name)[number]
    last = events(body)[-1]["data"]
    assert last["type"] == "response.completed"
    answer = assembled(events(body))
    assert answer is not None
    assert (answer.message, answer.partial) == (last["response"], False)


@pytest.mark.parametrize(("name", "number"), RESPONSES)
@pytest.mark.parametrize("left_out", [".completed", (".completed", ".done")])
def test_real_responses_without_their_end_have_the_same_output(name: str, number: int, left_out: Any) -> None:
    pieces = events(recorded(name)[number])
    whole = pieces[-1]["data"]["response"]["output"]
    cut = [one for one in pieces if not str(one.get("event", "")).endswith(left_out)]
    answer = assembled(cut)
    assert answer is not None
    assert answer.partial
    # What an item says of its own state comes with its end; what is encrypted is written anew each time.
    for items in (whole, answer.message["output"]):
        for item in items:
            item.pop("status", None)
            item.pop("encrypted_content", None)
            for part in item.get("content", ()):
                part.pop("logprobs", None)
    if left_out != ".completed":
        whole = [item for item in whole if item["type"] != "web_search_call"]
        answer.message["output"] = [
            one for one in answer.message["output"] if one["type"] != "web_search_call"
        ]
    assert answer.message["output"] == whole


# --- Anthropic's messages -----------------------------------------------------------------

_USAGE = {
    "input_tokens": 9,
    "output_tokens": 1,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 0,
}
MESSAGE: dict[str, Any] = {
    "id": "msg_0123456789",
    "type": "message",
    "role": "assistant",
    "model": "claude-x",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": _USAGE,
}


def block(index: int, start: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": start},
        *({"type": "content_block_delta", "index": index, "delta": one} for one in deltas),
        {"type": "content_block_stop", "index": index},
    ]


ANTHROPIC = [
    {"type": "message_start", "message": MESSAGE},
    *block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "Let me"},
        {"type": "thinking_delta", "thinking": " see"},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    {"type": "ping"},
    *block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "I look "},
        {"type": "text_delta", "text": "it up"},
    ),
    *block(
        2,
        {"type": "tool_use", "id": "toolu_0123456789", "name": "get", "input": {}},
        {"type": "input_json_delta", "partial_json": ""},
        {"type": "input_json_delta", "partial_json": '{"city": "Pa'},
        {"type": "input_json_delta", "partial_json": 'ris", "n": 1.50}'},
    ),
    *block(3, {"type": "tool_use", "id": "toolu_9876543210", "name": "now", "input": {}}),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": {"output_tokens": 30},
    },
    {"type": "message_stop"},
]


def test_a_message_is_as_the_sdk_accumulates_it() -> None:
    body = sse(*ANTHROPIC, named=True)
    client = anthropic.Anthropic(api_key="x", base_url="http://model", http_client=answering(body))
    with client.messages.stream(model="claude-x", max_tokens=9, messages=[]) as stream:
        whole = stream.get_final_message().to_dict()
    answer = assembled(events(body))
    assert answer is not None
    assert without_nulls(answer.message) == without_nulls(whole)
    assert answer.message["usage"] == {**_USAGE, "output_tokens": 30}
    assert not answer.partial


def test_an_input_that_was_cut_off_is_kept_as_text() -> None:
    answer = assembled(events(sse(*ANTHROPIC[:-6], named=True)))
    assert answer is not None
    assert answer.message["content"][2]["input"] == '{"city": "Pa'
    assert answer.partial


def test_an_error_in_the_middle_stands_in_the_answer() -> None:
    error = {"type": "overloaded_error", "message": "Overloaded"}
    answer = assembled(events(sse(*ANTHROPIC[:4], {"type": "error", "error": error}, named=True)))
    assert answer is not None
    assert (answer.message["error"], answer.partial) == (error, True)
    assert answer.message["content"] == [{"type": "thinking", "thinking": "Let me see", "signature": ""}]


# --- Google, Mistral's conversations --------------------------------------------------------


def content(*parts: Any, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"role": "model", "parts": list(parts)}, "index": 0, **more}]}


def test_parts_of_google_go_on_with_each_other() -> None:
    pieces = [
        content({"text": "Let me", "thought": True}) | {"modelVersion": "gemini-x", "responseId": "r1"},
        content({"text": " see", "thought": True}),
        content({"text": "It is "}) | {"usageMetadata": {"promptTokenCount": 3}},
        content({"text": "6"}),
        content({"functionCall": {"name": "get", "args": {"a": 1}}, "thoughtSignature": "c2ln"}),
        content({"text": ""}, finishReason="STOP")
        | {"usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 9}},
    ]
    whole = {
        "candidates": [
            {
                "index": 0,
                "finishReason": "STOP",
                "content": {
                    "role": "model",
                    "parts": [
                        {"text": "Let me see", "thought": True},
                        {"text": "It is 6"},
                        {"functionCall": {"name": "get", "args": {"a": 1}}, "thoughtSignature": "c2ln"},
                        {"text": ""},
                    ],
                },
            }
        ],
        "modelVersion": "gemini-x",
        "responseId": "r1",
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 9},
    }
    as_events, as_array = assembled(events(sse(*pieces))), assembled([_BEGUN, pieces])
    assert as_events is not None
    assert as_events.message == whole
    assert not as_events.partial
    assert as_array is not None
    assert as_array.message == whole


def test_a_conversation_of_mistral() -> None:
    said = {
        "type": "message.output.delta",
        "id": "msg_1",
        "output_index": 0,
        "content_index": 0,
        "role": "assistant",
    }
    called = {
        "type": "function.call.delta",
        "id": "fc_1",
        "output_index": 1,
        "name": "get",
        "tool_call_id": "c1",
    }
    pieces = [
        {"type": "conversation.response.started", "conversation_id": "conv_1"},
        {**said, "content": "Hel"},
        {**said, "content": "lo"},
        {**called, "arguments": '{"a"'},
        {**called, "arguments": ": 1}"},
        {"type": "conversation.response.done", "usage": {"prompt_tokens": 3}},
    ]
    answer = assembled(events(sse(*pieces, named=True)))
    assert answer is not None
    entry = {"object": "entry"}
    assert answer.message == {
        "object": "conversation.response",
        "conversation_id": "conv_1",
        "outputs": [
            {**entry, "type": "message.output", "id": "msg_1", "role": "assistant", "content": "Hello"},
            {
                **entry,
                "type": "function.call",
                "id": "fc_1",
                "name": "get",
                "tool_call_id": "c1",
                "arguments": '{"a": 1}',
            },
        ],
        "usage": {"prompt_tokens": 3},
    }
    assert not answer.partial


# --- any stream -----------------------------------------------------------------------------


def test_a_body_that_came_whole_is_the_answer() -> None:
    body = {"error": {"message": "slow down", "type": "rate_limit"}}
    for whole in (body, {"id": "1", "choices": [{"message": {"content": "hi"}}]}):
        answer = assembled([{"status": 429}, dict(whole)])
        assert answer is not None
        assert (answer.message, answer.partial) == (whole, False)


def test_an_unknown_protocol_has_no_answer() -> None:
    assert assembled(events(sse({"text": "a"}, {"text": "b"}))) is None
    assert assembled([_BEGUN, {"text": "a"}, {"text": "b"}]) is None
    assert assembled([_BEGUN, {"$iso:bytes": "AAECAw=="}]) is None
    assert assembled([]) is None


def test_comments_and_blank_events_change_nothing() -> None:
    answer = assembled([{"comment": ": ping"}, *events(sse(*CHAT)), {"retry": "3"}, {"event": "keepalive"}])
    plain = assembled(events(sse(*CHAT)))
    assert answer == plain


_LEAVES = st.none() | st.integers(-1, 3) | st.sampled_from(["", "a", "[DONE]", "response.completed"])
_KEYS = st.sampled_from(
    [
        "data",
        "type",
        "choices",
        "delta",
        "index",
        "message",
        "content",
        "content_block",
        "candidates",
        "parts",
        "response",
        "output",
        "item",
        "output_index",
        "tool_calls",
        "function",
        "usage",
        "error",
        "object",
        "event",
    ]
)
_KINDS = st.sampled_from(
    [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "response.created",
        "response.output_item.added",
        "response.output_text.delta",
        "conversation.response.started",
        "message.output.delta",
    ]
)
_ANY = st.recursive(
    _LEAVES | _KINDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4)
)


@given(st.lists(_ANY, max_size=6))
def test_no_stream_breaks_it(pieces: list[Any]) -> None:
    assembler = Assembler()
    for piece in pieces:
        assembler.feed(piece)
        answer = assembler.answer()
        assert answer is None or isinstance(answer.message, dict)


@given(st.lists(st.integers(1, 9), max_size=40))
def test_how_a_text_is_cut_changes_no_digest(cuts: list[int]) -> None:
    text, pieces, at = "The quick brown fox jumps over the lazy dog", [], 0
    for length in [*cuts, len(text)]:
        pieces.append(chunk(delta(content=text[at : at + length])))
        at += length
    answer = assembled(events(sse(*pieces, chunk(delta(0, "stop")), "[DONE]")))
    whole = chunk({"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}})
    assert answer is not None
    assert outcome_digest(answer.message) == outcome_digest({**whole, "object": "chat.completion"})


@given(st.integers(1, 30), st.integers(1, 30))
def test_ids_have_one_number_however_they_were_cut(first: int, second: int) -> None:
    def learnt(*cuts: int) -> Any:
        minted = MintedIds()
        answers = StreamedAnswers(minted)
        name, at = "call_0123456789abcdef", 0
        answers.feed((0,), {"data": chunk(delta(role="assistant"))})
        for cut in sorted({*cuts, len(name)}):
            part = name[at:cut]
            at = max(at, min(cut, len(name)))
            if part:
                answers.feed((0,), {"data": chunk(delta(tool_calls=[{"index": 0, "id": part}]))})
        answers.end((0,))
        return minted.replace({"chat": "chatcmpl-1234567", "call": name})

    assert learnt(first) == learnt(second) == learnt()


def test_ids_of_an_answer_under_way_are_known_when_a_step_begins() -> None:
    minted = MintedIds()
    answers = StreamedAnswers(minted)
    for piece in events(sse(*CHAT[:4])):
        answers.feed((0,), piece)
    assert minted.replace("call_aaaaaaaa") == ("call_aaaaaaaa", {})
    answers.learn()
    assert minted.replace("call_aaaaaaaa") == ({"$iso:id": "0#1"}, {"0#1": "call_aaaaaaaa"})
