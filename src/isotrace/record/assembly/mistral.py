"""Conversations of Mistral. Its chat completions are those of OpenAI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from isotrace.record.assembly.merging import latest, merge

_BEGIN: Final = "conversation.response.started"
_OUTPUTS: Final = {
    "message.output.delta": "message.output",
    "function.call.delta": "function.call",
    "tool.execution.started": "tool.execution",
    "tool.execution.delta": "tool.execution",
    "tool.execution.done": "tool.execution",
    "agent.handoff.started": "agent.handoff",
    "agent.handoff.done": "agent.handoff",
}
_JOINED: Final = frozenset({"content", "arguments"})


class MistralConversation:
    """A conversation's answer in the making."""

    def __init__(self) -> None:
        self.complete = False
        self._head: dict[str, Any] = {}
        self._outputs: dict[Any, dict[str, Any]] = {}

    @staticmethod
    def fits(event: Mapping[str, Any]) -> bool:
        return event.get("type") == _BEGIN

    def feed(self, event: dict[str, Any]) -> None:
        kind = event.pop("type", None)
        if kind in _OUTPUTS:
            self._output(_OUTPUTS[kind], event)
        elif kind == "conversation.response.done":
            self._head["usage"] = event.get("usage")
            self.complete = True
        elif kind == _BEGIN:
            self._head["conversation_id"] = event.get("conversation_id")
        elif kind == "conversation.response.error":
            self._head["error"] = event

    def _output(self, kind: str, event: dict[str, Any]) -> None:
        place = event.pop("output_index", None)
        for name in ("content_index", "created_at"):
            event.pop(name, None)
        known = self._outputs.setdefault((place, event.get("id")), {"object": "entry", "type": kind})
        merge(known, {name: _parts(event.pop(name)) for name in list(event) if name in _JOINED})
        latest(known, event)

    def message(self) -> dict[str, Any]:
        return {"object": "conversation.response", **self._head, "outputs": list(self._outputs.values())}


def _parts(content: Any) -> Any:
    return [content] if isinstance(content, dict) else content
