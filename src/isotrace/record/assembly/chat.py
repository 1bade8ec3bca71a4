"""Chat completions of OpenAI, and of all who speak the same: Mistral, DeepSeek, Groq, vLLM and others; the
older text completions too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from isotrace.record.assembly.merging import in_order, latest, merge

_OBJECTS: Final = {"chat.completion.chunk": "chat.completion"}


class ChatCompletion:
    """A chat completion in the making."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, dict[str, Any]] = {}

    @staticmethod
    def fits(event: Mapping[str, Any]) -> bool:
        choices = event.get("choices")
        if not isinstance(choices, list):
            return False
        kind = event.get("object")
        return kind in ("chat.completion.chunk", "text_completion") or any(
            isinstance(choice, dict) and "delta" in choice for choice in choices
        )

    @property
    def complete(self) -> bool:
        choices = self._choices.values()
        return bool(choices) and all(choice.get("finish_reason") for choice in choices)

    def feed(self, event: dict[str, Any]) -> None:
        for choice in event.pop("choices", ()):
            self._choice(choice)
        event.pop("obfuscation", None)
        latest(self._head, event)

    def _choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index", 0)
        known = self._choices.setdefault(index, {"index": index})
        delta, text = choice.pop("delta", None), choice.pop("text", None)
        if "logprobs" in choice:
            merge(known, {"logprobs": choice.pop("logprobs")})
        if delta is not None:
            merge(known.setdefault("message", {}), delta)
        if text is not None:
            known["text"] = known.get("text", "") + text
        latest(known, choice)

    def message(self) -> dict[str, Any]:
        kind = self._head.get("object")
        choices = [_whole(self._choices[index]) for index in sorted(self._choices)]
        return {
            **self._head,
            "object": _OBJECTS.get(kind, kind) if kind else "chat.completion",
            "choices": choices,
        }


def _whole(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    if message is None:
        return dict(choice)
    message = {"role": "assistant", "content": None, **message}
    if isinstance(message.get("tool_calls"), list):
        message["tool_calls"] = in_order(message["tool_calls"])
    return {**choice, "message": message}
