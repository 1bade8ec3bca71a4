"""Where in which run the code is: branches, the current step, and the driver behind them.

Two context variables carry it through calls, tasks and our own threads:

- `current_branch`: set while the agent's own code runs. A skill called here is a step.
- `current_step`: set while a skill's body runs; `current_branch` is then None, so that a
  skill called inside a skill is a plain call.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import get_ident
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from isotrace.hashing import H
from isotrace.models import Lineage

if TYPE_CHECKING:
    from isotrace.record.scheduler import Scheduler
    from isotrace.record.spec import SkillSpec
    from isotrace.record.threads import Worker


@dataclass(slots=True)
class RunInfo:
    """Who a run is. While it is replayed these are the recorded run's.

    `origin_run_id` is the run whose effects these are: its own id, or the original's in a replay.
    `parent` is `{"run_id", "lineage"}` of the step that opened it. `entry_point` says how to start
    it again, `input` and `plan` with what.
    """

    run_id: str
    origin_run_id: str
    correlation_id: str
    tenant_id: str
    agent_id: str | None
    seed: int
    frozen_timestamp: str | None = None
    entry_point: dict[str, Any] | None = None
    parent: dict[str, Any] | None = None
    plan: list[Any] = field(default_factory=list)
    input: Any = None
    metadata: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    started_us: int = 0


@dataclass(slots=True)
class RunEnding:
    """How a run ended: what its code returned or raised, and metadata that it added."""

    result: Any = None
    has_result: bool = False
    error: BaseException | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


class Driver(Protocol):
    """What stands behind a run: the recorder while it is live, the player while it is replayed.

    Every method gets the branch that the call was made in, and raises what the agent must see.
    """

    info: RunInfo
    scheduler: Scheduler
    closed: bool

    def close(self, ending: RunEnding) -> None:
        """The run ended; called once."""
        ...

    def read(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        """A value from outside that is no step: a clock, the environment."""
        ...

    def violation(self, branch: Branch, policy_id: str, reason: str) -> None:
        """A policy was violated at the step that this branch made last."""
        ...

    def call(self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """One step of a plain function."""
        ...

    async def acall(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """One step of a coroutine function."""
        ...

    def stream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterator[Any]:
        """One step of a generator function; it starts at the first `next`."""
        ...

    def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncIterator[Any]:
        """One step of an async generator function."""
        ...

    def timer(
        self, name: str, branch: Branch, delay: float | None, when: float, fired: Callable[[], None]
    ) -> Any:
        """A timer of the agent's own code; `fired` is called in its turn. Has `cancel()`.

        `delay` is what the code asked for in seconds (None if it named a moment), `when` the
        moment on the loop's clock.
        """
        ...


def lineage_json(lineage: Lineage) -> bytes:
    """A lineage as a compact JSON array, the form that events carry."""
    return orjson.dumps(lineage)


class Branch:
    """One line of control in a run: the root, a task, a thread of ours, or a keyed branch.

    Its counter numbers its steps and the branches that it opens, so a lineage is the same in
    every execution of the same code, whatever the schedule.
    """

    __slots__ = ("_random", "count", "driver", "last_us", "path", "prefix_json", "reads", "thread", "worker")

    def __init__(self, driver: Driver, path: Lineage, last_us: int) -> None:
        self.driver = driver
        self.path = path
        self.count = 0
        self.reads = 0
        self.last_us = last_us
        self.thread = get_ident()
        self.worker: Worker | None = None
        self.prefix_json = lineage_json(path)[:-1] + (b"," if path else b"")
        self._random: random.Random | None = None

    def next(self) -> int:
        """Takes the next number of this branch."""
        number = self.count
        self.count = number + 1
        return number

    def child(self) -> Branch:
        """A new branch at the next number: a task or a thread."""
        return Branch(self.driver, (*self.path, self.next()), self.last_us)

    def keyed(self, key: str) -> Branch:
        """A branch at the current number, told apart by its key; the counter stays."""
        return Branch(self.driver, (*self.path, self.count, key), self.last_us)

    @property
    def random(self) -> random.Random:
        """The random stream of this branch, from the run's seed and the branch's lineage."""
        if self._random is None:
            material = H(
                "isotrace/v1/random", self.driver.info.seed.to_bytes(8, "big"), lineage_json(self.path)
            )
            self._random = random.Random(int.from_bytes(material, "big"))
        return self._random


class Step:
    """A step that is under way: what its end still needs, and what the body adds to it."""

    __slots__ = (
        "attempts",
        "branch",
        "child_run_id",
        "cost_cents",
        "lineage",
        "lineage_json",
        "marks",
        "spec",
        "started_us",
    )

    def __init__(self, spec: SkillSpec, branch: Branch, lineage: Lineage, lineage_json: bytes) -> None:
        self.spec = spec
        self.branch = branch
        self.lineage = lineage
        self.lineage_json = lineage_json
        self.started_us = 0
        self.cost_cents = 0.0
        self.attempts = 0
        self.child_run_id: str | None = None
        self.marks: list[str] = []


class Ending:
    """How a step ended: the facts and values of its `step_finished`, until it is delivered."""

    __slots__ = ("duration_ms", "facts", "step", "values")

    def __init__(self, step: Step, facts: bytes, values: dict[str, bytes]) -> None:
        self.step = step
        self.facts = facts
        self.values = values
        self.duration_ms = 0.0

    @property
    def delivered(self) -> bool:
        return b'"delivered":false' not in self.facts


def ended_by_agent(error: BaseException) -> bool:
    """Whether the agent's own code ended a step (it cancelled the task, closed the stream, was
    interrupted), in contrast to an error that the step's call gave."""
    if isinstance(error, (GeneratorExit, KeyboardInterrupt, SystemExit)):
        return True
    if not isinstance(error, asyncio.CancelledError):
        return False
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


current_branch: ContextVar[Branch | None] = ContextVar("isotrace_branch", default=None)
current_step: ContextVar[Step | None] = ContextVar("isotrace_step", default=None)


run_opener: ContextVar[Callable[[RunInfo], Driver | None] | None] = ContextVar(
    "isotrace_opener", default=None
)
"""Set while a replay waits for its run: gives the driver for a run that opens, or None to record it."""


def live_branch() -> Branch | None:
    """The branch whose steps are recorded or replayed here, None outside a run or inside a skill."""
    branch = current_branch.get()
    return None if branch is None or branch.driver.closed else branch
