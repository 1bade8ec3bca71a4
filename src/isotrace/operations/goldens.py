"""Golden files on disk: reading and writing them, and finding those of a folder.

A golden run stands in `NAME.golden`. A newer recording that waits to be accepted in its place stands beside
it, as `NAME.golden.new`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from isotrace.compare import Verdict, diff_traces
from isotrace.errors import ImportFormatError, SchemaUnsupportedError, UsageError
from isotrace.formats.golden import golden_text, read_golden_bytes
from isotrace.formats.golden_shape import BOUNDS, HEAD, RECORDED
from isotrace.ledger import Ledger

SUFFIX: Final = ".golden"
CANDIDATE: Final = ".new"


def read_golden(path: Path | str) -> Ledger:
    """The run in a golden file, or in a candidate: what `replay` takes.

    Its root and its run id follow from the file's content; the id that the agent's code saw is the fact
    `origin_run_id` of its first event. Raises `ImportFormatError`, whose `where` is `FILE:LINE`, and
    `UsageError` for a file that is not there or can't be read.
    """
    path = Path(path)
    try:
        if path.stat().st_size > BOUNDS.total:
            raise ImportFormatError(
                "the file is too large", where=f"{path}:1", expected=f"at most {BOUNDS.total} bytes"
            )
        data = path.read_bytes()
    except OSError as error:
        raise UsageError("the golden file can't be read", where=str(path), got=error.strerror) from error
    return read_golden_bytes(data, str(path))


def write_golden(path: Path | str, ledger: Ledger) -> bool:
    """Writes a run as a golden file, whole or not at all; folders are made. Whether anything was written:
    where the file already holds the same behaviour (`same_behaviour`), it stays byte for byte.

    Raises `ImportFormatError` where a file of another kind, or of a newer version, stands in its place, and
    `UsageError` where it can't be written.
    """
    path = Path(path)
    if path.exists() and _holds(path, ledger):
        return False
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(golden_text(ledger).encode())
        draft.replace(path)
    except OSError as error:
        raise UsageError("the golden file can't be written", where=str(path), got=error.strerror) from error
    finally:
        with suppress(OSError):
            draft.unlink()
    return True


def _holds(path: Path, ledger: Ledger) -> bool:
    """Whether the file holds the run's behaviour; False for a golden file that is damaged, as by a merge."""
    try:
        return same_behaviour(read_golden(path), ledger)
    except ImportFormatError as error:
        with path.open("rb") as file:
            is_golden = file.read(len(HEAD)) == HEAD.encode()
        if is_golden and not isinstance(error.__cause__, SchemaUnsupportedError):
            return False
        raise


def same_behaviour(one: Ledger, other: Ledger) -> bool:
    """Whether two runs took the same path, with the same outcomes, and came to the same result. Times, costs
    and fresh ids do not count. Where content was erased, or is known by type only, the files decide."""
    verdict = diff_traces(one.record(), other.record(), level="exact").verdict
    if verdict is Verdict.INCONCLUSIVE:
        return _told(one) == _told(other)
    return verdict is Verdict.MATCH


def _told(ledger: Ledger) -> str:
    """What a golden file says of the events."""
    return golden_text(ledger).partition(f"\n\n{RECORDED} ")[0]


def candidate_of(path: Path | str) -> Path:
    """Where a newer recording of this golden file waits to be accepted."""
    path = Path(path)
    return path.with_name(path.name + CANDIDATE)


def golden_of(candidate: Path | str) -> Path:
    """The golden file that a candidate is of."""
    candidate = Path(candidate)
    return candidate.with_name(candidate.name.removesuffix(CANDIDATE))


def goldens_in(paths: Iterable[Path | str], *, candidates: bool = False) -> list[Path]:
    """The golden files among these, and in these folders and the ones below: in the order given, those of a
    folder by name. Each once. With `candidates` those that wait to be accepted, named by their golden or by
    themselves.

    Raises `UsageError` for a file that is not there, or of another kind, for a folder without any golden
    file, and for two whose names are the same but for upper and lower case: not every disk keeps both.
    """
    found: dict[Path, None] = {}
    for path in map(Path, paths):
        found.update(dict.fromkeys(_named(path, candidates)))
    _check_case(found)
    return list(found)


def _named(path: Path, candidates: bool) -> list[Path]:
    suffix = SUFFIX + CANDIDATE if candidates else SUFFIX
    if path.is_dir():
        below = list(_below(path, suffix))
        if not below and not candidates:
            raise UsageError(f"no {suffix} file in the folder", where=str(path), hint=_HOW)
        return below
    file = candidate_of(path) if candidates and path.name.endswith(SUFFIX) else path
    if not file.name.endswith(suffix):
        if not path.exists():
            raise UsageError(
                "there is no such file or folder", expected=f"NAME{suffix}, or a folder", got=str(path)
            )
        raise UsageError("not named as a golden file", expected=f"NAME{suffix}, or a folder", got=str(path))
    if not file.is_file():
        what = "the golden run has no candidate" if candidates else "there is no such golden file"
        hint = f"`isotrace check --record {path}` makes one where the run differs" if candidates else _HOW
        raise UsageError(what, where=str(file), hint=hint)
    return [file]


_HOW: Final = "`isotrace export RUN --format golden -o NAME.golden` makes one"


def _below(folder: Path, suffix: str) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        # Hidden folders hold environments and repositories.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if name.endswith(suffix))


def _check_case(files: Iterable[Path]) -> None:
    seen: dict[str, Path] = {}
    for file in files:
        other = seen.setdefault(str(file).casefold(), file)
        if other != file:
            raise UsageError(
                "two golden files differ in upper and lower case only", where=str(file), got=str(other)
            )
