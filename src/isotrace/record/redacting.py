"""What stands between a run that is redacted and its journal: nothing goes through that has to go.

A stream's pieces are the exception to writing at once: a secret may be cut, so what a piece holds is known
only when all have come. Each piece is written when it comes, because its place among the other events counts,
but without its content; the end of the step brings that, and reading the journal puts it where it belongs. A
process that dies in the middle of a stream leaves the pieces' places and nothing of what they held.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import orjson

from isotrace.canonical import value_bytes
from isotrace.errors import JournalError
from isotrace.events import Event
from isotrace.models import META_REPLAYABILITY, Lineage
from isotrace.record.memory_journal import AnyJournal
from isotrace.record.shapes import Facts
from isotrace.record.sources.noted import CLOCK, ENTROPY, MOVED, UUID

if TYPE_CHECKING:
    from isotrace.redact.redaction import Redaction

WITHHELD: Final = b'"[withheld until the stream ends]"'
"""What is written of a piece before the stream has ended."""

PIECES: Final = "pieces"
"""The value of a journal's `step_finished` that holds what the pieces were."""

MAX_HELD: Final = 32 * 1024 * 1024
"""How many bytes of one stream are kept until it ends; what comes later stays withheld."""

_OURS: Final = frozenset({CLOCK, ENTROPY, MOVED, UUID})
"""Noted values that are no content: moments, fresh ids, states of generators."""


class _Open:
    """A step under way: its skill, and the pieces of its stream."""

    __slots__ = ("held", "joined", "pieces", "skill")

    def __init__(self, skill: str, *, joined: bool) -> None:
        self.skill = skill
        self.joined = joined
        self.pieces: list[bytes | None] = []
        self.held = 0


class RedactedJournal:
    """Appends to a journal what redactors leave of events. Thread-safe, as far as one step is one
    thread's."""

    def __init__(self, journal: AnyJournal, redaction: Redaction, note: Callable[[str], None]) -> None:
        self._journal = journal
        self._redaction = redaction
        self._note = note
        self._open: dict[Lineage, _Open] = {}

    def append(
        self, type_: str, time_us: int, facts: bytes, values: Mapping[str, bytes], slot: str = ""
    ) -> int:
        """Writes one event; see `Journal.append`. Raises `JournalError` too where it can't be redacted."""
        try:
            said = orjson.loads(b"{%b}" % facts)
            kept = self._kept(type_, said, values)
            if type_ == "run_started":
                facts = self._started_facts(said)
        except Exception as error:  # recording ends, the agent goes on, and nothing goes through
            raise JournalError("an event can't be redacted", got=type(error).__name__) from error
        return self._journal.append(type_, time_us, facts, kept, slot)

    def append_json(self, type_: str, time_us: int, facts: Facts, value: Any, slot: str = "") -> bool:
        """False: what is redacted is snapshotted first."""
        return False

    def _kept(self, type_: str, facts: dict[str, Any], values: Mapping[str, bytes]) -> dict[str, bytes]:
        lineage: Lineage = tuple(facts.get("lineage", ()))
        match type_:
            case "step_started":
                joined = "captured" in facts or facts["kind"] == "llm"
                self._open[lineage] = _Open(str(facts["skill_name"]), joined=joined)
            case "step_chunk":
                return self._piece(self._open[lineage], values)
            case "step_finished":
                step = self._open.pop(lineage, None) or _Open("", joined=False)
                return self._redacted(values, step.skill) | self._pieces(step)
            case "value_read" if facts["source"] in _OURS:
                return dict(values)
            case "run_finished":
                return self._with_grade(self._redacted(values, None))
        step_ = self._open.get(lineage)
        return self._redacted(
            values, step_.skill if step_ is not None and type_.startswith("step_") else None
        )

    def _redacted(self, values: Mapping[str, bytes], skill: str | None) -> dict[str, bytes]:
        # The environment says which Python and packages these are: versions, which look like much else.
        return {
            name: data if name == "environment" else self._redaction.data(data, name, skill)
            for name, data in values.items()
        }

    def _piece(self, step: _Open, values: Mapping[str, bytes]) -> dict[str, bytes]:
        data = values["chunk"]
        step.held += len(data)
        if step.held <= MAX_HELD:
            step.pieces.append(data)
        else:
            step.pieces.append(None)
            self._note(f"{step.skill}: what came after {MAX_HELD:,} bytes of a stream was withheld")
        rest = {name: one for name, one in values.items() if name != "chunk"}
        return {"chunk": WITHHELD, **self._redacted(rest, step.skill)}

    def _pieces(self, step: _Open) -> dict[str, bytes]:
        if not step.pieces:
            return {}
        held = [piece for piece in step.pieces if piece is not None]
        done = iter(self._redaction.pieces(held, step.skill, joined=step.joined))
        made = [WITHHELD if piece is None else next(done) for piece in step.pieces]
        return {PIECES: b"[%b]" % b",".join(made)}

    def _started_facts(self, facts: dict[str, Any]) -> bytes:
        """What a program was started with is its input, although it stands among the facts."""
        entry = facts.get("entry_point")
        for one in (entry, entry.get("program") if isinstance(entry, dict) else None):
            if isinstance(one, dict) and isinstance(one.get("arguments"), list):
                one["arguments"] = self._redaction.value(one["arguments"], "arguments")
        return orjson.dumps(facts)[1:-1]

    def _with_grade(self, values: dict[str, bytes]) -> dict[str, bytes]:
        """The run's last values; a redactor that failed speaks against a replay."""
        problems = self._redaction.problems
        if problems:
            metadata = orjson.loads(values["metadata"])
            grade = metadata.get(META_REPLAYABILITY)
            metadata[META_REPLAYABILITY] = [*(grade if isinstance(grade, list) else ()), *problems]
            values["metadata"] = value_bytes(metadata)
        return values


def with_pieces(events: Iterable[Event]) -> list[Event]:
    """A journal's events with the pieces of redacted streams in their places."""
    chunks: dict[Lineage, list[Event]] = {}
    events = list(events)
    for event in events:
        if event.type == "step_chunk":
            chunks.setdefault(event.lineage, []).append(event)
        elif event.type == "step_finished" and PIECES in event.values:
            pieces = event.value(PIECES)
            del event.values[PIECES]
            for chunk, piece in zip(chunks.pop(event.lineage, ()), pieces, strict=False):
                chunk.values["chunk"] = value_bytes(piece)
    return events
