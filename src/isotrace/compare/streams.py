"""Streams: the same content may come in other pieces."""

from __future__ import annotations

import base64
import binascii
from typing import Any, NamedTuple

from isotrace.jsondiff import Change
from isotrace.minted import strip_volatile
from isotrace.models import TraceStep
from isotrace.models.steps import stream_chunks

_CLOSED_EARLY = "closed_early"
_PARTIAL = "partial"


class StreamDifference(NamedTuple):
    """Why two streams differ though neither says anything else; `partial`: only one came to its end."""

    message: str
    changes: list[Change]
    partial: bool


def stream_difference(original: TraceStep, replay: TraceStep) -> StreamDifference | None:
    """How two streams differ in chunks or in their end; None if not, or if their content differs too."""
    before, after = stream_chunks(original), stream_chunks(replay)
    if before is None or after is None:
        return None
    if _assembled(original) and _assembled(replay):
        return _answers_differ(original, replay, before, after)
    closed = _marked(original, _CLOSED_EARLY), _marked(replay, _CLOSED_EARLY)
    if closed[0] != closed[1]:
        shorter, longer = (before, after) if closed[0] else (after, before)
        if _begins(_joined(longer), _joined(shorter)):
            side = "original" if closed[0] else "replay"
            return _difference(f"the stream was closed early in the {side} only", before, after, partial=True)
        return None
    if before != after and _rest(original) == _rest(replay):
        begun = before[:1] == after[:1] and isinstance(before[0], dict) and before[0].keys() == {"status"}
        # An HTTP answer's first piece says that it has begun.
        one, other = (_joined(chunks[1:] if begun else chunks) for chunks in (before, after))
        if one is not None and one == other:
            return _difference("the same content came in other chunks", before, after, partial=False)
    return None


def content_of(step: TraceStep) -> Any:
    """What came back, a stream's content in one piece where its pieces can be joined: equal for two steps of
    which `stream_difference` would say no more than that the same content came in other chunks."""
    chunks = stream_chunks(step)
    if chunks is None or _assembled(step):
        return step.outcome_data
    begun = isinstance(chunks[0], dict) and chunks[0].keys() == {"status"} if chunks else False
    head, rest = (chunks[:1], chunks[1:]) if begun else ([], chunks)
    joined = _joined(rest)
    if isinstance(joined, bytes):
        rest = [{"$iso:bytes": base64.b64encode(joined).decode()}]
    elif isinstance(joined, str):
        rest = [joined]
    return {**(step.outcome_data or {}), "chunks": [*head, *rest]}


def ending_of(step: TraceStep) -> list[str]:
    """How a stream ended that did not come to its end; empty for any other step."""
    if stream_chunks(step) is None:
        return []
    mark = _PARTIAL if _assembled(step) else _CLOSED_EARLY
    return [mark] if _marked(step, mark) else []


def _answers_differ(
    original: TraceStep, replay: TraceStep, before: list[Any], after: list[Any]
) -> StreamDifference | None:
    """As `stream_difference`, of streams whose pieces make an answer."""
    before, after = strip_volatile(before), strip_volatile(after)
    partial = _marked(original, _PARTIAL), _marked(replay, _PARTIAL)
    if partial[0] != partial[1]:
        shorter, longer = (before, after) if partial[0] else (after, before)
        if _begins(longer, shorter):
            side = "original" if partial[0] else "replay"
            return _difference(f"the answer is cut off in the {side} only", before, after, partial=True)
        return None
    one: Any = original.outcome_data
    other: Any = replay.outcome_data
    if before != after and strip_volatile(one) == strip_volatile(other):
        return _difference("the same content came in other chunks", before, after, partial=False)
    return None


def _assembled(step: TraceStep) -> bool:
    return step.context is not None and step.context.chunks is not None


def _marked(step: TraceStep, mark: str) -> bool:
    return step.context is not None and mark in step.context.marks


def _difference(what: str, before: list[Any], after: list[Any], *, partial: bool) -> StreamDifference:
    counts = Change("/chunks", len(before), len(after))
    return StreamDifference(f"{what} ({len(before)} → {len(after)} chunks)", [counts], partial)


def _rest(step: TraceStep) -> dict[str, Any]:
    return {key: value for key, value in (step.outcome_data or {}).items() if key != "chunks"}


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
