"""Which golden file belongs to which test."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from pathlib import Path, PurePath
from typing import Final

from isotrace.errors import UsageError

SUFFIX: Final = ".golden"
NAMED: Final = "@"
"""Stands between a test's name and that of one of its goldens."""

_UNSAFE = re.compile(r"[^\w.\-+=,@()\[\] ]")
_LONGEST = 120
_KEPT = 100


def folder_of(test_file: Path, folder: str) -> Path:
    """The folder with the goldens of the tests of one folder.

    Raises `UsageError` for one that is not below it: two test files of one name would share their goldens.
    """
    place = PurePath(folder)
    if place.is_absolute() or ".." in place.parts or not place.parts:
        raise UsageError(
            "the folder of goldens stands beside the test file",
            where="isotrace_goldens",
            expected="a path below the test file's folder, such as goldens",
            got=folder,
        )
    return test_file.parent / place


def stem_of(classes: list[str], name: str) -> str:
    """The name of a test's golden: `Class.test_name[param]`, safe on any file system.

    What was replaced, or cut off, is told apart by a digest of the whole.
    """
    return safe(".".join([*classes, name]))


def safe(text: str) -> str:
    """The text as part of a file's name; another text gives another name, but for upper and lower case."""
    plain = unicodedata.normalize("NFC", text)
    kept = _UNSAFE.sub("-", plain).strip(". ") or "-"
    if len(kept.encode()) > _LONGEST:
        kept = kept.encode()[:_KEPT].decode(errors="ignore").rstrip(". ")
    if kept == text:
        return kept
    return f"{kept}~{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:8]}"


def golden_path(folder: Path, module: str, stem: str, name: str | None = None) -> Path:
    """The file of a test's golden, or of the one of this name among several."""
    full = stem if name is None else f"{stem}{NAMED}{safe(name)}"
    return folder / safe(module) / f"{full}{SUFFIX}"


def file_in(folder: Path, file: str) -> Path:
    """A golden file that is named by itself. Raises `UsageError` for one outside of the folder."""
    place = PurePath(file)
    if place.is_absolute() or ".." in place.parts or not place.name:
        raise UsageError("a golden file stands in the folder of goldens", got=file, expected="NAME.golden")
    return folder / (file if place.name.endswith(SUFFIX) else f"{file}{SUFFIX}")
