"""From an annotation to the function that builds values of its type out of plain data.

Every restorer takes the plain value and its place, and raises `RestoreError` with that place.
"""

from __future__ import annotations

import collections
import dataclasses
import types
import typing
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
    MutableSequence,
    MutableSet,
    Sequence,
)
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from pathlib import PurePath
from typing import Any
from uuid import UUID

import orjson

from isotrace.canonical import value_bytes
from isotrace.errors import RestoreError
from isotrace.plain import from_plain, to_plain
from isotrace.record.annotations import field_annotations

Path = tuple[str, ...]
Restorer = Callable[[Any, Path], Any]


def pointer_of(path: Path) -> str:
    """A place as a JSON Pointer."""
    return "".join("/" + part.replace("~", "~0").replace("/", "~1") for part in path)


def _misfit(path: Path, expected: str, value: Any) -> RestoreError:
    return RestoreError(
        "a recorded value does not fit its annotation",
        pointer=pointer_of(path),
        expected=expected,
        got=type(value).__name__,
    )


# --- annotations ----------------------------------------------------------------------


def _as_recorded(value: Any, path: Path) -> Any:
    try:
        # Most values hold no tag, and a search in their bytes is the quickest way to know.
        if b'"$iso:' not in orjson.dumps(value):
            return value
    except TypeError:
        pass
    try:
        return from_plain(value)
    except RestoreError as error:
        error.pointer = pointer_of(path) + (error.pointer or "")
        raise


def restorer(annotation: Any) -> Restorer:
    """The restorer for an annotation; for one that says nothing, tags are undone and that is all."""
    try:
        return _cached(annotation)
    except TypeError:
        # Metadata in an annotation need not be hashable.
        return _built(annotation)


@lru_cache(maxsize=1024)
def _cached(annotation: Any) -> Restorer:
    return _built(annotation)


def _built(annotation: Any) -> Restorer:
    annotation = _bare(annotation)
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return _union(typing.get_args(annotation))
    if origin is not None and isinstance(origin, type):
        return _generic(origin, typing.get_args(annotation))
    if isinstance(annotation, type):
        return _of_class(annotation, ())
    return _as_recorded


def _bare(annotation: Any) -> Any:
    """Without what says nothing about the type: Annotated, NewType, aliases, Required."""
    for _ in range(32):
        origin = typing.get_origin(annotation)
        if hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif origin in _TRANSPARENT:
            annotation = typing.get_args(annotation)[0]
        else:
            break
    return annotation


_TRANSPARENT = (
    typing.Annotated,
    typing.Required,
    typing.NotRequired,
    typing.Final,
    typing.ClassVar,
)


