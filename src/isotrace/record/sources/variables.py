"""Environment variables that the agent's own code reads, with the time zone and the locale.

Of each name the value is noted that it had when the program began; what the program sets itself is its own
doing. A variable that may hold a secret is noted as being set, without its value.
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from isotrace.record.capture.about import About
from isotrace.record.capture.urls import is_secret_name, without_secrets
from isotrace.record.context import live_branch
from isotrace.record.patches import patch
from isotrace.record.sources.surroundings import VARIABLES, surroundings
from isotrace.record.withheld import PLACEHOLDER, forget
from isotrace.redact.forms import SECRET_FORM

ABOUT = About(
    libraries="environment (`os.environ`, `os.getenv`), time zone, locale",
    versions="Python 3.11 to 3.13",
    steps=(
        (
            "a variable read by name, time zone, locale, as they were when the program began",
            "noted once each",
            "set before the program starts; what was absent is absent",
        ),
    ),
    not_captured=(
        (
            "The values of variables that may hold secrets, by name or by form: the record says that they "
            "were set."
        ),
        "Names that are only seen when all variables are listed.",
        "Anything outside of a process that `isotrace run` started.",
    ),
)

ALWAYS: Final = (
    "TZ",
    "LANG",
    "LANGUAGE",
    "LC_ALL",
    "LC_CTYPE",
    "LC_NUMERIC",
    "LC_TIME",
    "LC_COLLATE",
    "LC_MESSAGES",
)
"""They work without being read by name."""
ZONE: Final = "time zone"
WITHHELD: Final = {"set": True}
"""In place of a value that is not kept."""

_OURS = re.compile(r"(?:ISOTRACE|PYTHON|LD|DYLD|COVERAGE|COV)_?|_$")
_NAME = re.compile(r"(?!ISOTRACE|PYTHON|LD_|DYLD_|COV)[A-Z][A-Z0-9_]*")
_MAX_NAMES = 300
_MAX_LENGTH = 2000


def watch() -> Callable[[], None]:
    """Notes what is read from now on; gives the way back."""
    forget()
    before = dict(os.environ)
    seen: set[str] = set()
    local = threading.local()

    def note(name: str, now: str | None) -> None:
        seen.add(name)
        if now == before.get(name) and len(seen) <= _MAX_NAMES and not _OURS.match(name):
            surroundings.add(VARIABLES, name, kept(name, now))

    def getting(plain: Callable[[Any, Any], str]) -> Callable[[Any, Any], str]:
        def getitem(self: Any, key: Any) -> str:
            # A value that is listed with all others is not asked for by its name.
            asked = type(key) is str and key not in seen and key != getattr(local, "listed", None)
            if not asked or self is not os.environ or live_branch() is None:
                return plain(self, key)
            try:
                value = plain(self, key)
            except KeyError:
                note(key, None)
                raise
            note(key, value)
            return value

        return getitem

    def listing(plain: Callable[[Any], Iterator[Any]]) -> Callable[[Any], Iterator[Any]]:
        def iterate(self: Any) -> Iterator[Any]:
            try:
                for local.listed in plain(self):
                    yield local.listed
            finally:
                local.listed = None

        return iterate

    for name in ALWAYS:
        note(name, before.get(name))
    surroundings.add(VARIABLES, ZONE, local_zone())
    environ: Any = type(os.environ)
    undo = [patch(environ, "__getitem__", getting), patch(environ, "__iter__", listing)]

    def restore() -> None:
        while undo:
            undo.pop()()

    return restore


def kept(name: str, value: str | None) -> Any:
    """What is kept of a variable: its value, None if it was not set, `WITHHELD` where it may be a secret."""
    if value is None:
        return None
    # Bytes that are no text would not come back.
    secret = is_secret_name(name) or SECRET_FORM.match(value) or without_secrets(value) != value
    return WITHHELD if secret or len(value) > _MAX_LENGTH or not value.isprintable() else value


def local_zone() -> str:
    """The name of the local time zone as `TZ` takes it."""
    zone = os.environ.get("TZ")
    if zone:
        return zone
    _, found, name = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")
    if found:
        return name
    east = -time.timezone
    sign, (hours, rest) = "-" if east >= 0 else "+", divmod(abs(east), 3600)
    return f"<{time.tzname[0]}>{sign}{hours}:{rest // 60:02}"


def placeholders(variables: Mapping[str, Any], here: Mapping[str, str]) -> dict[str, str]:
    """Values that are none for the secrets that were set when this was noted and are not set here: an SDK
    that asks for a key before its first call gets one. Of a record from elsewhere no more is restored."""
    return {
        name: PLACEHOLDER
        for name, value in variables.items()
        if value == WITHHELD and name not in here and is_secret_name(name) and _NAME.fullmatch(name)
    }


def restored(variables: Mapping[str, Any], here: Mapping[str, str]) -> dict[str, str]:
    """The environment `here`, with what was noted in its place. A secret that is not set here gets a
    value that is none."""
    environment = dict(here)
    for name, value in variables.items():
        if name == ZONE or _OURS.match(name) or "=" in name or "\0" in name:
            continue
        if value is None:
            environment.pop(name, None)
        elif isinstance(value, str):
            environment[name] = value
        else:
            environment.setdefault(name, PLACEHOLDER)
    zone = variables.get(ZONE)
    if "TZ" not in environment and isinstance(zone, str) and zone != local_zone():
        environment["TZ"] = zone
    return environment
