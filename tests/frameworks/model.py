"""A model on loopback that asks for tools: answers in the protocols of chat completions and responses."""

from __future__ import annotations

import json
import re
from typing import Any

Call = tuple[str, str, dict[str, Any]]
"""Id, tool, arguments."""


def chat(asked: dict[str, Any], text: str | None, *calls: Call) -> Any:
    """What `/chat/completions` answers, as events where a stream is asked for."""
    tool_calls = [
        {"id": id_, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for id_, name, arguments in calls
    ]
    finish = "tool_calls" if calls else "stop"
    head = {"id": f"chatcmpl-{len(asked['messages'])}x", "created": 1_700_000_000, "model": asked["model"]}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    if not asked.get("stream"):
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if calls:
            message["tool_calls"] = tool_calls
        choice = {"index": 0, "finish_reason": finish, "message": message}
        return {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word} for word in re.findall(r"\S+\s*", text or "")]
    deltas += [{"tool_calls": [{**call, "index": index}]} for index, call in enumerate(tool_calls)]
    ends = [None] * len(deltas) + [finish]
    chunks = [
        {"index": 0, "delta": delta, "finish_reason": end}
        for delta, end in zip([*deltas, {}], ends, strict=True)
    ]
    head["object"] = "chat.completion.chunk"
    return [*((None, {**head, "choices": [chunk]}) for chunk in chunks), (None, "[DONE]")]


def responses(asked: dict[str, Any], text: str | None, *calls: Call) -> Any:
    """What `/responses` answers, likewise."""
    output: list[dict[str, Any]] = [
        {
            "type": "function_call",
            "id": f"fc_{id_}",
            "call_id": id_,
            "name": name,
            "arguments": json.dumps(arguments),
            "status": "completed",
        }
        for id_, name, arguments in calls
    ]
    if text is not None:
        part = {"type": "output_text", "text": text, "annotations": []}
        output.append(
            {
                "type": "message",
                "id": "msg_0001",
                "role": "assistant",
                "status": "completed",
                "content": [part],
            }
        )
    whole = {
        "id": f"resp_{len(asked['input'])}0000",
        "object": "response",
        "created_at": 1_700_000_000,
        "model": asked["model"],
        "output": output,
        "status": "completed",
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5,
        },
    }
    if not asked.get("stream"):
        return whole
    begun = {**whole, "output": [], "status": "in_progress"}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": begun}]
    for index, item in enumerate(output):
        events.append({"type": "response.output_item.added", "output_index": index, "item": item})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return [(event["type"], {**event, "sequence_number": number}) for number, event in enumerate(events)]


def messages(asked: dict[str, Any], text: str | None, *calls: Call) -> Any:
    """What Anthropic's `/messages` answers to a request for a stream."""
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if text is not None:
        deltas = [{"type": "text_delta", "text": word} for word in re.findall(r"\S+\s*", text)]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for id_, name, arguments in calls:
        delta = {"type": "input_json_delta", "partial_json": json.dumps(arguments)}
        blocks.append(({"type": "tool_use", "id": id_, "name": name, "input": {}}, [delta]))
    head = {
        "id": f"msg_{len(asked['messages'])}0000000",
        "type": "message",
        "role": "assistant",
        "content": [],
    }
    usage = {"input_tokens": 3, "output_tokens": 2}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {**head, "model": asked["model"], "usage": usage}}
    ]
    for index, (block, deltas) in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        events.append({"type": "content_block_stop", "index": index})
    stop = {"stop_reason": "tool_use" if calls else "end_turn", "stop_sequence": None}
    events.append({"type": "message_delta", "delta": stop, "usage": {"output_tokens": 2}})
    return [(event["type"], event) for event in [*events, {"type": "message_stop"}]]
