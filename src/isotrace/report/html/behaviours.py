"""Many runs as a page: how deterministic they are, the tree of their paths, and where they part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isotrace.operations import Behaviours, Group
from isotrace.population import (
    Branch,
    BranchingStep,
    Comparison,
    Estimate,
    Node,
    ParamDifference,
    SeenStep,
    Tree,
)
from isotrace.population.wording import percent
from isotrace.report.figures import STATUS_SIGNS, cost, duration
from isotrace.report.html.environment import render
from isotrace.report.html.steps import sign_of
from isotrace.report.safe import plain, visible

MOST_NODES = 400
"""Branches of a tree that are drawn, those of the most runs."""

MOST_GROUPS = 2_000
"""Groups that the table of a page holds."""

_STEPS = 20
"""Branching steps that are told, and params of each that are listed."""

_BRANCHES = 12
_NAMES = 30
_VALUE = 120
_DEPTH = 16
_LOW, _BAND, _HIGH = 24, 30, 300
_LETTER, _TALL = 0.009, 18
_WELL, _BADLY = 0.9, 0.5


def render_behaviours(found: Behaviours, comparison: Comparison | None = None) -> str:
    """A page of many runs: what is said of them in words, the tree of their paths, and where they part.

    `found` is what `isotrace.behaviours` returns; several groups stand in a table. `comparison` adds what
    changed from one set of runs to another. The whole page as HTML: write it to one file, as UTF-8.
    Raises `MissingExtraError` where jinja2 is not installed.
    """
    group = found.groups[0] if len(found.groups) == 1 else None
    kinds = f"{', '.join(found.kinds)} steps" if found.kinds else "steps"
    return render(
        "behaviours.html",
        title=f"{sum(one.runs for one in found.groups):,} runs",
        by=visible(found.by),
        compared=kinds if found.level == "decisions" else f"{kinds}, level {found.level}",
        runs=sum(one.runs for one in found.groups),
        groups=[_group_row(one) for one in found.groups[:MOST_GROUPS]],
        total=len(found.groups),
        identical=found.identical,
        group=None if group is None else _one_group(group),
        sentences=_sentences(found, group),
        pass_k=[(k, one.value, one.words) for k, one in found.pass_k.items() if one.value is not None],
        left_out=[(count, visible(reason)) for reason, count in found.left_out.items()],
        unread=found.unread,
        comparison=None if comparison is None else _comparison(comparison),
    )


@dataclass(frozen=True, slots=True)
class Said:
    """A number with its sentence: its name, how it reads, its place from 0 to 1 if it is a share, and where
    it lies."""

    name: str
    text: str
    value: float | None
    low: float | None
    high: float | None
    words: str


def _said(name: str, one: Estimate, *, share: bool = True) -> Said | None:
    if one.value is None:
        return None
    interval = one.interval
    return Said(
        name,
        percent(one.value) if share else f"{one.value:.1f}",
        min(max(one.value, 0.0), 1.0) if share else None,
        interval.low if interval else None,
        interval.high if interval else None,
        visible(one.words),
    )


def _sentences(found: Behaviours, group: Group | None) -> list[Said]:
    if group is None:
        return list(filter(None, [_said("two runs of a group agree", found.agreement)]))
    numbers = group.measures
    told = [
        _said("took one path", numbers.same_path),
        _said("two runs agree", numbers.agreement),
        _said(numbers.tar.words.partition(":")[0], numbers.tar),
        _said("did well", numbers.success),
        _said("the next run is new", numbers.unseen),
        _said("effective variants", numbers.effective_variants, share=False),
    ]
    return list(filter(None, told))


# --- many groups ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One group in the table: its paths as shares of a bar, the most common first."""

    key: str
    runs: int
    paths: int
    parted: int | None
    agreement: float | None
    shares: tuple[tuple[float, float, int], ...]


_SHARES = 24


def _group_row(group: Group) -> GroupRow:
    shares, begin = [], 0.0
    for count in group.counts[:_SHARES]:
        share = count / group.runs
        shares.append((begin, share, count))
        begin += share
    agreement = group.agreement.value
    return GroupRow(
        visible(group.key), group.runs, group.paths, group.first_divergence, agreement, tuple(shares)
    )


