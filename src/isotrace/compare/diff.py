"""The full comparison of two runs.

What is reported at which level, beside what is wrong with a record itself:

| level | steps | the run |
|---|---|---|
| `exact` | those, `OUTPUT_CHANGED`, `STREAM_CHANGED`, attempts | `FINAL_RESULT_CHANGED` |
| `decisions` | `KIND_`, `SKILL_`, `PARAMS_`, `STATUS_`, `ERROR_`, `RETRIES_CHANGED` | |
| `skeleton` | `KIND_`, `SKILL_`, `STATUS_CHANGED` | |
| `outcome` | none | `FINAL_RESULT_CHANGED` |

`EXTRA_STEP`, `MISSING_STEP`, `REORDERED`, `EARLY_END` and `LATE_END` belong to all levels but `outcome`.
`FINAL_RESULT_CHANGED` is a warning at `decisions` and `skeleton`, where it is about the run's status and
the type of its error only: equal paths match, however the runs ended.
`INPUT_CHANGED` explains a difference and is an error beside one, and at level `exact`; otherwise it is a
warning, because equal paths match. `RUNTIME_MISMATCH`, `SCHEDULE_CHANGED` and `BUDGET_CHANGED`
(which needs a rule) are warnings always.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from isotrace.compare import findings
from isotrace.compare.alignment import Row, align
from isotrace.compare.cause import Cause, cause_of
from isotrace.compare.divergence import (
    Code,
    Divergence,
    Severity,
    Verdict,
    first_divergence,
    in_order,
    verdict_of,
)
from isotrace.compare.findings import lineage_of
from isotrace.compare.fitting import fitted
from isotrace.compare.pseudonyms import keys_differ, without_pseudonyms
from isotrace.compare.rules import Level, Rules, changes_between, check_kinds
from isotrace.compare.schedule import schedule_divergences
from isotrace.compare.steps import StepPair, compare_pair
from isotrace.compare.views import View, kind_of, view_of
from isotrace.compare.violations import OneSided, one_sided_violations
from isotrace.compare.whole import (
    budget_divergences,
    check_record,
    end_divergences,
    environment_divergences,
    input_divergences,
    nothing_of_kinds,
    result_divergences,
)
from isotrace.errors import LimitError
from isotrace.models import ParityResult, TraceRecord, TraceStep
from isotrace.models.parity import check_schemes

Op = Literal["equal", "changed", "inserted", "removed", "moved"]

_RESULT = Code.FINAL_RESULT_CHANGED

_NEAREST = 64
"""For how many divergences the nearest step of the other side is looked for."""


class Pair(NamedTuple):
    """One row of two runs side by side: the `step_index` on each side, None for nothing.

    equal, changed: two steps against each other. inserted: only the replay has it.
    removed: only the original has it. moved: the same step, elsewhere in the replay.
    """

    op: Op
    original_index: int | None
    replay_index: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return self._asdict()


@dataclass(frozen=True, slots=True)
class TraceDiff:
    """Everything in which two runs differ at one level, under some rules.

    `parity` is at that level and under these rules too; its signatures are those of the whole runs.
    `alignment` has every compared step of each run exactly once; a divergence's `index` is its
    row there, and up to the first row that is not equal it is also the position in both runs.
    `divergences` are in order. `cause` says why the first of them came about, as far as the records tell.
    `violations` are those of policies that only one of the runs has.
    """

    verdict: Verdict
    parity: ParityResult
    divergences: list[Divergence]
    alignment: list[Pair]
    level: Level
    cause: Cause | None = None
    violations: list[OneSided] = field(default_factory=list)

    @property
    def first(self) -> Divergence | None:
        """The first divergence that decides the verdict; without one the first warning, or None."""
        return first_divergence(self.divergences)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows there are of each kind; every kind is there."""
        found = Counter(pair.op for pair in self.alignment)
        return {op: found[op] for op in ("equal", "changed", "inserted", "removed", "moved")}

    def to_dict(self) -> dict[str, Any]:
        """Plain data. An alignment row is `[op, original_index, replay_index]`."""
        return {
            "verdict": self.verdict.value,
            "level": self.level.value,
            "parity": self.parity.to_dict(),
            "divergences": [one.to_dict() for one in self.divergences],
            "cause": None if self.cause is None else self.cause.to_dict(),
            "counts": self.counts,
            "violations": [one.to_dict() for one in self.violations],
            "alignment": [list(pair) for pair in self.alignment],
        }


