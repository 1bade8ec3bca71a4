"""One line of an exported ledger: an event's envelope, and the values and salts it commits to.

    {"ledger": {…}, "event": {…}, "values": {"params": {"salt": hex, "json": "…"}, …}}

`ledger` stands on the first line of each run alone. A value's `json` is its value bytes as text,
so that its floats and the order of its keys survive every JSON reader on the way. A value that is
committed to in `event` but has no entry in `values` was withheld.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import EllipsisType
from typing import Any, Final, NamedTuple

import orjson

from isotrace.canonical import MAX_BYTES, MAX_INT, check, parse_json
from isotrace.errors import CanonicalizationError, ImportFormatError, IsotraceError, RecordCorruptError
from isotrace.events import Event, microseconds_of, time_text
from isotrace.formats.node import as_import_error
from isotrace.formats.scan import JsonText
from isotrace.hashing import SCHEME, commitment
from isotrace.jsondiff import pointer_escape
from isotrace.models import Erased, TraceRecord, TraceStatus

MAX_LINE: Final = 3 * MAX_BYTES
"""Room for one value of the greatest length, with a backslash before each of its quotes."""

_HEX: Final = re.compile(r"[0-9a-f]{64}")
_MAX_HEADER: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line of a run says of the whole: how many events, and their root."""

    events: int
    root_hash: str
    schema: str = TraceRecord.SCHEMA_VERSION
    scheme: str = SCHEME


@dataclass(slots=True)
class Line:
    """A line as it was read: the envelope in the file's own words, and the event in ours."""

    envelope: dict[str, Any]
    event: Event
    salts: dict[str, bytes]
    header: Header | None
    size: int


class Place(NamedTuple):
    """A file, and a line in it. Pointers count the lines of a file as elements of an array."""

    where: str
    line: int

    def fail(self, what: str, pointer: str, **data: Any) -> ImportFormatError:
        return ImportFormatError(what, where=self.where, pointer=f"/{self.line}{pointer}", **data)

    def corrupt(self, what: str, pointer: str, **data: Any) -> ImportFormatError:
        """An error whose cause says that the record was altered or damaged."""
        return self.because(RecordCorruptError(what, **data), pointer)

    def because(self, cause: IsotraceError, pointer: str) -> ImportFormatError:
        found = self.fail(
            cause.what, pointer, expected=cause.expected, got=cause.got, run_id=cause.run_id, hint=cause.hint
        )
        found.__cause__ = cause
        return found


# --- writing ------------------------------------------------------------------------


def line_bytes(
    envelope: dict[str, Any], values: dict[str, tuple[bytes, bytes]], header: Header | None
) -> bytes:
    """The line, with its end. `values` maps a name to salt and value bytes."""
    body: dict[str, Any] = {}
    if header is not None:
        body["ledger"] = {
            "schema": header.schema,
            "scheme": header.scheme,
            "events": header.events,
            "root_hash": header.root_hash,
        }
    body["event"] = envelope
    body["values"] = {
        name: {"salt": salt.hex(), "json": data.decode()} for name, (salt, data) in values.items()
    }
    return orjson.dumps(body) + b"\n"


# --- reading ------------------------------------------------------------------------


def read_line(data: bytes, place: Place) -> Line:
    """What a line says. Nothing of it is believed: types, bounds and commitments are checked.

    Raises `ImportFormatError`; its cause is a `RecordCorruptError` where a value is not the one
    that the envelope commits to.
    """
    text = JsonText(data, place.where, f"/{place.line}")
    parts = _members(text, text.begin, place, "", {"event", "values", "ledger"})
    text.check_end()
    for name in ("event", "values"):
        if name not in parts:
            raise place.fail("a field is missing", f"/{name}", expected="an object")
    envelope = _strict(text, parts["event"], place, "/event")
    header = _header(_strict(text, parts["ledger"], place, "/ledger"), place) if "ledger" in parts else None
    event = _event(envelope, place)
    salts = _fill(event, envelope, text, parts["values"], place)
    return Line(envelope, event, salts, header, len(data))


def _members(
    text: JsonText, begin: int, place: Place, pointer: str, known: set[str] | None
) -> dict[str, int]:
    if text.kind(begin) != "{":
        raise place.fail("not an object", pointer, expected="an object", got=repr(text.kind(begin)))
    parts: dict[str, int] = {}
    for key, at in text.members(begin, pointer):
        inner = f"{pointer}/{pointer_escape(key)}"
        if key in parts:
            raise place.fail("an object names a key twice", inner)
        if known is not None and key not in known:
            raise place.fail("an unknown field", inner, expected=", ".join(sorted(known)), got=key)
        parts[key] = at
    return parts


def _strict(text: JsonText, begin: int, place: Place, pointer: str) -> dict[str, Any]:
    try:
        value = parse_json(text.data[begin : text.end_of(begin, pointer)], max_bytes=_MAX_HEADER)
        check(value)
    except CanonicalizationError as error:
        raise as_import_error(error, place.where, f"/{place.line}{pointer}") from error
    if not isinstance(value, dict):
        raise place.fail("a field has the wrong type", pointer, expected="an object")
    return value


