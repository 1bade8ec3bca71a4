"""Streams: the same content may come in other pieces."""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

from isotrace.jsondiff import Change
from isotrace.models import TraceStep

_CLOSED_EARLY = "closed_early"


class StreamDifference(NamedTuple):
    """Why two streams differ though neither says anything else; `partial`: only one came to its end."""

    message: str
    changes: list[Change]
    partial: bool


def stream_difference(original: TraceStep, replay: TraceStep) -> StreamDifference | None:
    """How two streams differ in chunks or in their end; None if not, or if their content differs too."""
    before, after = _chunks(original), _chunks(replay)
    if before is None or after is None:
        return None
    closed = _closed_early(original), _closed_early(replay)
    if closed[0] != closed[1]:
        shorter, longer = (before, after) if closed[0] else (after, before)
        if _begins(_joined(longer), _joined(shorter)):
            side = "original" if closed[0] else "replay"
            return _difference(f"the stream was closed early in the {side} only", before, after, partial=True)
        return None
    if before != after and _rest(original) == _rest(replay):
        one, other = _joined(before), _joined(after)
        if one is not None and one == other:
            return _difference("the same content came in other chunks", before, after, partial=False)
    return None


def _difference(what: str, before: list[Any], after: list[Any], *, partial: bool) -> StreamDifference:
    counts = Change("/chunks", len(before), len(after))
    return StreamDifference(f"{what} ({len(before)} → {len(after)} chunks)", [counts], partial)


def _chunks(step: TraceStep) -> list[Any] | None:
    data = step.outcome_data
    chunks = data.get("chunks") if isinstance(data, dict) else None
    return chunks if isinstance(chunks, list) else None


def _rest(step: TraceStep) -> dict[str, Any]:
    return {key: value for key, value in (step.outcome_data or {}).items() if key != "chunks"}


def _closed_early(step: TraceStep) -> bool:
    return bool(step.context and _CLOSED_EARLY in step.context.marks)


def _joined(chunks: list[Any]) -> str | bytes | list[Any] | None:
    """The content of a stream of texts or of bytes; the chunks themselves where they are objects."""
    if all(isinstance(chunk, str) for chunk in chunks):
        return "".join(chunks)
    if all(isinstance(chunk, dict) and chunk.keys() == {"$iso:bytes"} for chunk in chunks):
        try:
            return b"".join(base64.b64decode(chunk["$iso:bytes"], validate=True) for chunk in chunks)
        except (TypeError, ValueError, binascii.Error):
            return None
    return chunks


def _begins(whole: Any, part: Any) -> bool:
    return type(whole) is type(part) and whole is not None and whole[: len(part)] == part
