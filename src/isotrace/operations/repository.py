"""A git repository, as far as a bisection needs it: git itself, by its command.

Nothing here changes the checkout that a user works in. What is tried out is checked out in a worktree of
its own, in a temporary folder; a worktree has its own HEAD, index and `refs/bisect/`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isotrace.errors import RepositoryError

# Hooks are for the work of people. The rest would print advice, or start work in the background.
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "advice.detachedHead=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "i18n.logOutputEncoding=UTF-8",
)
_ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_NAMESPACE")
"""Set inside of hooks, for instance: they would lead git to the user's checkout."""

# Asks the process that drives the bisection, and ends with its answer; without one git ends the bisection.
_ASK = "import os; os.write({0}, b'?'); os._exit(int(os.read({1}, 9) or 255))"


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit. `date` is the author's, ISO 8601 with its offset; `files` are the changes against its first
    parent, as git's letter (`A`, `M`, `D`, …) and path."""

    rev: str
    author: str
    date: str
    subject: str
    files: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        files = [{"status": status, "path": path} for status, path in self.files]
        return {
            "rev": self.rev,
            "author": self.author,
            "date": self.date,
            "subject": self.subject,
            "files": files,
        }


def _git(folder: Path, *arguments: str) -> list[str]:
    settings = [part for one in _SETTINGS for part in ("-c", one)]
    return ["git", *settings, "-C", str(folder), *arguments]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _ELSEWHERE}
    return {**kept, "LC_ALL": "C.UTF-8"}


def _run(folder: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            _git(folder, *arguments),
            env=_environment(),
            input=given or "",
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            # Ctrl-C is for this process, which then ends what git does in its own way.
            start_new_session=True,
            check=False,
        )
    except FileNotFoundError as error:
        raise RepositoryError(
            "git is not there, and it is git that bisects", hint="install git, or put it on PATH"
        ) from error


@dataclass(frozen=True, slots=True)
class Repository:
    """The repository of the checkout at `root`."""

    root: Path

    @classmethod
    def find(cls, folders: Iterable[Path]) -> Repository:
        """The repository that the first of these folders lies in that lies in one.

        Raises `RepositoryError` if none does, or git is not installed.
        """
        looked = list(dict.fromkeys(folders))
        for folder in looked:
            if folder.is_dir():
                said = _run(folder, "rev-parse", "--show-toplevel")
                if said.returncode == 0 and said.stdout.strip():
                    return cls(Path(said.stdout.rstrip("\n")))
        raise RepositoryError(
            "the run's code lies in no checkout of a git repository",
            got=", ".join(map(str, looked)),
            hint="call this in the checkout, or name the function with --entry FILE.py:FUNCTION",
        )

    def git(self, *arguments: str, given: str | None = None, fine: Sequence[int] = (0,)) -> str:
        """What git prints, run in the checkout. Raises `RepositoryError` if it fails."""
        return _said(self.root, *arguments, given=given, fine=fine)

    def commit(self, rev: str) -> str:
        """The full hash of the commit that a revision names. Raises `RepositoryError` for an unknown one."""
        # `HEAD` is that of the worktree in which it is said.
        here = Path.cwd()
        folder = here if _common(here) == _common(self.root) else self.root
        said = _run(folder, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}")
        if said.returncode:
            raise RepositoryError("there is no such revision", where=str(self.root), got=rev)
        return said.stdout.strip()

    def is_ancestor(self, one: str, other: str) -> bool:
        """Whether the first commit is an ancestor of the second, or the same."""
        return _run(self.root, "merge-base", "--is-ancestor", one, other).returncode == 0

    def ignored(self, paths: Iterable[str]) -> list[str]:
        """Those of these paths in the checkout that git ignores."""
        given = "".join(f"{path}\0" for path in paths)
        # 128: one of them lies in a submodule.
        found = self.git("check-ignore", "--stdin", "-z", given=given, fine=(0, 1, 128)) if given else ""
        return [path for path in found.split("\0") if path]

    def changes(self, one: str, other: str, paths: Sequence[str]) -> bool:
        """Whether a commit that leads from the first to the second changed one of these paths."""
        return bool(self.git("rev-list", "--max-count=1", f"{one}..{other}", "--", *paths))

    def pathspec(self, path: str) -> str:
        """A path that was given in the current folder as git takes it at the root of a worktree. Raises
        `RepositoryError` for one that lies elsewhere."""
        if path.startswith(":"):
            return path
        here = Path.cwd().resolve()
        base = here if here.is_relative_to(self.root) else self.root
        inside = os.path.relpath(os.path.normpath(base / path), self.root)
        if Path(inside).parts[:1] == (os.pardir,):
            raise RepositoryError("a path lies outside of the repository", where=str(self.root), got=path)
        return inside

    def describe(self, rev: str, *, files: bool = False) -> Commit:
        """A commit by its hash."""
        shown = self.git("log", "-1", "--no-show-signature", "--format=%H%x00%an%x00%aI%x00%s", rev)
        found, author, date, subject = shown.rstrip("\n").split("\0")
        changed: tuple[tuple[str, str], ...] = ()
        if files:
            parts = self.git("diff-tree", "-r", "-z", "--name-status", f"{rev}^1", rev).split("\0")
            changed = tuple(zip(parts[::2], parts[1::2], strict=False))
        return Commit(found, author, date, subject, changed)

    @contextmanager
    def worktree(self, rev: str) -> Iterator[Worktree]:
        """A checkout of a commit in a temporary folder, for the block: in any case nothing is left of it."""
        # Resolved, as git names it.
        folder = Path(tempfile.mkdtemp(prefix="isotrace-bisect-")).resolve()
        try:
            # Of the same name: it may be that of a package.
            root = folder / self.root.name
            self.git("worktree", "add", "--quiet", "--detach", str(root), rev)
            yield Worktree(self, root)
        finally:
            with _undisturbed():
                self._remove(folder)

    def _remove(self, folder: Path) -> None:
        _run(self.root, "worktree", "remove", "--force", "--force", str(folder / self.root.name))
        shutil.rmtree(folder, ignore_errors=True)
        # Where git was interrupted before it had made a worktree, it does not know it as one.
        for about in (_common(self.root) or folder).glob("worktrees/*/gitdir"):
            with suppress(OSError):
                if Path(about.read_text().strip()).is_relative_to(folder):
                    shutil.rmtree(about.parent, ignore_errors=True)