def _string(text: JsonText, begin: int, place: Place, pointer: str) -> str:
    data = text.data[begin : text.end_of(begin, pointer)]
    try:
        value = json.loads(data)
        if isinstance(value, str):
            value.encode()
            return value
    except (ValueError, RecursionError):
        pass
    raise place.fail("a field has the wrong type", pointer, expected="a string of Unicode text")


def _header(body: dict[str, Any], place: Place) -> Header:
    for name, type_ in (("schema", str), ("scheme", str), ("events", int), ("root_hash", str)):
        if type(body.get(name)) is not type_:
            raise place.fail(
                "a field is missing or of the wrong type", f"/ledger/{name}", expected=type_.__name__
            )
    header = Header(body["events"], body["root_hash"], body["schema"], body["scheme"])
    if not _HEX.fullmatch(header.root_hash):
        raise place.fail("not a digest", "/ledger/root_hash", expected="64 hex digits", got=header.root_hash)
    return header


def _event(envelope: dict[str, Any], place: Place) -> Event:
    """The event without its values: facts of the right types, `Erased` for each commitment."""
    rest = dict(envelope)
    seq, type_, time = (rest.pop(name, None) for name in ("seq", "type", "time"))
    if type(seq) is not int or not 0 <= seq <= MAX_INT:
        raise place.fail("an event has no number", "/event/seq", expected="0, 1, 2, …", got=repr(seq))
    if not isinstance(type_, str):
        raise place.fail("an event has no type", "/event/type", expected="a string", got=repr(type_))
    facts = {name: value for name, value in rest.items() if not _is_commitment(value)}
    values: dict[str, bytes | Erased] = {
        name: Erased(value["commit"]) for name, value in rest.items() if _is_commitment(value)
    }
    if (wrong := wrong_fact(type_, facts, values)) is not None:
        name, expected, got = wrong
        raise place.fail(
            "a fact is missing or of the wrong type", f"/event/{name}", expected=expected, got=got
        )
    return Event(seq, type_, _time_us(time, place), facts, values)


def _is_commitment(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"commit"}
        and isinstance(value["commit"], str)
        and bool(_HEX.fullmatch(value["commit"]))
    )


def _time_us(text: Any, place: Place) -> int:
    try:
        time_us = microseconds_of(datetime.fromisoformat(text))
        # One spelling only: the root covers the text, the record keeps the number.
        if time_text(time_us) == text:
            return time_us
    except (ValueError, TypeError, OverflowError):
        pass
    raise place.fail(
        "a time is not written as an event's",
        "/event/time",
        expected="2026-01-31T23:59:59.000000Z",
        got=repr(text),
    )


def _fill(
    event: Event, envelope: dict[str, Any], text: JsonText, begin: int, place: Place
) -> dict[str, bytes]:
    """Puts the values of a line in place of their commitments; the salt of each."""
    salts: dict[str, bytes] = {}
    for name, at in _members(text, begin, place, "/values", None).items():
        pointer = f"/values/{pointer_escape(name)}"
        if name not in event.values:
            raise place.corrupt("a value that the event does not commit to", pointer, got=name)
        parts = _members(text, at, place, pointer, {"salt", "json"})
        if len(parts) != 2:
            raise place.fail("a value needs its salt and its text", pointer, expected="salt, json")
        salt = _string(text, parts["salt"], place, f"{pointer}/salt")
        if not _HEX.fullmatch(salt):
            raise place.fail("not a salt", f"{pointer}/salt", expected="64 hex digits", got=salt)
        data = _string(text, parts["json"], place, f"{pointer}/json").encode()
        salts[name] = bytes.fromhex(salt)
        if commitment(salts[name], data).hex() != envelope[name]["commit"]:
            raise place.corrupt(
                f"the value {name!r} of event {event.seq} is not the one that it commits to: it was altered",
                pointer,
                run_id=event.facts.get("run_id"),
            )
        _check_value(name, data, place, f"{pointer}/json")
        event.values[name] = data
    return salts


def _check_value(name: str, data: bytes, place: Place, pointer: str) -> None:
    try:
        value = parse_json(data)
    except CanonicalizationError as error:
        inner = f"{pointer}{error.pointer or ''}"
        raise as_import_error(error, place.where, f"/{place.line}{inner}") from error
    if (expected := wrong_value(name, value)) is not None:
        raise place.fail("a value has the wrong type", pointer, expected=expected, got=type(value).__name__)


# --- what facts and values may be ---------------------------------------------------


class _Rule:
    """Whether a fact or value is of one of some types: `None` stands for null, `...` for left out.

    What may be null may be left out too.
    """

    def __init__(self, expected: str, *types: type | EllipsisType | None, of: tuple[type, ...] = ()) -> None:
        self.expected = expected
        self._null = None in types
        self._optional = self._null or ... in types
        self._types = tuple(one for one in types if isinstance(one, type))
        self._of = of

    def holds(self, value: Any) -> bool:
        if value is None or value is _ABSENT:
            return self._null if value is None else self._optional
        if isinstance(value, bool) and bool not in self._types:
            return False
        if not isinstance(value, self._types):
            return False
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_INT:
            return False
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return not self._of or all(
            isinstance(part, self._of) and not isinstance(part, bool) for part in parts
        )


