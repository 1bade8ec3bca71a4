"""`streamGenerateContent` of Google: each event is a small answer, whose parts go one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from isotrace.record.assembly.merging import latest

_TEXT_PART: Final = frozenset({"text", "thought", "thoughtSignature", "thought_signature"})


class GoogleContent:
    """An answer in the making."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._candidates: dict[int, dict[str, Any]] = {}

    @staticmethod
    def fits(event: Mapping[str, Any]) -> bool:
        return (
            isinstance(event.get("candidates"), list) or "usageMetadata" in event or "promptFeedback" in event
        )

    @property
    def complete(self) -> bool:
        found = self._candidates.values()
        ended = bool(found) and all(one.get("finishReason") or one.get("finish_reason") for one in found)
        return ended or "promptFeedback" in self._head

    def feed(self, event: dict[str, Any]) -> None:
        for candidate in event.pop("candidates", ()):
            self._candidate(candidate)
        latest(self._head, event)

    def _candidate(self, candidate: dict[str, Any]) -> None:
        index = candidate.get("index", 0)
        known = self._candidates.setdefault(index, {})
        content = candidate.pop("content", None) or {}
        latest(known, candidate)
        parts = content.pop("parts", None) or ()
        into = known.setdefault("content", {})
        latest(into, content)
        for part in parts:
            _add(into.setdefault("parts", []), part)

    def message(self) -> dict[str, Any]:
        return {"candidates": [self._candidates[index] for index in sorted(self._candidates)], **self._head}


def _add(parts: list[dict[str, Any]], part: dict[str, Any]) -> None:
    """Adds a part; text goes on with the text before it."""
    last = parts[-1] if parts else None
    if last is not None and _is_text(last) and _is_text(part) and last.get("thought") == part.get("thought"):
        last.update({**part, "text": last["text"] + part["text"]})
    else:
        parts.append(part)


def _is_text(part: dict[str, Any]) -> bool:
    return isinstance(part.get("text"), str) and part.keys() <= _TEXT_PART
