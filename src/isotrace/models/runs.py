"""What isotrace knows of a run beyond the shared fields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from isotrace import hashing
from isotrace.jsondiff import MISSING
from isotrace.models.fields import Fields, read_object, restored, shown

_VALUES: Final = ("input", "environment", "result", "error")


@dataclass(slots=True)
class RunContext:
    """What went into a run and what came out of it. No parity hash covers it.

    `scheme` is the hash scheme that the run was recorded under, `origin_run_id` the run that a
    replay repeats (the run itself otherwise), `entry_point` how to start it again, `parent` the
    run and step that called it. `input`, `environment`, `result` and `error` are plain values,
    `Erased`, or `MISSING` where nothing was recorded: a result of None is a result. `redactors` says what was
    not to be recorded, None where all was: `{"use": [[name, digest], …], "key": fingerprint}`.
    """

    scheme: str = hashing.SCHEME
    origin_run_id: str | None = None
    entry_point: dict[str, Any] | None = None
    parent: dict[str, Any] | None = None
    input: Any = MISSING
    environment: Any = MISSING
    result: Any = MISSING
    error: Any = MISSING
    redactors: dict[str, Any] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data. A value that was not recorded has no key; values are not copied."""
        data: dict[str, Any] = {
            "scheme": self.scheme,
            "origin_run_id": self.origin_run_id,
            "entry_point": self.entry_point,
            "parent": self.parent,
        }
        if self.redactors is not None:
            data["redactors"] = self.redactors
        values = {name: getattr(self, name) for name in _VALUES}
        data.update((name, shown(value)) for name, value in values.items() if value is not MISSING)
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, pointer: str = "") -> RunContext:
        """The inverse of `to_dict`. Raises `FieldError`."""
        fields = Fields(data, pointer)
        objects = {
            name: None if data.get(name) is None else read_object(data[name], fields.at(name))
            for name in ("entry_point", "parent", "redactors")
        }
        values = {name: restored(data[name]) for name in _VALUES if name in data}
        return cls(
            scheme=fields.text("scheme"),
            origin_run_id=fields.text_or_none("origin_run_id"),
            **objects,
            **values,
        )
