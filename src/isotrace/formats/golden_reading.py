"""Reading golden files: nothing in them is believed, and every error names the line."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any, Final

from isotrace.canonical import MAX_INT, check, parse_json
from isotrace.errors import (
    CanonicalizationError,
    FieldError,
    RecordError,
)
from isotrace.events import Event, LedgerFold, lineage_text, microseconds_of, time_text
from isotrace.formats.golden_lines import (
    SHOWN,
    Block,
    Fail,
    Item,
    Raw,
    blocks_of,
    items_of,
    lines_of,
    pieces_of,
    scheme_of,
)
from isotrace.formats.golden_shape import (
    LEFT_OUT,
    RECORDED,
    RECORDED_FACTS,
    is_recorded_value,
    reference_label,
)
from isotrace.formats.golden_text import Value, is_text_line, text_of_line, value_text
from isotrace.formats.jsonl_line import wrong_fact, wrong_value
from isotrace.jsondiff import pointer_escape, pointer_get, pointer_split
from isotrace.models import Erased

_REFERENCE: Final = re.compile(
    r"(?:as|first (?P<count>[0-9]{1,9}) of) (?:run|step (?P<lineage>\[.*\]))"
    r' (?P<pointer>"(?:[^"\\]|\\.)*")'
)
_LAST: Final = ("run_finished", "run_aborted")
_MAX_US: Final = 253_402_300_799_999_999  # the year 9999 ends


def events_of_text(data: bytes, fail: Fail, limit: int) -> list[Event]:
    """The events of a golden file, without the run's id. `limit`: bytes of all values together.

    Raises `ImportFormatError` for the first line that is not as it should be.
    """
    lines = lines_of(data, fail)
    scheme = scheme_of(lines[0], fail)
    reading = _Reading(fail, limit)
    for block in blocks_of(lines, fail):
        reading.add(_resolved(block, reading))
    return reading.end(scheme)


# --- texts and references --------------------------------------------------------------


def _resolved(raw: Raw, reading: _Reading) -> Block:
    """The block with plain JSON in place of what golden files have beyond it."""
    block = Block(raw.word, raw.lines[0][0])
    parts: list[str] = []
    size, index = 0, 0
    while index < len(raw.lines):
        number, line = raw.lines[index]
        block.starts.append(size)
        block.lines.append(number)
        index += 1
        if is_text_line(line):
            raise reading.fail(
                "a line of a text, and no <text> above it", number, got=line[:SHOWN], hint=_TEXTS
            )
        before = len(parts)
        for piece, token in pieces_of(line, number, reading.fail):
            if token == "text":  # noqa: S105  # no password
                text, index = _text(raw, index, reading)
                parts.append(_json(text))
            elif token is not None and token.startswith(("as ", "first ")):
                parts.append(reading.referred(token, number))
            else:
                parts.append(piece)
        parts.append("\n")
        size += sum(map(len, parts[before:]))
        reading.spend(sum(map(len, parts[before:])), number)
    block.text = "".join(parts)
    return block


_TEXTS: Final = 'a text stands below `"name": <text>`, each of its lines behind `| `'


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _text(raw: Raw, index: int, reading: _Reading) -> tuple[str, int]:
    """The text whose lines begin here, and the line behind it."""
    begin = raw.lines[index - 1][0]
    parts: list[str] = []
    while index < len(raw.lines) and is_text_line(raw.lines[index][1]):
        number, line = raw.lines[index]
        if not parts and line[0] != "|":
            raise reading.fail("a text begins with a line behind `|`", number, got=line[:SHOWN])
        try:
            parts.append(text_of_line(line))
        except (CanonicalizationError, ValueError):
            raise reading.fail(
                "a line of a text can't be read",
                number,
                expected="`| ` and the text, or `|\\` and the text escaped as in JSON",
                got=line[:SHOWN],
            ) from None
        index += 1
    if not parts:
        raise reading.fail("a text without lines", begin, hint=_TEXTS)
    return "".join(parts)[1:], index


# --- events -----------------------------------------------------------------------------


class _Reading:
    """The events so far, what references can name, and how much has been read."""

    def __init__(self, fail: Fail, limit: int) -> None:
        self.fail = fail
        self._left = limit
        self._limit = limit
        self._events: list[Event] = []
        self._lines: list[int] = []
        self._values: dict[str, dict[str, Value]] = {}
        self._recorded: list[Item] = []
        self._recorded_line: int | None = None
        self._fact_lines: dict[str, int] = {}

    def spend(self, size: int, line: int) -> None:
        """References make more of a file than stands in it."""
        self._left -= size
        if self._left < 0:
            raise self.fail("the run is too large", line, expected=f"at most {self._limit} bytes")

    def referred(self, token: str, line: int) -> str:
        """The JSON of a text that an earlier event holds, or of the elements with which its list begins."""
        found = _REFERENCE.fullmatch(token)
        text = None if found is None else self._text_of(found)
        if text is None:
            raise self.fail(
                "a reference leads to nothing of an earlier event",
                line,
                expected='<as step [0] "/params/…"> for a text, <first 3 of step [0] "/params/…"> for a list',
                got=f"<{token[:SHOWN]}>",
                hint="write in its place what it stood for",
            )
        self.spend(len(text), line)
        return text

    def _text_of(self, reference: re.Match[str]) -> str | None:
        try:
            lineage = reference["lineage"]
            label = "run" if lineage is None else f"step {value_text(parse_json(lineage))}"
            pointer = parse_json(reference["pointer"])
            first = pointer_split(pointer)[0]
        except (CanonicalizationError, FieldError, IndexError):
            return None
        whole = self._values.get(label, {}).get(first)
        if whole is None:
            return None
        value = pointer_get(whole.value, pointer[1 + len(pointer_escape(first)) :])
        if reference["count"] is None:
            return _json(value) if isinstance(value, str) else None
        count = int(reference["count"])
        if not isinstance(value, list) or not 0 < count <= len(value):
            return None
        return whole.text(value[:count])[1:-1]

    def add(self, block: Block) -> None:
        if self._recorded_line is not None:
            raise self.fail(f"something follows `{RECORDED}`, which comes last", block.line, got=block.word)
        if block.word == RECORDED:
            self._recorded_line = block.line
            self._recorded = list(items_of(block, self.fail))
            return
        event = Event(len(self._events), block.word, 0)
        values: dict[str, Value] = {}
        for item in items_of(block, self.fail):
            self._put(event, item)
            if item.is_value and not isinstance(item.value, Erased):
                values[item.name] = item.value
        for name, value in LEFT_OUT.get(event.type, {}).items():
            event.facts.setdefault(name, value)
        self._events.append(event)
        self._lines.append(block.line)
        if event.type != "run_started":
            self._check_facts(event, block.line)
        if (label := reference_label(event)) is not None:
            self._values.setdefault(label, {}).update(values)

    def _put(self, event: Event, item: Item) -> None:
        if item.name in ("seq", "type", "time", "run_id", "scheme") or (
            item.name in event.facts or item.name in event.values
        ):
            raise self.fail("an event has no such fact of its own", item.line, got=item.name)
        if not item.is_value:
            event.facts[item.name] = item.value
            return
        expected = None if isinstance(item.value, Erased) else wrong_value(item.name, item.value.value)
        if expected is not None:
            raise self.fail(
                f"the value of {item.name} has the wrong type",
                item.line,
                expected=expected,
                got=type(item.value.value).__name__,
            )
        event.values[item.name] = item.data

    def _check_facts(self, event: Event, line: int) -> None:
        if (wrong := wrong_fact(event.type, event.facts, event.values)) is not None:
            name, expected, got = wrong
            raise self.fail(
                f"the fact {name} of {event.type} is missing or of the wrong type",
                line,
                expected=expected,
                got=got,
            )

    # --- what stands behind the events ----------------------------------------------------

    def end(self, scheme: str) -> list[Event]:
        """The events, with what `recorded` adds to them."""
        self._check_order()
        facts = self._events[0].facts
        facts |= {"scheme": scheme, "run_id": "-"}
        times, durations = self._numbered()
        for name, value in (("tenant_id", "default"), ("seed", 0), ("entry_point", None)):
            facts.setdefault(name, value)
        for name in ("origin_run_id", "correlation_id"):
            facts[name] = facts.get(name)
        self._set_times(times)
        self._set_durations(durations)
        self._check_facts_of_start()
        self._fold()
        return self._events

    def _check_order(self) -> None:
        events = self._events
        if not events or events[0].type != "run_started":
            line = self._lines[0] if events else 1
            got = events[0].type if events else "no event"
            raise self.fail("a golden run begins with run_started", line, expected="run_started", got=got)
        if events[-1].type not in _LAST:
            raise self.fail(
                "the run's end is missing", self._lines[-1], expected=" or ".join(_LAST), got=events[-1].type
            )
        for event, line in zip(events[:-1], self._lines, strict=False):
            if event.type in _LAST:
                raise self.fail("something follows the run's end", line, got=event.type)

    def _numbered(self) -> tuple[dict[str, Item], Item | None]:
        """Gives events what `recorded` says of them. What it says of all is returned."""
        times: dict[str, Item] = {}
        durations: Item | None = None
        for item in self._recorded:
            if item.seq is not None:
                self._add_to(item)
            elif item.name in ("at", "times") and not item.is_value:
                times[item.name] = item
            elif item.name == "durations" and not item.is_value:
                durations = item
            elif item.name in RECORDED_FACTS["run_started"] and not item.is_value:
                self._events[0].facts[item.name] = item.value
                self._fact_lines[item.name] = item.line
            else:
                known = ("at", "times", "durations", *RECORDED_FACTS["run_started"])
                raise self.fail(
                    f"`{RECORDED}` has no such entry", item.line, expected=", ".join(known), got=item.name
                )
        return times, durations

    def _add_to(self, item: Item) -> None:
        assert item.seq is not None
        if item.seq >= len(self._events):
            raise self.fail(
                f"`{RECORDED}` speaks of an event that there is not",
                item.line,
                expected=f"0 to {len(self._events) - 1}",
                got=item.seq,
                hint="an event was added or taken out by hand: number its lines anew",
            )
        event = self._events[item.seq]
        known = (
            is_recorded_value(event, item.name)
            if item.is_value
            else item.name in RECORDED_FACTS.get(event.type, ())
        )
        if not known:
            raise self.fail(
                f"`{RECORDED}` has no such entry for a {event.type}",
                item.line,
                got=item.name,
                hint="an event was added or taken out by hand: number its lines anew",
            )
        self._put(event, item)

    def _set_times(self, items: dict[str, Item]) -> None:
        start_us, line = 0, self._recorded_line or 1
        if (at := items.get("at")) is not None:
            try:
                start_us = microseconds_of(datetime.fromisoformat(at.value))
            except (ValueError, TypeError, OverflowError):
                raise self.fail(
                    "the time of the recording is none",
                    at.line,
                    expected="2026-01-31T23:59:59.000000Z",
                    got=repr(at.value)[:SHOWN],
                ) from None
        offsets: Any = [0] * len(self._events)
        if (times := items.get("times")) is not None:
            offsets, line = times.value, times.line
        if not isinstance(offsets, list) or len(offsets) != len(self._events):
            raise self.fail(
                "times is a list with a number for each event",
                line,
                expected=f"{len(self._events)} numbers",
                got=f"{len(offsets)} numbers" if isinstance(offsets, list) else type(offsets).__name__,
                hint="where an event was added or taken out by hand, take this line out:"
                " all events are then of the same time",
            )
        for event, offset in zip(self._events, offsets, strict=True):
            if type(offset) is not int or not 0 <= start_us + offset <= _MAX_US:
                raise self.fail(
                    "a time is out of range",
                    line,
                    expected=f"microseconds, up to {time_text(_MAX_US)}",
                    got=repr(offset)[:SHOWN],
                )
            event.time_us = start_us + offset

    def _set_durations(self, item: Item | None) -> None:
        durations = {} if item is None else item.value
        line = 1 if item is None else item.line
        if not isinstance(durations, dict):
            raise self.fail(
                "durations are those of events", line, expected='{"2": 0.5}', got=type(durations).__name__
            )
        for event in self._events:
            if event.type == "step_finished":
                duration = durations.pop(str(event.seq), 0.0)
                if isinstance(duration, bool) or not isinstance(duration, int | float):
                    raise self.fail(
                        "a duration is a number of milliseconds", line, got=repr(duration)[:SHOWN]
                    )
                event.facts["duration_ms"] = duration
        if durations:
            raise self.fail(
                "a duration of what is no step's end",
                line,
                got=", ".join(list(durations)[:3]),
                hint="an event was added or taken out by hand: take this line out",
            )

    def _check_facts_of_start(self) -> None:
        started = self._events[0]
        facts, lines = started.facts, self._fact_lines
        for name in ("origin_run_id", "correlation_id", "tenant_id"):
            value = facts[name]
            if value is None and name != "tenant_id":
                continue  # it follows from the file
            if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID:
                raise self.fail(
                    f"{name} is empty or too long",
                    lines.get(name, 1),
                    expected=f"1 to {_MAX_ID} characters",
                    got=repr(value)[:SHOWN],
                )
        whole = {**facts, "correlation_id": facts["correlation_id"] or "-"}
        wrong = wrong_fact(started.type, whole, started.values)
        line = self._lines[0] if wrong is None else lines.get(wrong[0], self._lines[0])
        self._check_facts(Event(0, started.type, 0, whole, started.values), line)
        if not 0 <= facts["seed"] <= MAX_INT:
            raise self.fail(
                "the seed is out of range", lines["seed"], expected=f"0..{MAX_INT}", got=facts["seed"]
            )

    def _fold(self) -> None:
        """That the events make a run; an error names the line of the first that does not fit."""
        state = LedgerFold()
        started = self._events[0]
        whole = {**started.facts, "correlation_id": started.facts["correlation_id"] or "-"}
        first = Event(0, started.type, started.time_us, whole, started.values)
        under_way: set[Any] = set()
        for event, line in zip(self._events, self._lines, strict=True):
            try:
                check(event.facts)
                state.add(first if event is started else event)
            except (RecordError, CanonicalizationError) as error:
                error.where = None
                raise self.fail.because(error, line) from error
            if event.type == "step_started":
                under_way.add(event.lineage)
            elif event.type in ("step_attempt", "step_chunk", "step_finished"):
                if event.lineage not in under_way:
                    raise self.fail(
                        f"{event.type} of a step that is not under way",
                        line,
                        got=lineage_text(event.lineage),
                    )
                if event.type == "step_finished":
                    under_way.discard(event.lineage)


_MAX_ID: Final = 512
