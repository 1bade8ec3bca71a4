"""The file that a live run is written to: nothing that was appended is lost when the process dies.

One write per event, made before the agent goes on. Whoever holds the file's lock owns the run; the
lock ends with the process, and a journal without one is adopted. `isotrace.record.lines` has the format.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from hashlib import sha256
from itertools import count
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import orjson

from isotrace.errors import JournalError, RunInUseError
from isotrace.record.lines import (
    MAX_LINE,
    MIN_DELTA,
    JournalContent,
    JournalHeader,
    LineWriter,
    json_bytes,
    read_header,
    read_lines,
)
from isotrace.record.shapes import Facts
from isotrace.record.snapshot import JSON_OPTIONS, TAG_MARK

Durability = Literal["process", "power"]

_NAME_FORM = re.compile(r"[0-9a-f]{64}\.journal")
_TEMPORARY = ".tmp"
_ATTEMPTS = 16


def journal_name(run_id: str, tenant_id: str) -> str:
    """The file name of a run's journal; it gives neither id away."""
    return sha256(json_bytes([tenant_id, run_id])).hexdigest() + ".journal"


def _failure(what: str, path: Path, error: OSError) -> JournalError:
    hints = {
        errno.ENOSPC: "free some space, or choose a store on another disk",
        errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
        errno.EDQUOT: "free some space, or choose a store on another disk",
        errno.EROFS: "choose a store in a folder that can be written to (ISOTRACE_STORE)",
        errno.EACCES: "choose a store in a folder that can be written to (ISOTRACE_STORE)",
        errno.EPERM: "choose a store in a folder that can be written to (ISOTRACE_STORE)",
        errno.EMFILE: "close files or raise the limit of open files (ulimit -n)",
    }
    got = error.strerror or str(error)
    failure = JournalError(what, where=str(path), got=got, hint=hints.get(error.errno or 0))
    failure.errno = error.errno
    return failure


# --- writing --------------------------------------------------------------------------

_Event = tuple[str, int, bytes, Mapping[str, bytes], str]
_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()
_temporary_numbers = count()


