"""Wrappers around other modules' attributes, put on and taken off in any order.

Recording and replay both wrap some of them, and runs and replays overlap as they like: each wrapper is
a layer, and taking one off leaves the others in place.
"""

from __future__ import annotations

import inspect
import threading
import types
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

Wrap = Callable[[Any], Any]
"""Makes what stands in for an attribute, from what it stands in for."""

_lock = threading.RLock()
_sites: dict[tuple[int, str], _Site] = {}


class _Site:
    """One attribute and the layers around it, the innermost first."""

    def __init__(self, owner: Any, name: str) -> None:
        self.owner = owner
        self.name = name
        self.inherited = name not in vars(owner)
        self.original = getattr(owner, name)
        self.stored = vars(owner).get(name)  # a class method as such, which `getattr` binds
        self.layers: list[Wrap] = []
        self.placed: Any = None

    def covered(self) -> bool:
        """Whether somebody else wrapped what we had put there. Theirs calls ours, so it stays."""
        return self.placed is not None and vars(self.owner).get(self.name) is not self.placed

    def place(self) -> None:
        if not self.layers:
            if self.inherited:
                delattr(self.owner, self.name)
            else:
                setattr(self.owner, self.name, self.stored)
            return
        composed = self.original
        for wrap in self.layers:
            composed = wrap(composed)
        self.placed = composed
        setattr(self.owner, self.name, composed)


def patch(owner: Any, name: str, wrap: Wrap) -> Callable[[], None]:
    """Puts `wrap(what is there)` in the place of `owner.name`; the returned function takes it off.

    What `wrap` makes must pass calls through where it is not concerned: if somebody wraps it in
    turn, it stays. Taking off twice is fine.
    """
    key = (id(owner), name)
    with _lock:
        site = _sites.get(key)
        if site is None or site.covered():
            site = _sites[key] = _Site(owner, name)
        site.layers.append(wrap)
        site.place()

    def take_off() -> None:
        with _lock:
            if not any(layer is wrap for layer in site.layers):
                return
            if site.covered():
                if _sites.get(key) is site:
                    del _sites[key]
                return
            site.layers = [layer for layer in site.layers if layer is not wrap]
            site.place()
            if not site.layers:
                del _sites[key]

    return take_off


def swap_code(function: Any, replacement: Callable[..., Any]) -> Callable[[], None]:
    """Lets `function` run `replacement`, which gets the original first, wherever it was imported to; the
    returned function takes that back.

    The stand-in takes any arguments and finds the replacement through its defaults.
    """
    if not isinstance(function, types.FunctionType):
        return lambda: None  # somebody else put something there
    code, kwdefaults = function.__code__, function.__kwdefaults__
    original = types.FunctionType(code, function.__globals__, function.__name__, function.__defaults__)
    original.__kwdefaults__ = kwdefaults
    stand_in: Any = _stand_in_async if code.co_flags & inspect.CO_COROUTINE else _stand_in
    # The code last: another thread may be calling the function.
    function.__kwdefaults__ = {**(kwdefaults or {}), "_isotrace": partial(replacement, original)}
    _set_code(function, stand_in.__code__)

    def restore() -> None:
        _set_code(function, code)
        function.__kwdefaults__ = kwdefaults

    return restore


def _set_code(function: types.FunctionType, code: types.CodeType) -> None:
    """Sets a function's code, which may be a generator's on one side only: `as_completed` is one up to
    some versions of Python, and newer ones warn when a function becomes one or ceases to be one."""
    if (function.__code__.co_flags ^ code.co_flags) & inspect.CO_GENERATOR:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            function.__code__ = code
    else:
        function.__code__ = code


def _stand_in(*args: Any, _isotrace: Any, **kwargs: Any) -> Any:
    return _isotrace(*args, **kwargs)


async def _stand_in_async(*args: Any, _isotrace: Any, **kwargs: Any) -> Any:
    return await _isotrace(*args, **kwargs)


def patch_all(sites: Iterable[tuple[Any, str, Wrap]]) -> list[Callable[[], None]]:
    """Patches all of these, or none: the ways back. Raises `AttributeError` where something is not there."""
    undo: list[Callable[[], None]] = []
    try:
        for owner, name, wrap in sites:
            undo.append(patch(owner, name, wrap))
    except BaseException:
        while undo:
            undo.pop()()
        raise
    return undo
