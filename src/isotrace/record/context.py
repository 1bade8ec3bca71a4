"""Where in which run the code is: branches, the current step, and the driver behind them.

Two context variables carry it through calls, tasks and our own threads:

- `current_branch`: set while the agent's own code runs. A skill called here is a step.
- `current_step`: set while a skill's body runs; `current_branch` is then None, so that a
  skill called inside a skill is a plain call.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from pathlib import Path
from threading import get_ident, local
from typing import TYPE_CHECKING, Any, Protocol

import orjson

from isotrace.errors import PolicyViolation
from isotrace.hashing import H
from isotrace.models import Lineage

if TYPE_CHECKING:
    from isotrace.contracts import Policy
    from isotrace.record.scheduler import Scheduler
    from isotrace.record.sources.noted import Notes
    from isotrace.record.spec import SkillSpec
    from isotrace.record.threads import Worker
    from isotrace.redact.redaction import Redaction


def current_folder() -> str:
    """The current folder, the root where it is gone."""
    try:
        return str(Path.cwd())
    except OSError:
        return os.sep


@dataclass(slots=True)
class RunInfo:
    """Who a run is. While it is replayed these are the recorded run's.

    `origin_run_id` is the run whose effects these are: its own id, or the original's in a replay. `parent` is
    `{"run_id", "lineage"}` of the step that opened it. `entry_point` says how to start it again, `input` and
    `plan` with what. `provisional`: a whole program, which is a run only if it takes steps of its own; the
    runs that it opens are as if it were none. `redaction` is what must not be recorded of it. `folder` is
    where the run began, which no record has. `policy` is the one that it was given, `policies` are all that
    it is held to.
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
    provisional: bool = False
    redaction: Redaction | None = None
    folder: str = field(default_factory=current_folder)
    policy: Any = None
    policies: tuple[Policy, ...] = ()