class Journal:
    """The journal of one run, under its lock. Safe to append to from several threads.

    After a fork the child's copy is inert: it writes, removes and says nothing.
    """

    def __init__(self, path: Path, fd: int, header: JournalHeader, size: int, durability: Durability) -> None:
        # By way of `create` or `try_adopt`: the lock on `fd` is held already.
        self.path = path
        self.header = header
        self.inert = False
        self._fd = fd
        self._size = size
        self._sync = durability == "power"
        self._seq = 0
        self._broken: str | None = None
        # Reentrant, because the collector and signal handlers run code of the agent's anywhere.
        self._lock = threading.RLock()
        self._lines = LineWriter()
        self._writing = False
        self._unsure = False
        self._line_size = 0
        self._later: deque[_Event] = deque()
        _open_journals.add(self)

    @classmethod
    def create(
        cls,
        folder: Path | str,
        run_id: str,
        tenant_id: str,
        seed: bytes,
        *,
        durability: Durability = "process",
    ) -> Journal:
        """A new journal with its header written, in a folder that is made (mode 0700) where it is missing.

        Raises `JournalError` where the file can't be made, and where this run has a journal already:
        another process records a run with this id, or did and was not adopted yet.
        """
        header = JournalHeader(run_id, tenant_id, seed, os.getpid())
        path = Path(folder) / journal_name(run_id, tenant_id)
        line = LineWriter().header(header)
        _make_folder(path.parent)
        try:
            fd = _placed(path, line, sync=durability == "power")
        except FileExistsError:
            raise RunInUseError(
                "this run has a journal already",
                where=str(path),
                run_id=run_id,
                hint="give each run an id of its own; what a process that died left behind is adopted "
                "when the store is next opened",
            ) from None
        except OSError as error:
            raise _failure("a journal can't be created", path, error) from error
        return cls(path, fd, header, len(line), durability)

    def append(
        self, type_: str, time_us: int, facts: bytes, values: Mapping[str, bytes], slot: str = ""
    ) -> int:
        """Writes one event and returns its `seq`; when it returns the event outlives this process.

        `facts` is JSON without the outer braces (`"lineage":[0],"kind":"tool"`), `values` are value
        bytes by name. `slot` names what the values resemble: a skill, a branch. Raises `JournalError`
        where the line can't be written; nothing of it is left then, and all that follow are refused.
        What else is raised (by a signal's handler) leaves this event in or out, and the next ones are fine.

        -1 comes back from a forked child's copy, and where this thread is in the middle of writing
        another event, and this one is written right after that.
        """
        with self._lock:
            if self._writing:
                # In the middle of another event of this thread's: it comes right after that.
                self._later.append((type_, time_us, facts, values, slot))
                return -1
            if self._unsure and not self._put_right():
                return -1
            seq = self._put(type_, time_us, facts, values, slot)
            self._catch_up()
            return seq

    def _put(self, type_: str, time_us: int, facts: bytes, values: Mapping[str, bytes], slot: str) -> int:
        self._writing = self._unsure = True
        try:
            seq = self._write(self._lines.event(self._seq, type_, time_us, facts, values, slot))
            self._unsure = False
            return seq
        finally:
            self._writing = False

    def append_json(self, type_: str, time_us: int, facts: Facts, value: Any, slot: str = "") -> bool:
        """`append` for an event of `isotrace.record.shapes` with a value that `json_form` calls JSON.

        False, and nothing is written, where the value can only be kept by way of a snapshot.
        """
        with self._lock:
            if self._writing:
                return False
            if self._unsure and not self._put_right():
                return True
            self._writing = self._unsure = True
            try:
                try:
                    body = orjson.dumps((type_, self._seq, time_us, *facts, value), None, JSON_OPTIONS)
                except (TypeError, ValueError, RuntimeError, MemoryError):
                    # A key that is no str, a lone surrogate, a large int; or a thread changed it meanwhile.
                    self._unsure = False
                    return False
                size = len(body)
                if size < MIN_DELTA and TAG_MARK not in body:
                    line: bytes | None = b"%08x %08x %b\n" % (size, crc32(body), body)
                else:
                    line = self._lines.unusual(body, type_, self._seq, time_us, facts, slot)
                if line is not None:
                    self._write(line)
                self._unsure = False
            finally:
                self._writing = False
            if self._later:
                self._catch_up()
            return line is not None

    def _catch_up(self) -> None:
        while self._later:
            self._put(*self._later.popleft())

    def _put_right(self) -> bool:
        """Finds out what became of an event in the middle of which something was raised: Ctrl-C, or what
        a signal's handler raises. False for a forked child's copy. Raises `JournalError` where the
        journal takes no more events."""
        if self._broken is not None:
            if self.inert:
                return False
            raise JournalError("this journal takes no more events", where=str(self.path), got=self._broken)
        try:
            there = os.fstat(self._fd).st_size - self._size
            if there and there != self._line_size:
                os.ftruncate(self._fd, self._size)
        except OSError as error:
            self._break(error.strerror or str(error))
            raise _failure("an event can't be written", self.path, error) from error
        if there and there == self._line_size:
            self._count(there)
        # What the next lines would refer to may not be in the file.
        self._lines = LineWriter()
        self._unsure = False
        self._catch_up()
        return True

    def _break(self, why: str) -> None:
        self._broken = why
        self._unsure = True

    def _write(self, line: bytes) -> int:
        self._line_size = size = len(line)
        if size > MAX_LINE:
            self._break("an event was too long")
            raise JournalError("an event was too long", where=str(self.path), got=f"{size} bytes")
        try:
            written = os.write(self._fd, line)
            if written != size:
                _write_all(self._fd, line[written:])
            if self._sync:
                os.fdatasync(self._fd)
        except OSError as error:
            if error.errno is None:
                raise  # a signal's handler raised it
            self._take_back(error)
            raise _failure("an event can't be written", self.path, error) from error
        return self._count(size)

    def _count(self, size: int) -> int:
        # Nothing is called here, so nothing can come in between.
        seq = self._seq
        self._size += size
        self._seq = seq + 1
        return seq

    def _take_back(self, error: OSError) -> None:
        self._break(error.strerror or str(error))
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)

    def content(self) -> JournalContent:
        """What has been written so far. Raises as `read_journal` does."""
        if self.inert or self._fd < 0:
            raise JournalError("this journal was let go of", where=str(self.path))
        with os.fdopen(os.dup(self._fd), "rb") as stream:
            stream.seek(0)
            return read_lines(stream, str(self.path))

    def close(self) -> None:
        """Lets go of the file and its lock: the next who opens the store adopts it. Twice is fine."""
        with self._lock:
            fd, self._fd = self._fd, -1
            self._break(self._broken or "it was closed")
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        """Deletes the file, and lets go of it. Raises `JournalError` where it can't be deleted."""
        if self.inert:
            return
        try:
            # Still under the lock, so that nobody can adopt it in between.
            if self._fd >= 0 and _is_at(self._fd, self.path):
                self.path.unlink()
        except OSError as error:
            raise _failure("a journal can't be removed", self.path, error) from error
        finally:
            self.close()

    def _let_go(self) -> None:
        """In a forked child: the run is the parent's. Closing a copy of the file leaves its lock alone."""
        self.inert = True
        self._lock = threading.RLock()
        self._writing = False
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            os.close(self._fd)


