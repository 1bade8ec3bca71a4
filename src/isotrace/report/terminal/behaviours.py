"""Many runs on a terminal: a table of groups, or one group with its tree and the steps where runs part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Console
from rich.text import Text

from isotrace.operations import Behaviours, Group, Held
from isotrace.population import Branch, BranchingStep, Estimate, Node, ParamDifference, SeenStep, Tree
from isotrace.population.wording import percent
from isotrace.report.figures import cost, duration, short_id
from isotrace.report.safe import plain, visible
from isotrace.report.terminal.console import (
    STATUS_STYLES,
    Glyphs,
    glyphs_of,
    is_page,
    print_row,
    safe,
    say,
)
from isotrace.report.terminal.tables import Column, print_columns

_DRAWN = 40
"""How many nodes of a tree are drawn, those of the most runs."""

_SHOWN = 5
"""How many branching steps are told."""

_PARAMS = 4
_VALUES = 3
_VALUE = 40
_COUNTED = 12
_NAMES = 40
"""Of a chain of steps, so many are named."""


def print_behaviours(console: Console, found: Behaviours) -> None:
    """One group in full; several as a table, and below it how they spread."""
    if found.by or len(found.groups) != 1:
        _print_groups(console, found)
    else:
        _print_group(console, found, found.groups[0])
    if found.left_out:
        left = ", ".join(f"{count:,} {reason}" for reason, count in found.left_out.items())
        say(console, safe(f"  runs left out: {left}", style="yellow"))
    if found.unread:
        say(
            console,
            Text(
                f"  of {found.unread:,} rare paths the steps are not read: no tree holds them", style="yellow"
            ),
        )


def print_held(console: Console, held: Held) -> None:
    """How many runs took the golden's path and where the others left it; below it all of them."""
    say(console, safe(f"{held.golden}: {held.taken.words}", style="bold"))
    arrow = glyphs_of(console).arrow
    for one in held.parted[:_SHOWN]:
        expected, got = _named(one.expected), _named(one.got)
        change = f"{got} with other params" if expected == got else f"{expected} {arrow} {got}"
        line = f"  {one.runs:,} at step {one.index}: {change}, for example {short_id(one.example)}"
        say(console, safe(line))
    if len(held.parted) > _SHOWN:
        say(console, Text(f"  and in {len(held.parted) - _SHOWN:,} more ways", style="dim"))
    if held.found.groups:
        console.print()
        print_behaviours(console, held.found)


def _named(step: SeenStep | None) -> str:
    return (
        "the end"
        if step is None
        else f"{step.skill}{'' if step.status == 'success' else f' ({step.status})'}"
    )


def say_below(console: Console, text: Text, indent: int = 2) -> None:
    """A sentence set in by `indent`, which the lines that it is wrapped to keep, and one step more."""
    if not console.is_terminal or text.cell_len + indent <= console.width:
        say(console, Text.assemble(" " * indent, text))
        return
    first, rest = indent, indent + 2
    lines = text.wrap(console, max(console.width - rest, 20))
    for number, line in enumerate(lines):
        line.rstrip()
        print_row(console, Text.assemble(" " * (rest if number else first), line))


# --- many groups ----------------------------------------------------------------------


def _print_groups(console: Console, found: Behaviours) -> None:
    groups = found.groups
    key_width = max(console.width - 64, 12) if is_page(console) else None
    tick = glyphs_of(console).statuses["success"]
    columns = [
        Column(found.by.upper(), 0, [safe(group.key, key_width) for group in groups]),
        Column("RUNS", 0, [Text(str(group.runs)) for group in groups], right=True),
        Column("PATHS", 0, [_paths_cell(group, tick) for group in groups], right=True),
        Column("AGREE", 1, [_share_cell(group.agreement) for group in groups], right=True),
        Column("MOST COMMON", 2, [_interval_cell(group) for group in groups]),
        Column("FIRST DIVERGENCE", 0, [_parted_cell(group) for group in groups]),
    ]
    if groups:
        print_columns(console, columns)
        console.print()
    first, *lines = _spread_lines(found)
    say(console, first)
    for line in lines:
        say_below(console, line)


def _paths_cell(group: Group, tick: str) -> Text:
    if group.paths == 1:
        return Text(f"{tick} 1", style="green")
    return Text(str(group.paths), style="red")


def _share_cell(estimate: Estimate) -> Text:
    return Text("" if estimate.value is None else f"{estimate.value:.0%}")


def _interval_cell(group: Group) -> Text:
    """`3 of 4, 30-95 %`: how many took the most common path, and between which shares that lies."""
    one = group.same_path
    if one.interval is None:
        return Text("")
    return Text.assemble(
        f"{one.part} of {one.whole}", (f" ({one.interval.low:.0%}-{one.interval.high:.0%})", "dim")
    )


def _parted_cell(group: Group) -> Text:
    return Text("" if group.first_divergence is None else f"at step {group.first_divergence}")


