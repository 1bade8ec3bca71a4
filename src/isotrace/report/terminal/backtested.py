"""What a backtest found: in all, by rule, and run by run."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from isotrace.operations.backtesting import Backtest, Hit, JudgedRun, RuleTotal, Saving
from isotrace.report.figures import cost, duration, short_id
from isotrace.report.terminal.console import STATUS_STYLES, is_page, print_row, safe, say
from isotrace.report.terminal.tables import Column, print_columns

_WHY = 20
"""Columns of a reason, at least."""
_RUNS = 20
"""How many runs are listed for people; --json has more."""


def print_backtest(console: Console, found: Backtest) -> None:
    """The answer first, then each rule, then the runs that would have been stopped or flagged."""
    verdict = (f"{found.stopped:,} of {_runs(found.runs)} would have been stopped", "bold")
    if not found.runs:
        say(console, Text("no run fits the query: nothing was judged", "bold yellow"))
        _print_unjudged(console, found)
        return
    if not found.stopped:
        verdict = (f"none of {_runs(found.runs)} would have been stopped", "bold green")
    say(console, Text.assemble(verdict, _alarms(found)))
    flagged = found.violating - found.stopped
    if flagged:
        say(console, Text(f"{flagged:,} more would have been flagged"))
    if found.stopped:
        say(console, Text(f"saved: {_saving(found.saving)}"))
    console.print()
    _print_rules(console, list(found.rules.values()))
    if found.found:
        console.print()
        _print_runs(console, found)
    _print_unjudged(console, found)


def _runs(count: int) -> str:
    return f"{count:,} run" if count == 1 else f"{count:,} runs"


def _alarms(found: Backtest) -> str:
    if not found.stopped:
        return ""
    return f", {found.false_alarms:,} of them had succeeded"


def _saving(saving: Saving) -> str:
    parts = [f"{saving.steps:,} step{'s' * (saving.steps != 1)}", duration(saving.duration_ms)]
    if saving.cost_cents:
        parts.append(cost(saving.cost_cents))
    if saving.tokens:
        parts.append(f"{saving.tokens:,} tokens")
    return " · ".join(parts)


def _print_rules(console: Console, rules: list[RuleTotal]) -> None:
    columns = [
        Column("RULE", 0, [safe(one.policy_id, 60, "magenta") for one in rules]),
        Column("ACTION", 1, [Text(one.action or "") for one in rules]),
        Column("RUNS", 0, [Text(f"{one.runs:,}") for one in rules], right=True),
        Column("STOPPED", 0, [_count(one.stopped) for one in rules], right=True),
        Column("SUCCEEDED", 0, [_count(one.false_alarms) for one in rules], right=True),
        Column("SAVED", 2, [Text(_saving(one.saving) if one.stopped else "") for one in rules]),
    ]
    print_columns(console, columns)


def _count(number: int) -> Text:
    return Text(f"{number:,}" if number else "")


def _print_runs(console: Console, found: Backtest) -> None:
    shown = [*(run for run in found.found if run.stop), *(run for run in found.found if not run.stop)][:_RUNS]
    hits = [run.stop or run.hits[0] for run in shown]
    page = is_page(console)
    columns = [
        Column("RUN", 0, [Text(short_id(run.run_id)) if page else safe(run.run_id, 80) for run in shown]),
        Column("WAS", 2, [_status(run) for run in shown]),
        Column("STEP", 0, [_step(hit) for hit in hits], right=True),
        Column("SKILL", 3, [safe(hit.skill_name, 30, "cyan") for hit in hits]),
        Column("", 0, [_what(hit) for hit in hits]),
    ]
    room = max(_WHY, console.width - sum(column.width + 2 for column in columns)) if page else 200
    columns.append(Column("WHY", 4, [safe(f"{hit.policy_id}: {hit.reason}", room) for hit in hits]))
    print_columns(console, columns)
    if found.violating > len(shown):
        print_row(console, Text(f"… and {found.violating - len(shown):,} more", "dim"))


def _status(run: JudgedRun) -> Text:
    word = "succeeded" if run.good else run.status
    return Text(word, STATUS_STYLES.get("success" if run.good else run.status, ""))


def _step(hit: Hit) -> Text:
    return Text("" if hit.step_index is None else str(hit.step_index))


def _what(hit: Hit) -> Text:
    return Text("stopped", "bold red") if hit.stops else Text("flagged", "magenta")


def _print_unjudged(console: Console, found: Backtest) -> None:
    if not found.not_judged:
        return
    console.print()
    say(console, Text(f"{_runs(found.not_judged)} can't be judged:", "yellow"))
    for run_id, why in found.unjudged[:_RUNS]:
        say(console, safe(f"  {short_id(run_id)}  {why}"))
