"""`isotrace backtest`"""

from __future__ import annotations

from collections.abc import Callable

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_query
from isotrace.operations import Selection, backtest_stored
from isotrace.policy import policy_of


@click.command("backtest")
@click.argument("rules", metavar="RULES")
@click.option(
    "--passes-at",
    type=float,
    default=1.0,
    show_default=True,
    metavar="REWARD",
    help="The reward from which on a run has succeeded; without a reward, one that was completed.",
)
@with_query(None)
@with_face
def command(face: Face, rules: str, *, passes_at: float, select: Callable[[str], Selection]) -> int:
    """Hold rules against recorded runs: what they would have stopped.

    RULES is a file of rules (YAML or TOML). Says which runs the rules would have stopped or flagged, at which
    step, what a stop would have saved, and how many of the stopped runs had succeeded. Exits with 1 if a run
    would have been stopped, 125 if no run was judged, else 0. With --json: runs, violating, stopped,
    false_alarms, saving, rules, found, unjudged.
    """
    from isotrace.report.terminal.backtested import print_backtest
    from isotrace.report.terminal.console import make_console, progress

    policy = policy_of(rules)
    with face.store() as store, progress("judging runs") as bar:
        found = backtest_stored(store, policy, select(face.tenant), passes_at=passes_at, progress=bar)
    if face.json:
        face.print_json(found.to_dict())
    else:
        print_backtest(make_console(), found)
    return found.exit_code
