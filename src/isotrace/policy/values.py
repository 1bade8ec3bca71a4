"""What the events of a run say, in the form in which rules look at it."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import orjson

from isotrace import digests
from isotrace.errors import CanonicalizationError
from isotrace.events import Event
from isotrace.models import Erased, Lineage

MAX_CHUNKS_BYTES = 16 * 1024 * 1024
"""Of a stream that is not put together, so much is kept for a condition on its outcome."""


@dataclass(slots=True)
class Value:
    """A recorded value, read when it is asked for. `problem`: why it can't be."""

    data: bytes | Erased | None
    problem: str | None = None
    _read: Any = None
    _is_read: bool = False

    def read(self) -> Any:
        """The plain value."""
        if not self._is_read and isinstance(self.data, bytes):
            self._read = orjson.loads(self.data)
            self._is_read = True
        return self._read

    @property
    def why_not(self) -> str | None:
        """Why there is nothing to look at, None if there is."""
        return "it was erased" if isinstance(self.data, Erased) else self.problem

    @property
    def size(self) -> tuple[int, int]:
        """Bytes, and how many elements it has at most."""
        if not isinstance(self.data, bytes):
            return 0, 1
        return len(self.data), self.data.count(b",") + 1


@dataclass(slots=True)
class Call:
    """A step that began: what rules know of it before it happens."""

    lineage: Lineage
    kind: str
    skill: str
    effect: str
    index: int
    params: Value
    attempts: int = 0
    chunks: list[bytes] = field(default_factory=list)
    chunk_bytes: int = 0

    @property
    def digest(self) -> bytes:
        """32 bytes, equal for the same skill with the same params."""
        data = self.params.data if isinstance(self.params.data, bytes) else b"{}"
        try:
            params = digests.params_digest(data).encode()
        except (CanonicalizationError, RecursionError):
            params = data  # too large to have one
        return sha256(self.skill.encode() + b"\0" + params).digest()

    def take(self, chunk: Event) -> None:
        """A piece of its outcome."""
        data = chunk.values.get("chunk")
        if isinstance(data, bytes):
            self.chunk_bytes += len(data)
            if self.chunk_bytes <= MAX_CHUNKS_BYTES:
                self.chunks.append(data)

    def outcome(self, finished: Event) -> Value:
        """What came of it, in the form that a record has it in."""
        data = finished.values.get("outcome_data")
        if not finished.facts.get("stream") or finished.facts.get("assembled") is True:
            return Value(data)
        if self.chunk_bytes > MAX_CHUNKS_BYTES:
            return Value(None, "the stream is too long")
        pieces = b'{"chunks":[' + b",".join(self.chunks) + b"]"
        if isinstance(data, bytes) and data[:1] == b"{" and data != b"{}":
            return Value(pieces + b"," + data[1:])
        return Value(data if isinstance(data, Erased) else pieces + b"}")


def call_of(event: Event, index: int) -> Call:
    """The step that this `step_started` begins."""
    facts = event.facts
    return Call(
        lineage=event.lineage,
        kind=str(facts.get("kind", "tool")),
        skill=str(facts.get("skill_name", "")),
        effect=str(facts.get("effect", "write")),
        index=index,
        params=Value(event.values.get("params", b"{}")),
    )


def tokens_of(facts: dict[str, Any]) -> int:
    """The tokens that went to a model and came from it, as far as its answer counts them."""
    usage = facts.get("usage")
    if not isinstance(usage, dict):
        return 0
    counts = (usage.get("input_tokens"), usage.get("output_tokens"))
    return sum(count for count in counts if type(count) is int)


def message_of(finished: Event) -> str:
    """The message of the error that a step ended with, empty where there is none."""
    error = finished.value("error")
    if isinstance(error, dict):
        error = error.get("message")
    return error if isinstance(error, str) else ""