def _union(members: tuple[Any, ...]) -> Restorer:
    def restored(value: Any, path: Path) -> Any:
        if value is None and type(None) in members:
            return None
        failure: RestoreError | None = None
        for member in members:
            try:
                found = restorer(member)(value, path)
            except RestoreError as error:
                failure = failure or error
                continue
            # What it becomes must say the same again: a class that ignores half of it is the wrong one.
            if _fits(found, member) and value_bytes(to_plain(found)) == value_bytes(value):
                return found
        if failure is not None:
            raise failure
        return _as_recorded(value, path)

    return restored


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type, as far as that can be told from the value."""
    annotation = _bare(annotation)
    origin = typing.get_origin(annotation)
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        return any(value == choice and type(value) is type(choice) for choice in arguments)
    if origin is typing.Union or origin is types.UnionType:
        return any(_fits(value, member) for member in arguments)
    kind = origin or annotation
    if not isinstance(kind, type) or typing.is_typeddict(kind):
        return True
    if kind is float and type(value) is int:
        return True
    if type(value) is bool and kind is int:
        return False
    if not isinstance(value, kind):
        return False
    if not arguments or not isinstance(value, list | tuple | set | frozenset | dict):
        return True
    if isinstance(value, dict):
        return all(_fits(child, arguments[-1]) for child in value.values())
    if isinstance(value, tuple) and arguments[-1] is not Ellipsis:
        return all(_fits(child, argument) for child, argument in zip(value, arguments, strict=True))
    return all(_fits(child, arguments[0]) for child in value)


def _generic(origin: type, arguments: tuple[Any, ...]) -> Restorer:
    if issubclass(origin, tuple):
        return _tuple(arguments)
    if origin in _SEQUENCES or origin is collections.deque:
        return _elements(_SEQUENCES.get(origin, collections.deque), arguments[0])
    if origin in _SETS:
        return _elements(_SETS[origin], arguments[0])
    if origin is collections.Counter:
        return _mapping(collections.Counter, arguments[0], int)
    if origin in _MAPPINGS and len(arguments) == 2:
        return _mapping(_MAPPINGS[origin], *arguments)
    return _of_class(origin, arguments)


def _default_dict(pairs: Any) -> Any:
    return collections.defaultdict(None, pairs)


_SEQUENCES: dict[type, Callable[[Any], Any]] = {
    list: list,
    Sequence: list,
    MutableSequence: list,
    Collection: list,
    Iterable: list,
}
_SETS: dict[type, Callable[[Any], Any]] = {
    set: set,
    frozenset: frozenset,
    AbstractSet: set,
    MutableSet: set,
}
_MAPPINGS: dict[type, Callable[[Any], Any]] = {
    dict: dict,
    Mapping: dict,
    MutableMapping: dict,
    collections.OrderedDict: collections.OrderedDict,
    collections.defaultdict: _default_dict,
}


def _tuple(arguments: tuple[Any, ...]) -> Restorer:
    def restored(value: Any, path: Path) -> Any:
        if type(value) is not list:
            return _as_recorded(value, path)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            kinds: Sequence[Any] = [arguments[0]] * len(value)
        else:
            kinds = arguments
        if len(kinds) != len(value):
            raise RestoreError(
                "a recorded value does not fit its annotation",
                pointer=pointer_of(path),
                expected=f"{len(kinds)} elements",
                got=f"{len(value)}",
            )
        return tuple(
            restorer(kind)(child, (*path, str(index)))
            for index, (kind, child) in enumerate(zip(kinds, value, strict=True))
        )

    return restored


def _elements(make: Callable[[Any], Any], kind: Any) -> Restorer:
    tag = "$iso:set" if make in (set, frozenset) else None

    def restored(value: Any, path: Path) -> Any:
        if tag is not None and type(value) is dict and len(value) == 1 and type(value.get(tag)) is list:
            value, path = value[tag], (*path, tag)
        elif tag is not None or type(value) is not list:
            return _as_recorded(value, path)
        element = restorer(kind)
        children = [element(child, (*path, str(index))) for index, child in enumerate(value)]
        try:
            return make(children)
        except TypeError as error:
            raise RestoreError(str(error), pointer=pointer_of(path)) from None

    return restored


def _mapping(make: Callable[[Any], Any], key_kind: Any, kind: Any) -> Restorer:
    def restored(value: Any, path: Path) -> Any:
        if type(value) is not dict:
            return _as_recorded(value, path)
        restore_key, child = restorer(key_kind), restorer(kind)
        pairs = value.get("$iso:dict") if len(value) == 1 else None
        if pairs is not None:
            _as_recorded(value, path)  # refuses what is not a list of pairs
            path = (*path, "$iso:dict")
            items = [(key, inner, (*path, str(index), "1")) for index, (key, inner) in enumerate(pairs)]
        elif any(key.startswith("$iso:") for key in value):
            return _as_recorded(value, path)
        else:
            items = [(key, inner, (*path, key)) for key, inner in value.items()]
        try:
            return make({restore_key(key, path): child(inner, place) for key, inner, place in items})
        except TypeError as error:
            raise RestoreError(str(error), pointer=pointer_of(path)) from None

    return restored


# --- classes --------------------------------------------------------------------------


def _of_class(kind: type, arguments: tuple[Any, ...]) -> Restorer:
    if kind in _AS_RECORDED:
        return _as_recorded
    if kind in _BARE:
        return _converted(kind, _BARE[kind])
    if issubclass(kind, Enum):
        return _enum(kind)
    if typing.is_typeddict(kind):
        return _typed_dict(kind)
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        return _named_tuple(kind)
    if hasattr(kind, "__pydantic_fields__") or hasattr(kind, "parse_obj"):
        return _pydantic(kind)
    if dataclasses.is_dataclass(kind):
        return _fields(kind, _dataclass_fields(kind), arguments)
    if hasattr(kind, "__attrs_attrs__"):
        return _fields(kind, _attrs_fields(kind), arguments)
    if hasattr(kind, "__struct_fields__"):
        return _struct(kind)
    for base, recorded in _CONSTRUCTED:
        if issubclass(kind, base):
            return _converted(kind, recorded)
    return _as_recorded


_AS_RECORDED = frozenset(
    {object, str, int, float, bool, type(None), bytes, list, dict, date, time, timedelta, Decimal}
)
# What `from_plain` gives for them, of which the class makes itself.
_BARE: dict[type, tuple[type, ...]] = {
    tuple: (list,),
    set: (set, list),
    frozenset: (set, list),
    bytearray: (bytes,),
    UUID: (str,),
    collections.deque: (list,),
    collections.OrderedDict: (dict,),
    collections.Counter: (dict,),
}
_CONSTRUCTED: tuple[tuple[type, tuple[type, ...]], ...] = (
    (PurePath, (str,)),
    (str, (str,)),
    (float, (float, int)),
    (int, (int,)),
    (bytes, (bytes,)),
)


def _converted(kind: type, recorded: tuple[type, ...]) -> Restorer:
    def restored(value: Any, path: Path) -> Any:
        inner = _as_recorded(value, path)
        if type(inner) not in recorded:
            return inner
        return _made(kind, path, inner)

    return restored


def _made(kind: Callable[..., Any], path: Path, *args: Any, named: Mapping[str, Any] | None = None) -> Any:
    try:
        return kind(*args, **(named or {}))
    except Exception as error:  # a caller's class can refuse its content in any way
        name = getattr(kind, "__qualname__", str(kind))
        raise RestoreError(
            f"{name} refuses what was recorded",
            pointer=pointer_of(path),
            got=f"{type(error).__name__}: {error}",
        ) from error


def _enum(kind: type[Enum]) -> Restorer:
    def restored(value: Any, path: Path) -> Any:
        content = value_bytes(value)
        for member in kind:
            if value_bytes(to_plain(member)) == content:
                return member
        # A combination of flags is no member of its own.
        return _made(kind, path, _as_recorded(value, path))

    return restored


def _typed_dict(kind: type) -> Restorer:
    hints = field_annotations(kind)

    def restored(value: Any, path: Path) -> Any:
        if type(value) is not dict or any(key.startswith("$iso:") for key in value):
            return _as_recorded(value, path)
        return {key: restorer(hints.get(key))(child, (*path, key)) for key, child in value.items()}

    return restored


def _named_tuple(kind: Any) -> Restorer:
    hints = field_annotations(kind)
    kinds = [hints.get(name) for name in kind._fields]

    def restored(value: Any, path: Path) -> Any:
        if type(value) is not list or len(value) != len(kinds):
            raise _misfit(path, f"a list of {len(kinds)} for {kind.__qualname__}", value)
        children = [
            restorer(inner)(child, (*path, str(index)))
            for index, (inner, child) in enumerate(zip(kinds, value, strict=True))
        ]
        return _made(kind._make, path, children)

    return restored


def _pydantic(kind: Any) -> Restorer:
    def restored(value: Any, path: Path) -> Any:
        content = _as_recorded(value, path)
        if hasattr(kind, "model_validate"):
            return _made(_validate, path, kind, content)
        return _made(kind.parse_obj, path, content)

    return restored


def _validate(kind: Any, content: Any) -> Any:
    try:
        # Recorded under the fields' own names, whatever their aliases are.
        return kind.model_validate(content, by_name=True, by_alias=True)
    except TypeError:
        return kind.model_validate(content)


def _struct(kind: Any) -> Restorer:
    hints = field_annotations(kind)

    def restored(value: Any, path: Path) -> Any:
        children = _children(kind, value, hints, {name: name for name in kind.__struct_fields__}, path)
        return _made(kind, path, named=children)

    return restored


@dataclasses.dataclass(frozen=True, slots=True)
class _Field:
    name: str
    parameter: str | None  # what `__init__` calls it; None where it does not take it


def _dataclass_fields(kind: Any) -> list[_Field]:
    return [_Field(field.name, field.name if field.init else None) for field in dataclasses.fields(kind)]


def _attrs_fields(kind: Any) -> list[_Field]:
    return [_Field(field.name, field.alias if field.init else None) for field in kind.__attrs_attrs__]


def _children(
    kind: type, value: Any, hints: Mapping[str, Any], known: Mapping[str, Any], path: Path
) -> dict[str, Any]:
    if type(value) is not dict:
        raise _misfit(path, f"an object for {kind.__qualname__}", value)
    for key in value:
        if key not in known:
            raise RestoreError(
                f"{kind.__qualname__} has no such field",
                pointer=pointer_of((*path, key)),
                expected=", ".join(known),
            )
    return {key: restorer(hints.get(key))(child, (*path, key)) for key, child in value.items()}


def _fields(kind: type, fields: list[_Field], arguments: tuple[Any, ...]) -> Restorer:
    """Makes a dataclass or attrs object by its `__init__`, then sets every field as it was recorded.

    So `__post_init__` validates, and one that computes does not compute twice.
    """
    known = {field.name: field for field in fields}
    parameters = getattr(kind, "__parameters__", ())
    given = dict(zip(parameters, arguments, strict=False))
    hints = {
        name: given.get(hint, hint) if _is_hashable(hint) else hint
        for name, hint in field_annotations(kind).items()
    }

    def restored(value: Any, path: Path) -> Any:
        children = _children(kind, value, hints, known, path)
        taken = {name: child for key, child in children.items() if (name := known[key].parameter)}
        made = _made(kind, path, named=taken)
        for name, child in children.items():
            if getattr(made, name, made) is not child:
                _made(object.__setattr__, path, made, name, child)
        return made

    return restored


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True
