"""Many runs: groups of them by path, how deterministic each group is, and where its runs part.

What a store keeps of each run answers most of it: runs are counted by the database, and the steps of each
distinct path are read once, from one run that took it. Rules and levels that are not stored are applied to
one run of each path; only levels that look at outcomes read every run, one at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from isotrace.compare import Level, Rules
from isotrace.compare.views import kind_of
from isotrace.contracts import PathCount, PathCounts, RunItem, TraceStore
from isotrace.ledger import StepRow
from isotrace.models import TraceRecord, TraceSummary
from isotrace.operations.groups import EVERY_RUN, Behaviours, grouped
from isotrace.operations.opening import using
from isotrace.operations.runs import Selection, list_runs, show
from isotrace.population import EXAMPLES, Behaviour, SeenStep, Tally, tally_of
from isotrace.population.seeing import ERASED, NOTHING, check_rules, key_of_step, seen
from isotrace.record.home import default_tenant

READ_AT_MOST = 10_000
"""Of how many distinct paths the steps are read, the most common ones."""

_FIELDS = {"agent": "agent_id", "correlation": "correlation_id", "status": "status"}

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Looking:
    """How runs are looked at: the level, rules, and kinds of step that count; the reward that passes."""

    by: str | None = None
    kinds: tuple[str, ...] = ()
    level: Level = Level.DECISIONS
    rules: Rules = field(default_factory=Rules)
    threshold: float = 1.0

    @classmethod
    def of(
        cls,
        by: str | None,
        kinds: Sequence[str],
        level: Level | str,
        rules: Rules | None,
        threshold: float,
    ) -> Looking:
        """Raises `UsageError` for an unknown level, and for rules that runs can't be grouped by."""
        rules = rules or Rules()
        check_rules(rules)
        return cls(by, tuple(kinds) or rules.kinds or (), Level.of(level), rules, threshold)

    @property
    def plain(self) -> bool:
        """Whether values are compared as hashes see them."""
        return not (self.rules.ignore or self.rules.normalize)

    @property
    def stored(self) -> bool | None:
        """Whether stored tool paths (True) or whole paths (False) say it all; None if neither does."""
        if self.level is not Level.DECISIONS or not self.plain or self.kinds not in ((), ("tool",)):
            return None
        return bool(self.kinds)


@dataclass(slots=True)
class Collected:
    """Behaviours by group and path, as they are found."""

    found: dict[str, dict[tuple[bytes, ...], Behaviour]] = field(default_factory=dict)
    pathless: dict[str, Tally] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    unread: int = 0

    def add(
        self,
        key: str | None,
        steps: tuple[SeenStep, ...] | str,
        tally: Tally,
        runs: tuple[str, ...],
        by: str | None,
    ) -> None:
        """Adds runs that were seen so, or the reason for which nothing was seen of them."""
        if key is None:
            self.left_out[f"without {by}"] += tally.runs
            return
        if isinstance(steps, str):
            self.left_out[steps] += tally.runs
            self.pathless[key] = self.pathless.get(key, Tally()) + tally
            return
        paths = self.found.setdefault(key, {})
        path = tuple(step.key for step in steps)
        known = paths.get(path)
        if known is None:
            paths[path] = Behaviour("", steps, tally, runs[:EXAMPLES])
        else:
            ids = (*known.runs, *runs)[:EXAMPLES]
            paths[path] = replace(known, tally=known.tally + tally, runs=ids)


def behaviours(
    runs: Iterable[TraceRecord | str],
    *,
    by: str | None = None,
    kinds: Sequence[str] = (),
    runs_per_group: int | None = None,
    level: Level | str = Level.DECISIONS,
    rules: Rules | None = None,
    threshold: float = 1.0,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
) -> Behaviours:
    """Groups runs by what they did: which paths they took, how often each, and where they part.

    A run is a record, or a name that the store knows. They are grouped by a metadata key, by
    `agent`, `correlation` or `status`, or all together. `kinds`, `level` and `rules` say what counts as
    the same path, as in `diff_traces`. A run whose metadata has a `reward` passed if that is at least
    the threshold. Left out and counted are runs without the key, without compared steps or with erased
    ones, groups of one run and, with `runs_per_group`, groups of another size.

    Raises as `find_run` does, and `UsageError` for a tolerance: what is merely near is no group.
    """
    looking = Looking.of(by, kinds, level, rules, threshold)
    with reading(runs, store, tenant_id) as (named, read):
        collected = collect(map(read, named), looking)
        return told(grouped(collected, looking, runs_per_group), _by_id(named, read), looking)


Reader = Callable[[TraceRecord | str], TraceRecord]


