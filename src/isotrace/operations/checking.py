"""Checking golden runs: each is replayed strictly, in a process of its own that can't reach the network."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from isotrace.compare import Divergence, Rules, TraceDiff, Verdict, diff_traces
from isotrace.errors import ImportFormatError, IsotraceError, UsageError
from isotrace.ledger import Ledger
from isotrace.models import StepContext, TraceRecord, TraceStep
from isotrace.operations.entries import Entries, Entry, program_of
from isotrace.operations.goldens import (
    candidate_of,
    golden_of,
    goldens_in,
    read_golden,
    same_behaviour,
    write_golden,
)
from isotrace.operations.isolated import Replayed, replay_in_child
from isotrace.operations.recording import record_again
from isotrace.operations.surroundings import environment_of
from isotrace.replay import Plan
from isotrace.replay.verdict import asked_step

EXIT_CODES: Final = (2, 1, 125, 0)
"""The worst first: something could not be checked, something diverged, something can't be told."""


Sides = tuple[TraceRecord, TraceRecord, TraceDiff]


@dataclass(slots=True)
class Checked:
    """What came of one golden run.

    `replayed` is the replay, where there was one; `error` says why there was none, or that the file is none.
    `sides` are the recorded run and the other one, as far as a replay came, with their comparison: where they
    differ. After a recording (`recorded`) the other one is the new run, which stands in the file `candidate`.
    """

    path: Path
    agent_id: str | None = None
    record: TraceRecord | None = None
    replayed: Replayed | None = None
    error: IsotraceError | None = None
    entry: str | None = None
    seconds: float = 0.0
    recorded: bool = False
    candidate: Path | None = None
    sides: Sides | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The replay's, or after a recording whether the new run is the same; None where there is none."""
        if self.error is not None:
            return Verdict.INVALID_RECORD if isinstance(self.error, ImportFormatError) else None
        if self.recorded:
            return Verdict.MATCH if self.candidate is None else Verdict.DIVERGED
        return None if self.replayed is None else self.replayed.verdict

    @property
    def exit_code(self) -> int:
        """0 match, 1 diverged, 2 no golden run or no replay, 125 inconclusive."""
        return 2 if self.verdict is None else self.verdict.exit_code

    @property
    def first(self) -> Divergence | None:
        """The first divergence that decided the verdict; without such a one the first warning, if any."""
        if self.candidate is not None and self.sides is not None:
            return self.sides[2].first
        return None if self.replayed is None else self.replayed.first

    @property
    def reason(self) -> str | None:
        """One sentence: the first divergence, or the error."""
        if self.error is not None:
            return str(self.error)
        if self.verdict is Verdict.MATCH:
            return None
        if self.first is not None:
            return str(self.first)
        notes = [] if self.replayed is None else self.replayed.data["notes"]
        return notes[0] if notes else None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "golden": str(self.path),
            "agent_id": self.agent_id,
            "entry": self.entry,
            "verdict": None if self.verdict is None else self.verdict.value,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 3),
            "reason": self.reason,
            "error": None
            if self.error is None
            else {"type": type(self.error).__name__, "message": str(self.error)},
            "replay": None if self.replayed is None else self.replayed.data,
            "candidate": None if self.candidate is None else str(self.candidate),
            "diff": None if self.sides is None or self.candidate is None else self.sides[2].to_dict(),
        }


@dataclass(slots=True)
class CheckReport:
    """What came of all golden runs, in their order."""

    checked: list[Checked] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """2 if something could not be checked, else 1 if something diverged, else 125 if something can't be
        told, else 0."""
        return worst(one.exit_code for one in self.checked)

    def count(self, exit_code: int) -> int:
        """How many ended so."""
        return sum(one.exit_code == exit_code for one in self.checked)

    @property
    def of_one_recording(self) -> list[list[Path]]:
        """Golden files of one and the same recording, where there are several: mostly a copy that was to
        be recorded anew."""
        found: dict[str, list[Path]] = {}
        for one in self.checked:
            context = None if one.record is None else one.record.context
            if context is not None and context.origin_run_id is not None:
                found.setdefault(context.origin_run_id, []).append(one.path)
        return [paths for paths in found.values() if len(paths) > 1]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "exit_code": self.exit_code,
            "checked": len(self.checked),
            "match": self.count(0),
            "diverged": self.count(1),
            "not_checked": self.count(2),
            "inconclusive": self.count(125),
            "of_one_recording": [[str(path) for path in paths] for paths in self.of_one_recording],
            "goldens": [one.to_dict() for one in self.checked],
        }


