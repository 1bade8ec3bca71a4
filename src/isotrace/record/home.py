"""Where runs are kept when nobody says otherwise, and where their journals live meanwhile."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT_STORE = "./.isotrace/traces.db"
IN_MEMORY = "memory:"


def default_store_url() -> str:
    """`ISOTRACE_STORE`, else the file `./.isotrace/traces.db` below the current folder, absolute."""
    return os.environ.get("ISOTRACE_STORE") or str(Path(DEFAULT_STORE).absolute())


def journal_folder(url: str) -> Path | None:
    """The folder of the live runs of a store: `journals` beside a file's, None for a store in memory.

    A store elsewhere has its journals in `$XDG_STATE_HOME/isotrace/journals`, by its URL, because a
    live run is always written to this machine's disk first.
    """
    if url.startswith(IN_MEMORY):
        return None
    url = url.removeprefix("sqlite:///")
    if "://" not in url:
        return Path(url).absolute().parent / "journals"
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = "".join(letter if letter.isalnum() else "_" for letter in url.rpartition("@")[2])
    return state / "isotrace" / "journals" / name


def default_tenant() -> str:
    """`ISOTRACE_TENANT`, else `default`."""
    return os.environ.get("ISOTRACE_TENANT") or "default"
