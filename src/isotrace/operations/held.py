"""Many stored runs held against one golden run: which took its path, and where the others part from it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from isotrace.canonical import canonical_bytes
from isotrace.compare import Level, Rules
from isotrace.contracts import RunItem, TraceStore
from isotrace.errors import UsageError
from isotrace.jsondiff import MISSING
from isotrace.models import Erased, TraceRecord
from isotrace.operations.goldens import read_golden
from isotrace.operations.grouping import Looking, Progress, collect_items, told
from isotrace.operations.groups import Behaviours, grouped
from isotrace.operations.runs import Selection, list_runs
from isotrace.population import Behaviour, Estimate, SeenStep, k_of_n
from isotrace.population.seeing import seen

SUFFIX = ".golden"
FOLDERS = ("", "goldens", "tests/goldens")
"""Where a golden is looked for by its name."""

_INPUT = (0, "input")


@dataclass(frozen=True, slots=True)
class Parted:
    """Runs that part from the golden run at one step, in one way: None where a side has ended."""

    index: int
    expected: SeenStep | None
    got: SeenStep | None
    runs: int
    example: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON: index, expected and got (skill, kind, status; or None), runs, example."""
        sides = {
            name: None if one is None else {"skill": one.skill, "kind": one.kind, "status": one.status}
            for name, one in (("expected", self.expected), ("got", self.got))
        }
        return {"index": self.index, **sides, "runs": self.runs, "example": self.example}


@dataclass(frozen=True, slots=True)
class Held:
    """Runs of a golden run's agent and input. `taken`: how many took its path; `parted`: where the others
    left it, those of the most runs first; `found`: all of them, by path."""

    golden: str
    taken: Estimate
    parted: tuple[Parted, ...]
    found: Behaviours

    def to_dict(self) -> dict[str, Any]:
        """As JSON: that of `found`, and `golden` with its name, `taken` and `parted`."""
        held = {
            "name": self.golden,
            "taken": self.taken.to_dict(),
            "parted": [one.to_dict() for one in self.parted],
        }
        return {**self.found.to_dict(), "golden": held}


def find_golden(name: str) -> Path:
    """The golden file of this name: a file, or `NAME.golden` here, in `goldens` or in `tests/goldens`.

    Raises `UsageError` where there is none.
    """
    looked = [Path(name), *(Path(folder) / f"{name}{SUFFIX}" for folder in FOLDERS)]
    for path in looked:
        if path.is_file():
            return path
    raise UsageError(
        f"there is no golden {name}", expected="one of " + ", ".join(str(path) for path in looked)
    )


def hold(
    store: TraceStore,
    selection: Selection,
    golden: str,
    *,
    kinds: Sequence[str] = (),
    level: Level | str = Level.DECISIONS,
    rules: Rules | None = None,
    progress: Progress | None = None,
) -> Held:
    """Holds the selected runs of the golden's agent that began with its input against its path.

    Inputs are compared by value, and of each run of that agent no more than its input is read, one after
    the other; then the steps of each distinct path. Raises `UsageError` for a golden that is not there, or
    that has nothing to compare, and as `read_golden` does.
    """
    path = find_golden(golden)
    looking = Looking.of(None, kinds, level, rules, 1.0)
    record = read_golden(path).record()
    expected = seen(record, level=looking.level, rules=looking.rules, kinds=looking.kinds)
    if isinstance(expected, str):
        raise UsageError(f"the golden is a run {expected}", where=str(path))
    tenant = selection.base.tenant_id
    fields = {**selection.fields}
    if record.agent_id is not None:
        fields["agent_id"] = [record.agent_id]
    items = list_runs(store, replace(selection, fields=fields, limit=None))
    same = list(_of_input(store, items, _input_of(record), tenant, progress))[: selection.limit]
    collected = collect_items(store, same, tenant, looking, progress)
    # A golden path that one run took is an answer too.
    found = grouped(collected, looking, None, least=1)
    found = told(found, lambda run_id: store.ledger(run_id, tenant_id=tenant).record(), looking)
    behaviours = [one for group in found.groups for one in group.behaviours]
    keys = [step.key for step in expected]
    taken = sum(one.tally.runs for one in behaviours if [step.key for step in one.steps] == keys)
    total = sum(one.tally.runs for one in behaviours)
    words = k_of_n(taken, total, what="took the golden's path")
    return Held(path.name.removesuffix(SUFFIX), words, _parted(expected, behaviours), found)


def _input_of(record: TraceRecord) -> bytes | None:
    """The input as canonical bytes; None where none was recorded."""
    value = record.context.input if record.context else MISSING
    if isinstance(value, Erased):
        raise UsageError("the golden's input was erased: its runs can't be found", run_id=record.run_id)
    return None if value is MISSING else canonical_bytes(value)


def _of_input(
    store: TraceStore,
    items: Sequence[RunItem],
    wanted: bytes | None,
    tenant: str,
    progress: Progress | None,
) -> Iterable[RunItem]:
    for number, item in enumerate(items):
        if progress is not None:
            progress(number, len(items))
        raw = store.values(item.summary.run_id, [_INPUT], tenant_id=tenant).get(_INPUT)
        if (None if raw is None else canonical_bytes(orjson.loads(raw))) == wanted:
            yield item


def _parted(expected: Sequence[SeenStep], behaviours: Iterable[Behaviour]) -> tuple[Parted, ...]:
    runs: Counter[tuple[int, bytes | None]] = Counter()
    ways: dict[tuple[int, bytes | None], tuple[SeenStep | None, str]] = {}
    for one in behaviours:
        pairs = enumerate(zip(expected, one.steps, strict=False))
        shorter = min(len(expected), len(one.steps))
        index = next((at for at, (a, b) in pairs if a.key != b.key), shorter)
        if index == len(expected) == len(one.steps):
            continue
        got = one.steps[index] if index < len(one.steps) else None
        way = (index, None if got is None else got.key)
        runs[way] += one.tally.runs
        ways.setdefault(way, (got, one.runs[0]))
    return tuple(
        Parted(way[0], expected[way[0]] if way[0] < len(expected) else None, *_swapped(ways[way], count))
        for way, count in sorted(runs.items(), key=lambda item: (-item[1], item[0][0], item[0][1] or b""))
    )


def _swapped(way: tuple[SeenStep | None, str], count: int) -> tuple[SeenStep | None, int, str]:
    got, example = way
    return got, count, example