def _spread_lines(found: Behaviours) -> list[Text]:
    data = found.to_dict()
    total = len(found.groups)
    lines = [
        Text(
            f"{found.identical} of {total} groups took one path in all their runs ({_compared(found)})",
            style="bold",
        )
        if total
        else Text(_no_group(found), style="yellow")
    ]
    if total:
        lines.append(Text(f"paths in a group: {_counted(data['paths'])}", style="dim"))
    if found.median_divergence is not None:
        spread = _counted(data["first_divergence"])
        lines.append(
            Text(f"first divergence at step: {spread}; median {found.median_divergence:g}", style="dim")
        )
    if total and found.agreement.value is not None:
        lines.append(Text(found.agreement.words, style="dim"))
    return [*lines, *_pass_lines(found)]


def _no_group(found: Behaviours) -> str:
    if not found.left_out:
        return "no run fits the query: nothing to compare"
    return "no group of two or more runs to compare"


def _pass_lines(found: Behaviours) -> list[Text]:
    """pass^k on one line: for how many runs it is told stands in the JSON in words."""
    told = [f"{k}: {percent(one.value)}" for k, one in found.pass_k.items() if one.value is not None]
    return [Text(f"pass^k, that k runs of a group all pass: {', '.join(told)}", style="dim")] if told else []


def _compared(found: Behaviours) -> str:
    what = f"{'/'.join(found.kinds)} steps" if found.kinds else "steps"
    return what if found.level == "decisions" else f"{what}, level {found.level}"


def _counted(spread: Mapping[str, int]) -> str:
    """`1 (4 groups), 2 (1 group)`, the first twelve."""
    parts = [f"{number} ({count} group{'' if count == 1 else 's'})" for number, count in spread.items()]
    return ", ".join(parts[:_COUNTED]) + (", …" if len(parts) > _COUNTED else "")


# --- one group ------------------------------------------------------------------------


def _print_group(console: Console, found: Behaviours, group: Group) -> None:
    paths = "1 path" if group.paths == 1 else f"{group.paths:,} paths"
    say(console, Text(f"{group.runs:,} runs took {paths} ({_compared(found)})", style="bold"))
    numbers = group.measures
    for one in (
        numbers.same_path,
        numbers.agreement,
        numbers.tar,
        numbers.effective_variants,
        numbers.unseen,
    ):
        if one.value is not None:
            say_below(console, Text(one.words, style="dim"))
    if numbers.success.value is not None:
        say_below(console, Text(numbers.success.words, style="dim"))
    for line in _pass_lines(found):
        say_below(console, line)
    console.print()
    numbered = {
        branch.node: branch.label.removeprefix(branch.step.skill)
        for step in group.branching
        for branch in step.branches
        if branch.node is not None and branch.step is not None
    }
    _print_tree(console, group.tree, numbered)
    if group.branching:
        console.print()
        say(console, Text("Where they part", style="bold"))
    for number, step in enumerate(group.branching[:_SHOWN]):
        _print_branching(console, number + 1, step, group.params_at(number))
    if len(group.branching) > _SHOWN:
        left = len(group.branching) - _SHOWN
        say(console, Text(f"  and at {left:,} more step{'' if left == 1 else 's'}", style="dim"))


def _print_tree(console: Console, tree: Tree, numbered: Mapping[int, str]) -> None:
    """The tree, a line for each stretch of steps that runs have in common. `numbered` tells branches of one
    skill apart, by the index of their node."""
    glyphs = glyphs_of(console)
    lines = list(_lines(tree, glyphs))
    room = max(console.width - 44, 24) if is_page(console) else None
    columns = [
        Column("PATH", 0, [_label(*line, numbered, glyphs, room) for line in lines]),
        Column("RUNS", 0, [Text(f"{_runs(node, ends):,}") for node, ends, _ in lines], right=True),
        Column(
            "SHARE", 0, [Text(f"{_runs(node, ends) / tree.runs:.0%}") for node, ends, _ in lines], right=True
        ),
        Column("SUCCESS", 1, [_success(node, ends) for node, ends, _ in lines], right=True),
        Column(
            "COST", 3, [Text(cost(_mean(node, ends, "cost_cents"))) for node, ends, _ in lines], right=True
        ),
        Column(
            "TIME",
            2,
            [Text(duration(_mean(node, ends, "duration_ms"))) for node, ends, _ in lines],
            right=True,
        ),
    ]
    print_columns(console, columns)
    hidden = len(tree.nodes) - sum(not ends for _, ends, _ in lines)
    if hidden:
        say(console, Text(f"  and {hidden:,} smaller branches", style="dim"))


_Line = tuple[Node, bool, str]