# --- the tree -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """Steps of one skill in a row."""

    name: str
    sign: str
    status: str
    status_sign: str
    times: int


@dataclass(frozen=True, slots=True)
class Way:
    """A line of the tree: a stretch of steps that the same runs take, or, with `ends`, the runs that end
    while others go on. `begin` and `share` are its band among all runs, from 0 to 1."""

    index: int
    label: str
    start: int
    stop: int
    stretches: tuple[Stretch, ...]
    more: int
    ends: bool
    begin: float
    share: float
    runs: int
    success: float | None
    success_words: str
    cost: str
    time: str
    depth: int
    parts: int
    examples: tuple[str, ...]

    def text(self, longest: int, height: int) -> str:
        """What its band says, where it is tall and wide enough for that on a wide screen."""
        if not self.stretches or self.share * height < _TALL:
            return ""
        room = int((self.stop - self.start) / longest / _LETTER) - 2
        name = self.stretches[0].name + self.label
        return name if len(name) <= room else ""

    @property
    def fares(self) -> str:
        """How it is coloured: by how many of its runs did well."""
        if self.success is None:
            return "unknown"
        return "good" if self.success >= _WELL else "bad" if self.success < _BADLY else "mixed"


@dataclass(frozen=True, slots=True)
class GroupView:
    """One group in full."""

    runs: int
    paths: int
    ways: list[Way]
    hidden: int
    longest: int
    height: int
    branching: list[PartingView]
    more: int


@dataclass(frozen=True, slots=True)
class BranchView:
    """One way on from where runs part."""

    label: str
    runs: int
    share: float
    success: float | None
    contrast: str
    telling: bool
    node: int | None
    example: str


@dataclass(frozen=True, slots=True)
class ParamView:
    """A place in params at which branches differ: (branch, value) each."""

    skill: str
    pointer: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class PartingView:
    """A step at which runs part."""

    index: int
    node: int
    explained: float
    words: str
    branches: tuple[BranchView, ...]
    hidden: int
    params: tuple[ParamView, ...]
    more: int


def _one_group(group: Group) -> GroupView:
    told = group.branching[:_STEPS]
    labels = {
        branch.node: branch.label
        for step in group.branching
        for branch in step.branches
        if branch.node is not None
    }
    ways, hidden = _ways(group.tree, labels)
    return GroupView(
        runs=group.runs,
        paths=group.paths,
        ways=ways,
        hidden=hidden,
        longest=max((way.stop for way in ways), default=0),
        height=min(_LOW + _BAND * sum(way.parts < 2 for way in ways), _HIGH),
        branching=[_parting(step, group.params_at(number)) for number, step in enumerate(told)],
        more=len(group.branching) - len(told),
    )


def _ways(tree: Tree, labels: dict[int, str]) -> tuple[list[Way], int]:
    """The lines of a tree in the order of drawing, and how many nodes are left out."""
    by_runs = sorted(tree.nodes, key=lambda node: (-node.tally.runs, node.index))
    drawn = {node.index for node in by_runs[:MOST_NODES]}
    total = max(tree.runs, 1)
    found: list[Way] = []
    # (node, the runs that end here, where its band begins)
    waiting: list[tuple[Node, bool, float]] = [(tree.root, False, 0.0)]
    while waiting:
        node, ends, begin = waiting.pop()
        found.append(_way(node, ends, begin, total, labels.get(node.index, "")))
        if ends:
            continue
        at, inside = begin, []
        for child in node.children:
            if child in drawn:
                inside.append((tree.nodes[child], False, at))
            at += tree.nodes[child].tally.runs / total
        if node.ending.runs and node.children:
            inside.append((node, True, at))
        waiting += reversed(inside)
    return found, len(tree.nodes) - len(drawn)


