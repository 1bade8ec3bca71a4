"""A value that a framework's tool returned or raised, taken apart into plain values, and put together again.

What JSON has is kept as it is. Beside it stands which parts were tuples or objects, and of which class:
one that the tool's own code can name, or one of the framework's. No other class is ever looked up.
"""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from functools import partial
from types import FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from isotrace.record.annotations import return_annotation

Form = list[Any]
"""`[path, kind, class name, names of the fields that were set]`: what the value at this path was."""

_MAX_PARTS = 20_000
_MAX_DEPTH = 100
_MAX_CLASSES = 2_000


class _TooMuch(Exception):
    """The value is too large or too deep to be taken apart."""


# --- which classes there are ------------------------------------------------------------------


class Reach:
    """The classes that a tool's values may be of, by module and qualified name."""

    def __init__(self, function: Any, known: Iterable[Any] = ()) -> None:
        self._classes: dict[str, type] = {}
        self._roots: list[Any] = [return_annotation(function) if callable(function) else None, *known]
        self._named: dict[str, type] = {name_of(found): found for found in _named_by(function)}
        self._followed = False

    def find(self, name: str) -> type | None:
        """The class of this name, None if it is out of reach."""
        if name in self._named:
            return self._named[name]
        if not self._followed:
            self._followed = True
            self._follow()
        return self._classes.get(name)

    def holds(self, kind: type) -> bool:
        """Whether this very class is in reach."""
        return self.find(name_of(kind)) is kind

    def _follow(self) -> None:
        """Takes in the classes of annotations, and those of the fields of each."""
        left: list[Any] = [*self._roots, *self._named.values()]
        while left and len(self._classes) < _MAX_CLASSES:
            annotation = left.pop()
            left += typing.get_args(annotation)
            if isinstance(annotation, type) and name_of(annotation) not in self._classes:
                self._classes[name_of(annotation)] = annotation
                left += _field_annotations(annotation)


def name_of(kind: type) -> str:
    """Where a class is defined."""
    return f"{kind.__module__}.{kind.__qualname__}"


def _field_annotations(kind: Any) -> list[Any]:
    fields = getattr(kind, "__pydantic_fields__", None)
    if isinstance(fields, dict):
        return [field.annotation for field in fields.values()]
    if dataclasses.is_dataclass(kind):
        try:
            return list(typing.get_type_hints(kind).values())
        except Exception:  # noqa: BLE001  # an annotation that can't be evaluated names nothing
            return []
    return []


def _named_by(function: Any) -> Iterator[type]:
    """The classes that a function's code can name: in its module, and in the functions around it."""
    for _ in range(16):
        wrapped = getattr(function, "__wrapped__", None) or getattr(function, "__func__", None)
        if wrapped is None:
            wrapped = function.func if isinstance(function, partial) else None
        if wrapped is None:
            break
        function = wrapped
    if not isinstance(function, FunctionType):
        return
    for value in list(function.__globals__.values()):
        if isinstance(value, type):
            yield value
        elif isinstance(value, ModuleType):
            for name in function.__code__.co_names:
                found = vars(value).get(name)
                if isinstance(found, type):
                    yield found
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:
            continue
        if isinstance(content, type):
            yield content


_reaches: WeakKeyDictionary[Any, Reach] = WeakKeyDictionary()


def reach_of(function: Any, known: Callable[[], Iterable[Any]]) -> Reach:
    """The reach of a tool's function, with the framework's own classes."""
    try:
        found = _reaches.get(function)
        if found is None:
            found = _reaches[function] = Reach(function, known())
        return found
    except TypeError:  # no weak reference to it
        return Reach(function, known())


# --- apart ------------------------------------------------------------------------------------


def apart(value: Any, reach: Reach) -> tuple[Any, list[Form]]:
    """The value without tuples and objects in reach, and what they were. What is neither stays."""
    forms: list[Form] = []
    try:
        plain = _Apart(reach, forms).part(value, ())
    except (_TooMuch, RecursionError):
        return value, []
    return (plain, forms) if forms else (value, forms)


