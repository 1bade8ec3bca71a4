"""Synthetic programs with a known branching law: what a sample says can be held against the truth."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from isotrace.population import Behaviour, SeenStep, Tally


def seen(skill: str, status: str = "success") -> SeenStep:
    return SeenStep(key=f"{skill} {status}".encode(), skill=skill, kind="tool", status=status)


def behaviour(path: str | Iterable[str], runs: int, *, passed: int | None = None, name: str = "run", **sums):
    """`runs` runs that took the steps of `path`, one skill each; judged if `passed` is given."""
    skills = tuple(path)
    tally = Tally(
        runs=runs,
        completed=sums.get("completed", runs),
        failed=runs - sums.get("completed", runs),
        judged=0 if passed is None else runs,
        passed=passed or 0,
        cost_cents=sums.get("cost", 0.0),
        duration_ms=sums.get("duration", 0.0),
    )
    label = "".join(skills)
    ids = tuple(f"{name}-{label}-{number}" for number in range(min(runs, 100)))
    return Behaviour(label.encode().hex(), tuple(map(seen, skills)), tally, ids)


@dataclass(frozen=True)
class Law:
    """What an agent does next, given its steps so far: shares of skills, "" to end.

    Prefixes that are not listed end. `pass_rate` is the probability that a run is good, by its path.
    """

    next_step: Mapping[str, Mapping[str, float]]
    pass_rate: Mapping[str, float]

    def run(self, source: random.Random) -> str:
        path = ""
        while choices := self.next_step.get(path):
            skill = source.choices(list(choices), list(choices.values()))[0]
            if not skill:
                break
            path += skill
        return path

    def paths(self) -> dict[str, float]:
        """The true probability of each path."""
        found: defaultdict[str, float] = defaultdict(float)
        waiting = [("", 1.0)]
        while waiting:
            path, share = waiting.pop()
            if path not in self.next_step:
                found[path] += share
                continue
            for skill, part in self.next_step[path].items():
                if skill:
                    waiting.append((path + skill, share * part))
                else:
                    found[path] += share * part
        return dict(found)

    def sample(self, runs: int, source: random.Random) -> list[Behaviour]:
        counts: Counter[str] = Counter()
        good: Counter[str] = Counter()
        for _ in range(runs):
            path = self.run(source)
            counts[path] += 1
            good[path] += source.random() < self.pass_rate.get(path, 1.0)
        return [behaviour(path, count, passed=good[path]) for path, count in counts.items()]


REFUND = Law(
    next_step={
        "": {"l": 1.0},  # look the order up
        "l": {"c": 0.8, "r": 0.2},  # check whether a refund is due, or refund without
        "lc": {"r": 0.75, "a": 0.25},
        "lr": {"m": 0.9, "": 0.1},
        "lcr": {"m": 1.0},
    },
    pass_rate={"lrm": 0.5, "lr": 0.5, "lcrm": 0.8, "lca": 0.9},
)
"""Four paths: lcrm 0.6, lca 0.2, lrm 0.18, lr 0.02."""
