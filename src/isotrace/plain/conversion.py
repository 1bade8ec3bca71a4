"""One conversion of any value to plain data, within the limits of `canonical`."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from itertools import islice
from math import isfinite
from typing import Any, Final

from isotrace.canonical import MAX_BYTES, MAX_DEPTH, MAX_INT, MAX_NODES, canonical_bytes
from isotrace.plain.fitting import Fitting
from isotrace.plain.sources import (
    BUILTINS,
    SCALARS,
    elements_of,
    escaped,
    fields_of,
    is_unicode,
    items_of,
    length_of,
    root_module,
    serializes_itself,
    type_name,
)

PREFIX: Final = "$iso:"
OBJECT_TAG: Final = "$iso:object"

# Values looked at in all, where an object counts for several: objects can make new ones for ever.
_MAX_WORK = MAX_NODES * 5 // 4
_OBJECT_WORK = 8
_MAX_LOSSES = 1000
_DECIMAL_BITS = 13_000  # about 3,900 digits: the interpreter refuses to write much longer numbers in decimal
_ARRAY_MODULES = ("numpy", "pandas")
_ABSENT = ("NaTType", "NAType")
# What an object's content is handed on in: made here, so that it can't be met again.
_OWN = (dict, list, frozenset)


@dataclasses.dataclass(frozen=True, slots=True)
class Loss:
    """A part of a value that is not kept. `pointer` is its place in the plain value.

    `reason`: `object` (there is no plain form, or reading it raised), `cycle`, `depth`, `size`.
    """

    pointer: str
    type_name: str
    reason: str = "object"

    def __str__(self) -> str:
        return f"{self.reason} at {self.pointer or 'the top'}: {self.type_name}"


class _NoRoom(Exception):
    """There is no depth left for one more container."""


class Conversion:
    """Converts one value. `typed` says whether it held anything that JSON can't say exactly.

    `around`: how many containers will be put around the plain value. It is kept so far below the limits
    that the whole is still within them.
    """

    def __init__(self, around: int = 0) -> None:
        self._around = around
        self.losses: list[Loss] = []
        self.typed = False
        self._path: list[str] = []
        self._open: set[int] = set()
        self._work = 0
        self._chars = 0
        self._shared: dict[tuple[int, int], tuple[Any, Any]] = {}
        self._repeats = False
        self._kinds: dict[int, type] = {}

    def run(self, value: Any) -> Any:
        """The plain form of the whole value."""
        try:
            plain = self._plain(value, self._around)
            if self._repeats or self._work * 4 > MAX_NODES or self._chars * 8 > MAX_BYTES:
                plain = Fitting(plain, type(value), self._cut_at, self._kind_of, self._around).run()
        except (RecursionError, MemoryError):
            # Too little is left of the stack or of memory. What was found so far says nothing.
            self.losses, self._path = [], []
            return self._cut(type(value), "depth")
        return plain

    def is_within_limits(self, value: Any) -> bool:
        """Whether a value can be expanded whole, as code that knows no limits would do it."""
        self.run(value)
        return all(loss.reason == "object" for loss in self.losses)

    # --- scalars ----------------------------------------------------------------------

    def _plain(self, value: Any, depth: int) -> Any:
        self._work += 1
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._text(value, depth)
        if kind is int:
            return value if -MAX_INT <= value <= MAX_INT else self._big_int(value, depth)
        if kind is float:
            return value if isfinite(value) else self._tag("float", repr(value), depth)
        if kind is dict or kind is list:
            return self._once(value, kind, depth, self._container)
        self.typed = True
        if kind is tuple:
            return self._once(value, kind, depth, self._container)
        return self._guarded(value, kind, depth)

    def _guarded(self, value: Any, kind: type, depth: int) -> Any:
        """What may run the content's own code, which may raise anything."""
        place, before = len(self._path), len(self.losses)
        try:
            return self._other(value, kind, depth)
        except (_NoRoom, RecursionError, MemoryError, KeyboardInterrupt, SystemExit):
            raise
        except BaseException:  # noqa: BLE001  # whatever it raises must not stop the agent
            if depth >= MAX_DEPTH:
                raise _NoRoom from None
            del self._path[place:], self.losses[before:]
            return self._cut(kind, "object")

    def _text(self, value: str, depth: int) -> Any:
        self._chars += len(value)
        if value.isascii() or is_unicode(value):
            return value
        return self._tag("str", escaped(value), depth)

    def _big_int(self, value: int, depth: int) -> Any:
        return self._tag("int", str(value) if value.bit_length() <= _DECIMAL_BITS else hex(value), depth)

    def _tag(self, name: str, content: Any, depth: int) -> dict[str, Any]:
        if depth >= MAX_DEPTH:
            raise _NoRoom
        self.typed = True
        self._work += 1
        if type(content) is str:
            self._chars += len(content)
        return {PREFIX + name: content}

    # --- losses -----------------------------------------------------------------------

    def _cut(self, kind: type, reason: str) -> dict[str, Any]:
        name = type_name(kind)
        if len(self.losses) < _MAX_LOSSES:
            self.losses.append(Loss("".join(self._path), name, reason))
        self.typed = True
        return {OBJECT_TAG: name}

    def _cut_at(self, pointer: str, kind: type) -> dict[str, Any]:
        # What was lost within a part is lost with it.
        self.losses = [
            loss
            for loss in self.losses
            if loss.pointer != pointer and not loss.pointer.startswith(pointer + "/")
        ]
        self._path = [pointer]
        return self._cut(kind, "size")

    def _kind_of(self, plain: Any) -> type:
        """The type of the object that became this part of the plain value."""
        return self._kinds.get(id(plain), type(plain))

    # --- containers -------------------------------------------------------------------

    def _once(self, value: Any, kind: type, depth: int, convert: Callable[[Any, type, int], Any]) -> Any:
        """What `convert` makes of a value that holds others: once for each depth, and not within itself."""
        if depth >= MAX_DEPTH:
            raise _NoRoom
        key = (id(value), depth)
        known = self._shared.get(key)
        if known is not None:
            self._repeats = True
            return known[1]
        if id(value) in self._open:
            return self._cut(kind, "cycle")
        self._open.add(id(value))
        try:
            plain = convert(value, kind, depth)
        finally:
            self._open.discard(id(value))
        # The value is kept with it, so that its id can't come to mean another one.
        self._shared[key] = (value, plain)
        if kind is not dict and kind is not list:
            self._kinds[id(plain)] = kind
        return plain

    def _container(self, value: Any, kind: type, depth: int) -> Any:
        """A dict, list, tuple, set or one of their subclasses, which stands for an object of type `kind`."""
        if length_of(value) > MAX_NODES or self._work > _MAX_WORK:
            return self._cut(kind, "size")
        place, before = len(self._path), len(self.losses)
        try:
            return self._filled(value, depth)
        except (_NoRoom, RecursionError):
            # Or the agent's own calls left too little of the stack.
            del self._path[place:], self.losses[before:]
            return self._cut(kind, "depth")

    def _filled(self, value: Any, depth: int) -> Any:
        # Copied before it is walked, always: another thread may be at work on it.
        kind = type(value)
        if issubclass(kind, dict):
            return self._pairs(list(items_of(value)), depth)
        elements = list(elements_of(value))
        if issubclass(kind, set | frozenset):
            return self._set(elements, depth)
        out = []
        path = self._path
        for index, child in enumerate(elements):
            path.append(f"/{index}")
            out.append(self._plain(child, depth + 1))
            path.pop()
        return out

    def _pairs(self, pairs: list[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        keys = self._plain_keys(pairs)
        if keys is None:
            return self._tagged_pairs(pairs, depth)
        out: dict[str, Any] = {}
        path = self._path
        for key, (_, child) in zip(keys, pairs, strict=True):
            path.append("/" + key.replace("~", "~0").replace("/", "~1"))
            out[key] = self._plain(child, depth + 1)
            path.pop()
        return out

    def _plain_keys(self, pairs: list[tuple[Any, Any]]) -> list[str] | None:
        """The keys as JSON can have them, or None where only a list of pairs can hold them."""
        keys = []
        for key, _ in pairs:
            text = key
            if type(key) is not str:
                if not issubclass(type(key), str):
                    return None
                self.typed = True
                text = str.__str__(key)
            if text.startswith(PREFIX) or not (text.isascii() or is_unicode(text)):
                return None
            self._chars += len(text)
            keys.append(text)
        # Two keys that are of subclasses of str can have one content.
        return keys if len(set(keys)) == len(keys) else None

    def _tagged_pairs(self, pairs: list[tuple[Any, Any]], depth: int) -> dict[str, Any]:
        if depth + 2 >= MAX_DEPTH:
            raise _NoRoom
        out = []
        path = self._path
        for index, (key, child) in enumerate(pairs):
            path.append(f"/$iso:dict/{index}/0")
            plain_key = self._plain(key, depth + 3)
            path[-1] = f"/$iso:dict/{index}/1"
            out.append([plain_key, self._plain(child, depth + 3)])
            path.pop()
        return self._tag("dict", out, depth)

    def _set(self, elements: list[Any], depth: int) -> dict[str, Any]:
        if depth + 1 >= MAX_DEPTH:
            raise _NoRoom
        # Without an index: which place an element gets is known only after sorting.
        self._path.append("/$iso:set")
        plain = [self._plain(child, depth + 2) for child in elements]
        self._path.pop()
        return self._tag("set", sorted(plain, key=canonical_bytes), depth)

    # --- everything else --------------------------------------------------------------

    def _other(self, value: Any, kind: type, depth: int) -> Any:
        # By `kind` throughout: `isinstance` would ask the value for its `__class__`.
        if kind in SCALARS:
            return self._scalar(SCALARS[kind], value, depth)
        if issubclass(kind, Enum):
            return self._plain(object.__getattribute__(value, "_value_"), depth)
        for base, exact in BUILTINS.items():
            if issubclass(kind, base):
                return self._plain(exact(value), depth)
        if issubclass(kind, dict | list | tuple | set | frozenset):
            return self._once(value, kind, depth, self._container)
        for base, scalar in SCALARS.items():
            if issubclass(kind, base) and kind.__name__ not in _ABSENT:
                return self._scalar(scalar, value, depth)
        return self._once(value, kind, depth, self._object)

    def _scalar(self, scalar: tuple[str, Callable[[Any], str]], value: Any, depth: int) -> Any:
        name, text_of = scalar
        text = text_of(value)
        return self._tag(name, text, depth) if name else self._text(text, depth)

    def _object(self, value: Any, kind: type, depth: int) -> Any:
        self._work += _OBJECT_WORK
        if self._work > _MAX_WORK:
            return self._cut(kind, "size")
        if issubclass(kind, BaseException):
            return self._cut(kind, "object")
        inner = fields_of(value, kind)
        if inner is not None:
            if serializes_itself(kind) and Conversion().is_within_limits(inner):
                inner = value.model_dump(mode="python", warnings=False)
            return self._inner(inner, kind, depth)
        if root_module(kind) in _ARRAY_MODULES:
            return self._array(value, kind, depth)
        return self._abstract(value, kind, depth)

    def _inner(self, inner: Any, kind: type, depth: int) -> Any:
        """The plain form of what stands for an object of type `kind`."""
        if type(inner) in _OWN:
            return self._container(inner, kind, depth)
        return self._plain(inner, depth)

    def _array(self, value: Any, kind: type, depth: int) -> Any:
        """An array, table or scalar of numpy or pandas."""
        if kind.__name__ in _ABSENT:
            return None
        size = getattr(value, "size", 1)
        if isinstance(size, int) and size > MAX_NODES:
            return self._cut(kind, "size")
        if kind.__name__ == "DataFrame":
            return self._inner(dict(value.to_dict(orient="split")), kind, depth)
        read = getattr(value, "tolist", None) or getattr(value, "item", None)
        inner = read() if read is not None else value
        # The item of a long double is itself: nothing in the standard library holds it.
        return self._cut(kind, "object") if type(inner) is kind else self._inner(inner, kind, depth)

    def _abstract(self, value: Any, kind: type, depth: int) -> Any:
        """Mappings, sets and sequences by their protocols; iterators are not touched, let alone consumed."""
        if issubclass(kind, Mapping):
            inner: Any = [(key, value[key]) for key in islice(iter(value), MAX_NODES + 1)]
        elif issubclass(kind, AbstractSet | Sequence | deque):
            inner = list(islice(iter(value), MAX_NODES + 1))
        else:
            return self._cut(kind, "object")
        if len(inner) > MAX_NODES:
            return self._cut(kind, "size")
        if issubclass(kind, Mapping):
            inner = dict(inner)
        elif issubclass(kind, AbstractSet):
            inner = frozenset(inner)
        return self._inner(inner, kind, depth)
