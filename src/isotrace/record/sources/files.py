"""Files that the agent's own code reads: which they were, and whether they are still the same in a replay.

What they held is not recorded; a replay reads them again. So each run that read some says so in its
grade, and its replay names those that have changed since.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import sysconfig
import threading
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from isotrace.record.capture.about import About
from isotrace.record.context import live_branch
from isotrace.record.sources.surroundings import FILES, surroundings

ABOUT = About(
    libraries="files (`open`)",
    versions="Python 3.11 to 3.13",
    steps=(
        (
            "a file that was there before the program",
            "noted once: size and SHA-256",
            "read again; the replay's notes name those that have changed",
        ),
    ),
    not_captured=(
        "What a file holds.",
        "Files that C code opens by itself, such as databases.",
        "Anything outside of a process that `isotrace run` started.",
    ),
)

MAX_FILES: Final = 200
MAX_SIZE: Final = 8 * 1024 * 1024
"""Larger files are told apart by their size alone."""

_CODE = (".py", ".pyc", ".pyi", ".so", ".pth")
_SYSTEM = ("/usr/", "/etc/", "/proc/", "/sys/", "/dev/", "/lib/", "/run/", "/System/", "/Library/")


class _Watch:
    """Which files this process has opened, from the moment in which it watches."""

    def __init__(self) -> None:
        self.on = False
        self.seen: set[str] = set()
        self.busy = threading.local()


_watch = _Watch()


def watch() -> Callable[[], None]:
    """Notes what is opened from now on; gives the way back."""
    _hook()
    _watch.seen = set()
    _watch.on = True

    def restore() -> None:
        _watch.on = False

    return restore


@cache
def _hook() -> None:
    """An audit hook can't be taken out again: it looks whether anybody watches."""
    sys.addaudithook(_audit)


def _audit(event: str, args: tuple[Any, ...]) -> None:
    if event != "open" or not _watch.on or live_branch() is None or getattr(_watch.busy, "now", False):
        return
    _watch.busy.now = True
    try:
        _opened(args[0], args[2])
    except Exception:  # noqa: BLE001  # a program that opens a file opens it
        pass
    finally:
        _watch.busy.now = False


def _opened(name: Any, flags: int) -> None:
    if not isinstance(name, str | bytes | os.PathLike):
        return
    path = os.path.abspath(os.fsdecode(name))  # noqa: PTH100  # Path's would follow links
    if path in _watch.seen:
        return
    # What the program writes itself it may read again: a replay writes it as well.
    if flags & os.O_ACCMODE != os.O_RDONLY:
        _watch.seen.add(path)
    elif not path.endswith(_CODE) and not path.startswith((*_SYSTEM, *_interpreter())):
        _watch.seen.add(path)
        seal = fingerprint(path)
        if seal is not None and len(surroundings.names(FILES)) < MAX_FILES:
            surroundings.add(FILES, path, seal)


@cache
def _interpreter() -> tuple[str, ...]:
    """Folders of the interpreter and of what is installed, and isotrace's own."""
    folders = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, str(Path(__file__).parents[2])}
    return tuple(f"{folder.rstrip(os.sep)}{os.sep}" for folder in folders if folder not in ("", os.sep))


def fingerprint(path: str) -> dict[str, Any] | None:
    """Size and SHA-256 of a file as it is now; None for what is no regular file, or is not there."""
    try:
        about = os.stat(path)  # noqa: PTH116  # Path's raises for a name that is too long
        if not stat.S_ISREG(about.st_mode):
            return None
        if about.st_size > MAX_SIZE:
            return {"size": about.st_size}
        return {"size": about.st_size, "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest()}
    except (OSError, ValueError):
        return None


def reason() -> str | None:
    """What the grade of a run says of the files that were read; None if there were none."""
    names = [Path(path).name for path in surroundings.names(FILES)]
    if not names:
        return None
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"files: what the code read by itself is not recorded: {', '.join(names[:3])}{more}"


def changed(files: Mapping[str, Any]) -> list[str]:
    """A sentence for each of these files that is not what it was."""
    found = []
    for path, then in files.items():
        now = fingerprint(path)
        if now is None:
            found.append(f"the file {path}, which the code read, is not there any more")
        elif now != then:
            found.append(f"the file {path} is not what it was when the code read it")
    return found
