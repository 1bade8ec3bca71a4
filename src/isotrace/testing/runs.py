"""Runs for tests, made from a few plain arguments: real events, really sealed.

make_run("r1", steps=[llm({"messages": []}, {"text": "hi"}), tool("search", {"q": 1}, {"hits": []})])
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isotrace.canonical import value_bytes
from isotrace.events import Event
from isotrace.hashing import SCHEME
from isotrace.ledger import SealedRun, seal
from isotrace.models import Lineage

START_US = 1_700_000_000_000_000
"""When runs begin unless said otherwise: 2023-11-14T22:13:20Z."""


@dataclass(frozen=True, slots=True)
class Call:
    """One step: what was called, with what, and what came back."""

    skill: str
    params: Mapping[str, Any] = field(default_factory=dict)
    outcome: Any = None
    kind: str = "tool"
    effect: str = "read"
    status: str = "success"
    category: str = "SUCCESS"
    code: str | None = None
    error: str | None = None
    cost_cents: float = 0.0
    duration_ms: float = 1.0
    retry_count: int = 0
    lineage: Lineage | None = None
    finished: bool = True
    raw_ids: Mapping[str, str] = field(default_factory=dict)
    chunks: Sequence[Any] = ()
    """Pieces of a stream; the outcome is then made of them."""


def tool(skill: str, params: Mapping[str, Any] | None = None, outcome: Any = None, **more: Any) -> Call:
    """A call of a tool. `more` are fields of `Call`."""
    return Call(skill, params or {}, outcome, **more)


def llm(params: Mapping[str, Any] | None = None, outcome: Any = None, **more: Any) -> Call:
    """A call of a model. `more` are fields of `Call`."""
    return Call(more.pop("skill", "chat"), params or {}, outcome, kind="llm", **more)


@dataclass(frozen=True, slots=True)
class Breach:
    """A violation of a policy, by the step with this index or, with None, by the run."""

    policy_id: str
    step: int | None = None
    reason: str = "not allowed"


def make_events(
    run_id: str,
    *,
    tenant_id: str = "default",
    agent_id: str | None = "agent",
    correlation_id: str | None = None,
    steps: Sequence[Call] = (),
    metadata: Mapping[str, Any] | None = None,
    violations: Sequence[Breach] = (),
    plan: Sequence[Mapping[str, Any]] = (),
    input: Any = None,  # noqa: A002  # the ledger's own word
    result: Any = None,
    status: str = "completed",
    seed: int = 42,
    started_us: int = START_US,
    step_us: int = 1000,
    facts: Mapping[str, Any] | None = None,
) -> list[Event]:
    """The events of one run, a moment of `step_us` apart. `status="aborted"` ends with `run_aborted`.

    `facts` are added to those of `run_started`.
    """
    writer = _Writer(started_us, step_us)
    writer.add(
        "run_started",
        _identity(run_id, tenant_id, agent_id, correlation_id or run_id, seed) | dict(facts or {}),
        plan=list(plan) or None,
        input=input,
        metadata=dict(metadata or {}) or None,
    )
    for index, call in enumerate(steps):
        lineage = list(call.lineage) if call.lineage is not None else [index]
        writer.step(call, lineage)
        for breach in violations:
            if breach.step == index:
                writer.violation(breach, lineage=lineage)
    for breach in violations:
        if breach.step is None:
            writer.violation(breach)
    if status == "aborted":
        writer.add("run_aborted", {"reason": "the process ended"})
    else:
        writer.add("run_finished", {"status": status, "step_count": len(steps)}, result=result)
    return writer.events


def _identity(
    run_id: str, tenant_id: str, agent_id: str | None, correlation_id: str, seed: int
) -> dict[str, Any]:
    return {
        "scheme": SCHEME,
        "run_id": run_id,
        "origin_run_id": run_id,
        "correlation_id": correlation_id,
        "tenant_id": tenant_id,
        "agent_id": agent_id,
        "seed": seed,
        "frozen_timestamp": None,
        "entry_point": None,
        "parent": None,
    }


class _Writer:
    """Appends events, each with the next number and a moment later."""

    def __init__(self, started_us: int, step_us: int) -> None:
        self.events: list[Event] = []
        self._started_us = started_us
        self._step_us = step_us

    def add(self, kind: str, facts: dict[str, Any], **values: Any) -> None:
        seq = len(self.events)
        kept: dict[str, Any] = {
            name: value_bytes(value) for name, value in values.items() if value is not None
        }
        self.events.append(Event(seq, kind, self._started_us + seq * self._step_us, facts, kept))

    def violation(self, breach: Breach, **place: Any) -> None:
        self.add("violation", {**place, "policy_id": breach.policy_id}, reason=breach.reason)

    def step(self, call: Call, lineage: list[Any]) -> None:
        started = {"lineage": lineage, "kind": call.kind, "skill_name": call.skill, "effect": call.effect}
        self.add("step_started", started, params=dict(call.params), raw_ids=dict(call.raw_ids) or None)
        for index, chunk in enumerate(call.chunks):
            self.add("step_chunk", {"lineage": lineage, "index": index}, chunk=chunk)
        if not call.finished:
            return
        outcome = call.outcome
        if outcome is not None and not isinstance(outcome, dict):
            outcome = {"value": outcome}
        finished = {
            "lineage": lineage,
            "status": call.status,
            "outcome_category": call.category,
            "outcome_code": call.code,
            "cost_cents": call.cost_cents,
            "duration_ms": call.duration_ms,
            "retry_count": call.retry_count,
        }
        if call.chunks:
            finished["stream"] = True
        self.add("step_finished", finished, outcome_data=outcome, error=call.error)


def make_run(run_id: str = "run-1", *, run_seed: bytes | None = None, **more: Any) -> SealedRun:
    """A sealed run. `more` are arguments of `make_events`; the same arguments give the same run.

    `run_seed` is the 32-byte seed of the salts; by default it follows from the run's id.
    """
    return seal(make_events(run_id, **more), run_seed or hashlib.sha256(run_id.encode()).digest())


def make_steps(count: int, size: int = 0) -> list[Call]:
    """`count` steps, model and tool in turn, each with about `size` bytes of params and of outcome."""
    filler = "x" * size
    return [
        llm({"prompt": f"question {index} {filler}"}, {"text": f"answer {index} {filler}"}, cost_cents=0.25)
        if index % 2 == 0
        else tool("search", {"query": f"question {index} {filler}"}, {"hits": [index, filler]})
        for index in range(count)
    ]
