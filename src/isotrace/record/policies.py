"""The policies that watch a live run: asked before each step's effect, and told what came of it.

They see the events of the run in the form that sealing will give them, one at a time and in order, so
that what they say of the run while it is live is what they say of it when it is on record.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from isotrace.contracts import Breach, Policy, RunPolicy
from isotrace.errors import PolicyViolation
from isotrace.events import Event, lineage_text
from isotrace.models import Lineage
from isotrace.record.sealing import Settling
from isotrace.record.usage import usage_of

if TYPE_CHECKING:
    from isotrace.record.context import RunInfo

POLICY_VARIABLE = "ISOTRACE_POLICY"
"""The environment's variable that names a policy for every run of a process and of its children."""


def policies_for(info: RunInfo, around: Iterable[Policy] = ()) -> tuple[Policy, ...]:
    """The policies that a run is held to: those of the run around it, the environment's, its own. One does
    not loosen another.

    Raises `PolicyError` and `PluginError` for one that can't be applied: the run does not begin.
    """
    found = list(around)
    named = os.environ.get(POLICY_VARIABLE)
    if named:
        found.append(_named(_placed(named)))
    if info.policy is not None:
        found.append(_given(info.policy))
    return tuple(dict.fromkeys(found))


def _given(policy: Any) -> Policy:
    if isinstance(policy, str | os.PathLike):
        return _named(_placed(os.fspath(policy)))
    # Start-up time: most programs have no policy.
    from isotrace.policy import policy_of  # noqa: PLC0415

    return policy_of(policy)


def _placed(name: str) -> str:
    """A file's absolute path: the program may go to another folder."""
    return os.path.abspath(name) if os.path.exists(name) else name  # noqa: PTH100, PTH110  # Path's raises for odd names


@lru_cache(maxsize=64)
def _named(name: str) -> Policy:
    """Read once: what is counted over a correlation is counted by one policy."""
    from isotrace.policy import policy_of  # noqa: PLC0415  # as above

    return policy_of(name)


class RunGuard:
    """The policies of one run. Its lock is held from an event's writing to its judging, so that they come
    in one order."""

    def __init__(self, policies: Sequence[Policy], started: Event) -> None:
        self.lock = threading.RLock()
        self._watches = [(policy, policy.opened(started)) for policy in policies]
        self._looks = any(policy.looks_at for policy in policies)
        self._judged = ForJudging(priced=any("outcome" in policy.looks_at for policy in policies))

    def judge(self, event: Event) -> list[Breach]:
        """What is violated, in the policies' order."""
        if self._looks:
            event = self._judged.event(event)
        breaches: list[Breach] = []
        for policy, watch in self._watches:
            breaches += judged(policy, watch, event)
        return breaches


def judged(policy: Policy, watch: RunPolicy, event: Event) -> Sequence[Breach]:
    """What one policy says; that it failed, where it does: silence would let the step through unseen."""
    try:
        return watch.judge(event)
    except Exception as error:  # noqa: BLE001  # as said
        name = str(getattr(policy, "name", type(policy).__name__))
        stop = bool(getattr(policy, "fail_closed", False))
        return [Breach(name, f"could not be evaluated: {type(error).__name__}: {error}"[:500], stop=stop)]


class ForJudging:
    """Makes events of a journal what policies see of them. `settled`: they come from a sealed ledger."""

    def __init__(self, *, priced: bool = True, settled: bool = False) -> None:
        self._settling = None if settled else Settling(priced=priced)
        self._models: set[Lineage] = set()

    def event(self, event: Event) -> Event:
        """The event as it stands in the sealed ledger, and with the tokens that a marked model's answer
        counts, which stand there for captured ones alone."""
        if self._settling is not None:
            event = self._settling.settle(event)
        if event.type == "step_started" and event.facts.get("kind") == "llm":
            self._models.add(event.lineage)
        elif event.type == "step_finished" and event.lineage in self._models:
            self._models.discard(event.lineage)
            outcome = event.values.get("outcome_data")
            if "usage" not in event.facts and isinstance(outcome, bytes):
                usage = usage_of(orjson.loads(outcome))
                if usage is not None:
                    return Event(
                        event.seq,
                        event.type,
                        event.time_us,
                        {**event.facts, "usage": usage.to_dict()},
                        event.values,
                    )
        return event


def stopped(
    reason: str, policy_id: str, *, run_id: str, skill_name: str, lineage: Lineage
) -> PolicyViolation:
    """The error that a stopped step raises in the agent, live or replayed."""
    return PolicyViolation(
        reason,
        policy_id=policy_id,
        skill_name=skill_name,
        lineage=lineage,
        run_id=run_id,
        where=f"{skill_name}, step {lineage_text(lineage)}, policy {policy_id}",
    )
