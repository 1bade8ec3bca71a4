"""Listings: runs, groups of runs, and what doctor found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from isotrace.cli.render.console import STATUS_STYLES, cost, duration, glyphs_of, moment, safe, short_id
from isotrace.cli.safe import plain
from isotrace.contracts import RunItem
from isotrace.models import META_MODEL, META_REWARD, META_TASK, META_TIME, META_TRIAL
from isotrace.operations import Behaviours, Check

_LABELS = (META_TASK, META_TRIAL, META_MODEL, META_REWARD)


def print_runs(console: Console, runs: Sequence[RunItem]) -> None:
    """One line a run. What a narrow terminal can't hold is left out column by column; the id never."""
    wide = console.width >= 100
    whole_ids = not console.is_terminal
    table = _table()
    table.add_column("RUN", no_wrap=True, overflow="ignore")
    table.add_column(
        "AGENT", no_wrap=True, overflow="ellipsis", max_width=24 if console.is_terminal else None
    )
    table.add_column("STATUS", no_wrap=True)
    table.add_column("STEPS", justify="right", no_wrap=True)
    timed = any(item.metadata.get(META_TIME) != "absent" for item in runs)
    if timed:
        table.add_column("TIME", justify="right", no_wrap=True)
    if wide:
        table.add_column("COST", justify="right", no_wrap=True)
        if timed:
            table.add_column("STARTED (UTC)", no_wrap=True)
    labels = [label for label in _LABELS if any(label in item.metadata for item in runs)] if wide else []
    for label in labels:
        table.add_column(
            label.upper(), no_wrap=True, overflow="ellipsis", max_width=28 if console.is_terminal else None
        )
    for item in runs:
        table.add_row(*_cells(item, whole_ids, timed, wide, labels))
    console.print(table, crop=False)


def _cells(item: RunItem, whole_ids: bool, timed: bool, wide: bool, labels: Sequence[str]) -> list[Text]:
    summary = item.summary
    absent = item.metadata.get(META_TIME) == "absent"
    status = safe(summary.status, style=STATUS_STYLES.get(summary.status, ""))
    if summary.violation_policy_id:
        status.append(" ⚑", style="magenta")
    cells = [
        safe(summary.run_id) if whole_ids else Text(short_id(summary.run_id)),
        safe(summary.agent_id or "", style="cyan"),
        status,
        Text(
            f"{summary.total_steps}" + (f" ({summary.failure_count} failed)" if summary.failure_count else "")
        ),
    ]
    if timed:
        cells.append(Text("" if absent else duration(_elapsed_ms(item))))
    if wide:
        cells.append(Text(cost(summary.total_cost_cents)))
        if timed:
            cells.append(Text("" if absent else moment(summary.started_at), style="dim"))
    cells += [safe(plain(item.metadata[label], 60) if label in item.metadata else "") for label in labels]
    return cells


def _elapsed_ms(item: RunItem) -> float:
    summary = item.summary
    if summary.completed_at is None:
        return summary.total_duration_ms
    return (summary.completed_at - summary.started_at).total_seconds() * 1000


def print_behaviours(console: Console, found: Behaviours) -> None:
    """The groups, and below them how they spread."""
    glyphs = glyphs_of(console)
    table = _table()
    table.add_column(
        found.by.upper(), no_wrap=True, overflow="ellipsis", max_width=max(console.width - 40, 12)
    )
    table.add_column("RUNS", justify="right", no_wrap=True)
    table.add_column("PATHS", justify="right", no_wrap=True)
    table.add_column("FIRST DIVERGENCE", justify="right", no_wrap=True)
    for group in found.groups:
        same = group.paths == 1
        table.add_row(
            safe(group.key),
            Text(str(len(group.run_ids))),
            Text(
                f"{glyphs.statuses['success'] + ' ' if same else ''}{group.paths}",
                style="green" if same else "red",
            ),
            Text("" if group.first_divergence is None else f"at {group.first_divergence}"),
        )
    if found.groups:
        console.print(table, crop=False)
        console.print()
    for line in _spread_lines(found):
        console.print(line, soft_wrap=True)


def _spread_lines(found: Behaviours) -> list[Text]:
    data = found.to_dict()
    total = len(found.groups)
    what = f"{'/'.join(found.kinds)} steps" if found.kinds else "steps"
    lines = [
        Text(f"{found.identical} of {total} groups took one path in all their runs ({what})", style="bold")
        if total
        else Text("no group of two or more runs to compare", style="yellow")
    ]
    if total:
        lines.append(Text(f"  paths in a group: {_counted(data['paths'], 'path', 'group')}", style="dim"))
    if found.median_divergence is not None:
        lines.append(
            Text(
                f"  first divergence: median at {found.median_divergence:g}; "
                f"{_counted(data['first_divergence'], 'at', 'group')}",
                style="dim",
            )
        )
    if found.left_out:
        left = ", ".join(f"{count} {reason}" for reason, count in found.left_out.items())
        lines.append(safe(f"  left out: {left}", style="yellow"))
    return lines


_COUNTED = 10


def _counted(spread: Mapping[str, int], unit: str, of: str) -> str:
    """`1 path in 4 groups, 2 paths in 1 group`, the first ten."""
    parts = []
    for number, count in list(spread.items())[:_COUNTED]:
        label = f"at {number}" if unit == "at" else f"{number} {unit}{'' if number == '1' else 's'}"
        parts.append(f"{label} in {count} {of}{'' if count == 1 else 's'}")
    if len(spread) > _COUNTED:
        parts.append("…")
    return ", ".join(parts)


def print_checks(console: Console, checks: Sequence[Check]) -> None:
    """What doctor found, a line each, with advice below what is wrong."""
    glyphs = glyphs_of(console)
    signs: dict[str, tuple[str, str]] = {
        "ok": (glyphs.statuses["success"], "green"),
        "warn": ("!", "yellow"),
        "fail": (glyphs.statuses["failure"], "red"),
    }
    width = max(len(check.name) for check in checks)
    for check in checks:
        sign, style = signs[check.status]
        console.print(
            Text.assemble((f"{sign} ", style), (f"{check.name:<{width}}  ", "bold"), safe(check.detail)),
            soft_wrap=True,
        )
        if check.hint:
            console.print(Text.assemble(" " * (width + 4), safe(check.hint, style=style)), soft_wrap=True)


def _table() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")


def print_facts(console: Console, facts: Sequence[tuple[str, Any]]) -> None:
    """Names and values below each other."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        console.print(Text.assemble((f"{name:<{width}}  ", "dim"), safe(str(value))), soft_wrap=True)
