"""Small runs, written as ledgers and folded to records as a store would."""

from __future__ import annotations

import copy
import gzip
import io
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from isotrace.contracts import ImportedRun
from isotrace.events import Event, fold, lineage_key
from isotrace.formats.tau2 import Tau2Importer
from isotrace.models import Lineage, TraceRecord


@dataclass
class Step:
    """One step to record. `lineage` None: the next number of the root branch."""

    skill: str
    params: dict[str, Any] = field(default_factory=dict)
    kind: str = "tool"
    lineage: Lineage | None = None
    outcome: dict[str, Any] | None = None
    chunks: list[Any] | None = None
    error: str | None = None
    category: str = "PERMANENT"
    attempts: list[str] = field(default_factory=list)
    cost: float = 0.25
    facts: dict[str, Any] = field(default_factory=dict)
    unfinished: bool = False


def _values(**values: Any) -> dict[str, Any]:
    return {name: json.dumps(value).encode() for name, value in values.items()}


class _Writer:
    """Appends events with the next number."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, type_: str, facts: dict[str, Any], **values: Any) -> None:
        seq = len(self.events)
        self.events.append(Event(seq, type_, seq * 1000, facts, _values(**values)))

    def start(self, step: Step) -> None:
        facts = {"lineage": step.lineage, "kind": step.kind, "skill_name": step.skill, "effect": "read"}
        self.add("step_started", facts, params=step.params, raw_ids={})

    def end(self, step: Step) -> None:
        lineage = step.lineage
        for number, code in enumerate(step.attempts):
            facts = {
                "lineage": lineage,
                "attempt": number,
                "outcome_category": "TRANSIENT",
                "outcome_code": code,
            }
            self.add("step_attempt", facts)
        for number, chunk in enumerate(step.chunks or ()):
            self.add("step_chunk", {"lineage": lineage, "index": number}, chunk=chunk)
        failed = step.error is not None
        ended: dict[str, Any] = {
            "lineage": lineage,
            "status": "failure" if failed else "success",
            "outcome_category": step.category if failed else "SUCCESS",
            "outcome_code": step.error,
            "cost_cents": step.cost,
            "duration_ms": 10.0,
            "retry_count": len(step.attempts),
            **({"stream": True} if step.chunks is not None else {}),
            **step.facts,
        }
        values = {} if failed or step.chunks is not None else {"outcome_data": step.outcome or {"ok": True}}
        self.add("step_finished", ended, **values)


def _run(
    steps: Iterable[Step],
    *,
    order: list[tuple[str, int]] | None = None,
    plan: Any = ({"goal": "answer"},),
    given: Any = None,
    environment: Any = None,
    result: Any = None,
    status: str = "completed",
    run_id: str = "run",
) -> TraceRecord:
    steps = list(steps)
    for number, step in enumerate(steps):
        if step.lineage is None:
            step.lineage = (number,)
    steps.sort(key=lambda step: lineage_key(step.lineage or ()))
    writer = _Writer()
    facts = {
        "scheme": "iso1",
        "run_id": run_id,
        "origin_run_id": run_id,
        "correlation_id": "c",
        "tenant_id": "default",
        "agent_id": "agent",
        "seed": 7,
        "frozen_timestamp": None,
        "entry_point": None,
        "parent": None,
    }
    environment = {"python": "3.11.7", "packages": "ab12"} if environment is None else environment
    writer.add(
        "run_started",
        facts,
        plan=list(plan),
        input={"task": "weather"} if given is None else given,
        metadata={},
        environment=environment,
    )
    for what, at in order or [(what, at) for at in range(len(steps)) for what in ("start", "end")]:
        if what == "start":
            writer.start(steps[at])
        elif not steps[at].unfinished:
            writer.end(steps[at])
    ended = {"status": status, "step_count": len(steps)}
    writer.add("run_finished", ended, result={"answer": 42, "notes": []} if result is None else result)
    return fold(writer.events)


@pytest.fixture(scope="session")
def run() -> Callable[..., TraceRecord]:
    """A record of these steps: `run([step("search", q="x")], …)`."""
    return _run


@pytest.fixture(scope="session")
def step() -> type[Step]:
    """One step to record."""
    return Step


def _chat(call: str, *, content: str | None = None) -> dict[str, Any]:
    calls = [{"id": call, "type": "function", "function": {"name": "search", "arguments": "{}"}}]
    message = {"role": "assistant", "content": content, "tool_calls": calls}
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}


def _plain() -> TraceRecord:
    return _run(
        [
            Step("chat", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}, kind="llm"),
            Step("search", {"query": "paris", "days": 3, "ratio": 0.5}, outcome={"temperature": 20.5}),
            Step("chat", {"model": "m", "messages": [{"role": "tool", "content": "20.5"}]}, kind="llm"),
            Step("fetch", {"url": "http://x/1"}, outcome={"pages": [1, 2]}),
            Step("answer", {"text": "sunny"}, kind="code"),
        ]
    )


def _branches() -> TraceRecord:
    steps = [
        Step("plan", {"n": 3}),
        *(
            Step(skill, {"branch": branch, "at": at}, lineage=(branch, at))
            for branch in (1, 2, 3)
            for at, skill in enumerate(("search", "read", "score"))
        ),
        Step("merge", {"of": 3}, lineage=(4,)),
    ]
    first, second, third = (1, 2, 3), (4, 5, 6), (7, 8, 9)
    order = [("start", 0), ("end", 0)]
    for one, other, another in zip(first, second, third, strict=True):
        order += [("start", one), ("start", other), ("end", other), ("start", another)]
        order += [("end", one), ("end", another)]
    return _run(steps, order=[*order, ("start", 10), ("end", 10)])


def _streams() -> TraceRecord:
    return _run(
        [
            Step("chat", {"q": 1}, kind="llm", chunks=["hel", "lo"]),
            Step("speak", {"q": 2}, chunks=["a", "b", "c"]),
            Step("bytes", {"q": 3}, chunks=[{"$iso:bytes": "aGVs"}, {"$iso:bytes": "bG8h"}]),
            Step("search", {"q": 4}),
        ]
    )


def _errors() -> TraceRecord:
    return _run(
        [
            Step("search", {"q": 1}, error="TimeoutError", category="TRANSIENT"),
            Step("search", {"q": 1}, attempts=["503", "429"]),
            Step("pay", {"cents": 5}, error="403", category="PERMISSION", attempts=["503"]),
            Step("search", {"q": 2}, error="KeyError"),
        ]
    )


def _minted() -> TraceRecord:
    asked = {"$iso:id": "0#0"}
    return _run(
        [
            Step("chat", {"messages": ["hi"]}, kind="llm", outcome=_chat("call_abc")),
            Step("search", {"q": 1, "tool_call_id": asked}),
            Step(
                "chat", {"messages": ["hi", {"tool_call_id": asked}]}, kind="llm", outcome=_chat("call_def")
            ),
            Step("search", {"q": 1, "tool_call_id": {"$iso:id": "2#0"}}),
        ]
    )


def _repeated() -> TraceRecord:
    return _run(
        [Step(skill, {}) for skill in ("poll", "poll", "poll", "work", "poll", "poll", "work", "poll")]
    )


@cache
def _imported_run() -> TraceRecord:
    path = Path(__file__).parents[2] / "../shared/data/tau2/telecom_no-user_gpt-4.1_4trials_5tasks.json.gz"
    if not path.is_file():
        pytest.skip("the real runs are not on this machine: ../shared/data is absent")
    stream = io.BytesIO(gzip.decompress(path.read_bytes()))
    runs = Tau2Importer().read(stream, where=path.name, tenant_id="default")
    records = [fold(run.events) for run in runs if isinstance(run, ImportedRun)]
    return min(records, key=lambda record: len(record.steps))


def _imported() -> TraceRecord:
    return copy.deepcopy(_imported_run())


_RUNS = {
    "plain": _plain,
    "branches": _branches,
    "streams": _streams,
    "errors": _errors,
    "minted": _minted,
    "repeated": _repeated,
    "imported": _imported,
}


@pytest.fixture(scope="session", params=list(_RUNS))
def recorded(request: pytest.FixtureRequest) -> Callable[[], TraceRecord]:
    """Makes one of the sample runs, a new record with each call."""
    return _RUNS[request.param]


@pytest.fixture(scope="session")
def sample() -> Callable[[str], TraceRecord]:
    """Makes the sample run of a name."""
    return lambda name: _RUNS[name]()