def _lines(tree: Tree, glyphs: Glyphs) -> Iterator[_Line]:
    """Each node that is drawn, and a line for the runs that end where others go on; with its guides."""
    by_runs = sorted(tree.nodes, key=lambda node: (-node.tally.runs, node.index))
    drawn = {node.index for node in by_runs[:_DRAWN]}
    tee, corner, bar = ("├─ ", "└─ ", "│  ") if glyphs.arrow == "→" else ("|- ", "`- ", "|  ")
    waiting: list[tuple[int, bool, str, str]] = [(0, False, "", "")]
    while waiting:
        index, ends, own, below = waiting.pop()
        node = tree.nodes[index]
        # A root without steps is only where runs part.
        if node.steps or ends or len(tree.nodes) == 1:
            yield node, ends, own
        elif not node.steps:
            yield node, False, own
        if ends:
            continue
        children = [(child, False) for child in node.children if child in drawn]
        if node.ending.runs and node.children:
            children.append((index, True))
        for place, (child, at_end) in reversed(list(enumerate(children))):
            last = place == len(children) - 1
            guide = corner if last else tee
            waiting.append((child, at_end, below + guide, below + ("   " if last else bar)))


def _label(
    node: Node, ends: bool, guides: str, numbered: Mapping[int, str], glyphs: Glyphs, room: int | None
) -> Text:
    text = Text(guides, style="dim")
    if ends:
        text.append("end here", style="dim italic")
    elif not node.steps:
        text.append("start", style="dim italic")
    else:
        text.append(f"{node.start} ", style="dim")
        append_steps(text, node.steps, numbered.get(node.index, ""), glyphs, room)
    if room is not None:
        text.truncate(room, overflow="ellipsis")
    return text


def append_steps(text: Text, steps: Sequence[SeenStep], sign: str, glyphs: Glyphs, room: int | None) -> None:
    """Adds `chat → search x3 → chat`, and how many more where there is no room. `sign` is the first one's."""
    arrow = f" {glyphs.arrow} "
    chain = _repeated(steps[:_NAMES])
    for number, (step, times) in enumerate(chain):
        name = safe(step.skill, 32)
        if sign and not number:
            name.append(visible(sign), style="dim")
        if times > 1:
            name.append(f" x{times}", style="dim")
        if step.status != "success":
            name.stylize(STATUS_STYLES.get(step.status, "red"))
            name.append(f" {glyphs.statuses.get(step.status, '!')}")
        left = len(steps) - sum(count for _, count in chain[:number])
        more = f"{arrow}{left} more"
        last = number == len(chain) - 1 and len(steps) <= _NAMES
        needed = (len(arrow) if number else 0) + name.cell_len + (0 if last else len(more))
        if room is not None and number and text.cell_len + needed > room:
            text.append(more, style="dim")
            return
        if number:
            text.append(arrow, style="dim")
        text.append_text(name)
    if len(steps) > _NAMES:
        text.append(f"{arrow}{len(steps) - _NAMES} more", style="dim")


def _repeated(steps: Sequence[SeenStep]) -> list[tuple[SeenStep, int]]:
    """Steps of one skill and status in a row, as one."""
    found: list[tuple[SeenStep, int]] = []
    for step in steps:
        if found and (found[-1][0].skill, found[-1][0].status) == (step.skill, step.status):
            found[-1] = (step, found[-1][1] + 1)
        else:
            found.append((step, 1))
    return found


def _runs(node: Node, ends: bool) -> int:
    return node.ending.runs if ends else node.tally.runs


def _mean(node: Node, ends: bool, name: str) -> float:
    tally = node.ending if ends else node.tally
    total: float = getattr(tally, name)
    return total / tally.runs if tally.runs else 0.0


def _success(node: Node, ends: bool) -> Text:
    tally = node.ending if ends else node.tally
    good, of = (tally.passed, tally.judged) if tally.judged else (tally.completed, tally.runs)
    if not of:
        return Text("")
    share = good / of
    return Text(f"{share:.0%}", style="green" if share == 1 else "red" if share == 0 else "")


# --- where runs part ------------------------------------------------------------------


def _print_branching(
    console: Console, number: int, step: BranchingStep, params: Sequence[ParamDifference]
) -> None:
    say_below(console, safe(f"{number}. {step.words}"))
    for one in params[:_PARAMS]:
        say_below(console, _params_line(one, step.branches), 5)
    if len(params) > _PARAMS:
        say(console, Text(f"     and {len(params) - _PARAMS} more places in params", style="dim"))


def _params_line(found: ParamDifference, branches: Sequence[Branch]) -> Text:
    text = Text()
    text.append_text(safe(f"{found.skill} {found.pointer}: ", style="cyan"))
    values = []
    for at in range(min(len(branches), 8)):
        if branches[at].step is not None and branches[at].step.skill == found.skill:  # type: ignore[union-attr]  # asked before
            shown = plain(found.values[at], _VALUE) if at in found.values else "nothing"
            values.append(f"{shown} ({branches[at].tally.runs:,})")
    more = f" | {len(values) - _VALUES} more" if len(values) > _VALUES else ""
    text.append_text(safe(" | ".join(values[:_VALUES]) + more))
    return text
