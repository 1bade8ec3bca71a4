"""Options that several commands share: which runs a command is about, and how runs are compared."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from isotrace.operations import Selection, key_values, select

Function = TypeVar("Function", bound=Callable[..., Any])

LEVELS = ("exact", "decisions", "skeleton", "outcome")


def _finite(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Refuses NaN, which nothing compares with, and infinity."""
    if value is not None and not math.isfinite(value):
        raise click.BadParameter(f"{value!r} is not a finite number.", ctx, param)
    return value


def timeout_option(help_text: str) -> Callable[[Function], Function]:
    """Adds `--timeout`, which comes as `timeout_s`."""
    return click.option(
        "--timeout",
        "timeout_s",
        type=click.FloatRange(min=0, min_open=True),
        default=300.0,
        show_default=True,
        metavar="SECONDS",
        help=help_text,
    )


def kind_option(function: Function) -> Function:
    """Adds `--kind`."""
    return click.option(
        "--kind",
        "kinds",
        multiple=True,
        metavar="KIND",
        help="Only steps of this kind: llm, tool, retrieval, code, agent, timer, http, mcp, process. "
        "May be repeated.",
    )(function)


def _policy(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """The absolute path of a file of rules, which is read now: what is wrong with it is said before anything
    runs. Else the name of an extension, looked up."""
    if value is None:
        return None
    from isotrace.policy import policy_of  # noqa: PLC0415 - start-up time: only commands that have rules need it

    policy_of(value)
    return str(Path(value).absolute()) if Path(value).is_file() else value


def policy_option(text: str) -> Callable[[Function], Function]:
    """Adds `--policy FILE`, whose rules have been read once."""
    return click.option("--policy", metavar="FILE", callback=_policy, help=text)


_COMPARING = [
    click.option(
        "--level",
        type=click.Choice(LEVELS),
        default="decisions",
        show_default=True,
        help="What must be equal: path and outcomes, the path, skills and statuses, or the result alone.",
    ),
    kind_option,
    click.option(
        "--ignore",
        multiple=True,
        metavar="TARGET",
        help="Leave this out: a JSON Pointer such as /messages/*/id, or SKILL:/pointer.",
    ),
    click.option(
        "--tolerance",
        multiple=True,
        metavar="[TARGET=]N|N%",
        help="Numbers may be so far apart, there or everywhere.",
    ),
    click.option(
        "--normalize",
        multiple=True,
        metavar="[TARGET=]NAME",
        help="Bring texts into a common form first.",
    ),
    click.option(
        "--budget",
        multiple=True,
        metavar="WHAT=N|N%",
        help="Warn where cost, duration or tokens are further apart.",
    ),
]


def with_field_rules(function: Function) -> Function:
    """Adds the options for how closely a replay is held against its record; they are passed on as `level`,
    and as `rules`, texts for `Rules.parse`."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        rules = {name: options.pop(name) for name in ("ignore", "tolerance", "normalize")}
        return function(*args, rules=rules, **options)

    for option in reversed([_COMPARING[0], *_COMPARING[2:5]]):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value] # click adds the options to whatever it is given


def with_comparing(function: Function) -> Function:
    """Adds the comparing options to a command, which gets `level` and `rules`."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        from isotrace.compare import Rules  # noqa: PLC0415 - start-up time: only commands that compare need it

        chosen = {name: options.pop(name) for name in ("ignore", "tolerance", "normalize", "budget")}
        rules = Rules.parse(**chosen, kinds=options.pop("kinds") or None)
        return function(*args, rules=rules, **options)

    for option in reversed(_COMPARING):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value] # click adds the options to whatever it is given


def with_looking(function: Function) -> Function:
    """Adds the options that say when runs count as one path; the command gets `level` and `rules`."""

    @functools.wraps(function)
    def wrapped(*args: Any, **options: Any) -> Any:
        from isotrace.compare import Rules  # noqa: PLC0415 - start-up time: only commands that compare need it

        chosen = {name: options.pop(name) for name in ("ignore", "normalize")}
        return function(*args, rules=Rules.parse(**chosen, kinds=options.pop("kinds") or None), **options)

    # Neither tolerances, by which runs can't be grouped, nor budgets, which decide nothing.
    level, kind, ignore, _tolerance, normalize, _budget = _COMPARING
    for option in (normalize, ignore, kind, level):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value] # click adds the options to whatever it is given


