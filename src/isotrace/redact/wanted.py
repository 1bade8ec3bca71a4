"""Which redactors a run is to have. Looked at as every run begins, so it loads nothing that is not needed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Any, Final

VARIABLE: Final = "ISOTRACE_REDACT"
"""The variable that names redactors for every run of a process, with commas between them."""

FILES: Final = (("isotrace.toml", ()), ("pyproject.toml", ("tool", "isotrace")))
"""Where a project says so, and in which table; the first goes before the second."""

_MARKS: Final = {"isotrace.toml": (b"redact",), "pyproject.toml": (b"isotrace", b"redact")}
_OTHERS: Final = {
    "isotrace.toml": re.compile(rb"^\s*\[(?!\s*entries\b)", re.MULTILINE),
    "pyproject.toml": re.compile(rb"^\s*\[tool\.isotrace(?!\.entries\b)", re.MULTILINE),
}
"""Tables that may be meant for redaction under a name that means nothing: read, so that it is said."""
_Seen = tuple[int, int]
_silent: dict[str, _Seen] = {}


def redactors_wanted(names: Iterable[str], around: Iterable[str] = ()) -> list[str]:
    """Names of redactors, each once: those of the run around, those given, those of the environment and of
    the project's configuration. Raises `UsageError` for a configuration that is none."""
    said = (name.strip() for name in os.environ.get(VARIABLE, "").split(","))
    return list(dict.fromkeys((*around, *names, *filter(None, said), *_of_project())))


_without: set[str] = set()


def _of_project() -> tuple[str, ...]:
    folder = current_folder()
    # A process that had no configuration when a run began has none: looking for it takes longer than a run.
    if folder in _without:
        return ()
    if configuration(folder) is None:
        _without.add(folder)
        return ()
    from isotrace.redact.config import project_config  # noqa: PLC0415 - start-up time, for those who redact

    return project_config().use


def current_folder() -> str:
    """The current folder; empty where it is gone."""
    try:
        return os.getcwd()  # noqa: PTH109 - every run starts here
    except OSError:
        return ""


def configuration(folder: str) -> tuple[str, tuple[str, ...], os.stat_result] | None:
    """The nearest file at or above this folder that speaks of redaction: its path, the names of the table
    that the table `redact` is in, and what the file system says of it."""
    while folder:
        for name, section in FILES:
            path = os.path.join(folder, name)  # noqa: PTH118 - as above
            stat = _speaks(path, _MARKS[name], _OTHERS[name])
            if stat is not None:
                return path, section, stat
        above = os.path.dirname(folder)  # noqa: PTH120 - as above
        folder = "" if above == folder else above
    return None


def _speaks(path: str, marks: tuple[bytes, ...], others: re.Pattern[bytes]) -> Any:
    """What the file system says of a file that speaks of redaction; None for any other, and for none."""
    try:
        stat = os.stat(path)  # noqa: PTH116 - as above
        seen = stat.st_mtime_ns, stat.st_size
        if _silent.get(path) == seen:
            return None
        with open(path, "rb") as file:  # noqa: PTH123 - as above
            data = file.read()
        if all(mark in data for mark in marks) or others.search(data):
            return stat
        _silent[path] = seen
    except (OSError, ValueError):
        return None
    return None