def _release_parent_journals() -> None:
    for journal in list(_open_journals):
        journal._let_go()


os.register_at_fork(after_in_child=_release_parent_journals)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _is_at(fd: int, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(fd)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise _failure("the folder of journals can't be made", folder, error) from error


def _placed(path: Path, line: bytes, *, sync: bool) -> int:
    """An open, locked file at `path` that begins with `line`. Raises `FileExistsError` and `OSError`.

    Locked and written under another name first, because a file that could be seen without its
    lock or without its header would be adopted.
    """
    for _ in range(_ATTEMPTS):
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{next(_temporary_numbers)}{_TEMPORARY}")
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write_all(fd, line)
            if sync:
                os.fsync(fd)
            _link(temporary, path)
            if sync:
                _sync_folder(path.parent)
        except (BlockingIOError, FileNotFoundError):
            # A sweep took it for what a dead process left behind.
            os.close(fd)
            continue
        except BaseException:
            os.close(fd)
            temporary.unlink(missing_ok=True)
            raise
        temporary.unlink(missing_ok=True)
        return fd
    raise OSError(errno.EBUSY, "a temporary name is never free")


def _link(temporary: Path, path: Path) -> None:
    """Gives the file its name, unless another has it."""
    try:
        os.link(temporary, path)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV):
            raise
        # A file system without hard links: the name is reserved, then replaced.
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        temporary.rename(path)


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_journal(path: Path | str) -> JournalContent:
    """What a journal holds, without taking its lock: the run may still be live.

    Raises `RecordCorruptError` for damage that a torn last line does not explain,
    `SchemaUnsupportedError` for a journal of a newer isotrace, and `JournalError` where the file
    can't be read or holds more than `MAX_TOTAL` bytes of values.
    """
    try:
        with Path(path).open("rb") as stream:
            return read_lines(stream, str(path))
    except OSError as error:
        if isinstance(error, JournalError):
            raise
        raise _failure("a journal can't be read", Path(path), error) from error


# --- journals of others -----------------------------------------------------------------


def scan(folder: Path | str) -> list[Path]:
    """The journals in a folder, by name; none where there is no folder.

    Also clears away what processes left that died while they made one.
    """
    try:
        names = sorted(path.name for path in Path(folder).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _failure("journals can't be listed", Path(folder), error) from error
    for name in names:
        if name.endswith(_TEMPORARY):
            _sweep(Path(folder) / name)
    return [Path(folder) / name for name in names if _NAME_FORM.fullmatch(name)]


def _sweep(path: Path) -> None:
    with contextlib.suppress(OSError):
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
        finally:
            os.close(fd)


def try_adopt(path: Path | str) -> Journal | None:
    """The journal at `path` under our lock, or None if its run is live or it is gone.

    It takes no more events. Close it, or remove it when its run is in a store. Raises
    `RecordCorruptError` for a damaged header, `SchemaUnsupportedError` and `JournalError`.
    """
    path = Path(path)
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _failure("a journal can't be opened", path, error) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Between opening and locking, another may have adopted and removed it.
        if not _is_at(fd, path):
            os.close(fd)
            return None
        with os.fdopen(os.dup(fd), "rb") as stream:
            header = read_header(stream, str(path))
    except BlockingIOError:
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise
    journal = Journal(path, fd, header, 0, "process")
    journal._break("its run has ended")
    return journal


def quarantine(path: Path | str, why: str = "corrupt") -> Path:
    """Puts a journal aside under the name it has plus `.corrupt` (or another reason); never deletes.

    Returns where it is now. Raises `JournalError` where it can't be renamed.
    """
    path = Path(path)
    target = path.with_name(f"{path.name}.{why}")
    for number in count(2):
        if not target.exists():
            break
        target = path.with_name(f"{path.name}.{number}.{why}")
    try:
        path.rename(target)
    except OSError as error:
        raise _failure("a journal can't be put aside", path, error) from error
    return target