_OPTIONS = [
    click.option("--agent", "agent_id", metavar="ID", help="Runs of this agent."),
    click.option(
        "--status",
        type=click.Choice(["running", "completed", "failed", "aborted"]),
        help="Runs that ended so.",
    ),
    click.option("--skill", metavar="NAME", help="Runs with a step of this skill."),
    click.option("--correlation", "correlation_id", metavar="ID", help="Runs of this request."),
    click.option(
        "--meta",
        "metadata",
        multiple=True,
        metavar="KEY=VALUE",
        help="Runs whose metadata has this value; the same key again means: or that one.",
    ),
    click.option("--signature", metavar="HEX", help="Runs of this path."),
    click.option("--root", "root_hash", metavar="HEX", help="The run with this root."),
    click.option(
        "--since", metavar="TIME", help="Started at or after: 2026-11-22, 2026-11-22T13:00Z, 2h, 7d."
    ),
    click.option("--until", metavar="TIME", help="Started before."),
    click.option(
        "--min-cost", type=float, callback=_finite, metavar="CENTS", help="Runs that cost at least this."
    ),
    click.option(
        "--max-cost", type=float, callback=_finite, metavar="CENTS", help="Runs that cost at most this."
    ),
    click.option("--violations", is_flag=True, help="Runs that violated a policy."),
    click.option("--policy", metavar="ID", help="Runs that violated this policy."),
]


def with_executing(default_mode: str) -> Callable[[Function], Function]:
    """Adds the options that say what of a recorded run is executed again, and by which code."""
    from isotrace.replay import MODES  # noqa: PLC0415 - start-up time: most commands replay nothing

    def decorate(function: Function) -> Function:
        decorated: Any = function
        for option in reversed(
            [
                click.option(
                    "--entry",
                    metavar="MODULE:FUNCTION",
                    help="The function to run, where the record names none or was imported;"
                    " or FILE.py:FUNCTION.",
                ),
                click.option(
                    "--mode",
                    type=click.Choice(MODES),
                    default=default_mode,
                    show_default=True,
                    help="What is really executed.",
                ),
                click.option(
                    "--allow",
                    multiple=True,
                    metavar="SKILL",
                    help="A skill that mode live may execute: a name, or a pattern like 'get_*'. Repeatable.",
                ),
                click.option("--model", metavar="NAME", help="The model to ask, where models are called."),
                click.option(
                    "--prompt-file",
                    type=click.Path(exists=True, dir_okay=False, path_type=Path),
                    metavar="FILE",
                    help="A file with the system prompt to ask with, where models are called.",
                ),
                policy_option(
                    "Hold the new run to these rules, beside those of the code. Not in mode strict."
                ),
            ]
        ):
            decorated = option(decorated)
        return decorated  # type: ignore[no-any-return]  # click adds the options to whatever it is given

    return decorate


def with_selection(default_limit: int | None) -> Callable[[Function], Function]:
    """Adds the selecting options to a command, which gets `select`: a function from a tenant, and if need be
    metadata and terms beside what was given, to a `Selection`. `--limit` is the default unless given; None
    selects all."""
    return _selecting(default_limit, query=False)


def with_query(default_limit: int | None) -> Callable[[Function], Function]:
    """As `with_selection`, and the terms of a query as arguments, which mean what the options mean:
    `agent=support status=failed task=13 since=2d`. A command with arguments of its own has them first."""
    return _selecting(default_limit, query=True)


def _selecting(default_limit: int | None, *, query: bool) -> Callable[[Function], Function]:
    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def wrapped(*args: Any, **options: Any) -> Any:
            chosen = {name: options.pop(name) for name in _NAMES}
            terms = options.pop("terms", ())

            def selected(
                tenant: str, metadata: Mapping[str, Sequence[str]] | None = None, more: Sequence[str] = ()
            ) -> Selection:
                return _selection(tenant, chosen, [*terms, *more], metadata or {})

            return function(*args, select=selected, **options)

        shown = "all" if default_limit is None else str(default_limit)
        limit = click.option(
            "--limit",
            type=click.IntRange(min=1),
            default=default_limit,
            metavar="N",
            help=f"At most so many runs, the newest. Default: {shown}.",
        )
        for option in reversed([*_OPTIONS, limit]):
            wrapped = option(wrapped)
        if query:
            wrapped = click.argument("terms", nargs=-1, metavar="[KEY=VALUE]...")(wrapped)
        return wrapped  # type: ignore[return-value] # click adds the options to whatever it is given

    return decorate


_TERMS = {
    "agent_id": "agent",
    "status": "status",
    "skill": "skill",
    "correlation_id": "correlation",
    "signature": "signature",
    "root_hash": "root",
    "since": "since",
    "until": "until",
    "min_cost": "min-cost",
    "max_cost": "max-cost",
    "policy": "policy",
}
"""The term of a query that each option stands for."""

_NAMES = (*_TERMS, "metadata", "violations", "limit")


def _selection(
    tenant: str, chosen: dict[str, Any], terms: Sequence[str], metadata: Mapping[str, Sequence[str]]
) -> Selection:
    given = [f"{term}={chosen[name]}" for name, term in _TERMS.items() if chosen[name] is not None]
    if chosen["violations"]:
        given.append("violations=yes")
    return select(
        [*given, *terms],
        tenant_id=tenant,
        metadata={**key_values(chosen["metadata"]), **metadata},
        limit=chosen["limit"],
    )
