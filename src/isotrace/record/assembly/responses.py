"""Responses of OpenAI. The last event of a stream holds the whole; before that it is put together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_ENDS: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
# Where the text of an event belongs: a list in the item and the event's index into it, and the field.
_TEXTS: Final[dict[str, tuple[tuple[str, str] | None, str, str]]] = {
    "response.output_text": (("content", "content_index"), "text", "output_text"),
    "response.refusal": (("content", "content_index"), "refusal", "refusal"),
    "response.reasoning_text": (("content", "content_index"), "text", "reasoning_text"),
    "response.reasoning_summary_text": (("summary", "summary_index"), "text", "summary_text"),
    "response.function_call_arguments": (None, "arguments", ""),
    "response.mcp_call_arguments": (None, "arguments", ""),
    "response.custom_tool_call_input": (None, "input", ""),
    "response.code_interpreter_call_code": (None, "code", ""),
}
_PARTS: Final = {
    "response.content_part": ("content", "content_index"),
    "response.reasoning_summary_part": ("summary", "summary_index"),
}


class OpenAIResponse:
    """A response in the making."""

    def __init__(self) -> None:
        self.complete = False
        self._head: dict[str, Any] = {}
        self._items: dict[int, dict[str, Any]] = {}

    @staticmethod
    def fits(event: Mapping[str, Any]) -> bool:
        kind = event.get("type")
        return (
            isinstance(kind, str) and kind.startswith("response.") and isinstance(event.get("response"), dict)
        )

    def feed(self, event: dict[str, Any]) -> None:
        kind = str(event.get("type"))
        if isinstance(event.get("response"), dict):
            self._head = event["response"]
            self.complete = kind in _ENDS
            return
        what, _, stage = kind.rpartition(".")
        if what == "response.output_item":
            self._items[event["output_index"]] = event["item"]
        elif what in _PARTS:
            field, index = _PARTS[what]
            _put(self._item(event).setdefault(field, []), event[index], event["part"])
        elif what == "response.output_text.annotation":
            part = self._part(event, "content", "content_index", "output_text")
            part.setdefault("annotations", []).append(event["annotation"])
        elif what in _TEXTS and stage in ("delta", "done"):
            self._text(event, what, stage)

    def _text(self, event: dict[str, Any], what: str, stage: str) -> None:
        place, field, kind = _TEXTS[what]
        holder = self._item(event) if place is None else self._part(event, *place, kind)
        if stage == "delta":
            holder[field] = (holder.get(field) or "") + event["delta"]
        elif isinstance(event.get(field), str):
            holder[field] = event[field]

    def _item(self, event: dict[str, Any]) -> dict[str, Any]:
        return self._items.setdefault(event["output_index"], {})

    def _part(self, event: dict[str, Any], field: str, index: str, kind: str) -> dict[str, Any]:
        parts: list[dict[str, Any]] = self._item(event).setdefault(field, [])
        if event[index] >= len(parts):
            _put(parts, event[index], {"type": kind})
        part: dict[str, Any] = parts[event[index]]
        return part

    def message(self) -> dict[str, Any]:
        if self._head.get("output") or not self._items:
            return dict(self._head)
        return {**self._head, "output": [self._items[index] for index in sorted(self._items)]}


def _put(parts: list[dict[str, Any]], index: int, part: dict[str, Any]) -> None:
    if index == len(parts):
        parts.append(part)
    else:
        parts[index] = part