def diff_traces(
    original: TraceRecord,
    replay: TraceRecord,
    *,
    level: Level | str = Level.DECISIONS,
    rules: Rules | None = None,
    kinds: Iterable[str] | None = None,
) -> TraceDiff:
    """Aligns the whole of both runs and lists every difference at this level.

    `kinds` restricts the comparison to steps of these kinds; it goes before `rules.kinds`. If neither
    run has such a step there is nothing to compare, and the verdict is `INCONCLUSIVE`.
    Runs whose pseudonyms were made with two keys are compared without them, and are `INCONCLUSIVE` if
    nothing else differs. A record that contradicts itself is not compared: the verdict is `INVALID_RECORD`.
    Values beyond the limits of hashing, which no recording holds, are compared as far as recording would
    have kept them: of what is too deep or too large, only the type.

    Raises `SchemeMismatchError` for runs recorded under two hash schemes, `UsageError` for an
    unknown level or kind, `CanonicalizationError` if params are not plain values.
    """
    level, rules = Level.of(level), rules or Rules()
    check_schemes(original, replay)
    kinds = rules.kinds if kinds is None else kinds
    if kinds is not None:
        present = {kind_of(step) for record in (original, replay) for step in record.steps}
        kinds = sorted(check_kinds(kinds, present))
    broken = [check_record(original, "original"), check_record(replay, "replay")]
    if any(broken):
        return _invalid([one for one in broken if one], level)
    found = _compared(original, replay, level, rules, kinds)
    if found.verdict is Verdict.DIVERGED and keys_differ(original, replay):
        plain = _compared(*without_pseudonyms(original, replay), level, rules, kinds)
        return _between_keys(found, plain)
    return found


def _compared(
    original: TraceRecord, replay: TraceRecord, level: Level, rules: Rules, kinds: Sequence[str] | None
) -> TraceDiff:
    try:
        return _Comparison(original, replay, level, rules, kinds).result()
    except (LimitError, RecursionError):
        # Looked for only now: hashing is what says that a value is too deep or too large.
        return _Comparison(fitted(original), fitted(replay), level, rules, kinds).result()


def _between_keys(found: TraceDiff, plain: TraceDiff) -> TraceDiff:
    """What differs beside pseudonyms; where that is nothing, that they can't be compared."""
    if plain.verdict is not Verdict.MATCH:
        return replace(plain, parity=found.parity)
    gap = findings.record_gap(
        None, (), "only pseudonyms differ, and they were made with two keys", pointers=["/redactors/key"]
    )
    divergences = in_order([*plain.divergences, gap])
    return replace(plain, verdict=Verdict.INCONCLUSIVE, divergences=divergences, parity=found.parity)


def _invalid(broken: list[Divergence], level: Level) -> TraceDiff:
    divergences = in_order(broken)
    first = divergences[0]
    parity = ParityResult(False, "", "", first.index, first.reason)
    return TraceDiff(Verdict.INVALID_RECORD, parity, divergences, [], level)