@dataclass(slots=True)
class RunEnding:
    """How a run ended: what its code returned or raised, and metadata that it added."""

    result: Any = None
    has_result: bool = False
    error: BaseException | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it ended with an error. `sys.exit()` without one is a way to return."""
        if isinstance(self.error, SystemExit):
            return self.error.code not in (None, 0)
        return self.error is not None


class Driver(Protocol):
    """What stands behind a run: the recorder while it is live, the player while it is replayed.

    Every method gets the branch that the call was made in, and raises what the agent must see.
    `run` is the object that the agent's code has of it, `step` the one in whose body it was opened.
    """

    info: RunInfo
    scheduler: Scheduler
    closed: bool
    run: Any
    step: Step | None

    def close(self, ending: RunEnding) -> None:
        """The run ended; called once."""
        ...

    def read(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        """A value from outside that is no step: a clock, the environment."""
        ...

    def noted(self, branch: Branch, source: str, function: Callable[[], Any]) -> Any:
        """A value that the code takes from its surroundings by itself (`isotrace.record.sources`). Must
        not wait, and must not fail by itself: it is called from anywhere, finalizers included."""
        ...

    def note(self, reason: str) -> None:
        """Something happened that a replay can't reproduce: a reason for the run's grade."""
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
    ) -> Generator[Any, Any, Any]:
        """One step of a generator function; it starts at the first `next`."""
        ...

    def astream(
        self, spec: SkillSpec, branch: Branch, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any, Any]:
        """One step of an async generator function."""
        ...

    def timer(
        self,
        name: str,
        branch: Branch,
        delay: float | None,
        when: float,
        fired: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> Any:
        """A timer of the agent's own code; `fired` is called in its turn. Has `cancel()`.

        `delay` is what the code asked for in seconds (None if it named a moment), `when` the
        moment on the loop's clock. `failed` is called instead where a replay ends the wait.
        """
        ...


_THREAD = "thread "
_EARLY = "early "


def in_thread(lineage: Lineage) -> bool:
    """Whether a step was taken in a thread that isotrace does not order."""
    keys = (key.removeprefix(_EARLY) for key in lineage if isinstance(key, str))
    return any(key.startswith(_THREAD) for key in keys)


_threads = local()


def running_jobs() -> list[Branch]:
    """The branches of the jobs that the calling thread runs, the innermost last: one list per thread."""
    try:
        return _threads.jobs  # type: ignore[no-any-return]  # set below
    except AttributeError:
        jobs: list[Branch] = []
        _threads.jobs = jobs
        return jobs


def lineage_json(lineage: Lineage) -> bytes:
    """A lineage as a compact JSON array, the form that events carry."""
    return orjson.dumps(lineage)


class Control:
    """Who runs a branch's code. `worker`: the thread's place in the schedule, for a thread of ours.
    `ordered` is False for a thread that the schedule does not know of."""

    __slots__ = ("ordered", "thread", "worker")

    def __init__(self, *, ordered: bool = True) -> None:
        self.thread = get_ident()
        self.worker: Worker | None = None
        self.ordered = ordered


class Branch:
    """One line of control in a run: the root, a task, a thread, or a keyed branch.

    Its counter numbers its steps and the branches that it opens, so a lineage is the same in
    every execution of the same code, whatever the schedule.
    """

    __slots__ = (
        "_keyed",
        "_keyed_at",
        "_random",
        "control",
        "count",
        "driver",
        "last_number",
        "last_us",
        "notes",
        "opener",
        "path",
        "reads",
    )

    def __init__(self, driver: Driver, path: Lineage, last_us: int, control: Control | None = None) -> None:
        self.driver = driver
        self.path = path
        self.count = 0
        self.reads = 0
        self.last_us = last_us
        self.last_number: int | None = None
        self.notes: Notes | None = None
        self.control = control or Control()
        self.opener: Branch | None = None
        self._keyed: dict[str, Branch] = {}
        self._keyed_at = 0
        self._random: random.Random | None = None

    def next(self) -> int:
        """Takes the next number of this branch."""
        number = self.count
        self.count = number + 1
        return number

    def next_step(self) -> int:
        """Takes the next number for a step."""
        number = self.last_number = self.count
        self.count = number + 1
        return number

    @property
    def last_step(self) -> Lineage:
        """The step that the branch made last, or the branch itself if it made none."""
        return self.path if self.last_number is None else (*self.path, self.last_number)

    def child(self) -> Branch:
        """A new branch at the next number: a task or a thread."""
        return Branch(self.driver, (*self.path, self.next()), self.last_us)

    def keyed(self, key: str) -> Branch:
        """The branch at the current number that is told apart by its key; the counter stays.

        The same key at the same number is the same branch, and goes on where it was left.
        """
        found = self._keys().get(key)
        if found is None:
            found = Branch(self.driver, (*self.path, self.count, key), self.last_us, self.control)
            self._keyed[key] = found
        return found

    def _keys(self) -> dict[str, Branch]:
        """The keyed branches at the current number; those before it are never entered again."""
        if self._keyed_at != self.count:
            self._keyed, self._keyed_at = {}, self.count
        return self._keyed

    def thread(self) -> Branch:
        """A new branch for a thread that the schedule does not know of, keyed by how many there are at
        the current number: libraries start threads when they like, which must not move our steps.

        It stands behind the step that came last, and so before the one that comes next.
        """
        keys = self._keys()
        # As wide as their order as texts needs.
        name = f"{_THREAD}{sum(key.startswith(_THREAD) for key in keys):03}"
        place = (self.count - 1, name) if self.count else (0, f"{_EARLY}{name}")
        branch = keys[name] = Branch(self.driver, (*self.path, *place), self.last_us, Control(ordered=False))
        branch.opener = self
        return branch

    def here(self) -> Branch:
        """This branch; in a job of another thread that was handed this branch's context, the job's own.

        Frameworks copy the context of who submits a job into it. Several jobs of one branch, each in a
        thread of its own, would take its numbers in whatever order they come by.
        """
        if self.control.thread == get_ident():
            return self
        return next((job for job in reversed(running_jobs()) if job.opened_under(self)), self)

    def opened_under(self, branch: Branch) -> bool:
        """Whether this is a job that was submitted in that branch, or in a job of it."""
        opener = self.opener
        while opener is not None and opener is not branch:
            opener = opener.opener
        return opener is branch

    @property
    def random(self) -> random.Random:
        """The random stream of this branch, from the run's seed and the branch's lineage."""
        if self._random is None:
            self._random = random_stream(self.driver.info.seed, self.path)
        return self._random


def random_stream(seed: int, lineage: Lineage) -> random.Random:
    """The stream of numbers that belongs to this place of a run."""
    material = H("isotrace/v1/random", seed.to_bytes(8, "big"), lineage_json(lineage))
    return random.Random(int.from_bytes(material, "big"))


class Step:
    """A step that is under way: what its end still needs, and what the body adds to it.

    `lineage` is its place in the run. `ended` is True from the moment in which its end is written.
    Its task had been cancelled `cancelled` times by now without ending the step, `survived` of them since
    it waits: what ends it is beyond that.
    `stopped`: a policy has ended it before its effect.
    `transport` and `failure` are what an exchange says of its answer (`isotrace.record.edge`).
    """

    __slots__ = (
        "_random",
        "attempts",
        "branch",
        "cancelled",
        "child_run_id",
        "cost_cents",
        "ended",
        "failure",
        "lineage",
        "marks",
        "spec",
        "stopped",
        "survived",
        "transport",
    )

    def __init__(self, spec: SkillSpec, branch: Branch, lineage: Lineage) -> None:
        self.spec = spec
        self.branch = branch
        self.lineage = lineage
        self.cost_cents = 0.0
        self.attempts = 0
        self.cancelled = 0
        self.survived = 0
        self.child_run_id: str | None = None
        self.marks: tuple[str, ...] = ()
        self.ended = False
        self.stopped = False
        self.transport: dict[str, Any] | None = None
        self.failure: tuple[str, str] | None = None
        self._random: random.Random | None = None

    @property
    def random(self) -> random.Random:
        """The random stream of this step's body. Its own: a replay does not run the body, and the
        branch's stream must go on from the same place."""
        if self._random is None:
            self._random = random_stream(self.branch.driver.info.seed, self.lineage)
        return self._random

    def waits(self) -> None:
        """Its call begins to wait."""
        self.cancelled = times_cancelled()
        self.survived = 0

    def survives(self) -> None:
        """Its call goes on, or came to its end, although its task was cancelled."""
        before, self.cancelled = self.cancelled, times_cancelled()
        self.survived += self.cancelled - before


