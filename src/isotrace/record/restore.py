"""A recorded outcome as the type that the live call returned, by the function's annotation.

No class is looked up by a name that stands in a record: what is built is what the annotation
says, and nothing else. Where it says no more than JSON does, the value stays as it was recorded, with
its key order and the form of its numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from isotrace.canonical import parse_json, value_bytes
from isotrace.errors import CanonicalizationError, IsotraceError, RestoreError
from isotrace.plain import to_plain, to_plain_report
from isotrace.plain.sources import fields_of
from isotrace.record.annotations import parameter_annotations, return_annotation
from isotrace.record.restorers import Path, pointer_of, restorer

__all__ = ["can_restore", "parameter_annotations", "restore", "return_annotation"]


def restore(value: Any, annotation: Any) -> Any:
    """The value that a recorded one stands for, in the type that `annotation` names.

    `value` is plain data, or its value bytes; None as the annotation stands for none. Raises
    `RestoreError`, with `.pointer`, where the value does not fit.
    """
    if isinstance(value, bytes):
        value = parse_json(value)
    try:
        return restorer(annotation)(value, ())
    except RecursionError:
        raise RestoreError("a recorded value is nested too deeply for its annotation", pointer="") from None
    except CanonicalizationError as error:
        raise RestoreError(error.what, pointer=error.pointer, got=error.got) from None


def can_restore(value: Any, annotation: Any) -> str | None:
    """None if `restore(to_plain(value), annotation)` gives an equal value of the same types, else why not.

    The answer is a sentence for the run's replayability grade. Never raises for what `value` holds.
    """
    plain, losses = to_plain_report(value)
    if losses:
        return f"not all of it can be kept: {losses[0]}"
    try:
        restored = restore(plain, annotation)
        difference = _difference(value, restored, ())
        if difference is None and value_bytes(to_plain(restored)) != value_bytes(plain):
            difference = f"{_name(type(value))} comes back with other content"
    except IsotraceError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001  # classes of the caller's are asked about themselves
        return f"it can't be checked: {type(error).__name__}"
    return difference


# --- comparing ------------------------------------------------------------------------


def _difference(value: Any, restored: Any, path: Path) -> str | None:
    """The first place where the types of two values with equal content differ."""
    kind = type(value)
    if kind is not type(restored):
        hint = "annotate what the function returns" if not path else "annotate it more exactly"
        place = f" at {pointer_of(path)}" if path else ""
        return f"{_name(kind)}{place} comes back as {_name(type(restored))}: {hint}"
    for (key, a), (_, b) in zip(_parts(value), _parts(restored), strict=False):
        found = _difference(a, b, (*path, str(key)))
        if found is not None:
            return found
    return None


def _parts(value: Any) -> Iterable[tuple[Any, Any]]:
    kind = type(value)
    if issubclass(kind, dict):
        return [*dict.items(value), *((f"key {key}", key) for key in value)]
    if issubclass(kind, list | tuple):
        return enumerate(value)
    if issubclass(kind, set | frozenset):
        return enumerate(sorted(value, key=lambda element: value_bytes(to_plain(element))))
    try:
        fields = fields_of(value, kind)
    except Exception:  # noqa: BLE001  # a property of the caller's; to_plain has reported it
        return ()
    return fields.items() if type(fields) is dict else ()


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