class _Apart:
    def __init__(self, reach: Reach, forms: list[Form]) -> None:
        self._reach = reach
        self._forms = forms
        self._parts = 0

    def part(self, value: Any, path: tuple[str | int, ...]) -> Any:
        self._parts += 1
        if self._parts > _MAX_PARTS or len(path) > _MAX_DEPTH:
            raise _TooMuch
        kind = type(value)
        if kind in _SCALARS:
            return value
        if kind is list:
            return [self.part(child, (*path, index)) for index, child in enumerate(value)]
        if kind is dict:
            return self._pairs(value, path) if all(type(key) is str for key in value) else value
        if kind is tuple:
            return self._noted([*value], path, "tuple")
        if not self._reach.holds(kind):
            return value
        return self._object(value, kind, path)

    def _pairs(self, pairs: dict[str, Any], path: tuple[str | int, ...]) -> Any:
        return {key: self.part(child, (*path, key)) for key, child in pairs.items()}

    def _noted(self, content: Any, path: tuple[str | int, ...], *form: Any) -> Any:
        # What is inside comes first: that is the order in which it is put together.
        plain = self.part(content, path)
        self._forms.append([list(path), *form])
        return plain

    def _object(self, value: Any, kind: Any, path: tuple[str | int, ...]) -> Any:
        if isinstance(value, Enum):
            return self._noted(value.value, path, "enum", name_of(kind))
        if isinstance(value, tuple) and hasattr(kind, "_fields"):
            return self._noted([*value], path, "named tuple", name_of(kind))
        if dataclasses.is_dataclass(kind):
            names = [field.name for field in dataclasses.fields(kind) if hasattr(value, field.name)]
            fields = {name: getattr(value, name) for name in names}
            return self._noted(fields, path, "dataclass", name_of(type(value)))
        if hasattr(kind, "model_construct") and hasattr(kind, "__pydantic_fields__"):
            fields = {**value.__dict__, **(value.__pydantic_extra__ or {})}
            given = sorted(value.__pydantic_fields_set__)
            return self._noted(fields, path, "model", name_of(kind), given)
        return value


_SCALARS = frozenset({str, int, float, bool, type(None)})


# --- together ---------------------------------------------------------------------------------


def together(plain: Any, forms: Iterable[Form], reach: Reach) -> Any:
    """The value that was taken apart. Raises `LookupError` for a class that is not in reach any more, and
    what a class raises of what it is made of."""
    holder = [plain]
    for path, *form in forms:
        place: Any = holder
        last: Any = 0
        for key in path:
            place, last = place[last], key
        place[last] = _made(place[last], form, reach)
    return holder[0]


_FITS: dict[str, Callable[[Any], bool]] = {
    "enum": lambda kind: issubclass(kind, Enum),
    "named tuple": lambda kind: issubclass(kind, tuple) and hasattr(kind, "_make"),
    "model": lambda kind: any(base.__module__.startswith("pydantic.") for base in kind.__mro__),
    "dataclass": dataclasses.is_dataclass,
}
"""What a class must be to be made from its parts: a record names it, and a record may be anybody's."""


def _made(content: Any, form: list[Any], reach: Reach) -> Any:
    if form[0] == "tuple":
        return tuple(content)
    kind: Any = reach.find(form[1])
    if kind is None:
        raise LookupError(f"the tool's code names no class {form[1]}")
    if not _FITS[form[0]](kind):
        raise LookupError(f"{form[1]} is no {form[0]}")
    if form[0] == "enum":
        return kind(content)
    if form[0] == "named tuple":
        return kind._make(content)
    if form[0] == "model":
        return kind.model_construct(_fields_set=set(form[2]), **content)
    made = object.__new__(kind)
    for name, value in content.items():
        # As it was, not as it was given: `__post_init__` has run already, and a frozen one refuses.
        object.__setattr__(made, name, value)
    return made
