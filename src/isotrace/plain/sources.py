"""What objects of known makes hold: the texts of scalars, the fields of models, names of types."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

_NAME_LENGTH = 200


def type_name(kind: type) -> str:
    """`module.QualName` of a type, also of one that does its best to hide it."""
    try:
        module = type.__dict__["__dict__"].__get__(kind).get("__module__")
        name = type.__dict__["__qualname__"].__get__(kind)
    except Exception:  # noqa: BLE001  # a metaclass can do anything
        return "unknown"
    text = f"{module}.{name}" if isinstance(module, str) else str(name)
    return text.encode("utf-8", "backslashreplace").decode()[:_NAME_LENGTH]


def is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def items_of(value: dict[Any, Any]) -> Iterable[tuple[Any, Any]]:
    """The pairs of a dict or subclass, by the base class's own method, so that no override is run."""
    # An OrderedDict keeps an order of its own.
    base: Any = OrderedDict if issubclass(type(value), OrderedDict) else dict
    return base.items(value)  # type: ignore[no-any-return]  # pairs of whatever it holds


def elements_of(value: Any) -> Iterable[Any]:
    """The elements of a list, tuple, set, frozenset or subclass, by the base class's own method."""
    kind = type(value)
    base: Any = next(base for base in (list, tuple, set, frozenset) if issubclass(kind, base))
    return base.__iter__(value)  # type: ignore[no-any-return]  # an iterator of whatever it holds


def root_module(kind: type) -> str:
    return type_name(kind).partition(".")[0]


# --- texts of scalars -----------------------------------------------------------------


_SURROGATE = re.compile("[\ud800-\udfff]")


def escaped(text: str) -> str:
    doubled = text.replace("\\", "\\\\")
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", doubled)


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(memoryview(value))).decode()


def _datetime_text(value: datetime) -> str:
    if datetime.utcoffset(value) is None:
        return datetime.isoformat(datetime.replace(value, tzinfo=None), timespec="microseconds")
    try:
        moment = datetime.astimezone(value, UTC)
    except OverflowError:
        # Within hours of year 1 or 9999: kept with its own offset.
        return datetime.isoformat(value, timespec="microseconds")
    return datetime.isoformat(moment, timespec="microseconds")[:-6] + "Z"


def _time_text(value: time) -> str:
    return time.isoformat(value, timespec="microseconds")


def _timedelta_text(value: timedelta) -> str:
    return str((value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds)


# The tag (none: the text stands for itself) and the text. A subclass comes after its base: datetime, date.
SCALARS: Final[dict[type, tuple[str, Callable[[Any], str]]]] = {
    datetime: ("datetime", _datetime_text),
    date: ("date", date.isoformat),
    time: ("time", _time_text),
    timedelta: ("timedelta", _timedelta_text),
    Decimal: ("decimal", Decimal.__str__),
    UUID: ("", UUID.__str__),
    PurePath: ("", PurePath.__str__),
    bytes: ("bytes", _base64),
    bytearray: ("bytes", _base64),
    memoryview: ("bytes", _base64),
}
BUILTINS: Final[dict[type, Callable[[Any], Any]]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
}


# --- fields of objects ----------------------------------------------------------------


def fields_of(value: Any, kind: type) -> Any:
    """What an object of a known make holds, one level deep, or None if it is of no known make."""
    if hasattr(kind, "__dataclass_fields__"):
        return _read(value, [field.name for field in dataclasses.fields(kind)])
    if hasattr(kind, "__attrs_attrs__"):
        return _read(value, [attribute.name for attribute in kind.__attrs_attrs__])
    if hasattr(kind, "__struct_fields__"):
        return _read(value, list(kind.__struct_fields__))
    if hasattr(kind, "__pydantic_fields__"):
        return _pydantic_fields(value, kind, kind.__pydantic_fields__)
    if hasattr(kind, "__fields__") and hasattr(kind, "parse_obj"):
        fields = {name: field.field_info for name, field in kind.__fields__.items()}
        return _pydantic_fields(value, kind, fields)
    return None


def _read(value: Any, names: list[str]) -> dict[str, Any]:
    out = {}
    for name in names:
        try:
            out[name] = getattr(value, name)
        except AttributeError:
            # Deleted, or not set yet: there is nothing to keep.
            continue
    return out


def _pydantic_fields(value: Any, kind: Any, fields: Mapping[str, Any]) -> Any:
    """A model's fields as they are, without its serializers: validation takes them back best so.

    `model_dump` would also expand, in one call, what our own limits must see first.
    """
    decorators = getattr(kind, "__pydantic_decorators__", None)
    if decorators is not None and (decorators.field_serializers or decorators.model_serializers):
        return value.model_dump(mode="python", warnings=False)
    held = object.__getattribute__(value, "__dict__")
    out = {name: held[name] for name in fields if name in held and not fields[name].exclude}
    if getattr(kind, "__pydantic_root_model__", False):
        return out.get("root")
    extra = getattr(value, "__pydantic_extra__", None)
    if isinstance(extra, dict):
        out.update(extra)
    elif decorators is None:
        # Version 1 keeps extra fields among the others.
        out.update({name: child for name, child in held.items() if name not in fields})
    return out
