"""What objects of known makes hold: the texts of scalars, the fields of models, names of types."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

_NAME_LENGTH = 200


def type_name(kind: type) -> str:
    """`module.QualName` of a type, also of one that does its best to hide it."""
    try:
        # The base type's own getters: a metaclass can put anything before them.
        module = type.__dict__["__module__"].__get__(kind)
        name = type.__dict__["__qualname__"].__get__(kind)
    except Exception:  # noqa: BLE001  # a metaclass can do anything
        return "unknown"
    text = f"{module}.{name}" if isinstance(module, str) else str(name)
    return text.encode("utf-8", "backslashreplace").decode()[:_NAME_LENGTH]


def is_unicode(text: str) -> bool:
    """Whether a string can be written as UTF-8: it holds no lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def length_of(value: Any) -> int:
    """How many elements a builtin container or subclass has, by the base class's own method."""
    kind = type(value)
    base: Any = next(base for base in (dict, list, tuple, set, frozenset) if issubclass(kind, base))
    return base.__len__(value)  # type: ignore[no-any-return]  # an int


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
    """The name of the package that a type comes from."""
    return type_name(kind).partition(".")[0]


# --- texts of scalars -----------------------------------------------------------------


_SURROGATE = re.compile("[\ud800-\udfff]")


def escaped(text: str) -> str:
    """A string with its lone surrogates as escapes, and backslashes doubled to tell them apart."""
    doubled = text.replace("\\", "\\\\")
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", doubled)


def _base64(value: Any) -> str:
    return base64.b64encode(bytes(memoryview(value))).decode()


def _datetime_text(value: datetime) -> str:
    exact = value if type(value) is datetime else _exact_datetime(value)
    if exact.utcoffset() is None:
        return exact.isoformat(timespec="microseconds")
    try:
        return exact.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
    except OverflowError:
        # Within hours of year 1 or 9999: kept with its own offset.
        return exact.isoformat(timespec="microseconds")


_DATETIME_PARTS: Any = (
    datetime.year,
    datetime.month,
    datetime.day,
    datetime.hour,
    datetime.minute,
    datetime.second,
    datetime.microsecond,
    datetime.tzinfo,
)


def _exact_datetime(value: datetime) -> datetime:
    """The same moment without the subclass: arithmetic would call its constructor."""
    parts = [part.__get__(value) for part in _DATETIME_PARTS]
    return datetime(*parts, fold=value.fold)  # noqa: DTZ001  # the zone is the last part


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
    make = _make_of(kind)
    return None if make is None else make(value)


# Bounded, because it keeps types alive that a program may make by the thousand.
@lru_cache(maxsize=512)
def _make_of(kind: Any) -> Callable[[Any], Any] | None:
    if hasattr(kind, "__dataclass_fields__"):
        return partial(_read, [field.name for field in dataclasses.fields(kind)])
    if hasattr(kind, "__attrs_attrs__"):
        return partial(_read, [attribute.name for attribute in kind.__attrs_attrs__])
    if hasattr(kind, "__struct_fields__"):
        return partial(_read, list(kind.__struct_fields__))
    if hasattr(kind, "__pydantic_fields__"):
        kept = [name for name, field in kind.__pydantic_fields__.items() if not field.exclude]
        if getattr(kind, "__pydantic_root_model__", False):
            return lambda value: object.__getattribute__(value, "__dict__").get("root")
        return partial(_pydantic_fields, kept)
    if hasattr(kind, "__fields__") and hasattr(kind, "parse_obj"):
        left_out = [name for name, field in kind.__fields__.items() if field.field_info.exclude]
        return partial(_pydantic_v1_fields, left_out)
    return None


def serializes_itself(kind: Any) -> bool:
    """Whether a pydantic model has serializers of its own, so that its fields don't say what it would."""
    decorators = getattr(kind, "__pydantic_decorators__", None)
    return decorators is not None and bool(decorators.field_serializers or decorators.model_serializers)


def _read(names: list[str], value: Any) -> dict[str, Any]:
    out = {}
    for name in names:
        try:
            out[name] = getattr(value, name)
        except AttributeError:
            # Deleted, or not set yet: there is nothing to keep.
            continue
    return out


def _pydantic_fields(names: list[str], value: Any) -> dict[str, Any]:
    """A model's fields and its extra ones as they are: `model_dump` would expand all of it in one
    call, without limits."""
    held = object.__getattribute__(value, "__dict__")
    out = {name: held[name] for name in names if name in held}
    extra = getattr(value, "__pydantic_extra__", None)
    if isinstance(extra, dict):
        out.update(extra)
    return out


def _pydantic_v1_fields(left_out: list[str], value: Any) -> dict[str, Any]:
    held = object.__getattribute__(value, "__dict__")
    return {name: child for name, child in held.items() if name not in left_out}
