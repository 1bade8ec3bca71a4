"""Randomness that may be a key: `secrets`, `os.urandom`, `random.SystemRandom`. Never recorded; where the
agent's own code uses it, the run's grade says so."""

from __future__ import annotations

import os
import random
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.context import live_branch
from isotrace.record.patches import patch
from isotrace.record.sources.noted import part_of_another

ABOUT = About(
    libraries="`secrets`, `os.urandom`, `random.SystemRandom`",
    versions="Python 3.11 to 3.13",
    steps=(),
    not_captured=("All of it: it may be a key. The run's grade names who used it.",),
)

_BETWEEN = ("random", "secrets")
_HARMLESS = frozenset(
    {
        "aiohttp",
        "anthropic",
        "httpx",
        "httpx2",
        "isotrace",
        "mcp",
        "openai",
        "requests",
        "urllib3",
        "websockets",
    }
)
"""They separate the parts of a body by it, greet a server, or name a session."""
_STDLIB = sysconfig.get_path("stdlib") + os.sep
_INSTALLED = tuple({f"{sysconfig.get_path(name)}{os.sep}" for name in ("purelib", "platlib")})


def control() -> Callable[[], None]:
    """Has uses inside runs noted in the run's grade; gives the way back."""
    systems: Any = random
    undo = [patch(os, "urandom", _drawing), patch(systems, "_urandom", _drawing)]

    def restore() -> None:
        while undo:
            undo.pop()()

    return restore


def _drawing(plain: Callable[[int], bytes]) -> Callable[[int], bytes]:
    def urandom(size: int, /) -> bytes:
        branch = live_branch()
        if branch is not None and not part_of_another.get():
            try:
                who = _who(sys._getframe(1))
            except Exception:  # noqa: BLE001  # a program that draws bytes gets them
                who = None
            if who is not None:
                branch.driver.note(
                    f"secrets: random bytes that {who} drew are not recorded, they may be a key"
                )
        return plain(size)

    return urandom


def _who(frame: FrameType | None) -> str | None:
    """Who draws: the agent's own code, or a library of its; None for what does no harm."""
    while frame is not None and frame.f_globals.get("__name__") in _BETWEEN:
        frame = frame.f_back
    if frame is None:
        return None
    package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
    file = frame.f_code.co_filename
    if package in _HARMLESS or file.startswith("<frozen"):
        return None
    if file.startswith(_INSTALLED):
        return package
    return None if file.startswith(_STDLIB) else Path(file).name
