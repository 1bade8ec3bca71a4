"""What a function says that it takes and returns, read lazily and without ever raising."""

from __future__ import annotations

import inspect
import sys
import typing
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Generator,
    Iterable,
    Iterator,
)
from typing import Any

_STREAMS = (AsyncGenerator, AsyncIterable, AsyncIterator, Generator, Iterable, Iterator)


def return_annotation(function: Callable[..., Any]) -> Any:
    """The type that a function returns, of a generator the type of its items; None where it says none.

    A forward reference that can't be resolved counts as none. `NoneType` stands for `-> None`.
    """
    found = _resolved(function, ("return",)).get("return")
    plain = _unwrapped(function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        arguments = typing.get_args(found)
        return arguments[0] if typing.get_origin(found) in _STREAMS and arguments else None
    return found


def parameter_annotations(function: Callable[..., Any]) -> dict[str, Any]:
    """The types of a function's parameters by name; those that say none or can't be resolved are left out."""
    return _resolved(function, None)


def field_annotations(kind: type) -> dict[str, Any]:
    """The types of a class's fields by name, of its base classes too; as far as they can be resolved."""
    try:
        return typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001  # evaluating an annotation can raise anything
        pass
    found: dict[str, Any] = {}
    for base in reversed(kind.__mro__):
        module = sys.modules.get(base.__module__)
        for name, annotation in _annotations_of(base).items():
            resolved = _one(name, annotation, dict(vars(module)) if module else {}, {})
            if resolved is not None:
                found[name] = resolved
    return found


def _annotations_of(target: Any) -> dict[str, Any]:
    try:
        return inspect.get_annotations(target)
    except Exception:  # noqa: BLE001  # there are none, or (from 3.14 on) they are evaluated only now
        return {}


def _unwrapped(function: Callable[..., Any]) -> Any:
    try:
        return inspect.unwrap(function)
    except ValueError:
        return function


def _resolved(function: Callable[..., Any], names: tuple[str, ...] | None) -> dict[str, Any]:
    target = _unwrapped(function)
    namespace = getattr(target, "__globals__", {})
    enclosing = _enclosing(target)
    found: dict[str, Any] = {}
    for name, annotation in _annotations_of(target).items():
        if names is None and name == "return":
            continue
        if names is None or name in names:
            resolved = _one(name, annotation, namespace, enclosing)
            if resolved is not None:
                found[name] = resolved
    return found


def _enclosing(function: Any) -> dict[str, Any]:
    """The variables of enclosing functions that this one uses: classes made there may be named."""
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    found = {}
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue
    return found


def _one(name: str, annotation: Any, namespace: dict[str, Any], enclosing: dict[str, Any]) -> Any:
    # One at a time, so that a name that only type checkers know does not hide the others.
    if annotation is None:
        return type(None)
    holder = type("_Holder", (), {"__annotations__": {name: annotation}})
    try:
        return typing.get_type_hints(holder, namespace, enclosing)[name]
    except Exception:  # noqa: BLE001  # evaluating an annotation can raise anything
        return None
