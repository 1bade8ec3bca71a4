"""Which commit changed the path of a recorded run: git bisects, and a strict replay tries each revision."""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from isotrace.compare import Code, Divergence, Verdict, first_divergence
from isotrace.contracts import TraceStore
from isotrace.errors import BisectError, IsotraceError, NoEntryPointError, RepositoryError, UsageError
from isotrace.operations.isolated import Replayed, replay_in_child
from isotrace.operations.opening import IN_MEMORY, store_file, using
from isotrace.operations.relocating import Relocation
from isotrace.operations.repository import Commit, Repository, Worktree
from isotrace.operations.runs import find_run
from isotrace.operations.surroundings import replay_environment
from isotrace.record.home import default_tenant
from isotrace.replay import Plan

GOOD: Final = "good"
BAD: Final = "bad"
SKIP: Final = "skip"
_ANSWERS = {GOOD: 0, BAD: 1, SKIP: 125}
TIMEOUT_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one revision. `counts_as` is `good`, `bad` or `skip`; `verdict` is None where there was
    none; `reason` says in a sentence why it is not good; `cause` is why it parted, as `Cause.to_dict()`."""

    rev: str
    counts_as: str
    verdict: Verdict | None = None
    divergence: Divergence | None = None
    cause: dict[str, Any] | None = None
    reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the divergence's values."""
        first = self.divergence
        return {
            "rev": self.rev,
            "counts_as": self.counts_as,
            "verdict": None if self.verdict is None else self.verdict.value,
            "code": None if first is None else first.code.value,
            "index": None if first is None else first.index,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Bisection:
    """What a bisection came to. `tested` are the revisions that were tried, in order, the two ends first.
    `first_bad` is None where only skipped commits are left: then `left` are those of which each may be the
    first bad one, newest first."""

    run_id: str
    good: str
    bad: str
    first_bad: Commit | None
    tested: list[Tried]
    left: list[Commit] = field(default_factory=list)

    @property
    def skipped(self) -> list[Tried]:
        """The revisions that could not be judged."""
        return [one for one in self.tested if one.counts_as == SKIP]

    @property
    def found(self) -> Tried | None:
        """What came of the first bad commit: its verdict, its first divergence, and the cause."""
        rev = None if self.first_bad is None else self.first_bad.rev
        return next((one for one in self.tested if one.rev == rev), None)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        found = self.found
        return {
            "run_id": self.run_id,
            "good": self.good,
            "bad": self.bad,
            "first_bad": None if self.first_bad is None else self.first_bad.rev,
            "commit": None if self.first_bad is None else self.first_bad.to_dict(),
            "divergence": None if found is None or found.divergence is None else found.divergence.to_dict(),
            "cause": None if found is None else found.cause,
            "tested": [one.to_dict() for one in self.tested],
            "skipped": [one.rev for one in self.skipped],
            "left": [one.to_dict() for one in self.left],
        }


def bisect(
    run: str,
    *,
    good: str,
    bad: str,
    entry: str | None = None,
    paths: Sequence[str] = (),
    codes: Iterable[str] = (),
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
    timeout_s: float | None = TIMEOUT_S,
    quiet: bool = True,
    tried: Callable[[Tried], None] | None = None,
) -> Bisection:
    """Finds the commit at which the code of a recorded run began to take another path.

    git bisects between `good` and its descendant `bad`, in a worktree of its own in a temporary folder; the
    user's checkout is neither looked at nor changed. Each revision is replayed strictly, in a process of its
    own, with the recorded entry point, or `entry`, looked for in the worktree. `paths` limits the commits as
    git does. `tried` is told of each revision at once. Unless `quiet`, what the agent prints goes to stderr.

    A revision is good if the verdict is `MATCH`, and bad if it is `DIVERGED`, with `codes` only if the
    first divergence has one of these. Everything else is skipped: other verdicts, code that can't be
    imported, an entry point that is not there, a replay that takes longer than `timeout_s`, and a crash,
    whose verdict is `DIVERGED` too. A crash is an exception of a class that the record does not end
    with, raised by the code itself after it had asked for recorded steps alone, so that what differs are
    steps never asked for, or the run's ending. Where the code asked for another step first, or ends early
    without an exception, it diverged.

    Raises `RepositoryError` if git is not installed, and for no repository, an unknown revision, and a good
    one that is no ancestor of the bad one; `BisectError` if the good revision does not match or the bad one
    is not bad; `NoEntryPointError` for a run without an entry point that may be followed;
    `RunNotFoundError`, `AmbiguousRunError`; `UsageError` for an unknown code and a store in memory.
    """
    wanted = _codes(codes)
    with using(store) as opened:
        url, tenant = _absolute(opened.url), tenant_id or default_tenant()
        run_id = find_run(opened, run, tenant_id=tenant)
        recorded = _entry_point(opened, run_id, tenant, entry)
        environment = replay_environment(opened, run_id, tenant_id=tenant)
    repository = Repository.find(_places(recorded, entry))
    ends = _ends(repository, good, bad)
    limits = [repository.pathspec(path) for path in paths]
    if not repository.changes(*ends, limits):
        raise RepositoryError("no commit between the two changed these paths", got=", ".join(paths))
    with repository.worktree(ends[0]) as worktree:
        relocation = _relocation(repository, worktree)

        def replay() -> Replayed:
            return replay_in_child(
                run_id,
                Plan(),
                store_url=url,
                tenant=tenant,
                entry=None if entry is None else _moved_entry(entry, relocation),
                environment=environment,
                relocation=relocation,
                quiet=quiet,
                timeout_s=timeout_s,
            )

        trials = _Trials(worktree, replay, wanted, tried or _ignore)
        trials.check_ends(*ends)
        arrived, left = worktree.bisect(*ends, limits, trials.answer)
    found = len(left) == 1
    return Bisection(
        run_id,
        *ends,
        first_bad=repository.describe(arrived, files=True) if found else None,
        tested=list(trials.by_rev.values()),
        left=[] if found else [repository.describe(rev) for rev in left],
    )


def _ignore(_tried: Tried) -> None:
    """Nobody wants to be told."""


# --- what is asked for ----------------------------------------------------------------


def _codes(codes: Iterable[str]) -> frozenset[Code]:
    try:
        return frozenset(Code(code) for code in codes)
    except ValueError as error:
        raise UsageError(
            "there is no such divergence code", expected=", ".join(Code), got=str(error)
        ) from error


def _absolute(url: str) -> str:
    """The store for processes that work in another folder."""
    if url.startswith(IN_MEMORY):
        raise UsageError("a store in memory can't be read by the processes that replay", got=url)
    file = store_file(url)
    return url if file is None else str(file.absolute())


def _entry_point(store: TraceStore, run_id: str, tenant: str, entry: str | None) -> dict[str, Any]:
    """The recorded entry point if it is to be followed. What a run names that was not sealed here is not
    even looked at."""
    if entry is not None:
        return {}
    if not store.get(run_id, tenant_id=tenant).local:
        raise NoEntryPointError(
            "the run was not recorded on this machine, so its entry point is not followed",
            run_id=run_id,
            hint="name the function with --entry MODULE:FUNCTION or FILE.py:FUNCTION",
        )
    recorded = store.ledger(run_id, tenant_id=tenant).events[0].facts.get("entry_point")
    if not isinstance(recorded, dict):
        raise NoEntryPointError(
            "the run records no entry point",
            run_id=run_id,
            hint="name the function with --entry MODULE:FUNCTION or FILE.py:FUNCTION",
        )
    return recorded


def _places(recorded: Mapping[str, Any], entry: str | None) -> list[Path]:
    """Where the code may lie, the likeliest first; not where packages and commands are installed."""
    entries = [one for one in (recorded, recorded.get("program")) if isinstance(one, dict)]
    file = None if entry is None else entry.rpartition(":")[0]
    files = [file if file is not None and file.endswith(".py") else None]
    for one in entries:
        files += [one.get("file"), None if one.get("module") is True else one.get("target")]
    found = [Path(file).absolute().parent for file in files if isinstance(file, str)]
    installed = [sysconfig.get_path(name) for name in ("purelib", "platlib", "scripts", "stdlib")]
    found = [folder for folder in found if not any(map(folder.is_relative_to, installed))]
    return [*found, *(Path(one["cwd"]) for one in entries if isinstance(one.get("cwd"), str)), Path.cwd()]


def _ends(repository: Repository, good: str, bad: str) -> tuple[str, str]:
    """The two commits. Raises `RepositoryError` if there is nothing between them to look for."""
    first, last = repository.commit(good), repository.commit(bad)
    if first == last:
        raise RepositoryError("the good and the bad revision are the same commit", got=first)
    if not repository.is_ancestor(first, last):
        raise RepositoryError(
            "the good revision is no ancestor of the bad one",
            got=f"good {good}, bad {bad}",
            hint="are the two the other way round?" if repository.is_ancestor(last, first) else None,
        )
    return first, last


def _relocation(repository: Repository, worktree: Worktree) -> Relocation:
    """What is installed in the checkout, or built there and ignored by git, is of no revision: it stays."""
    root = str(repository.root)
    listed = [*sys.path, *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    inside = {
        one
        for path in listed
        if path and (one := os.path.realpath(path)) != root and one.startswith(root + os.sep)
    }
    prefixes = {place for one in (sys.prefix, sys.base_prefix) for place in (one, os.path.realpath(one))}
    kept = {*(one for one in prefixes if one.startswith(root + os.sep)), *repository.ignored(sorted(inside))}
    return Relocation(root, str(worktree.root), tuple(sorted(kept)))


def _moved_entry(entry: str, relocation: Relocation) -> str:
    place, colon, name = entry.rpartition(":")
    if not place.endswith(".py"):
        return entry
    return f"{relocation.path(str(Path(place).absolute()))}{colon}{name}"


# --- trying revisions -----------------------------------------------------------------


class _Trials:
    """Tries each revision once."""

    def __init__(
        self,
        worktree: Worktree,
        replay: Callable[[], Replayed],
        codes: frozenset[Code],
        tell: Callable[[Tried], None],
    ) -> None:
        self.by_rev: dict[str, Tried] = {}
        self._worktree = worktree
        self._replay = replay
        self._codes = codes
        self._tell = tell

    def answer(self, rev: str) -> int:
        """What `git bisect run` is to be told of the commit that is checked out."""
        return _ANSWERS[self._try(rev).counts_as]

    def check_ends(self, good: str, bad: str) -> None:
        """Raises `BisectError` unless the good commit, which is checked out, is good, and the bad one bad."""
        first = self._try(good)
        if first.counts_as != GOOD:
            raise BisectError(
                "the good revision does not take the recorded path",
                where=good[:12],
                expected=Verdict.MATCH.value,
                got=_found(first),
                hint=_not_good(first),
            )
        self._worktree.check_out(bad)
        last = self._try(bad)
        if last.counts_as != BAD:
            raise BisectError(
                "the bad revision does not diverge",
                where=bad[:12],
                expected=", ".join(sorted(self._codes)) or Verdict.DIVERGED.value,
                got=_found(last),
                hint=_not_bad(last),
            )

    def _try(self, rev: str) -> Tried:
        if rev not in self.by_rev:
            try:
                tried = self._judged(rev, self._replay())
            except IsotraceError as error:
                tried = Tried(
                    rev, SKIP, reason=error.what if error.got is None else f"{error.what}: {error.got}"
                )
            if tried.reason is not None:
                tried = replace(tried, reason=tried.reason.replace(f"{self._worktree.root}{os.sep}", ""))
            self._worktree.clean()
            self.by_rev[rev] = tried
            self._tell(tried)
        return self.by_rev[rev]

    def _judged(self, rev: str, replayed: Replayed) -> Tried:
        verdict, first = replayed.verdict, first_divergence(replayed.divergences)
        if replayed.strays:
            names = ", ".join(replayed.strays[:3])
            return Tried(rev, SKIP, reason=f"modules were imported from the checkout: {names}")
        if verdict is Verdict.MATCH:
            return Tried(rev, GOOD, verdict)
        crash, counts_as, reason = replayed.data["crash"], SKIP, None if first is None else str(first)
        if crash is not None:
            reason = crash
        elif verdict is Verdict.DIVERGED and (not self._codes or (first and first.code in self._codes)):
            counts_as = BAD
        elif reason is None:
            reason = "; ".join(replayed.data["notes"]) or None
        return Tried(rev, counts_as, verdict, first, replayed.data["cause"], reason)


def _found(tried: Tried) -> str:
    verdict = "no verdict" if tried.verdict is None else tried.verdict.value
    return verdict if tried.reason is None else f"{verdict}: {tried.reason}"


def _not_good(tried: Tried) -> str:
    if tried.counts_as == SKIP:
        return (
            "Revisions are tried in a fresh checkout, without files that git does not track; --verbose shows"
            " what the agent prints there"
        )
    return "Name a revision at which the run could have been recorded, or record it anew there"


def _not_bad(tried: Tried) -> str:
    if tried.counts_as == GOOD:
        return "Name a revision that takes another path; changes that are not committed do not count"
    return "Name a revision at which the agent comes to a divergence; --verbose shows what it prints"


__all__ = ["TIMEOUT_S", "Bisection", "Commit", "Tried", "bisect"]
