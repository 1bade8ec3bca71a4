"""Wrappers around other modules' attributes, put on and taken off in any order.

Recording and replay both wrap some of them, and runs and replays overlap as they like: each wrapper is
a layer, and taking one off leaves the others in place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
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
                setattr(self.owner, self.name, self.original)
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
