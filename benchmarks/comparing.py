"""Comparing two stored runs through their paths, and aligning two long ones."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks.measuring import Figure, cpu_s, typical_cpu_s
from isotrace.compare import diff_traces
from isotrace.models import TraceRecord, compare_traces
from isotrace.operations import compare_stored
from isotrace.stores.sqlite import SqliteStore
from isotrace.testing.runs import Call, make_run, make_steps, tool

STEPS = 1000
LONG = 10_000
ROUNDS = 15


def compared(folder: Path) -> list[Figure]:
    """CPU time of comparing 1,000 steps with 1,000 steps."""
    chance = random.Random(STEPS)
    steps = make_steps(STEPS, 400)
    others = {"equal": steps}
    for name, index in (("first step", 0), ("step 700", 700), ("last step", STEPS - 1)):
        others[name] = [*steps[:index], _another(steps[index], chance), *steps[index + 1 :]]
    others["one step less"] = steps[:-1]
    with SqliteStore(folder / "comparing.db") as store:
        store.put(make_run("original", steps=steps))
        taken: dict[str, float] = {}
        for name, other in others.items():
            store.put(make_run(name, steps=other))
            taken[f"{name} ms"] = 1e3 * typical_cpu_s(
                lambda name=name: compare_stored(store, "original", name, tenant_id="default"),
                rounds=ROUNDS,
                calls=20,
            )
        records = [store.ledger(name, tenant_id="default").record() for name in ("original", "step 700")]
        taken["compare_traces on records that are loaded ms"] = 1e3 * cpu_s(lambda: compare_traces(*records))
    slowest = max(taken[f"{name} ms"] for name in others)
    return [
        Figure(
            "comparing",
            "two stored runs of 1,000 steps, equal or not: the slowest",
            slowest,
            0.5,
            "ms",
            beside=taken,
        )
    ]


def aligned(_: Path) -> list[Figure]:
    """CPU time of aligning 10,000 steps with 10,000 steps."""
    chance = random.Random(10_000)
    taken = {
        f"{name} s": cpu_s(lambda pair=pair: diff_traces(*pair)) for name, pair in _pairs(chance).items()
    }
    return [
        Figure(
            "aligning",
            "10,000 steps with 10,000 steps: the slowest",
            max(taken.values()),
            5.0,
            "s",
            beside=taken,
        )
    ]


def _pairs(chance: random.Random) -> dict[str, tuple[TraceRecord, TraceRecord]]:
    """Pairs of long runs that are hard in different ways."""
    steps = make_steps(LONG)
    few = [tool("search", {"query": number}) for number in range(5)]
    changed = [_another(step, chance) if chance.random() < 0.01 else step for step in steps]
    repeated = [chance.choices(few, k=LONG) for _ in range(2)]
    shuffled = chance.sample(steps, k=LONG)
    return {
        "1 % of the steps changed": _records(steps, changed),
        "every step changed": _records(steps, [_another(step, chance) for step in steps]),
        "a step more at the front": _records(steps, [few[0], *steps[:-1]]),
        "random sequences of 5 steps": _records(*repeated),
        "in another order": _records(steps, shuffled),
    }


def _another(step: Call, chance: random.Random) -> Call:
    return Call(step.skill, {**step.params, "more": chance.random()}, step.outcome, kind=step.kind)


def _records(one: list[Call], other: list[Call]) -> tuple[TraceRecord, TraceRecord]:
    first, second = (
        make_run(name, steps=steps).ledger.record() for name, steps in (("one", one), ("other", other))
    )
    return first, second
