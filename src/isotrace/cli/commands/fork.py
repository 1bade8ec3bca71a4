"""`isotrace fork`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_executing
from isotrace.cli.replaying import prompt_of, replayed
from isotrace.errors import UsageError
from isotrace.replay import Plan


@click.command("fork")
@click.argument("run")
@click.option(
    "--at",
    "at",
    type=click.IntRange(min=0),
    required=True,
    metavar="K",
    help="The index of the step to fork at: what had started before it is served.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="/POINTER=VALUE",
    help="Something else in that step: /params/… for what it asks, /outcome_data/… for what it is told."
    " VALUE is JSON, else a text.",
)
@with_executing("live")
@with_face
def command(
    face: Face,
    run: str,
    *,
    at: int,
    changes: tuple[str, ...],
    entry: str | None,
    mode: str,
    allow: tuple[str, ...],
    model: str | None,
    prompt_file: Path | None,
    policy: str | None,
) -> int:
    """Run an agent again up to a step, and let it go its own way from there.

    Every step that had started before step K is served from the record, strictly. From there on the mode
    holds: live executes the skills that --allow names ('*' for all). The new run is put into the store,
    with the old one as its parent. Exits with 0 if it came about, 1 if the code parted from the
    record before the fork or was stopped after it. With --json: as replay, and kept_run_id.
    """
    prompt = prompt_of(prompt_file)
    plan = Plan(
        mode=mode,
        allow=allow,
        fork_at=at,
        changes=dict(_change(text) for text in changes),
        model=model,
        prompt=prompt,
        keep=True,
        policy=policy,
    )
    record, result = replayed(face, run, plan, entry)
    if face.json:
        face.print_json(result.data)
    else:
        from isotrace.report.terminal.console import make_console
        from isotrace.report.terminal.replayed import print_fork

        print_fork(make_console(), record, result, at)
    return result.exit_code if result.data["stopped"] else 0


def _change(text: str) -> tuple[str, Any]:
    pointer, equals, value = text.partition("=")
    if not equals or not pointer.startswith("/"):
        raise UsageError("a change is /POINTER=VALUE", got=text)
    try:
        return pointer, json.loads(value)
    except ValueError:
        return pointer, value
