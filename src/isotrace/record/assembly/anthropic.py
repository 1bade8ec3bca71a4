"""Messages of Anthropic: blocks of text, thinking, tool calls and what servers' tools gave."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

_BEGIN: Final = "message_start"


class AnthropicMessage:
    """A message in the making."""

    def __init__(self) -> None:
        self.complete = False
        self._head: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, str] = {}

    @staticmethod
    def fits(event: Mapping[str, Any]) -> bool:
        return event.get("type") == _BEGIN and isinstance(event.get("message"), dict)

    def feed(self, event: dict[str, Any]) -> None:
        match event.get("type"):
            case "message_start":
                self._head = event["message"]
                self._blocks = dict(enumerate(self._head.pop("content", None) or ()))
            case "content_block_start":
                self._blocks[event["index"]] = event["content_block"]
            case "content_block_delta":
                self._delta(event["index"], event["delta"])
            case "message_delta":
                self._end(event)
            case "message_stop":
                self.complete = True

    def _delta(self, index: int, delta: dict[str, Any]) -> None:
        block = self._blocks[index]
        match delta.pop("type", None):
            case "input_json_delta":
                self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
            case "citations_delta":
                block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
            case "signature_delta":
                block["signature"] = delta["signature"]
            case _:
                for name, text in delta.items():
                    before = block.get(name)
                    joins = isinstance(before, str) and isinstance(text, str)
                    block[name] = before + text if joins else text

    def _end(self, event: dict[str, Any]) -> None:
        """How it ended. Counts are totals; what is left out stands as it began."""
        event.pop("type")
        usage = event.pop("usage", None) or {}
        known = self._head.get("usage")
        self._head["usage"] = {
            **(known if isinstance(known, dict) else {}),
            **{name: count for name, count in usage.items() if count is not None},
        }
        changes = event.pop("delta", None) or {}
        for name, value in {**event, **changes}.items():
            if value is not None or name not in self._head:
                self._head[name] = value
        self.complete = bool(self._head.get("stop_reason"))

    def message(self) -> dict[str, Any]:
        content = [self._block(index) for index in sorted(self._blocks)]
        return {**self._head, "content": content}

    def _block(self, index: int) -> dict[str, Any]:
        block = dict(self._blocks[index])
        text = self._inputs.get(index)
        if text:
            try:
                block["input"] = orjson.loads(text)
            except ValueError:
                block["input"] = text  # cut off in the middle
        return block