@contextmanager
def reading(
    runs: Iterable[TraceRecord | str], store: TraceStore | str | None, tenant_id: str | None
) -> Iterator[tuple[list[TraceRecord | str], Reader]]:
    """The runs, and what gives the record of each. A store is opened only if one of them is a name."""
    named = list(runs)
    if not any(isinstance(run, str) for run in named):
        yield named, _as_it_is
        return
    tenant = tenant_id or default_tenant()
    with using(store) as opened:
        yield named, lambda run: show(opened, run, tenant_id=tenant) if isinstance(run, str) else run


def _as_it_is(run: TraceRecord | str) -> TraceRecord:
    assert not isinstance(run, str)
    return run


def _by_id(named: Iterable[TraceRecord | str], read: Reader) -> Callable[[str], TraceRecord]:
    given = {run.run_id: run for run in named if isinstance(run, TraceRecord)}
    return lambda run_id: given.get(run_id) or read(run_id)


def stored_behaviours(
    store: TraceStore,
    selection: Selection,
    *,
    by: str | None = None,
    kinds: Sequence[str] = (),
    runs_per_group: int | None = None,
    level: Level | str = Level.DECISIONS,
    rules: Rules | None = None,
    threshold: float = 1.0,
    progress: Progress | None = None,
) -> Behaviours:
    """As `behaviours`, of the selected runs, counted by the store.

    Of the 10,000 most common paths the steps are read, from one run each; of the others only their
    number is known, and the result says so. Levels `exact` and `outcome` read every run: those take
    long for many. `progress` is told (done, total) as runs are read.
    """
    looking = Looking.of(by, kinds, level, rules, threshold)

    def read(run_id: str) -> TraceRecord:
        return store.ledger(run_id, tenant_id=selection.base.tenant_id).record()

    collected = collect_stored(store, selection, looking, progress)
    return told(grouped(collected, looking, runs_per_group), read, looking)


def collect(runs: Iterable[TraceRecord], looking: Looking) -> Collected:
    """The behaviours of these runs, by group."""
    collected = Collected()
    _collect(runs, looking, collected)
    return collected


def collect_stored(
    store: TraceStore, selection: Selection, looking: Looking, progress: Progress | None = None
) -> Collected:
    """The behaviours of the selected runs, by group, counted by the store as far as it can."""
    collected = Collected()
    if looking.level in (Level.EXACT, Level.OUTCOME):
        _collect(_records(store, list_runs(store, selection), progress), looking, collected)
        return collected
    counts = store.behaviours(
        selection.queries(),
        by=looking.by,
        tool=bool(looking.stored),
        newest=selection.limit,
        threshold=looking.threshold,
        examples=EXAMPLES,
    )
    _take(store, selection.base.tenant_id, counts, looking, collected, progress)
    if counts.erased and looking.stored is None:
        # A run whose path is broken may still have whole steps of the kinds that count.
        broken = [item for item in list_runs(store, selection) if item.signature is None]
        _collect(_records(store, broken, progress), looking, collected)
    return collected


def told(found: Behaviours, read: Callable[[str], TraceRecord], looking: Looking) -> Behaviours:
    """The result, with the params in which branches differ where it is about one group."""
    if looking.by is not None or looking.level in (Level.EXACT, Level.OUTCOME):
        return found
    records: dict[str, TraceRecord] = {}

    def params_of(run_id: str, index: int) -> Any:
        if run_id not in records:
            records[run_id] = read(run_id)
        compared = [
            step for step in records[run_id].steps if not looking.kinds or kind_of(step) in looking.kinds
        ]
        return compared[index].params

    return replace(found, groups=tuple(group.with_differences(params_of) for group in found.groups))


def collect_items(
    store: TraceStore,
    items: Sequence[RunItem],
    tenant_id: str,
    looking: Looking,
    progress: Progress | None = None,
) -> Collected:
    """The behaviours of listed runs, as one group: of each distinct path the steps are read once."""
    collected = Collected()
    paths: dict[str, list[RunItem]] = {}
    single: list[RunItem] = []
    for item in items:
        signature = item.tool_signature if looking.stored else item.signature
        if signature is None or looking.level in (Level.EXACT, Level.OUTCOME):
            single.append(item)
        else:
            paths.setdefault(signature, []).append(item)
    rows = [_row(signature, found, looking.threshold) for signature, found in paths.items()]
    read = _Reader(store, tenant_id, looking, rows, progress)
    for row in rows:
        steps = read.steps_of(row)
        unread = (SeenStep(bytes.fromhex(row.signature), "", "", ""),)
        collected.unread += steps is None
        collected.add(EVERY_RUN, unread if steps is None else steps, _tally(row), row.examples, None)
    _collect(_records(store, single, progress), looking, collected)
    return collected


def _row(signature: str, items: Sequence[RunItem], threshold: float) -> PathCount:
    tally = Tally()
    for item in items:
        summary = item.summary
        tally += tally_of(
            summary.status,
            item.metadata,
            cost_cents=summary.total_cost_cents,
            duration_ms=summary.total_duration_ms,
            threshold=threshold,
        )
    examples = tuple(item.summary.run_id for item in items[:EXAMPLES])
    return PathCount(
        None,
        signature,
        tally.runs,
        tally.completed,
        tally.failed,
        tally.judged,
        tally.passed,
        tally.cost_cents,
        tally.duration_ms,
        examples,
    )


