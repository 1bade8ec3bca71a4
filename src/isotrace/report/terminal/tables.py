"""Listings: runs, groups of runs, and what doctor found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from isotrace.contracts import RunItem
from isotrace.models import META_MODEL, META_REWARD, META_TASK, META_TIME, META_TRIAL
from isotrace.operations import Check
from isotrace.report.figures import cost, duration, moment, short_id
from isotrace.report.safe import plain
from isotrace.report.terminal.console import STATUS_STYLES, glyphs_of, is_page, print_row, safe, say

_LABELS = (META_TASK, META_TRIAL, META_MODEL, META_REWARD)
_GAP = 2
_LONGEST = 80
"""Columns of an id or a name in a pipe: one odd run must not set the others far apart."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a listing. `rank` 0 always stays; the highest goes first where room is short."""

    header: str
    rank: int
    cells: list[Text]
    right: bool = False

    @property
    def width(self) -> int:
        """Terminal columns of the widest cell."""
        return max([len(self.header), *(cell.cell_len for cell in self.cells)])


def fitting(columns: Sequence[Column], width: int) -> list[Column]:
    """The columns that a width has room for, in their order."""
    chosen = list(columns)
    while sum(column.width + _GAP for column in chosen) - _GAP > width:
        worst = max(chosen, key=lambda column: column.rank)
        if worst.rank == 0:
            break
        chosen.remove(worst)
    return chosen


def print_columns(console: Console, columns: Sequence[Column]) -> None:
    """Prints what fits, aligned. A column in which nothing stands is left out."""
    shown = [one for one in columns if any(cell.plain for cell in one.cells)]
    if is_page(console):
        shown = fitting(shown, console.width)
    heads = [Text(column.header, style="bold dim") for column in shown]
    for line in [heads, *zip(*(column.cells for column in shown), strict=True)]:
        text = Text()
        for column, cell in zip(shown, line, strict=True):
            blank = " " * (column.width - cell.cell_len)
            text.append_text(Text.assemble(blank, cell) if column.right else Text.assemble(cell, blank))
            text.append(" " * _GAP)
        text.rstrip()
        if is_page(console):
            text.truncate(console.width, overflow="ellipsis")
        print_row(console, text)


# --- runs -----------------------------------------------------------------------------


def print_runs(console: Console, runs: Sequence[RunItem]) -> None:
    """One line a run. A narrow terminal gets fewer columns; id, status and steps are always there."""
    cut = 24 if is_page(console) else _LONGEST
    flag = glyphs_of(console).flag
    columns = [
        Column("RUN", 0, [_id_cell(item, whole=not is_page(console)) for item in runs]),
        Column("AGENT", 1, [safe(item.summary.agent_id or "", cut, "cyan") for item in runs]),
        Column("STATUS", 0, [_status_cell(item, flag) for item in runs]),
        Column("STEPS", 0, [Text(str(item.summary.total_steps)) for item in runs], right=True),
        Column("FAILED", 4, [_failed_cell(item) for item in runs], right=True),
        Column("TIME", 3, [_time_cell(item) for item in runs], right=True),
        Column("COST", 9, [Text(cost(item.summary.total_cost_cents)) for item in runs], right=True),
        Column("STARTED (UTC)", 5, [_started_cell(item) for item in runs]),
    ]
    for rank, label in zip((2, 6, 7, 8), _LABELS, strict=True):
        cells = [safe(plain(item.metadata.get(label, ""), 60), cut) for item in runs]
        columns.append(Column(label.upper(), rank, cells))
    print_columns(console, columns)


def _id_cell(item: RunItem, *, whole: bool) -> Text:
    return safe(item.summary.run_id, _LONGEST) if whole else Text(short_id(item.summary.run_id))


def _status_cell(item: RunItem, flag: str) -> Text:
    cell = safe(item.summary.status, style=STATUS_STYLES.get(item.summary.status, ""))
    if item.summary.violation_policy_id:
        cell.append(f" {flag}", style="magenta")
    return cell


def _failed_cell(item: RunItem) -> Text:
    return Text(str(item.summary.failure_count or ""), style="red")


def _time_cell(item: RunItem) -> Text:
    return Text("" if item.metadata.get(META_TIME) == "absent" else duration(_elapsed_ms(item)))


def _started_cell(item: RunItem) -> Text:
    absent = item.metadata.get(META_TIME) == "absent"
    return Text("" if absent else moment(item.summary.started_at), style="dim")


def _elapsed_ms(item: RunItem) -> float:
    summary = item.summary
    if summary.completed_at is None:
        return summary.total_duration_ms
    return (summary.completed_at - summary.started_at).total_seconds() * 1000


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
        say(
            console,
            Text.assemble((f"{sign} ", style), (f"{check.name:<{width}}  ", "bold"), safe(check.detail)),
        )
        if check.hint:
            say(console, Text.assemble(" " * (width + 4), safe(check.hint, style=style)))