_NOTHING: Mapping[str, Any] = {}


class Ending:
    """How a step ended: the facts and values of its `step_finished`, until it is delivered.

    `facts` are those that differ from step to step; `extra` the ones of them that hold however it is
    delivered. `bits` are those of a plain success (`isotrace.record.shapes`), None for any other end.
    """

    __slots__ = ("bits", "extra", "facts", "step", "values")

    def __init__(
        self,
        step: Step,
        facts: dict[str, Any],
        values: dict[str, bytes],
        *,
        extra: Mapping[str, Any] = _NOTHING,
        bits: int | None = None,
    ) -> None:
        self.step = step
        self.facts = facts
        self.values = values
        self.extra = extra
        self.bits = bits


def ended_by_agent(step: Step, error: BaseException) -> bool:
    """Whether the agent's own code ended a step (it cancelled the task, closed the coroutine), in
    contrast to an error that the step's call gave."""
    if isinstance(error, asyncio.CancelledError):
        return times_cancelled() > step.cancelled
    return isinstance(error, GeneratorExit)


def times_cancelled() -> int:
    """How often the current task was asked to end, as far as nothing took that back. Not 0 for the rest
    of a task's life where a `TaskGroup` of it has failed (until Python 3.12)."""
    task = None if asyncio._get_running_loop() is None else asyncio.current_task()
    return 0 if task is None else task.cancelling()


current_branch: ContextVar[Branch | None] = ContextVar("isotrace_branch", default=None)
current_step: ContextVar[Step | None] = ContextVar("isotrace_step", default=None)