def worst(codes: Iterable[int]) -> int:
    """The exit code of several checks."""
    return min(codes, key=EXIT_CODES.index, default=0)


def check(
    paths: Sequence[Path | str],
    entries: Entries,
    plan: Plan | None = None,
    *,
    quiet: bool = True,
    jobs: int | None = None,
    timeout_s: float | None = None,
    tell: Callable[[Checked], None] | None = None,
) -> CheckReport:
    """Replays golden files, and those of folders, each in a process of its own, `jobs` at a time.

    What the agents print goes nowhere if `quiet`, else to stderr. `tell` gets each result in the order of
    the files, as soon as it is there. A file that is no golden run, and one whose code is not known or never
    comes to its run, is a result with an `error`.

    Raises `UsageError` as `goldens_in` does.
    """
    chosen = plan or Plan()
    return _each(
        paths, lambda path: _checked(path, entries, chosen, quiet=quiet, timeout_s=timeout_s), jobs, tell
    )


def record(
    paths: Sequence[Path | str],
    entries: Entries,
    *,
    quiet: bool = True,
    timeout_s: float | None = None,
    tell: Callable[[Checked], None] | None = None,
) -> CheckReport:
    """Runs the code of golden runs live, one after the other, and writes what differs beside them as
    candidates for `accept`. Where the new run is the same nothing is written, and a candidate that was there
    is removed.

    Raises `UsageError` as `goldens_in` does.
    """
    return _each(paths, lambda path: _recorded(path, entries, quiet=quiet, timeout_s=timeout_s), 1, tell)


def _each(
    paths: Sequence[Path | str],
    one: Callable[[Path], Checked],
    jobs: int | None,
    tell: Callable[[Checked], None] | None,
) -> CheckReport:
    files = goldens_in(paths)
    report = CheckReport()
    pool = ThreadPoolExecutor(jobs or min(len(files), os.cpu_count() or 1, _MOST_JOBS))
    try:
        for done in pool.map(one, files):
            report.checked.append(done)
            if tell is not None:
                tell(done)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    return report


_MOST_JOBS: Final = 8


def _checked(path: Path, entries: Entries, plan: Plan, *, quiet: bool, timeout_s: float | None) -> Checked:
    result, begun = Checked(path), time.monotonic()
    try:
        ledger, entry = _read(result, entries)
        plan = replace(plan, moved=_moved(ledger, entry))
        result.replayed = replay_in_child(
            str(ledger.events[0].facts["run_id"]),
            plan,
            store_url=None,
            tenant=str(ledger.events[0].facts["tenant_id"]),
            entry=entry.function,
            golden=str(path.absolute()),
            program=entry.program(ledger),
            folder=str(entry.folder),
            environment=environment_of(ledger, placeholders=True),
            quiet=quiet,
            timeout_s=timeout_s,
        )
        result.sides = _sides(result, plan)
    except IsotraceError as error:
        result.error = error
    result.seconds = time.monotonic() - begun
    return result


def _moved(ledger: Ledger, entry: Entry) -> tuple[str, str] | None:
    """The folder of the code here, and the one where it was recorded: its paths stand for each other."""
    then, now = (program_of(ledger) or {}).get("cwd"), str(entry.folder)
    return (now, then) if isinstance(then, str) and len(then) > 1 and then != now else None


