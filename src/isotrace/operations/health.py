"""What `doctor` looks at: this machine, the store, and journals that wait."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal

from isotrace import __version__
from isotrace.contracts import RunQuery, TraceStore
from isotrace.errors import IsotraceError
from isotrace.operations.opening import is_free, open_store, store_file
from isotrace.record.home import default_store_url, journal_folder
from isotrace.record.journal import scan

_LOW_DISK_BYTES = 256 * 1024 * 1024
_PUT_ASIDE = (".corrupt", ".conflict")


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `fail`: isotrace can't work so; `warn`: something is less than
    it could be; `hint` says what to do."""

    name: str
    status: Literal["ok", "warn", "fail"]
    detail: str
    hint: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {"name": self.name, "status": self.status, "detail": self.detail, "hint": self.hint}


def examine(url: str | None = None) -> list[Check]:
    """Every check, in the order in which they are worth reading. Raises nothing."""
    chosen = url or default_store_url()
    return [
        Check("isotrace", "ok", f"{__version__} on Python {sys.version.split()[0]}, {sys.platform}"),
        *_packages(),
        *_store(url, chosen),
        *_journals(chosen),
        *_disk(chosen),
        _namespaces(),
    ]


_REQUIRED = {"apsw": "SQLite", "orjson": "orjson", "rich": "rich", "click": "click", "time-machine": "clock"}
_OPTIONAL = {
    "uvloop": "a faster event loop; agents under it are recorded and replayed as well",
}


def _packages() -> Iterator[Check]:
    for package, label in _REQUIRED.items():
        try:
            yield Check(label, "ok", version(package))
        except PackageNotFoundError:
            yield Check(label, "fail", f"{package} is not installed", f"pip install {package}")
    for package, use in _OPTIONAL.items():
        try:
            yield Check(package, "ok", version(package))
        except PackageNotFoundError:
            yield Check(package, "ok", f"not installed, and not needed ({use})")


def _store(url: str | None, chosen: str) -> Iterator[Check]:
    file = store_file(chosen)
    if file is not None and is_free(file):
        yield Check("store", "ok", f"{chosen}: nothing recorded yet")
        return
    try:
        store = open_store(url)
    except (IsotraceError, OSError) as error:
        yield Check("store", "fail", str(error))
        return
    try:
        size = f", {file.stat().st_size / 1e6:,.1f} MB" if file is not None else ""
        yield Check("store", "ok", f"{store.url}: {_count(store)}{size}")
        yield _integrity(store)
    except (IsotraceError, OSError) as error:
        yield Check("store", "fail", str(error))
    finally:
        store.close()


def _count(store: TraceStore) -> str:
    runs = store.count(RunQuery(tenant_id=os.environ.get("ISOTRACE_TENANT") or "default"))
    return f"{runs:,} run{'' if runs == 1 else 's'} of this tenant"


def _integrity(store: TraceStore) -> Check:
    """Stores that can examine themselves have `check()`: a list of what is wrong."""
    check = getattr(store, "check", None)
    if check is None:
        return Check("integrity", "ok", "this kind of store does not examine itself")
    problems: list[str] = check()
    if problems:
        return Check(
            "integrity", "fail", "; ".join(problems[:3]), "copy the file, then export what still verifies"
        )
    return Check("integrity", "ok", "the store examined itself and found nothing wrong")


def _journals(chosen: str) -> Iterator[Check]:
    folder = journal_folder(chosen)
    if folder is None or not os.path.isdir(folder):  # noqa: PTH112  # Path's raises for a name that is too long
        yield Check("journals", "ok", "none")
        return
    live = scan(folder)
    aside = [path for path in folder.iterdir() if path.suffix in _PUT_ASIDE]
    yield Check("journals", "ok", f"{len(live)} of live runs" if live else "none")
    if aside:
        yield Check(
            "put aside",
            "warn",
            f"{len(aside)} damaged or conflicting journals in {folder}",
            "each holds what could be recorded of one run; remove them when they are of no use",
        )


def _disk(chosen: str) -> Iterator[Check]:
    file = store_file(chosen)
    if file is None:
        return
    folder = file.absolute().parent
    while not os.path.exists(folder):  # noqa: PTH110  # as above
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        yield Check("disk", "fail", f"{folder} can't be written", "choose another store with --store")
    elif free < _LOW_DISK_BYTES:
        yield Check("disk", "warn", f"{free / 1e6:,.0f} MB free in {folder}", "a full disk ends recording")
    else:
        yield Check("disk", "ok", f"{free / 1e9:,.1f} GB free")


def _namespaces() -> Check:
    """Whether a replay from the command line can have a network namespace of its own."""
    if not sys.platform.startswith("linux"):
        return _no_namespace("only Linux has network namespaces")
    try:
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--net", "true"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _no_namespace(str(error))
    if done.returncode:
        return _no_namespace(done.stderr.strip())
    return Check("replay guard", "ok", "a network namespace of its own for each replay")


def _no_namespace(why: str) -> Check:
    return Check(
        "replay guard",
        "warn",
        f"no network namespace ({why}); replays are guarded inside the process instead",
        "let this user create namespaces, or replay in a container without network",
    )