def _common(folder: Path) -> Path | None:
    """The folder of git that all worktrees of a repository share; None outside of one."""
    said = _run(folder, "rev-parse", "--git-common-dir")
    return (folder / said.stdout.rstrip("\n")).resolve() if said.returncode == 0 else None


def _said(root: Path, *arguments: str, given: str | None = None, fine: Sequence[int] = (0,)) -> str:
    said = _run(root, *arguments, given=given)
    if said.returncode not in fine:
        raise RepositoryError(
            f"git {arguments[0]} failed", where=str(root), got=_last_lines(said.stderr or said.stdout)
        )
    return said.stdout


def _last_lines(text: str) -> str:
    return " / ".join(text.strip().splitlines()[-3:])


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Signals that would end this process wait until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(frozen=True, slots=True)
class Worktree:
    """A checkout to try revisions in."""

    repository: Repository
    root: Path

    def check_out(self, rev: str) -> None:
        """Puts a commit's files there."""
        _said(self.root, "checkout", "--quiet", "--force", "--detach", rev)

    def clean(self) -> None:
        """Takes away what the code that was tried has left: git would refuse to write over it."""
        _said(self.root, "reset", "--quiet", "--hard")
        _said(self.root, "clean", "--quiet", "-ffdx")

    def head(self) -> str:
        """The hash of the commit that is checked out."""
        return _said(self.root, "rev-parse", "HEAD").strip()

    def bisect(
        self, good: str, bad: str, paths: Sequence[str], judge: Callable[[str], int]
    ) -> tuple[str, list[str]]:
        """Lets git bisect. `judge` is given the commit that is checked out, and answers as a command of `git
        bisect run` does: 0 good, 125 skip, else bad.

        Gives the bad commit that git arrived at, and the commits of which each may be the first bad one: none
        but that, unless all others were skipped. Raises `RepositoryError` if git fails.
        """
        _said(self.root, "bisect", "start", bad, good, "--", *paths)
        code, said = self._drive(judge)
        arrived = _said(self.root, "rev-parse", "refs/bisect/bad").strip()
        if code == 0:
            return arrived, [arrived]
        refs = _said(self.root, "for-each-ref", "--format=%(refname) %(objectname)", "refs/bisect/")
        by_name = dict(line.split() for line in refs.splitlines())
        goods = [rev for name, rev in by_name.items() if name.startswith("refs/bisect/good-")]
        skipped = {rev for name, rev in by_name.items() if name.startswith("refs/bisect/skip-")}
        left = _said(self.root, "rev-list", arrived, "--not", *goods, "--", *paths).split()
        if not skipped or not skipped.issuperset(set(left) - {arrived}):
            raise RepositoryError("git bisect failed", where=str(self.repository.root), got=_last_lines(said))
        return arrived, list(dict.fromkeys([arrived, *left]))

    def _drive(self, judge: Callable[[str], int]) -> tuple[int, str]:
        """The exit code of `git bisect run`, and what it said. Its command asks this process, by a pipe."""
        (asked, asking), (hearing, answering) = os.pipe(), os.pipe()
        command = [sys.executable, "-I", "-S", "-c", _ASK.format(asking, hearing)]
        with (
            os.fdopen(asked, "rb", buffering=0) as questions,
            os.fdopen(answering, "wb", buffering=0) as answers,
            tempfile.TemporaryFile() as output,
            subprocess.Popen(
                _git(self.root, "bisect", "run", *command),
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[asking, hearing],
                start_new_session=True,
            ) as process,
        ):
            try:
                os.close(asking)
                os.close(hearing)
                while questions.read(1):
                    answers.write(b"%d\n" % judge(self.head()))
                code = process.wait()
            except BaseException:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
            output.seek(0)
            return code, output.read().decode("utf-8", "replace")