def _recorded(path: Path, entries: Entries, *, quiet: bool, timeout_s: float | None) -> Checked:
    result, begun = Checked(path, recorded=True), time.monotonic()
    try:
        ledger, entry = _read(result, entries)
        new = record_again(ledger, entry, quiet=quiet, timeout_s=timeout_s)
        candidate = candidate_of(path)
        if same_behaviour(ledger, new):
            candidate.unlink(missing_ok=True)
        else:
            write_golden(candidate, new)
            one, other = ledger.record(), new.record()
            result.candidate = candidate
            result.sides = one, other, diff_traces(one, other, level="exact")
    except IsotraceError as error:
        result.error = error
    result.seconds = time.monotonic() - begun
    return result


def _read(result: Checked, entries: Entries) -> tuple[Ledger, Entry]:
    ledger = read_golden(result.path)
    result.record = ledger.record()
    result.agent_id = result.record.agent_id
    entry = entries.of(ledger)
    result.entry = entry.text
    return ledger, entry


# --- both sides of a replay ---------------------------------------------------------------


def _sides(checked: Checked, plan: Plan) -> Sides | None:
    """The recorded run and the replayed one, both as far as the replay came; None where they are the same."""
    pair = _pair(checked)
    if pair is None:
        return None
    rules = Rules.parse(**plan.rules)
    return *pair, diff_traces(*pair, level=plan.level, rules=rules)


def _pair(checked: Checked) -> tuple[TraceRecord, TraceRecord] | None:
    record, replayed = checked.record, checked.replayed
    if record is None or replayed is None or replayed.reached is None or replayed.verdict is Verdict.MATCH:
        return None
    reached = replayed.reached
    steps = [record.steps[index] for index in reached["matched"] if index < len(record.steps)]
    if reached["skill_name"] is None:
        return record, replace(record, steps=_numbered(steps))
    first = checked.first
    upto = len(record.steps) if first is None or first.index is None else first.index + 1
    live = asked_step(len(steps), reached["skill_name"], reached["kind"], reached["params"])
    before = [step for step in record.steps if step.step_index < upto or step in steps]
    stopped = replace(record, steps=_numbered([*steps, live]), status="stopped")
    return replace(record, steps=before), stopped


def _numbered(steps: Iterable[TraceStep]) -> list[TraceStep]:
    return [
        replace(step, step_index=index, context=_unplaced(step.context)) for index, step in enumerate(steps)
    ]


def _unplaced(context: StepContext | None) -> StepContext | None:
    return None if context is None else replace(context, start_seq=None, end_seq=None)


# --- accepting ----------------------------------------------------------------------------


@dataclass(slots=True)
class Waiting:
    """A candidate, and the golden run in whose place it would stand; `golden` None where there is none yet,
    or none that can be read."""

    path: Path
    candidate: Path
    new: TraceRecord
    golden: TraceRecord | None
    diff: TraceDiff | None
    action: str = "left"


def waiting(paths: Sequence[Path | str]) -> Iterator[Waiting]:
    """The candidates among these files and in these folders, each with its comparison.

    Raises `UsageError` for a golden file without a candidate, and `ImportFormatError` for a candidate that is
    no golden run.
    """
    for candidate in goldens_in(paths, candidates=True):
        path, new = golden_of(candidate), read_golden(candidate).record()
        golden: TraceRecord | None = None
        if path.exists():
            with suppress(ImportFormatError):
                golden = read_golden(path).record()
        diff = None if golden is None else diff_traces(golden, new, level="exact")
        yield Waiting(path, candidate, new, golden, diff)


def accept(one: Waiting) -> None:
    """Puts the candidate in the golden file's place, whole. Raises `UsageError` where that can't be done."""
    try:
        one.candidate.replace(one.path)
    except OSError as error:
        raise UsageError(
            "the golden file can't be replaced", where=str(one.path), got=error.strerror
        ) from error
    one.action = "accepted"


def reject(one: Waiting) -> None:
    """Removes the candidate; the golden file stays. Raises `UsageError` where that can't be done."""
    try:
        one.candidate.unlink()
    except OSError as error:
        raise UsageError(
            "the candidate can't be removed", where=str(one.candidate), got=error.strerror
        ) from error
    one.action = "rejected"
