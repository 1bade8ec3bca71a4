"""`isotrace replay`"""

from __future__ import annotations

from pathlib import Path

import click

from isotrace.cli.face import Face, with_face
from isotrace.cli.options import with_executing
from isotrace.cli.replaying import prompt_of, replayed
from isotrace.replay import Plan


@click.command("replay")
@click.argument("run")
@with_executing("strict")
@click.option("--keep", is_flag=True, help="Put the run that comes about into the store. Not in mode strict.")
@with_face
def command(
    face: Face,
    run: str,
    *,
    entry: str | None,
    mode: str,
    allow: tuple[str, ...],
    model: str | None,
    prompt_file: Path | None,
    policy: str | None,
    keep: bool,
) -> int:
    """Run an agent again, offline, its steps served from the record.

    The agent's own code runs in a process of its own that can't reach the network; nothing that
    it calls is executed. Exits with 0 if it took the recorded path, 1 if it diverged, 2 if the
    record is invalid, 125 if it can't be told. What the agent prints goes to stderr. With --json:
    verdict, parity, divergences, cause, receipt.

    In the other modes a part is executed, and the run that comes about is compared: tools-live executes
    steps that only read; model-live calls models, and serves everything else to whoever asks for the
    same; live executes the skills that --allow names.
    """
    prompt = prompt_of(prompt_file)
    plan = Plan(mode=mode, allow=allow, model=model, prompt=prompt, keep=keep, policy=policy)
    record, result = replayed(face, run, plan, entry)
    if face.json:
        face.print_json(result.data)
    else:
        from isotrace.report.terminal.console import make_console
        from isotrace.report.terminal.replayed import print_replay

        print_replay(make_console(), record, result)
    return result.exit_code
