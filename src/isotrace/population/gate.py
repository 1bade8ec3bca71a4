"""A gate: are enough of an agent's runs like the expected one? Decided with as few runs as it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

from isotrace.compare import Divergence, Level, Rules, TraceDiff, Verdict, diff_traces
from isotrace.errors import ParityNotReached, ParityUndecided, UsageError
from isotrace.models import TraceRecord
from isotrace.population.sprt import Decision, SequentialTest
from isotrace.population.statistics import Estimate, k_of_n
from isotrace.population.wording import percent, plural

T = TypeVar("T")

MOST_RUNS: Final = 200
"""How many runs a gate looks at, unless another number is given."""

_NAMED: Final = 3
_EXAMPLES: Final = 10


@dataclass(frozen=True, slots=True)
class FlakyStep:
    """A place at which runs parted first from the expected one.

    `index` is the position among the compared steps, None for the run as a whole; `count` how many runs
    parted here. `codes` and `pointers` are all that were met, the most frequent first; `runs` are examples.
    """

    index: int | None
    skill: str
    count: int
    codes: tuple[str, ...]
    pointers: tuple[str, ...]
    runs: tuple[str, ...]

    def __str__(self) -> str:
        place = "the run as a whole" if self.index is None else f"step {self.index} {self.skill}".rstrip()
        what = ", ".join([*self.codes[:_NAMED], *self.pointers[:_NAMED]])
        return f"{place} ({plural(self.count, 'run')}: {what})"

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "index": self.index,
            "skill": self.skill,
            "count": self.count,
            "codes": list(self.codes),
            "pointers": list(self.pointers),
            "runs": list(self.runs),
        }


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a gate came to, after `runs` runs of which `equal` were like the expected one.

    `share` is that with its interval, which knows nothing of stopping early. `flaky` are the steps at which
    the others parted, most frequent first; `first` the first divergence of all.
    """

    decision: Decision
    runs: int
    equal: int
    at_least: float
    unacceptable: float
    level: Level
    reference: str
    share: Estimate
    flaky: tuple[FlakyStep, ...]
    first: Divergence | None
    words: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, all fields."""
        return {
            "decision": self.decision.value,
            "runs": self.runs,
            "equal": self.equal,
            "at_least": self.at_least,
            "unacceptable": self.unacceptable,
            "level": self.level.value,
            "reference": self.reference,
            "share": self.share.to_dict(),
            "flaky": [step.to_dict() for step in self.flaky],
            "first": None if self.first is None else self.first.to_dict(),
            "words": self.words,
        }


def assert_parity(
    runs: Iterable[TraceRecord] | Callable[[], TraceRecord],
    *,
    at_least: float = 0.95,
    level: Level | str = Level.DECISIONS,
    expected: TraceRecord | None = None,
    kinds: Iterable[str] = (),
    rules: Rules | None = None,
    unacceptable: float | None = None,
    alpha: float = 0.05,
    beta: float = 0.05,
    most: int = MOST_RUNS,
) -> GateResult:
    """Passes if at least this share of runs is like the expected one, as far as they tell.

    Runs are held against `expected`, one after the other, with `diff_traces` at this level, until Wald's
    sequential test has decided; no further run is asked for. Without `expected` the first run is
    that, and isn't counted. `runs` is read lazily; a callable makes one run each time. At most
    `most` runs are looked at. A run that can't be compared counts as another one.

    An agent with `at_least` equal runs fails with probability `alpha`; one with only `unacceptable`
    passes with probability `beta`. By default that allows three times as many others: 0.85 for 0.95,
    and 0.95 for 1, where the first other run decides.

    Raises `ParityNotReached` and `ParityUndecided`, both `AssertionError`s with the `GateResult` as
    `.result`; `UsageError` for shares, rates or a level that can't be; and as `diff_traces` does.
    """
    gate = _Gate(at_least, unacceptable, alpha, beta, Level.of(level), rules, tuple(kinds) or None)
    if most < 1:
        raise UsageError("a gate must be allowed at least one run", got=most)
    source = each_of(runs)
    if expected is None:
        expected = next(source, None)
    if expected is not None:
        for run in islice(source, most):
            gate.take(expected, run)
            if gate.decision is not Decision.UNDECIDED:
                break
    result = gate.result(expected)
    if result.decision is Decision.REJECTED:
        raise ParityNotReached(result.words, result=result)
    if result.decision is Decision.UNDECIDED:
        raise ParityUndecided(result.words, result=result)
    return result


def each_of(runs: Iterable[T] | Callable[[], T]) -> Iterator[T]:
    """The runs one by one; a callable is asked for one more each time, without end."""
    if callable(runs):
        while True:
            yield runs()
    yield from runs


def default_unacceptable(at_least: float) -> float:
    """The share of equal runs that is unacceptable where none is named."""
    others = 1 - at_least
    return 0.95 if at_least == 1 else 1 - min(3 * others, (1 + others) / 2)


@dataclass(slots=True)
class _Parted:
    """Runs that parted first at one place."""

    count: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    pointers: Counter[str] = field(default_factory=Counter)
    runs: list[str] = field(default_factory=list)


class _Gate:
    """The counts so far."""

    def __init__(
        self,
        at_least: float,
        unacceptable: float | None,
        alpha: float,
        beta: float,
        level: Level,
        rules: Rules | None,
        kinds: tuple[str, ...] | None,
    ) -> None:
        if not 0 < at_least <= 1:
            raise UsageError("a share of equal runs lies above 0 and is at most 1", got=at_least)
        self.at_least = at_least
        self.unacceptable = default_unacceptable(at_least) if unacceptable is None else unacceptable
        if not 0 <= self.unacceptable < at_least:
            raise UsageError("what is unacceptable must be less than at_least", got=self.unacceptable)
        # Rounded: 1 − 0.95 is 0.050000000000000044.
        self.test = SequentialTest(round(1 - at_least, 12), round(1 - self.unacceptable, 12), alpha, beta)
        self.level, self.rules, self.kinds = level, rules, kinds
        self.runs = self.others = 0
        self.decision = Decision.UNDECIDED
        self.first: Divergence | None = None
        self.parted: dict[tuple[int | None, str], _Parted] = {}

    def take(self, expected: TraceRecord, run: TraceRecord) -> None:
        """Counts one more run."""
        diff = diff_traces(expected, run, level=self.level, rules=self.rules, kinds=self.kinds)
        self.runs += 1
        if diff.verdict is not Verdict.MATCH:
            self.others += 1
            self._note(diff, expected, run)
        self.decision = self.test.decision(self.others, self.runs)

    def _note(self, diff: TraceDiff, expected: TraceRecord, run: TraceRecord) -> None:
        first = diff.first
        if first is None:
            # A verdict other than MATCH has a divergence; without one there is no step to name.
            return
        if self.first is None:
            self.first = first
        skill = ""
        if first.original_index is not None and first.original_index < len(expected.steps):
            skill = expected.steps[first.original_index].skill_name
        elif first.replay_index is not None and first.replay_index < len(run.steps):
            skill = run.steps[first.replay_index].skill_name
        parted = self.parted.setdefault((first.index, skill), _Parted())
        parted.count += 1
        parted.codes[first.code.value] += 1
        parted.pointers.update(first.pointers)
        if len(parted.runs) < _EXAMPLES:
            parted.runs.append(run.run_id)

    def result(self, expected: TraceRecord | None) -> GateResult:
        """What the counts come to."""
        flaky = [
            FlakyStep(
                index=index,
                skill=skill,
                count=parted.count,
                codes=tuple(code for code, _ in parted.codes.most_common()),
                pointers=tuple(pointer for pointer, _ in parted.pointers.most_common()),
                runs=tuple(parted.runs),
            )
            for (index, skill), parted in self.parted.items()
        ]
        flaky.sort(key=lambda one: -one.count)
        share = k_of_n(self.runs - self.others, self.runs, what="runs are like the expected one")
        return GateResult(
            decision=self.decision,
            runs=self.runs,
            equal=self.runs - self.others,
            at_least=self.at_least,
            unacceptable=self.unacceptable,
            level=self.level,
            reference="" if expected is None else expected.run_id,
            share=share,
            flaky=tuple(flaky),
            first=self.first,
            words=self._words(share, flaky),
        )

    def _words(self, share: Estimate, flaky: list[FlakyStep]) -> str:
        wanted = f"parity of at least {percent(self.at_least)} at level {self.level.value}"
        after = f"after {plural(self.runs, 'run')}: {share.words}"
        if self.decision is Decision.ACCEPTED:
            low, rate = percent(self.unacceptable), percent(self.test.beta)
            said = f"{wanted} is reached {after}; an agent with only {low} passes in {rate} of cases"
        elif self.decision is Decision.REJECTED:
            said = f"{wanted} is not reached, decided {after}"
        else:
            more = self.test.to_accept(self.others, self.runs)
            said = f"{wanted} is undecided {after}; {plural(more, 'more run')} without another would decide"
        if self.first is not None:
            said += f"; the first divergence is {self.first}"
        if flaky:
            named = "; ".join(map(str, flaky[:_NAMED]))
            rest = f"; {len(flaky) - _NAMED:,} more" if len(flaky) > _NAMED else ""
            said += f"; flaky: {named}{rest}"
        return said
