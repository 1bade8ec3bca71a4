"""Runs in and out of a store: imports of other tools' files, exports that can be verified."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from isotrace import registry
from isotrace.clock import SYSTEM, Clock
from isotrace.contracts import ImportedRun, Importer, TraceStore
from isotrace.errors import (
    ConflictError,
    ImportFormatError,
    IsotraceError,
    PluginError,
    RunNotFoundError,
    UsageError,
)
from isotrace.formats.source import detect_format, open_source
from isotrace.ledger import Ledger, SealedRun, seal
from isotrace.operations.integrity import Verified, hold_against, verify_ledger
from isotrace.operations.runs import find_run

AUTO = "auto"

MAX_ERRORS = 1_000
"""How many errors of one file are kept: a small compressed file can hold millions of bad runs."""
MAX_RUNS = 1_000_000
"""How many runs are taken from one file."""


@dataclass(slots=True)
class ImportReport:
    """What an import brought: new runs and their steps, runs that were there already, files that
    are of no known format (only met inside a folder), and what could not be read."""

    runs: int = 0
    steps: int = 0
    skipped: int = 0
    files: int = 0
    run_ids: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    errors: list[IsotraceError] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "runs": self.runs,
            "steps": self.steps,
            "skipped": self.skipped,
            "files": self.files,
            "run_ids": self.run_ids,
            "ignored": self.ignored,
            "errors": [
                {
                    "type": type(error).__name__,
                    "where": error.where,
                    "pointer": error.pointer,
                    "run_id": error.run_id,
                    "message": str(error),
                }
                for error in self.errors
            ],
        }


def import_files(
    store: TraceStore,
    format_name: str,
    paths: Sequence[Path],
    *,
    tenant_id: str,
    as_tenant: bool = False,
    clock: Clock = SYSTEM,
    progress: Callable[[int, int, str], None] | None = None,
) -> ImportReport:
    """Imports files, and folders with all that is in them. `format_name` is an importer's name or `auto`.

    A bad run or file does not lose the others: it becomes an entry of `errors`, and so does a folder
    that holds no file of the format. What is over `MAX_ERRORS` or `MAX_RUNS` of one file ends the
    reading of this file, with an error that says so. `progress` is
    told (done, total, file) before each file. Raises `PluginError` for an unknown format and
    store errors as they come.
    """
    known = _importers_of(format_name)
    report = ImportReport()
    files = [(file, path if path.is_dir() else None) for path in paths for file in _files_of(path)]
    empty = {path: None for path in paths if path.is_dir()}
    for number, (file, folder) in enumerate(files):
        if progress is not None:
            progress(number, len(files), file.name)
        try:
            # A file that is named must be of the named format; one met in a folder may be anything.
            chosen = known[0] if format_name != AUTO and folder is None else detect_format(file, known)
            if chosen is None and folder is not None:
                report.ignored.append(str(file))
                continue
            if chosen is None:
                raise ImportFormatError(
                    "the file is of no known format", where=str(file), expected=_names(known)
                )
            report.files += 1
            if folder is not None:
                empty.pop(folder, None)
            _import_file(store, chosen, file, report, tenant_id=tenant_id, as_tenant=as_tenant, clock=clock)
        except ImportFormatError as error:
            report.errors.append(error)
    report.errors.extend(
        ImportFormatError("the folder holds no file of this format", where=str(path), expected=_names(known))
        for path in empty
    )
    return report


def _importers_of(format_name: str) -> list[Importer]:
    """The importers to choose from."""
    if format_name == AUTO:
        return list(registry.importers().values())
    try:
        return [registry.importer(format_name)]
    except PluginError as error:
        if error.expected is not None:
            # The list of names: this one is no importer's.
            error.expected = f"{AUTO}, {error.expected}"
        raise


def _names(importers: Sequence[Importer]) -> str:
    return ", ".join(sorted(importer.name for importer in importers))


def _files_of(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        yield from (Path(folder, name) for name in sorted(names))


def _import_file(
    store: TraceStore,
    importer: Importer,
    file: Path,
    report: ImportReport,
    *,
    tenant_id: str,
    as_tenant: bool,
    clock: Clock,
) -> None:
    with open_source(file) as stream:
        before = len(report.errors)
        runs = importer.read(stream, where=str(file), tenant_id=tenant_id, as_tenant=as_tenant)  # type: ignore[arg-type] # RawIOBase reads like BinaryIO
        for number, found in enumerate(runs):
            failures = len(report.errors) - before
            if failures >= MAX_ERRORS or number - failures >= MAX_RUNS:
                report.errors.append(_unread(file, errors=failures >= MAX_ERRORS))
                return
            if isinstance(found, ImportFormatError):
                report.errors.append(found)
                continue
            try:
                sealed = _keep(store, found, clock)
            except ConflictError as error:
                report.errors.append(error)
                continue
            if sealed is None:
                report.skipped += 1
            else:
                report.runs += 1
                report.steps += len(sealed.projection.steps)
                report.run_ids.append(sealed.run_id)


def _unread(file: Path, *, errors: bool) -> ImportFormatError:
    if errors:
        return ImportFormatError(
            "… and more; the rest of the file was not read",
            where=str(file),
            expected=f"at most {MAX_ERRORS:,} errors of one file",
        )
    return ImportFormatError(
        "the file holds too many runs; the rest of it was not read",
        where=str(file),
        expected=f"at most {MAX_RUNS:,} runs of one file",
    )


def _keep(store: TraceStore, found: ImportedRun, clock: Clock) -> SealedRun | None:
    """Puts one run into the store; None if it was there already.

    An id of an imported run covers the source's content, so the same id is the same run; its root
    would differ, because each import draws fresh salts.
    """
    if found.sealed is None:
        try:
            store.get(found.run_id, tenant_id=found.tenant_id)
        except RunNotFoundError:
            pass
        else:
            return None
    sealed = found.sealed or seal(found.events, found.seed or clock.random_bytes(32))
    return sealed if store.put(sealed) else None


def export_runs(
    store: TraceStore, names: Sequence[str], format_name: str, stream: BinaryIO, *, tenant_id: str
) -> int:
    """Writes runs to a stream, in the order named. Returns how many.

    Raises `PluginError` for an unknown format, and as `find_run` does, before anything is written.
    """
    exporter = registry.exporter(format_name)
    run_ids = [find_run(store, name, tenant_id=tenant_id) for name in names]
    if not run_ids:
        raise UsageError("no run was named", hint="name runs, or say --all")
    ledgers: Iterator[Ledger] = (store.ledger(run_id, tenant_id=tenant_id) for run_id in run_ids)
    return exporter.write(ledgers, stream)


def export_to_file(
    store: TraceStore, names: Sequence[str], format_name: str, path: Path, *, tenant_id: str
) -> int:
    """As `export_runs`, into a file that is written whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as stream:
            count = export_runs(store, names, format_name, stream, tenant_id=tenant_id)
        draft.replace(path)
    except OSError as error:
        raise UsageError("the file can't be written", where=str(path), got=error.strerror) from error
    finally:
        draft.unlink(missing_ok=True)
    return count


