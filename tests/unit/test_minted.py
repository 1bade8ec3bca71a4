"""Ids that a provider mints afresh do not reach hashes, and come back for serving."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from isotrace.canonical import value_bytes
from isotrace.hashing import outcome_digest, params_digest
from isotrace.minted import PROVIDERS, MintedIds, restore, strip_volatile


def openai_chat(run: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{run}",
        "object": "chat.completion",
        "created": 1_700_000_000 + len(run),
        "model": "gpt-4.1",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {
                            "id": f"call_{run}A",
                            "type": "function",
                            "function": {"name": "f", "arguments": '{"a":1}'},
                        },
                        {
                            "id": f"call_{run}B",
                            "type": "function",
                            "function": {"name": "g", "arguments": "{}"},
                        },
                    ],
                },
                "finish_reason": "tool_calls",
            }
        ],
        "usage": {"prompt_tokens": 10, "prompt_tokens_details": {"cached_tokens": len(run)}},
        "system_fingerprint": f"fp_{run}",
    }


def openai_message(run: str) -> dict[str, Any]:
    message: dict[str, Any] = openai_chat(run)["choices"][0]["message"]
    return message


def openai_chunks(run: str) -> dict[str, Any]:
    def chunk(delta: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": f"chatcmpl-{run}",
            "object": "chat.completion.chunk",
            "created": len(run),
            "choices": [{"index": 0, "delta": delta}],
            "obfuscation": run,
        }

    first = {"index": 0, "id": f"call_{run}A", "function": {"name": "f", "arguments": ""}}
    second = {"index": 1, "id": f"call_{run}B", "function": {"name": "g", "arguments": ""}}
    return {"chunks": [chunk({"tool_calls": [first]}), chunk({"tool_calls": [second]}), chunk({})]}


def openai_response(run: str) -> dict[str, Any]:
    return {
        "id": f"resp_{run}",
        "object": "response",
        "created_at": float(len(run)),
        "output": [
            {"id": f"rs_{run}", "type": "reasoning", "summary": [], "encrypted_content": f"gAAA{run}"},
            {
                "id": f"fc_{run}",
                "type": "function_call",
                "call_id": f"call_{run}A",
                "name": "f",
                "arguments": "{}",
            },
        ],
        "usage": {"input_tokens": len(run)},
        "previous_response_id": f"resp_before_{run}",
    }


def anthropic_message(run: str) -> dict[str, Any]:
    return {
        "id": f"msg_{run}",
        "type": "message",
        "role": "assistant",
        "model": "claude",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": f"Eq{run}"},
            {"type": "redacted_thinking", "data": f"Em{run}"},
            {"type": "tool_use", "id": f"toolu_{run}A", "name": "f", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "usage": {"input_tokens": len(run)},
    }


def anthropic_events(run: str) -> dict[str, Any]:
    message = anthropic_message(run) | {"content": []}
    block = {"type": "tool_use", "id": f"toolu_{run}A", "name": "f", "input": {}}
    return {
        "chunks": [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "signature_delta", "signature": run},
            },
            {
                "type": "message_delta",
                "delta": {"stop_reason": "tool_use"},
                "usage": {"output_tokens": len(run)},
            },
            {"type": "message_stop"},
        ]
    }


def openai_events(run: str) -> dict[str, Any]:
    item = {
        "id": f"fc_{run}",
        "type": "function_call",
        "call_id": f"call_{run}A",
        "name": "f",
        "arguments": "",
    }
    return {
        "chunks": [
            {
                "type": "response.created",
                "response": openai_response(run) | {"output": []},
                "sequence_number": 0,
            },
            {"type": "response.output_item.added", "item": item, "sequence_number": 1},
            {
                "type": "response.function_call_arguments.delta",
                "item_id": f"fc_{run}",
                "delta": "{}",
                "obfuscation": run,
                "sequence_number": 2,
            },
        ]
    }


def google_response(run: str) -> dict[str, Any]:
    part = {"functionCall": {"id": f"adk-{run}", "name": "f", "args": {"a": 1}}, "thoughtSignature": run}
    return {
        "candidates": [{"content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}],
        "createTime": run,
        "responseId": f"Y0{run}",
        "usageMetadata": {"promptTokenCount": len(run)},
        "modelVersion": "gemini",
    }


def mistral_conversation(run: str) -> dict[str, Any]:
    return {
        "object": "conversation.response",
        "conversation_id": f"conv_{run}",
        "outputs": [
            {
                "object": "entry",
                "type": "function.call",
                "id": f"fc_{run}",
                "tool_call_id": f"D681{run}",
                "created_at": run,
                "name": "f",
                "arguments": "{}",
            }
        ],
        "usage": {"total_tokens": len(run)},
    }


OUTCOMES = {
    "openai chat": openai_chat,
    "openai chat stream": openai_chunks,
    "openai message": openai_message,
    "openai responses": openai_response,
    "openai responses stream": openai_events,
    "anthropic messages": anthropic_message,
    "anthropic messages stream": anthropic_events,
    "google genai": google_response,
    "mistral conversations": mistral_conversation,
}
IDS = {
    "openai chat": ["chatcmpl-{}", "call_{}A", "call_{}B"],
    "openai chat stream": ["chatcmpl-{}", "call_{}A", "call_{}B"],
    "openai message": ["call_{}A", "call_{}B"],
    "openai responses": ["resp_{}", "rs_{}", "fc_{}", "call_{}A"],
    "openai responses stream": ["resp_{}", "fc_{}", "call_{}A"],
    "anthropic messages": ["msg_{}", "toolu_{}A"],
    "anthropic messages stream": ["msg_{}", "toolu_{}A"],
    "google genai": ["Y0{}", "adk-{}"],
    "mistral conversations": ["conv_{}", "fc_{}", "D681{}"],
}


def test_every_provider_of_the_table_is_tried_here():
    assert {provider.name for provider in PROVIDERS} == set(OUTCOMES) - {"openai chat stream"}


@pytest.mark.parametrize("name", OUTCOMES)
def test_two_runs_that_got_the_same_answer_have_one_outcome_digest(name):
    first, second = OUTCOMES[name]("9aX3kQ"), OUTCOMES[name]("Zr71bbUU")
    assert first != second
    before = copy.deepcopy(first)
    for wrap in (lambda x: x, lambda x: {"value": x}, lambda x: {"message": {"extra": {"response": x}}}):
        assert outcome_digest(wrap(first)) == outcome_digest(wrap(second))
    assert first == before


@pytest.mark.parametrize("name", OUTCOMES)
def test_an_answer_that_differs_in_what_it_says_has_another_digest(name):
    first, second = OUTCOMES[name]("9aX3kQ"), OUTCOMES[name]("9aX3kQ")
    text = value_bytes(second)
    changed = text.replace(b'"f"', b'"other"')
    assert changed != text
    assert outcome_digest(first) != outcome_digest(json.loads(changed))


@pytest.mark.parametrize("name", OUTCOMES)
def test_every_id_of_an_outcome_is_learnt_in_order(name):
    minted = MintedIds()
    minted.learn("0.2", OUTCOMES[name]("9aX3kQ"))
    ids = [template.format("9aX3kQ") for template in IDS[name]]
    assert len(minted) == len(ids)
    replaced, raw = minted.replace(ids)
    assert replaced == [{"$iso:id": f"0.2#{number}"} for number in range(len(ids))]
    assert raw == {f"0.2#{number}": text for number, text in enumerate(ids)}


def test_chunks_that_are_learnt_one_by_one_number_their_ids_on():
    whole, pieces = MintedIds(), MintedIds()
    stream = openai_chunks("9aX3kQ")
    whole.learn("3", stream)
    for chunk in stream["chunks"]:
        pieces.learn("3", chunk)
    ids = ["call_9aX3kQA", "call_9aX3kQB"]
    assert whole.replace(ids) == pieces.replace(ids)


def history(run: str) -> dict[str, Any]:
    """The next request: the ids as values, as keys, in JSON text and in prose."""
    return {
        "messages": [
            openai_message(run),
            {
                "role": "tool",
                "tool_call_id": f"call_{run}A",
                "content": f'{{"for": "call_{run}A", "ok": true}}',
            },
            {
                "role": "user",
                "content": f"What of call_{run}B? And of call_{run}BB, xcall_{run}B, my-call_{run}B?",
            },
        ],
        "results": {f"call_{run}A": 1, "other": 2},
        "logs": {f"out of call_{run}B": 1.0},
    }


def test_params_that_carry_minted_ids_have_one_digest_in_all_runs():
    digests, plains = set(), []
    for run in ("9aX3kQ", "Zr71bbUU"):
        minted = MintedIds()
        minted.learn("0", openai_chat(run))
        plain, raw = minted.replace(history(run))
        assert restore(plain, raw) == history(run)
        # Only what is not an id of this run still differs.
        plain["messages"].pop()
        digests.add(params_digest(plain))
        plains.append(plain)
    assert plains[0] == plains[1]
    assert len(digests) == 1
    assert plains[0]["messages"][1] == {
        "role": "tool",
        "tool_call_id": {"$iso:id": "0#1"},
        "content": '{"for": "$iso:id(0#1)", "ok": true}',
    }
    assert plains[0]["results"] == {"$iso:dict": [[{"$iso:id": "0#1"}, 1], ["other", 2]]}
    assert plains[0]["logs"] == {"out of $iso:id(0#2)": 1.0}


def test_ids_of_others_stay_and_so_do_longer_names_that_hold_one():
    minted = MintedIds()
    minted.learn("0", openai_chat("9aX3kQ"))
    content = history("9aX3kQ")["messages"][2]
    plain, _ = minted.replace(content)
    assert plain["content"] == "What of $iso:id(0#2)? And of call_9aX3kQBB, xcall_9aX3kQB, my-call_9aX3kQB?"
    foreign = {"tool_call_id": "call_ofAnotherRun", "order": "A-1"}
    assert minted.replace(foreign) == (foreign, {})
    assert minted.replace(foreign)[0] is foreign


def test_an_id_that_is_minted_twice_belongs_to_the_first_step():
    minted = MintedIds()
    minted.learn("0", openai_message("same"))
    minted.learn("1", openai_message("same"))
    assert minted.replace("call_sameA") == ({"$iso:id": "0#0"}, {"0#0": "call_sameA"})


def test_short_ids_and_names_in_the_place_of_ids_are_left_alone():
    minted = MintedIds()
    call = {"id": "get_weather", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    minted.learn(
        "0", {"role": "assistant", "tool_calls": [call, {"id": "0"}, {"id": ""}, {"id": None}, {"id": 7}, 8]}
    )
    assert len(minted) == 0
    assert minted.replace({"tool": "get_weather", "n": "0"}) == ({"tool": "get_weather", "n": "0"}, {})


def test_text_that_looks_like_a_reference_comes_back_as_it_was():
    minted = MintedIds()
    minted.learn("0[a(b)%].1", openai_chat("9aX3kQ"))
    params = [
        "$iso:id(0#1)",
        "$iso:id(!)",
        "$iso:id(",
        "x $iso:id(0[a%28b%29%25].1#1) y",
        "use call_9aX3kQA now",
    ]
    plain, raw = minted.replace(params)
    assert plain[4] == "use $iso:id(0[a%28b%29%25].1#1) now"
    assert restore(plain, raw) == params


@pytest.mark.parametrize(
    "outcome",
    [
        None,
        1,
        "text",
        [],
        {"choices": 1},
        {"choices": [1, {"message": 2}, {"delta": {"tool_calls": {"id": "call_abcdef"}}}]},
        {"role": "assistant", "tool_calls": [None, [], {"id": {}}]},
        {"object": "response", "output": [1, {"id": []}]},
        {"type": "message", "role": "assistant", "content": [1, {"id": 5}]},
        {"type": ["response."], "candidates": [{"content": {"parts": 5}}, 3]},
        {"candidates": ["Jane Doe", {"name": "John Roe"}], "responseId": "kept-as-it-is"},
        {"type": "message", "id": "kept-as-it-is", "content": "a tool's own message"},
        {"choices": ["red", "blue"], "id": "kept-as-it-is"},
    ],
)
def test_what_only_resembles_a_provider_is_neither_changed_nor_an_error(outcome):
    minted = MintedIds()
    minted.learn("0", outcome)
    assert len(minted) == 0
    assert strip_volatile(outcome) == outcome


def test_restoring_without_raw_ids_changes_nothing():
    value = {"a": ["$iso:id(!)", {"$iso:id": "0#1"}]}
    assert restore(value, {}) is value


def test_bytes_without_any_of_the_ids_need_not_be_read():
    minted = MintedIds()
    assert not minted.may_occur_in(b'"call_9aX3kQA"')
    minted.learn("0", openai_chat("9aX3kQ"))
    assert minted.may_occur_in(b'{"x":"call_9aX3kQA"}')
    assert not minted.may_occur_in(b'{"order":"A-1","city":"Paris"}')