def _way(node: Node, ends: bool, begin: float, total: int, label: str) -> Way:
    tally = node.ending if ends else node.tally
    good, of = (tally.passed, tally.judged) if tally.judged else (tally.completed, tally.runs)
    stretches = () if ends else tuple(_stretches(node.steps))
    skill = node.steps[0].skill if node.steps else ""
    runs = node.ending_runs if ends else node.runs
    return Way(
        index=node.index,
        label=visible(label.removeprefix(skill)),
        start=node.stop if ends else node.start,
        stop=node.stop,
        stretches=stretches[:_NAMES],
        more=len(node.steps) - sum(one.times for one in stretches[:_NAMES]) if not ends else 0,
        ends=ends,
        begin=begin,
        share=tally.runs / total,
        runs=tally.runs,
        success=good / of if of else None,
        success_words=f"{good:,} of {of:,} {'judged runs passed' if tally.judged else 'runs completed'}",
        cost=cost(tally.cost_cents / tally.runs) if tally.runs else "",
        time=duration(tally.duration_ms / tally.runs) if tally.runs and tally.duration_ms else "",
        depth=min(node.depth + ends, _DEPTH),
        parts=0 if ends else node.branches,
        examples=tuple(map(visible, runs)),
    )


def _stretches(steps: Sequence[SeenStep]) -> Iterator[Stretch]:
    """Steps of one skill and status in a row, as one."""
    at = 0
    while at < len(steps):
        step = steps[at]
        end = at + 1
        while end < len(steps) and (steps[end].skill, steps[end].status) == (step.skill, step.status):
            end += 1
        yield Stretch(
            visible(step.skill),
            sign_of(step.kind),
            step.status,
            STATUS_SIGNS.get(step.status, ("•",))[0],
            end - at,
        )
        at = end


# --- where runs part ------------------------------------------------------------------

_TELLING = 0.05


def _parting(step: BranchingStep, params: Sequence[ParamDifference]) -> PartingView:
    return PartingView(
        index=step.index,
        node=step.node,
        explained=step.explained,
        words=visible(step.words),
        branches=tuple(map(_branch, step.branches[:_BRANCHES])),
        hidden=max(len(step.branches) - _BRANCHES, 0),
        params=tuple(_param(one, step.branches) for one in params[:_STEPS]),
        more=max(len(params) - _STEPS, 0),
    )


def _branch(branch: Branch) -> BranchView:
    contrast = branch.contrast
    return BranchView(
        label=visible(branch.label),
        runs=branch.tally.runs,
        share=branch.share,
        success=branch.success.value,
        contrast="" if contrast is None else visible(contrast.words),
        telling=contrast is not None and contrast.p_value < _TELLING,
        node=branch.node,
        example=visible(branch.runs[0]) if branch.runs else "",
    )


def _param(found: ParamDifference, branches: Sequence[Branch]) -> ParamView:
    alike = [at for at, one in enumerate(branches) if one.step is not None and one.step.skill == found.skill][
        :_BRANCHES
    ]
    return ParamView(
        skill=visible(found.skill),
        pointer=visible(found.pointer) or "the whole value",
        values=tuple(
            (
                visible(branches[at].label),
                plain(found.values[at], _VALUE) if at in found.values else "nothing there",
            )
            for at in alike
        ),
    )


# --- before and after -----------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PathView:
    """One path before and after, as shares."""

    words: str
    move: str
    shown: bool
    before: float
    after: float
    counts: str
    skills: str
    example: str


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """Two sets of runs."""

    verdict: str
    words: str
    before: int
    after: int
    paths: tuple[PathView, ...]
    hidden: int
    steps: tuple[tuple[int, str, bool], ...]
    success: str
    left_out: tuple[str, ...]


def _comparison(found: Comparison) -> ComparisonView:
    paths = found.paths[:_STEPS]
    return ComparisonView(
        verdict=found.verdict.value,
        words=visible(found.words),
        before=found.before,
        after=found.after,
        paths=tuple(
            PathView(
                words=visible(one.words),
                move=one.move.value,
                shown=one.shown,
                before=one.before / one.before_runs if one.before_runs else 0.0,
                after=one.after / one.after_runs if one.after_runs else 0.0,
                counts=f"{one.before:,} of {one.before_runs:,} → {one.after:,} of {one.after_runs:,}",
                skills=visible(" → ".join(step.skill for step in one.steps[:_BRANCHES])),
                example=visible(one.runs[0]) if one.runs else "",
            )
            for one in paths
        ),
        hidden=len(found.paths) - len(paths),
        steps=tuple((one.index, visible(one.words), one.shown) for one in found.steps[:_STEPS]),
        success=visible(found.success.words),
        left_out=tuple(map(visible, found.left_out)),
    )