def verify_file(
    path: Path, *, root: str | None = None, stored_root: Callable[[str], str | None] | None = None
) -> list[Verified]:
    """Recomputes the root of every run in an exported file.

    It is held against `root`, which was kept elsewhere, or the root that the file states, or the one
    that `stored_root` knows of the run; `Verified.against` is None where there is none of them.

    Raises `ImportFormatError` or `RecordError` for the first that does not give its root, `UsageError`
    for a `root` where the file holds several runs.
    """
    importer = registry.importer("jsonl")
    checked: list[Verified] = []
    with open_source(path) as stream:
        for found in importer.read(stream, where=str(path), tenant_id="", as_tenant=True):  # type: ignore[arg-type] # RawIOBase reads like BinaryIO
            if isinstance(found, ImportFormatError):
                raise found
            if root is not None and checked:
                raise UsageError("a root is that of one run, and the file holds several", where=str(path))
            checked.append(_verified(found, path, root, stored_root))
    if not checked:
        raise ImportFormatError("the file holds no run", where=str(path))
    return checked


def _verified(
    found: ImportedRun, path: Path, root: str | None, stored_root: Callable[[str], str | None] | None
) -> Verified:
    if found.sealed is None:
        raise ImportFormatError("the file holds no ledger to verify", where=str(path))
    against = "given" if root is not None else "file" if found.stated_root is not None else None
    if against is None and stored_root is not None and (root := stored_root(found.run_id)) is not None:
        against = "store"
    hold_against(found.sealed.ledger.root_hash, root, found.run_id)
    return verify_ledger(found.sealed.ledger, source=str(path), against=against)