Tokens = list[tuple[ContextVar[Any], Token[Any]]]


def set_all(values: Iterable[tuple[ContextVar[Any], Any]]) -> Tokens:
    """Sets context variables; `reset_all` takes it back."""
    return [(variable, variable.set(value)) for variable, value in values]


def reset_all(tokens: Tokens) -> None:
    """Sets context variables back, unless this is another context by now: then they are gone anyway.

    Frameworks enter and leave in two contexts, and the collector closes what is left from any.
    """
    for variable, token in reversed(tokens):
        with suppress(ValueError):
            variable.reset(token)


class BodyWatch(Protocol):
    """Looks at what bodies leave behind: `peek` as one begins, `left` with that as it ends."""

    moved: set[str]

    def peek(self) -> Any: ...

    def left(self, before: Any) -> None: ...

    def states(self) -> dict[str, Any]: ...


_body_watch: BodyWatch | None = None


def watch_bodies(watch: BodyWatch | None) -> None:
    """Has all bodies of this process looked at, or none any more."""
    global _body_watch  # noqa: PLW0603 - every step comes by here
    _body_watch = watch


def body_watch() -> BodyWatch | None:
    """Who looks at the bodies of this process, if anybody."""
    return _body_watch


BodyTokens = tuple[Token[Branch | None], Token[Step | None], Any]


def enter_body(step: Step) -> BodyTokens:
    """A step's body runs from here on; skills that it calls are plain calls. Ends with `leave_body`."""
    seen = None if _body_watch is None else _body_watch.peek()
    return current_branch.set(None), current_step.set(step), seen


def leave_body(tokens: BodyTokens) -> None:
    """The step's body has ended. As `reset_all`, and quicker: every step comes by here."""
    try:
        current_branch.reset(tokens[0])
        current_step.reset(tokens[1])
    except ValueError:  # another context by now
        pass
    if tokens[2] is not None and _body_watch is not None:
        _body_watch.left(tokens[2])


class Opener(Protocol):
    """Stands where a replay waits for its run."""

    def __call__(self, info: RunInfo) -> Driver | None:
        """The driver for a run that opens, or None to record it."""
        ...

    def noted(self, source: str, function: Callable[[], Any]) -> Any:
        """A value that the code takes from its surroundings by itself, outside of any run."""
        ...

    def outside(self, spec: SkillSpec) -> None:
        """A skill is about to be called outside of any run, which is a plain call. Raises to forbid it."""
        ...


run_opener: ContextVar[Opener | None] = ContextVar("isotrace_opener", default=None)
"""Set while a replay waits for its run, and while that is open."""


def outside_of_runs(spec: SkillSpec) -> None:
    """A skill is called outside of any run, or inside another skill: a plain call, unless a replay
    has to forbid it, or the run has ended that policies watched."""
    no_longer(current_branch.get())
    opener = run_opener.get()
    if opener is not None and current_step.get() is None:
        opener.outside(spec)


def live_branch() -> Branch | None:
    """The branch whose steps are recorded or replayed here, None outside a run or inside a skill."""
    branch = current_branch.get()
    return None if branch is None or branch.driver.closed else branch.here()


def calling_branch() -> Branch | None:
    """`live_branch` for what is about to make a call: raises `PolicyViolation` as `no_longer` does."""
    return None if no_longer(current_branch.get()) else live_branch()


def no_longer(branch: Branch | None) -> bool:
    """Whether no run is open here, so that a call is no step.

    Raises `PolicyViolation` where a run has ended whose policies can stop something: a task or thread that
    outlives it, and a forked child, would call what nobody judges or writes down any more.
    """
    if branch is None:
        return True
    if not branch.driver.closed:
        return False
    info = branch.driver.info
    if any(getattr(policy, "stops", True) for policy in info.policies):
        raise PolicyViolation(
            "the run has ended, and what goes on after it can't be held to its policies",
            policy_id="run_ended",
            run_id=info.run_id,
        )
    return True
