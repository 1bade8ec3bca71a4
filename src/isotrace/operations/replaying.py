"""Replaying a run: from its name to a verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from isotrace.contracts import Policy, TraceStore
from isotrace.errors import NoEntryPointError, ReplayError, RunNotFoundError
from isotrace.ledger import Ledger
from isotrace.models import Erased, TraceRecord
from isotrace.operations.opening import open_store
from isotrace.operations.runs import find_run
from isotrace.record import flush
from isotrace.record.home import default_tenant
from isotrace.record.skills import ENTRY_ATTRIBUTE
from isotrace.replay import Plan, Replay, ReplayResult, agent_of, recorded_call

OPENS_RUN = "__isotrace_opens_run__"
"""Set on a function that is no body of a run, but a program that opens it."""


def replay(
    run: str | TraceRecord,
    function: Callable[..., Any] | None = None,
    *,
    mode: str = "strict",
    allow: Iterable[str] = (),
    model: str | None = None,
    prompt: str | None = None,
    keep: bool = False,
    policy: Policy | str | None = None,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
    stall_after_s: float = 2.0,
) -> ReplayResult:
    """Runs an agent's code again with its steps served from the record: offline, without effects.

    `run` is a run id, a unique prefix, `@last`, or a record. `function` takes no arguments and is the
    body of a `with isotrace.run():`, or opens the run itself; an `@agent` function is called with
    the recorded input. Without it the recorded entry point is followed, if the run was recorded on
    this machine. A coroutine function gets an event loop of its own.

    `mode` says what is really executed: nothing (`strict`); steps that only read (`tools-live`); calls of
    models, everything else served to whoever asks for the same (`model-live`); all skills that `allow`
    names, as shell patterns (`live`). Where models are called, `model` and `prompt` (the system prompt)
    stand in for what the code asks. What comes about is a new run, `new_run` of the result; with `keep`
    it is put into the store. It is held to `policy` (or the file of its rules), beside what the code itself
    asks for.

    Raises `RunNotFoundError`, `AmbiguousRunError`, `NoEntryPointError`; `UsageError` for an unknown mode
    and for what does not go with it; `ReplayError` where nothing was replayed. What differs is in the
    result, not an error.
    """
    plan = Plan(mode=mode, allow=tuple(allow), model=model, prompt=prompt, keep=keep, policy=policy)
    session, call, body = _prepare(run, function, plan, store, tenant_id, stall_after_s)
    return session.run(call, body=body)


async def areplay(
    run: str | TraceRecord,
    function: Callable[..., Any] | None = None,
    *,
    mode: str = "strict",
    allow: Iterable[str] = (),
    model: str | None = None,
    prompt: str | None = None,
    keep: bool = False,
    policy: Policy | str | None = None,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
    stall_after_s: float = 2.0,
) -> ReplayResult:
    """`replay` for code that is inside an event loop already."""
    plan = Plan(mode=mode, allow=tuple(allow), model=model, prompt=prompt, keep=keep, policy=policy)
    session, call, body = _prepare(run, function, plan, store, tenant_id, stall_after_s)
    return await session.arun(call, body=body)


def fork(
    run: str | TraceRecord,
    at: int,
    function: Callable[..., Any] | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    mode: str = "live",
    allow: Iterable[str] = (),
    model: str | None = None,
    prompt: str | None = None,
    policy: Policy | str | None = None,
    store: TraceStore | str | None = None,
    tenant_id: str | None = None,
    stall_after_s: float = 2.0,
) -> ReplayResult:
    """Runs an agent's code again up to a step with everything served, and from there on in `mode`.

    `at` is the index of the first step that is not served for certain: those that had started before it
    are, strictly. `changes` are JSON Pointers into that step with what to put there: `/params/…` lets
    it ask for something else, `/outcome_data/…` gives the agent another answer. The other arguments
    are those of `replay`. The new run is kept; its parent is the one that it was forked from, and
    the result compares the two.

    Raises as `replay` does, and `UsageError` for a step that there is not and a change that leads nowhere.
    """
    plan = Plan(
        mode=mode,
        allow=tuple(allow),
        fork_at=at,
        changes=dict(changes or {}),
        model=model,
        prompt=prompt,
        keep=True,
        policy=policy,
    )
    session, call, body = _prepare(run, function, plan, store, tenant_id, stall_after_s)
    return session.run(call, body=body)


def replay_by_plan(
    run_id: str,
    function: Callable[..., Any] | None,
    plan: Plan,
    *,
    store: TraceStore | str | None,
    tenant_id: str,
    entry_point: Mapping[str, Any] | None = None,
) -> ReplayResult:
    """`replay` or `fork`, as the plan has it. `entry_point` is followed in place of the recorded one."""
    session, call, body = _prepare(run_id, function, plan, store, tenant_id, _STALL_AFTER_S, entry_point)
    return session.run(call, body=body)


_STALL_AFTER_S = 2.0


def _prepare(
    run: str | TraceRecord,
    function: Callable[..., Any] | None,
    plan: Plan,
    store: TraceStore | str | None,
    tenant_id: str | None,
    stall_after_s: float,
    entry_point: Mapping[str, Any] | None = None,
) -> tuple[Replay, Callable[[], Any], bool]:
    """The replay, what to call in it, and whether that may be the body of the run."""
    flush()
    source, local = _source(run, store, tenant_id or default_tenant())
    session = Replay(source, plan, store=store, stall_after_s=stall_after_s)
    started = session.record.started
    run_id = str(started.facts["run_id"])
    if function is not None and not hasattr(function, ENTRY_ATTRIBUTE):
        return session, function, not hasattr(function, OPENS_RUN)
    given = started.value("input")
    if isinstance(given, Erased):
        raise ReplayError("the run's input was erased, so the agent can't be called with it", run_id=run_id)
    entry = entry_point or started.facts.get("entry_point")
    if function is None:
        _check_entry(entry, local, run_id)

    def call() -> Any:
        # Inside the replay: the agent's module is imported under guard.
        return recorded_call(function or agent_of(entry or {}, run_id), given)()

    return session, call, False


def _source(
    run: str | TraceRecord, store: TraceStore | str | None, tenant_id: str
) -> tuple[Ledger | TraceRecord, bool]:
    """The run's ledger where a store has it, else the record as given; and whether it was sealed here."""
    opened = store if store is not None and not isinstance(store, str) else open_store(store)
    try:
        if isinstance(run, TraceRecord):
            try:
                item = opened.get(run.run_id, tenant_id=run.tenant_id)
            except RunNotFoundError:
                return run, False
            if item.root_hash != run.root_hash:
                return run, False
            return opened.ledger(run.run_id, tenant_id=run.tenant_id), item.local
        run_id = find_run(opened, run, tenant_id=tenant_id)
        return opened.ledger(run_id, tenant_id=tenant_id), opened.get(run_id, tenant_id=tenant_id).local
    finally:
        if opened is not store:
            opened.close()


def _check_entry(entry: Any, local: bool, run_id: str) -> None:
    """Raises `NoEntryPointError` unless the run's entry point can and may be followed."""
    if not isinstance(entry, dict):
        raise NoEntryPointError(
            "the run records no entry point",
            run_id=run_id,
            hint="pass the function that stands for the body of its `with isotrace.run():`",
        )
    if not local:
        raise NoEntryPointError(
            "the run was not recorded on this machine, so its entry point is not followed",
            run_id=run_id,
            got=f"{entry.get('module')}:{entry.get('qualname')}",
            hint="pass the function to replay(), or --entry MODULE:FUNCTION",
        )
    if entry.get("kind") != "function":
        raise NoEntryPointError(
            "the run's entry point is a program",
            run_id=run_id,
            hint="`isotrace replay` runs programs again; from Python, pass a function",
        )


__all__ = ["areplay", "fork", "replay"]
