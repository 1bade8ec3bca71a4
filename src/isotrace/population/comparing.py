"""Before and after: which paths appeared, vanished or changed share, and which step moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from isotrace.population.behaviour import Behaviour, SeenStep, Tally, sum_tallies
from isotrace.population.branching import labels
from isotrace.population.changes import (
    BranchChange,
    Change,
    Comparison,
    Move,
    PathChange,
    StepChange,
    SuccessChange,
)
from isotrace.population.exact import (
    ALPHA,
    PERMUTATIONS,
    Counts,
    Significance,
    corrected,
    difference,
    share_changed,
    ways_appeared,
    ways_changed,
)
from isotrace.population.power import visible_from
from isotrace.population.statistics import LEVEL
from isotrace.population.tree import Node, Tree, keys_of, paths_of, tree_of
from isotrace.population.wording import at_most, ordinal, plural, probability

SMALLEST: Final = 0.25
"""A new path of this share must be visible in four of five cases for "no change shown"."""

Groups = Mapping[str, Sequence[Behaviour]]
"""The behaviours of each stratum, such as a task, by its key."""

_EVERYTHING = "all runs"

_NAMED: Final = 3
"""How many paths a sentence names."""

_STEPS: Final = 200
_DRAWN: Final = 1_999
_LARGE: Final = 500
"""Of so many steps, those that most runs come to, it is asked whether they moved; so many exchanges are
drawn at most for one of them, and from so many runs on none: there may be many steps."""

_SPELT: Final = 6
"""A path of up to so many steps is named by its skills."""


def compare_behaviours(
    before: Groups | Iterable[Behaviour],
    after: Groups | Iterable[Behaviour],
    *,
    alpha: float = ALPHA,
    smallest: float = SMALLEST,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
    level: float = LEVEL,
) -> Comparison:
    """What has changed from one set of runs to the other, and how sure that is.

    Both are behaviours, or behaviours by stratum (a task); then runs are only held against runs of the
    same stratum, so that another mixture of tasks is no change of the agent. The tests have fixed
    margins: they hold at any number of runs.

    `changed`: runs are spread otherwise over paths, or take new ones, p at most `alpha`; where more than
    half of all runs took a path of their own, whole paths can't tell, and the verdict is that of the
    steps instead. Otherwise `no change shown`, if a new path that is taken by `smallest` of the runs
    would have been seen in four of five cases; else `too few runs to say`.
    """
    sides = _by_stratum(before), _by_stratum(after)
    strata = sorted(key for key in sides[0] if key in sides[1])
    left_out = tuple(sorted({*sides[0], *sides[1]} - {*strata}))
    flat = tuple([one for key in strata for one in side[key]] for side in sides)
    pooled = paths_of([*flat[0], *flat[1]])
    tally = tuple(sum_tallies([one.tally for one in side]) for side in flat)
    counts = _Counts(strata, sides)
    tables = counts.tables()
    others = ways_changed(tables, seed=seed, permutations=permutations)
    new = ways_appeared(tables, seed=seed, permutations=permutations)
    p_value = min(1.0, 2 * min(others.p_value, new.p_value))
    tree = tree_of(pooled)
    steps = _step_changes(tree, pooled, counts, alpha, seed, permutations)
    lonely = sum(path.tally.runs == 1 for path in pooled)
    by_steps = lonely * 2 > sum(path.tally.runs for path in pooled)
    changed = any(step.shown for step in steps) if by_steps else p_value <= alpha
    # What is said of single paths holds only where something is said of all.
    gate = changed and p_value <= alpha
    paths = _path_changes(pooled, counts, alpha, level, min(1.0, 2 * new.p_value), gate)
    visible = visible_from(counts.totals, alpha)
    if changed:
        verdict = Change.CHANGED
    else:
        verdict = Change.NOT_SHOWN if visible is not None and visible <= smallest else Change.TOO_FEW
    return Comparison(
        verdict=verdict,
        before=tally[0].runs,
        after=tally[1].runs,
        p_value=p_value,
        others=others.p_value,
        new=new.p_value,
        exact=others.exact and new.exact,
        by_steps=by_steps,
        paths=paths,
        steps=steps,
        success=_success(strata, sides, level),
        left_out=left_out,
        tree=tree,
        words=_no_runs(sides) or _words(verdict, p_value, paths, steps, counts.totals, visible, by_steps),
    )


def _no_runs(sides: Sequence[Mapping[str, Sequence[Behaviour]]]) -> str:
    """What is said where a set is empty, whatever the other holds."""
    empty = [name for name, side in zip(("before", "after"), sides, strict=True) if not any(side.values())]
    return f"{Change.TOO_FEW.value}: there are no runs {' and none '.join(empty)}" if empty else ""


def _by_stratum(side: Groups | Iterable[Behaviour]) -> dict[str, list[Behaviour]]:
    if isinstance(side, Mapping):
        return {key: paths_of(found) for key, found in side.items()}
    return {_EVERYTHING: paths_of(side)}


class _Counts:
    """How many runs took each path, in each stratum, before and after."""

    def __init__(self, strata: Sequence[str], sides: Sequence[Mapping[str, Sequence[Behaviour]]]) -> None:
        self.strata = strata
        self.by_stratum: list[dict[tuple[bytes, ...], Counts]] = []
        self.totals: list[Counts] = []
        for key in strata:
            seen = [Counter({keys_of(one): one.tally.runs for one in side[key]}) for side in sides]
            union = dict.fromkeys([*seen[0], *seen[1]])
            self.by_stratum.append({path: Counts(seen[0][path], seen[1][path]) for path in union})
            self.totals.append(Counts(seen[0].total(), seen[1].total()))

    def tables(self) -> list[list[Counts]]:
        """One table for each stratum, its rows in an order that does not depend on that of the input."""
        return [[rows[path] for path in sorted(rows)] for rows in self.by_stratum]

    def of(self, path: tuple[bytes, ...]) -> list[tuple[str, Counts, Counts]]:
        """(stratum, runs that took the path, runs) where it occurs."""
        return [
            (stratum, rows[path], totals)
            for stratum, rows, totals in zip(self.strata, self.by_stratum, self.totals, strict=True)
            if path in rows
        ]


# --- paths ----------------------------------------------------------------------------


def _path_changes(
    pooled: Sequence[Behaviour], counts: _Counts, alpha: float, level: float, new: float, gate: bool
) -> tuple[PathChange, ...]:
    """Each path; `new` is the p-value of the test for new paths, `gate` whether anything is shown at all."""
    found = [counts.of(keys_of(path)) for path in pooled]
    tests = [
        share_changed(
            [(here, Counts(of.before - here.before, of.after - here.after)) for _, here, of in rows]
        )
        for rows in found
    ]
    adjusted = corrected(tests, alpha)
    able = sum(test.smallest <= alpha for test in tests)
    totals = [(_sum(here for _, here, _ in rows), _sum(of for _, _, of in rows)) for rows in found]
    moves = [_move(here, of) for here, of in totals]
    known = _known(found, moves)
    changes = []
    for at, (path, move, (here, of)) in enumerate(zip(pooled, moves, totals, strict=True)):
        p_value, tested = adjusted[at], able
        strata = tuple(stratum for stratum, _, _ in found[at])
        if move is Move.APPEARED:
            known[strata] += 1
            if moves.count(Move.APPEARED) == 1 and new < p_value:
                p_value, tested = new, 1
        shown = gate and p_value <= alpha and move is not Move.SAME
        where = "" if len(counts.strata) == 1 or len(strata) > 1 else f" in group {strata[0]}"
        changes.append(
            PathChange(
                signature=path.signature,
                steps=path.steps,
                move=move,
                before=here.before,
                after=here.after,
                before_runs=of.before,
                after_runs=of.after,
                strata=strata,
                p_value=tests[at].p_value,
                adjusted=p_value,
                shown=shown,
                difference=difference(here.after, of.after, here.before, of.before, level),
                runs=path.runs,
                words=_path_words(
                    move, known[strata], path.steps, here, of, where, _p(p_value, tested, shown)
                ),
            )
        )
    return tuple(
        sorted(changes, key=lambda one: (not one.shown, round(one.adjusted, 9), -one.before - one.after))
    )


def _known(
    found: Sequence[list[tuple[str, Counts, Counts]]], moves: Sequence[Move]
) -> Counter[tuple[str, ...]]:
    """How many paths were known before where each of the new ones occurs: in any of its strata."""
    by_stratum: dict[str, set[int]] = {}
    for at, rows in enumerate(found):
        for stratum, here, _ in rows:
            if here.before:
                by_stratum.setdefault(stratum, set()).add(at)
    known: Counter[tuple[str, ...]] = Counter()
    for rows, move in zip(found, moves, strict=True):
        if move is Move.APPEARED:
            strata = tuple(stratum for stratum, _, _ in rows)
            known[strata] = len(set().union(*(by_stratum.get(stratum, ()) for stratum in strata)))
    return known


def _sum(rows: Iterable[Counts]) -> Counts:
    found = list(rows)
    return Counts(sum(row.before for row in found), sum(row.after for row in found))


def _move(here: Counts, of: Counts) -> Move:
    if not here.before:
        return Move.APPEARED
    if not here.after:
        return Move.VANISHED
    crosswise = here.after * of.before - here.before * of.after
    return Move.SAME if not crosswise else Move.MORE if crosswise > 0 else Move.LESS


def _p(p_value: float, tests: int, shown: bool) -> str:
    for_all = f", corrected for {plural(tests, 'path')}" if tests > 1 else ""
    return f"({probability(p_value)}{for_all}{'' if shown else ': may be chance'})"


def _path_words(
    move: Move, number: int, steps: Sequence[SeenStep], here: Counts, of: Counts, where: str, p: str
) -> str:
    counts = f"{here.after:,} of {of.after:,} after, {here.before:,} of {of.before:,} before"
    if move is Move.APPEARED:
        return f"{ordinal(number)} path has appeared{where}: {counts} {p}"
    said = {
        Move.VANISHED: "has vanished",
        Move.MORE: "is taken more often",
        Move.LESS: "is taken less often",
        Move.SAME: "is taken as often",
    }[move]
    path = f"a path of {plural(len(steps), 'step')}"
    if 0 < len(steps) <= _SPELT:
        path = f"the path {' → '.join(step.skill for step in steps)}"
    return f"{path} {said}{where}: {counts} {p}"


# --- steps ----------------------------------------------------------------------------


def _step_changes(
    tree: Tree, pooled: Sequence[Behaviour], counts: _Counts, alpha: float, seed: int, permutations: int
) -> tuple[StepChange, ...]:
    """Of each node at which runs part, how those that come there go on, before and after."""
    through = _through(tree, pooled, counts)
    # Which nodes are looked at depends on both sets together, so that no side is favoured.
    nodes = [node for node in tree.nodes if node.branches > 1]
    nodes = sorted(nodes, key=lambda one: -one.tally.runs)[:_STEPS]
    tests: list[Significance] = []
    for node in nodes:
        tables = []
        for number in range(len(counts.strata)):
            rows = [through[child][number] for child in node.children]
            rows.append(_ending(node, through, number))
            tables.append(rows)
        tests.append(ways_changed(tables, seed=seed, permutations=min(permutations, _DRAWN), large=_LARGE))
    adjusted = corrected(tests, alpha)
    able = sum(test.smallest <= alpha for test in tests)
    found = []
    for node, test, p_value in zip(nodes, tests, adjusted, strict=True):
        branches = _branch_changes(node, tree, through, len(counts.strata))
        shown = p_value <= alpha
        words = _step_words(node.stop, branches, p_value, able, shown)
        found.append(StepChange(node.index, node.stop, branches, test.p_value, p_value, shown, words))
    # Rounded: what floats leave of a p of 1 must not decide.
    found.sort(key=lambda one: (not one.shown, round(one.p_value, 9), one.index, one.node))
    return tuple(found)


_Rows = list[list[Counts]]
"""By node, then by stratum."""


def _through(tree: Tree, pooled: Sequence[Behaviour], counts: _Counts) -> _Rows:
    onward = {
        (node.index, tree.nodes[child].steps[0].key): child for node in tree.nodes for child in node.children
    }
    rows = [[Counts(0, 0)] * len(counts.strata) for _ in tree.nodes]
    for path in pooled:
        keys, at = keys_of(path), 0
        while tree.nodes[at].stop < len(keys):
            at = onward[at, keys[tree.nodes[at].stop]]
        rows[at] = [by_path.get(keys, Counts(0, 0)) for by_path in counts.by_stratum]
    for node in reversed(tree.nodes):
        if node.parent is not None:
            pairs = zip(rows[node.parent], rows[node.index], strict=True)
            rows[node.parent] = [_sum(pair) for pair in pairs]
    return rows


def _ending(node: Node, through: _Rows, stratum: int) -> Counts:
    """The runs that end behind the node: what comes through, less what goes on."""
    here = through[node.index][stratum]
    on = _sum(through[child][stratum] for child in node.children)
    return Counts(here.before - on.before, here.after - on.after)


def _branch_changes(node: Node, tree: Tree, through: _Rows, strata: int) -> tuple[BranchChange, ...]:
    steps = [tree.nodes[child].steps[0] for child in node.children]
    found = [
        BranchChange(step, label, *_sum(through[child]))
        for step, label, child in zip(steps, labels(steps), node.children, strict=True)
    ]
    ending = _sum(_ending(node, through, number) for number in range(strata))
    if any(ending):
        found.append(BranchChange(None, "the end", *ending))
    return tuple(found)


def _step_words(index: int, branches: Sequence[BranchChange], p_value: float, tests: int, shown: bool) -> str:
    before, after = sum(one.before for one in branches), sum(one.after for one in branches)
    moved = max(branches, key=lambda one: one.after * before - one.before * after)
    for_all = f", corrected for {plural(tests, 'step')}" if tests > 1 else ""
    chance = "" if shown else ": may be chance"
    way = "end" if moved.step is None else f"go on with {moved.label}"
    counts = f"{moved.after:,} of {after:,} {way} after, {moved.before:,} of {before:,} before"
    return f"at step {index}: {counts} ({probability(p_value)}{for_all}{chance})"


# --- the whole ------------------------------------------------------------------------


def _success(
    strata: Sequence[str], sides: Sequence[Mapping[str, Sequence[Behaviour]]], level: float
) -> SuccessChange:
    pairs = [[sum_tallies([one.tally for one in side[key]]) for side in sides] for key in strata]
    judged = all(any(pair[at].judged for pair in pairs) for at in (0, 1))

    def good_of(tally: Tally) -> tuple[int, int]:
        return (tally.passed, tally.judged) if judged else (tally.completed, tally.runs)

    tables = []
    for pair in pairs:
        (good, of), (good_after, of_after) = good_of(pair[0]), good_of(pair[1])
        tables.append((Counts(good, good_after), Counts(of - good, of_after - good_after)))
    here, not_here = _sum(good for good, _ in tables), _sum(bad for _, bad in tables)
    every = _sum([here, not_here])
    p_value = share_changed(tables).p_value
    what = "judged runs passed" if judged else "runs completed"
    words = f"{here.after:,} of {every.after:,} {what} after, {here.before:,} of {every.before:,} before"
    interval = difference(here.after, every.after, here.before, every.before, level)
    return SuccessChange(
        here.before,
        every.before,
        here.after,
        every.after,
        p_value,
        interval,
        f"{words} ({probability(p_value)})",
    )


def _words(
    verdict: Change,
    p_value: float,
    paths: Sequence[PathChange],
    steps: Sequence[StepChange],
    sizes: Sequence[Counts],
    visible: float | None,
    by_steps: bool,
) -> str:
    shown = [path for path in paths if path.shown]
    if verdict is Change.CHANGED:
        told = [path.words for path in shown[:_NAMED]]
        if len(shown) > _NAMED:
            told.append(plural(len(shown) - _NAMED, "other path"))
        told += [step.words for step in steps if step.shown][:1]
        if not told or not (shown or by_steps):
            told.insert(0, f"runs are spread otherwise over paths ({probability(p_value)})")
        return f"changed: {'; '.join(told)}"
    every = _sum(sizes)
    runs = f"{every.before:,} and {plural(every.after, 'run')}"
    if len(sizes) > 1:
        runs += f" in {plural(len(sizes), 'group')}"
    if visible is None:
        return f"{verdict.value}: with {runs} no change at all could be seen"
    seen = f"a new path is seen, in four of five cases, if at least {at_most(visible)} of runs take it"
    return f"{verdict.value} ({probability(p_value)}): with {runs} {seen}; nothing smaller"