class _Comparison:
    """One run of `diff_traces`: two views, their rows, and what was found in them."""

    def __init__(
        self,
        original: TraceRecord,
        replay: TraceRecord,
        level: Level,
        rules: Rules,
        kinds: Sequence[str] | None,
    ) -> None:
        self.level = level
        self.rules = rules
        self.kinds = kinds
        digests: dict[str, str] = {}
        self.original = view_of(original, level, rules, kinds, digests)
        self.replay = view_of(replay, level, rules, kinds, digests)
        self.rows = align(self.original.places, self.replay.places)
        self.ops: list[Op] = []
        self._next: list[tuple[int, int]] = []
        self.nearest = [_Nearest(self.original.steps), _Nearest(self.replay.steps)]

    def result(self) -> TraceDiff:
        steps = list(self._pairs())
        steps += self._unpaired()
        if self.level is Level.OUTCOME:
            steps = []
        elif self.kinds is not None and not self.rows:
            steps = [nothing_of_kinds(self.kinds)]
        found = [*steps, *self._whole(any(one.severity is Severity.ERROR for one in steps))]
        divergences = in_order(found)
        parity = self._parity(divergences)
        alignment = [
            Pair(op, _index(self.original, row.original), _index(self.replay, row.replay))
            for op, row in zip(self.ops, self.rows, strict=True)
        ]
        verdict = verdict_of(divergences)
        cause = None
        if verdict is Verdict.DIVERGED:
            cause = cause_of(self.original.record, self.replay.record, divergences, self.rules)
        violations = one_sided_violations(
            self.original.record,
            self.replay.record,
            [(pair.original_index, pair.replay_index) for pair in alignment],
        )
        return TraceDiff(verdict, parity, divergences, alignment, self.level, cause, violations)

    # --- steps ------------------------------------------------------------------------

    def _pairs(self) -> Iterator[Divergence]:
        """What differs in each row, and what each row is."""
        for index, row in enumerate(self.rows):
            if row.moved:
                self.ops.append("moved")
            elif row.original is None:
                self.ops.append("inserted")
            elif row.replay is None:
                self.ops.append("removed")
            else:
                found = self._compare(index, row.original, row.replay)
                unlike = self.original.places[row.original].digest != self.replay.places[row.replay].digest
                changed = unlike or any(one.severity is Severity.ERROR for one in found)
                self.ops.append("changed" if changed else "equal")
                yield from found

    def _compare(self, index: int, i: int, j: int) -> list[Divergence]:
        before, after = self.original.steps[i], self.replay.steps[j]
        lens = self.rules.lens(before.skill_name)
        same = self.original.places[i].digest == self.replay.places[j].digest
        if same and lens is not None and lens.tolerant:
            # Numbers with a tolerance are not in the digest.
            same = self.original.hashes[i] == self.replay.hashes[j] is not None
        return compare_pair(StepPair(index, before, after), self.level, lens, same_path=same)

    def _unpaired(self) -> Iterator[Divergence]:
        """Rows with one side only, and moves: at the end of a run the rest of it, else one by one."""
        end = len(self.rows)
        # All of one side: rows of both sides at the end would stand against each other.
        while end and self.ops[end - 1] in ("inserted", "removed"):
            end -= 1
        index = 0
        while index < end:
            op = self.ops[index]
            if op == "moved":
                stop = self._move_end(index, end)
                yield self._reordered(index, stop)
                index = stop
                continue
            if op in ("inserted", "removed"):
                yield self._lonely(index)
            index += 1
        if end < len(self.rows):
            yield self._end(end)

    def _lonely(self, index: int) -> Divergence:
        row = self.rows[index]
        if row.original is None:
            assert row.replay is not None
            step = self.replay.steps[row.replay]
            near = self.nearest[0].to(step, row.replay, self.rules)
            what = (index, lineage_of(step), step.skill_name, step.params)
            return findings.extra_step(*what, nearest=near, replay_index=step.step_index)
        step = self.original.steps[row.original]
        near = self.nearest[1].to(step, row.original, self.rules)
        what = (index, lineage_of(step), step.skill_name, step.params)
        return findings.missing_step(*what, nearest=near, original_index=step.step_index)

    def _move_end(self, start: int, end: int) -> int:
        """Behind the last row of a block of steps that moved together."""
        stop = start + 1
        while stop < end and self.ops[stop] == "moved" and _follows(self.rows[stop - 1], self.rows[stop]):
            stop += 1
        return stop

    def _reordered(self, start: int, stop: int) -> Divergence:
        rows = self.rows[start:stop]
        steps = [self.original.steps[row.original] for row in rows if row.original is not None]
        replayed = [self.replay.steps[row.replay] for row in rows if row.replay is not None]
        due, came = self._due()[start]
        return findings.reordered(
            start,
            lineage_of(steps[0]),
            [step.skill_name for step in steps],
            self.original.steps[due].skill_name,
            self.replay.steps[came].skill_name,
            original_index=steps[0].step_index,
            replay_index=replayed[0].step_index,
        )

    def _due(self) -> list[tuple[int, int]]:
        """For each row what comes next in each run: the first position that no earlier row has."""
        if not self._next:
            due, came = len(self.original.steps) - 1, len(self.replay.steps) - 1
            for row in reversed(self.rows):
                due = due if row.original is None else min(due, row.original)
                came = came if row.replay is None else min(came, row.replay)
                self._next.append((due, came))
            self._next.reverse()
        return self._next

    def _end(self, start: int) -> Divergence:
        """`EARLY_END` or `LATE_END`: one for the whole rest."""
        counts = len(self.original.steps), len(self.replay.steps)
        rest = self.rows[start:]
        left = [self.original.steps[row.original] for row in rest if row.original is not None]
        added = [self.replay.steps[row.replay] for row in rest if row.replay is not None]
        names = [step.skill_name for step in left or added]
        if left:
            at = left[0].step_index
            return findings.early_end(start, lineage_of(left[0]), counts, names, original_index=at)
        at = added[0].step_index
        return findings.late_end(start, lineage_of(added[0]), counts, names, replay_index=at)

    # --- the run as a whole -----------------------------------------------------------

    def _whole(self, differs: bool) -> Iterator[Divergence]:
        records = self.original.record, self.replay.record
        exact, outcome = self.level is Level.EXACT, self.level is Level.OUTCOME
        results = list(self._results(differs))
        yield from results
        differs = differs or any(one.severity is Severity.ERROR for one in results if one.code is _RESULT)
        for one in input_divergences(*records, self.rules, exact=exact):
            decides = differs or exact or one.code is not Code.INPUT_CHANGED
            yield one if decides else replace(one, severity=Severity.WARNING)
        yield from environment_divergences(*records)
        if not outcome:
            yield from schedule_divergences(self._both_sides())
        steps = self.original.steps, self.replay.steps
        yield from budget_divergences(*steps, self.rules.budget)

    def _results(self, differs: bool) -> Iterator[Divergence]:
        records, end = (self.original.record, self.replay.record), len(self.rows)
        if self.level not in (Level.EXACT, Level.OUTCOME):
            yield from end_divergences(*records, self.rules, index=end)
            return
        needed = self.level is Level.OUTCOME
        for one in result_divergences(*records, self.rules, index=end, needed=needed):
            # What is absent at the end opens no question where a step differs.
            if one.code is _RESULT or not differs:
                yield one

    def _both_sides(self) -> Iterator[StepPair]:
        for index, (row, op) in enumerate(zip(self.rows, self.ops, strict=True)):
            if op in ("equal", "changed") and row.original is not None and row.replay is not None:
                yield StepPair(index, self.original.steps[row.original], self.replay.steps[row.replay])

    def _parity(self, divergences: Sequence[Divergence]) -> ParityResult:
        signatures = self.original.signature, self.replay.signature
        errors = [one for one in divergences if one.severity is Severity.ERROR]
        if not errors:
            return ParityResult(True, *signatures)
        first = next((one for one in errors if one.index is not None), errors[0])
        return ParityResult(False, *signatures, first.index, first.reason)


def _index(view: View, position: int | None) -> int | None:
    return None if position is None else view.steps[position].step_index


def _follows(before: Row, after: Row) -> bool:
    assert before.original is not None
    assert before.replay is not None
    return after.original == before.original + 1 and after.replay == before.replay + 1


class _Nearest:
    """Finds the step of one run that comes closest to one of the other: its skill, then the position."""

    def __init__(self, steps: Sequence[TraceStep]) -> None:
        self._steps = steps
        self._places: dict[str, list[int]] = {}
        for place, step in enumerate(steps):
            self._places.setdefault(step.skill_name, []).append(place)
        self._left = _NEAREST

    def to(self, step: TraceStep, position: int, rules: Rules) -> dict[str, Any] | None:
        places = self._places.get(step.skill_name)
        if not places or not self._left:
            return None
        self._left -= 1
        at = bisect_left(places, position)
        place = min(places[max(0, at - 1) : at + 1], key=lambda one: abs(one - position))
        found = self._steps[place]
        changes = changes_between(found.params, step.params, rules.lens(step.skill_name))
        return findings.brief(found, changes)
