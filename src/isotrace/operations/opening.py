"""Opening the store that a command or a call is about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isotrace import registry
from isotrace.contracts import TraceStore
from isotrace.record import adopt_journals, flush
from isotrace.record.home import default_store_url, journal_folder

IN_MEMORY = "memory:"
_SQLITE = "sqlite:///"


def open_store(url: str | None = None, *, create: bool = False) -> TraceStore:
    """The store at `url`, else at `ISOTRACE_STORE`, else `./.isotrace/traces.db`.

    Runs of this process that have ended are in it, and runs of processes that were killed are
    adopted first. Unless `create`, a file that does not exist is not made: where nothing was
    recorded yet the default store reads as an empty one, any other raises
    `StoreUnavailableError`. Raises as `registry.open_store` does.
    """
    flush()
    chosen = url or default_store_url()
    file = store_file(chosen)
    if file is not None and is_free(file) and not create and not _journals(chosen):
        if file != store_file(default_store_url()):
            return registry.open_store(chosen, create=False)  # which says that it is not there
        return registry.open_store(IN_MEMORY)
    store = registry.open_store(chosen)
    try:
        adopt_journals(store)
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def using(store: TraceStore | str | None) -> Iterator[TraceStore]:
    """The store that a caller named or passed; one that is opened here is closed with the block."""
    if store is not None and not isinstance(store, str):
        yield store
        return
    opened = open_store(store)
    try:
        yield opened
    finally:
        opened.close()


def store_file(url: str) -> Path | None:
    """The file of an embedded store, None for a store of another kind."""
    if url.startswith(_SQLITE):
        return Path(url.removeprefix(_SQLITE))
    return None if url.startswith(IN_MEMORY) or "://" in url else Path(url)


def is_free(file: Path) -> bool:
    """Whether nothing is at this path yet. What can't be a path is not free: opening it says why."""
    try:
        file.stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    return False


def _journals(url: str) -> list[Path]:
    """The journals that wait to be adopted: their runs are worth a new store."""
    folder = journal_folder(url)
    if folder is None or not os.path.isdir(folder):  # noqa: PTH112  # Path's raises for a name that is too long
        return []
    return list(folder.iterdir())
