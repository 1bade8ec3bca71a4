"""Reading the models' dictionaries strictly, and the plain forms of times and erased values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from isotrace.errors import FieldError
from isotrace.jsondiff import pointer_escape

_ERASED_TAG = "$iso:erased"


@dataclass(frozen=True)
class Erased:
    """Stands where a value was erased or withheld. `commit` is its commitment, 64 hex digits."""

    commit: str

    def to_dict(self) -> dict[str, str]:
        """The plain form: `{"$iso:erased": commit}`, a key that no recorded value has."""
        return {_ERASED_TAG: self.commit}


def utc(moment: datetime) -> datetime:
    """The moment itself, or in UTC if it names no zone: a record read back equals the one written."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def time_text(moment: datetime) -> str:
    """UTC, six digits, `Z`: `2026-01-02T03:04:05.000006Z`."""
    return utc(moment).astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def time_or_none(moment: datetime | None) -> str | None:
    """As `time_text`; None for None."""
    return None if moment is None else time_text(moment)


def read_object(value: Any, pointer: str) -> dict[str, Any]:
    """The value, which must be a dictionary, else `FieldError`."""
    if not isinstance(value, dict):
        raise FieldError(
            "a field has the wrong type", pointer=pointer, expected="an object", got=_kind(value)
        )
    return value


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__


class Fields:
    """Typed access to the fields of one dictionary; its errors say where it stands in the whole."""

    def __init__(self, data: Any, pointer: str) -> None:
        self.data = read_object(data, pointer)
        self.pointer = pointer

    def at(self, name: str) -> str:
        return f"{self.pointer}/{pointer_escape(name)}"

    def wrong(self, name: str, expected: str) -> FieldError:
        value = self.data[name]
        got = _kind(value) if isinstance(value, dict | list | None) else f"{value!r} ({_kind(value)})"
        return FieldError("a field has the wrong type", pointer=self.at(name), expected=expected, got=got)

    def any(self, name: str) -> Any:
        """A field that must be there, erased values restored."""
        if name not in self.data:
            raise FieldError("a field is missing", pointer=self.at(name))
        return restored(self.data[name])

    def text(self, name: str) -> str:
        value = self.any(name)
        if not isinstance(value, str):
            raise self.wrong(name, "a string")
        return value

    def text_or_none(self, name: str) -> str | None:
        return None if self.data.get(name) is None else self.text(name)

    def whole(self, name: str) -> int:
        value = self.any(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "an integer")
        return value

    def whole_or_none(self, name: str) -> int | None:
        return None if self.data.get(name) is None else self.whole(name)

    def number(self, name: str) -> float:
        value = self.any(name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            raise self.wrong(name, "a finite number")
        return float(value)

    def time(self, name: str) -> datetime:
        """A moment in UTC, whatever zone it was written in."""
        text = self.text(name)
        try:
            return utc(datetime.fromisoformat(text)).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.wrong(name, "a time as ISO 8601 has it") from None

    def time_or_none(self, name: str) -> datetime | None:
        return None if self.data.get(name) is None else self.time(name)

    def list(self, name: str) -> list[Any]:
        value = self.any(name)
        if not isinstance(value, list | tuple):
            raise self.wrong(name, "an array")
        return list(value)

    def object(self, name: str) -> dict[str, Any]:
        """A dictionary, or what stands for an erased one."""
        value = self.any(name)
        if not isinstance(value, dict | Erased):
            raise self.wrong(name, "an object")
        return cast("dict[str, Any]", value)


def restored(value: Any) -> Any:
    """The value, or `Erased` where its plain form stands for one."""
    if isinstance(value, dict) and len(value) == 1 and _ERASED_TAG in value:
        commit = value[_ERASED_TAG]
        if isinstance(commit, str):
            return Erased(commit)
    return value


def shown(value: Any) -> Any:
    """The plain form of a value that may be erased."""
    return value.to_dict() if isinstance(value, Erased) else value


def chunks_mapped(outcome: Any, change: Callable[[Any], Any]) -> Any:
    """An outcome with each of its stream's chunks changed: chunks are values that are erased one by one."""
    if not isinstance(outcome, dict) or not isinstance(outcome.get("chunks"), list):
        return outcome
    chunks = [change(chunk) for chunk in outcome["chunks"]]
    if all(new is old for new, old in zip(chunks, outcome["chunks"], strict=True)):
        return outcome
    return {**outcome, "chunks": chunks}