class _Status(_Rule):
    def __init__(self) -> None:
        self._known = {status.value for status in TraceStatus}
        super().__init__(" or ".join(sorted(self._known)), str)

    def holds(self, value: Any) -> bool:
        return isinstance(value, str) and value in self._known


_ABSENT: Final = object()
_TEXT: Final = _Rule("a string", str)
_TEXT_OR_NOT: Final = _Rule("a string or null", str, None)
_WHOLE: Final = _Rule("an integer", int)
_WHOLE_OR_NOT: Final = _Rule("an integer", int, ...)
_NUMBER_OR_NOT: Final = _Rule("a number", int, float, ...)
_FLAG_OR_NOT: Final = _Rule("true or false", bool, ...)
_LINEAGE: Final = _Rule("an array of integers and strings", list, of=(int, str))
_LINEAGE_OR_NOT: Final = _Rule("an array of integers and strings", list, ..., of=(int, str))
_TEXTS_OR_NOT: Final = _Rule("an array of strings", list, ..., of=(str,))
_OBJECT: Final = _Rule("an object", dict)
_OBJECT_OR_NOT: Final = _Rule("an object", dict, ...)
_OBJECT_OR_NULL: Final = _Rule("an object or null", dict, None)

_FACTS: Final[dict[str, dict[str, _Rule]]] = {
    "run_started": {
        "scheme": _TEXT,
        "run_id": _TEXT,
        "origin_run_id": _TEXT_OR_NOT,
        "correlation_id": _TEXT,
        "tenant_id": _TEXT,
        "agent_id": _TEXT_OR_NOT,
        "seed": _WHOLE,
        "frozen_timestamp": _TEXT_OR_NOT,
        "entry_point": _OBJECT_OR_NULL,
        "parent": _OBJECT_OR_NULL,
        "edges": _TEXTS_OR_NOT,
        "redactors": _OBJECT_OR_NOT,
    },
    "step_started": {
        "lineage": _LINEAGE,
        "kind": _TEXT,
        "skill_name": _TEXT,
        "effect": _TEXT,
        "captured": _TEXT_OR_NOT,
    },
    "step_attempt": {
        "lineage": _LINEAGE,
        "attempt": _WHOLE_OR_NOT,
        "outcome_category": _TEXT_OR_NOT,
        "outcome_code": _TEXT_OR_NOT,
    },
    "step_chunk": {"lineage": _LINEAGE, "index": _WHOLE_OR_NOT},
    "value_read": {
        "lineage": _LINEAGE_OR_NOT,
        "source": _TEXT_OR_NOT,
        "index": _WHOLE_OR_NOT,
        "gap": _WHOLE_OR_NOT,
    },
    "step_finished": {
        "lineage": _LINEAGE,
        "status": _Status(),
        "outcome_category": _TEXT,
        "outcome_code": _TEXT_OR_NOT,
        "cost_cents": _NUMBER_OR_NOT,
        "duration_ms": _NUMBER_OR_NOT,
        "retry_count": _WHOLE_OR_NOT,
        "stream": _FLAG_OR_NOT,
        "assembled": _FLAG_OR_NOT,
        "partial": _FLAG_OR_NOT,
        "closed_early": _FLAG_OR_NOT,
        "delivered": _FLAG_OR_NOT,
        "at_once": _FLAG_OR_NOT,
        "usage": _Rule("an object", dict, ..., of=(str, int)),
        "child_run_id": _TEXT_OR_NOT,
        "marks": _Rule("an array of strings", list, ..., of=(str,)),
    },
    "violation": {"lineage": _LINEAGE_OR_NOT, "policy_id": _TEXT},
    "run_finished": {"status": _TEXT, "step_count": _WHOLE_OR_NOT},
    "run_aborted": {"reason": _TEXT_OR_NOT},
}

_VALUES: Final[dict[str, _Rule]] = {
    "plan": _Rule("an array of objects", list, of=(dict,)),
    "metadata": _OBJECT,
    "params": _OBJECT,
    "raw_ids": _Rule("an object of strings", dict, of=(str,)),
    "outcome_data": _OBJECT_OR_NULL,
    "transport": _OBJECT,
    "error": _Rule("a string or an object", str, dict, None),
    "reason": _TEXT,
}


def wrong_fact(
    type_: str, facts: Mapping[str, Any], values: Container[str] = ()
) -> tuple[str, str, str] | None:
    """The first fact of an event of this type that is missing or of the wrong type: its name, what was
    expected, and what stands there. None if all are right. `values`: names that are values, not facts."""
    for name, rule in _FACTS.get(type_, {}).items():
        if name in values or not rule.holds(facts.get(name, _ABSENT)):
            return name, rule.expected, repr(facts.get(name, "nothing"))
    return None


def wrong_value(name: str, value: Any) -> str | None:
    """What was expected in place of this value, None if it is of the right type."""
    rule = _VALUES.get(name)
    return None if rule is None or rule.holds(value) else rule.expected