# --- records --------------------------------------------------------------------------


def _records(store: TraceStore, items: Sequence[RunItem], progress: Progress | None) -> Iterator[TraceRecord]:
    for number, item in enumerate(items):
        if progress is not None:
            progress(number, len(items))
        summary = item.summary
        yield store.ledger(summary.run_id, tenant_id=summary.tenant_id).record()


def _collect(records: Iterable[TraceRecord], looking: Looking, collected: Collected) -> None:
    for record in records:
        summary = record.to_summary()
        tally = tally_of(
            summary.status,
            record.metadata,
            cost_cents=summary.total_cost_cents,
            duration_ms=summary.total_duration_ms,
            threshold=looking.threshold,
        )
        steps = seen(record, level=looking.level, rules=looking.rules, kinds=looking.kinds)
        collected.add(
            _key_of(summary, record.metadata, looking.by), steps, tally, (record.run_id,), looking.by
        )


def _key_of(summary: TraceSummary, metadata: Any, by: str | None) -> str | None:
    if by is None:
        return EVERY_RUN
    value = getattr(summary, _FIELDS[by]) if by in _FIELDS else metadata.get(by)
    return None if value is None or isinstance(value, dict | list) else str(value)


# --- rows of a store ------------------------------------------------------------------


def _take(
    store: TraceStore,
    tenant: str,
    counts: PathCounts,
    looking: Looking,
    collected: Collected,
    progress: Progress | None,
) -> None:
    """Adds what the store counted; the steps of each path are read once."""
    if counts.without_key:
        collected.left_out[f"without {looking.by}"] += counts.without_key
    read = _Reader(store, tenant, looking, counts.rows, progress)
    for row in counts.rows:
        steps = read.steps_of(row)
        collected.unread += steps is None
        key = EVERY_RUN if row.key is None else row.key
        # Of a path that is not read its end says that it is another one.
        unread = (SeenStep(bytes.fromhex(row.signature), "", "", ""),)
        collected.add(key, unread if steps is None else steps, _tally(row), row.examples, looking.by)
    if counts.empty:
        collected.left_out[NOTHING] += counts.empty
    if counts.erased and looking.stored is not None:
        collected.left_out[ERASED] += counts.erased
    for row in counts.pathless:
        key = EVERY_RUN if row.key is None else row.key
        collected.pathless[key] = collected.pathless.get(key, Tally()) + _tally(row)


def _tally(row: PathCount) -> Tally:
    return Tally(row.runs, row.completed, row.failed, row.judged, row.passed, row.cost_cents, row.duration_ms)


class _Reader:
    """Reads the steps of each distinct path once, from the newest run that took it."""

    def __init__(
        self,
        store: TraceStore,
        tenant: str,
        looking: Looking,
        rows: Sequence[PathCount],
        progress: Progress | None,
    ) -> None:
        self._store, self._tenant, self._looking, self._progress = store, tenant, looking, progress
        counted: Counter[str] = Counter()
        for row in rows:
            counted[row.signature] += row.runs
        common = sorted(counted, key=lambda signature: (-counted[signature], signature))
        # What must be merged by other than the stored path can't be counted unread.
        self._wanted = set(common[:READ_AT_MOST] if looking.stored is not None else common)
        self._known: dict[str, tuple[SeenStep, ...] | str] = {}

    def steps_of(self, row: PathCount) -> tuple[SeenStep, ...] | str | None:
        """What is seen of the runs of this path, or why nothing is; None for a path that is not read."""
        if row.signature not in self._wanted:
            return None
        known = self._known.get(row.signature)
        if known is None:
            if self._progress is not None:
                self._progress(len(self._known), len(self._wanted))
            known = self._known[row.signature] = self._read(row.examples[0])
        return known

    def _read(self, run_id: str) -> tuple[SeenStep, ...] | str:
        looking = self._looking
        if not looking.plain:
            record = self._store.ledger(run_id, tenant_id=self._tenant).record()
            return seen(record, level=looking.level, rules=looking.rules, kinds=looking.kinds)
        rows = self._store.steps(run_id, tenant_id=self._tenant)
        return _seen_rows(rows, looking.level, looking.kinds)


def _seen_rows(rows: Iterable[StepRow], level: Level, kinds: Collection[str]) -> tuple[SeenStep, ...] | str:
    steps = []
    for row in rows:
        if kinds and row.kind not in kinds:
            continue
        key = key_of_step(level, row.skill_name, row.status, row.determinism_hash)
        if key is None:
            return ERASED
        steps.append(SeenStep(key, row.skill_name, row.kind, row.status))
    return tuple(steps) or NOTHING
