"""A run: `with isotrace.run(…) as run:`."""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from random import Random
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, get_args

from isotrace.clock import SYSTEM, Clock
from isotrace.errors import FieldError, RecordingError, UsageError
from isotrace.events import MAX_RUN_ID, datetime_of, run_id_problem
from isotrace.record import hooks
from isotrace.record.context import (
    Branch,
    Driver,
    RunEnding,
    RunInfo,
    Step,
    Tokens,
    current_branch,
    current_step,
    live_branch,
    reset_all,
    run_opener,
    set_all,
)
from isotrace.record.environment import fingerprint
from isotrace.record.home import default_tenant
from isotrace.record.journal import Durability
from isotrace.record.policies import policies_for
from isotrace.record.propagation import remote_parent
from isotrace.record.spec import checked_text
from isotrace.record.start import start_recording
from isotrace.record.warned import warn
from isotrace.redact.wanted import redactors_wanted

if TYPE_CHECKING:
    from os import PathLike

    from isotrace.contracts import Policy, TraceStore
    from isotrace.redact.redaction import Redaction

T = TypeVar("T")

MAX_SEED = 2**53 - 1
_DURABILITIES = get_args(Durability)


class Run:
    """A run that is, or will be, open. Made by `run()`; a context manager, plain and async.

    What its code may ask of it is the same when it is replayed: `run_id` (the original's), `now()`,
    `random`, `uuid4()`.
    """

    def __init__(
        self,
        info: RunInfo,
        *,
        store: TraceStore | str | None,
        durability: Durability,
        clock: Clock,
        driver: Driver | None = None,
    ) -> None:
        self._info = info
        self._given_driver = driver
        self._store = store
        self._durability = durability
        self._clock = clock
        self._driver: Driver | None = None
        self._ending = RunEnding()
        self._tokens: Tokens = []
        self._root: Branch | None = None

    # --- what the agent's code may ask ---------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run's id; in a replay that of the original."""
        return self._info.origin_run_id

    @property
    def correlation_id(self) -> str:
        """The id that all runs of one request share."""
        return self._info.correlation_id

    @property
    def tenant_id(self) -> str:
        """Whose run this is."""
        return self._info.tenant_id

    @property
    def agent_id(self) -> str | None:
        """Which agent this is a run of."""
        return self._info.agent_id

    @property
    def seed(self) -> int:
        """What `random` and `uuid4` are derived from."""
        return self._info.seed

    @property
    def input(self) -> Any:
        """What the run was given."""
        return self._info.input

    def now(self) -> datetime:
        """The time of this branch's last event, or the run's frozen time: aware, UTC.

        It stands still between steps, which is what makes it the same in a replay.
        """
        if self._info.frozen_timestamp is not None:
            return datetime.fromisoformat(self._info.frozen_timestamp)
        return datetime_of(self._branch().last_us)

    @property
    def random(self) -> Random:
        """A random stream of this branch, the same in a replay. A step's body has one of its own."""
        step = self._step()
        return self._branch().random if step is None else step.random

    def uuid4(self) -> uuid.UUID:
        """A random UUID (version 4) from the branch's stream, the same in a replay."""
        return uuid.UUID(int=self.random.getrandbits(128), version=4)

    def read(self, source: str, function: Callable[[], T]) -> T:
        """A value from outside that is no step, such as an environment variable or a file's content.

        `function` is called while recording; a replay gets the recorded value. In a step's body it
        is just called, because a replay does not run that.
        """
        if self._step() is not None:
            return function()
        branch = self._branch()
        return branch.driver.read(branch, source, function)  # type: ignore[no-any-return]  # T, live or served

    def set_result(self, result: Any) -> None:
        """What the run came to: compared with the original's when it is replayed."""
        self._ending.result = result
        self._ending.has_result = True

    def add_metadata(self, **metadata: Any) -> None:
        """Metadata that is known only now; written when the run ends."""
        self._ending.metadata.update(metadata)

    def violation(self, policy_id: str, reason: str) -> None:
        """States that the step made last (or under way) violated a policy."""
        branch = self._branch()
        branch.driver.violation(branch, policy_id, reason)

    def _step(self) -> Step | None:
        """The step of this run whose body is running."""
        step = current_step.get()
        return step if step is not None and step.branch.driver is self._driver else None

    def _branch(self) -> Branch:
        step = self._step()
        branch = step.branch if step is not None else current_branch.get()
        if branch is not None and branch.driver is self._driver:
            return branch
        if self._root is None:
            raise RecordingError("this run is not open", run_id=self.run_id, hint="use it inside its `with`")
        return self._root

    # --- opening and ending ----------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._driver is not None:
            raise RecordingError("a run can be entered once", run_id=self.run_id, hint="call run() again")
        around = live_branch()
        if around is not None and around.driver.info.provisional:
            around.driver.note("a run was opened by hand beside the program's own steps, and can't be served")
        driver = self._given_driver or self._drivers()
        driver.run = self
        self._driver, self._info = driver, driver.info
        self._root = Branch(driver, (), driver.info.started_us)
        hooks.enter()
        loop = asyncio._get_running_loop()
        if loop is not None:
            driver.scheduler.look(loop)
        driver.step = step = current_step.get()
        if step is not None:
            step.child_run_id = self._info.run_id
        self._tokens = set_all([(current_branch, self._root), (current_step, None)])
        return self

    def _drivers(self) -> Driver:
        """The replay's, where one waits for this run; else a new recorder."""
        opener = run_opener.get()
        driver = opener(self._info) if opener is not None else None
        if driver is None:
            self._info.policies = policies_for(self._info, policies_around())
            driver = start_recording(self._info, self._store, self._durability, self._clock)
        return driver

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reset_all(self._tokens)
        self._ending.error = error
        assert self._driver is not None
        try:
            self._driver.close(self._ending)
        finally:
            hooks.leave()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)


def run(
    agent_id: str | None = None,
    *,
    run_id: str | None = None,
    correlation_id: str | None = None,
    tenant_id: str | None = None,
    plan: Iterable[Mapping[str, Any]] = (),
    input: Any = None,  # noqa: A002  # what users call it
    metadata: Mapping[str, Any] | None = None,
    seed: int | None = None,
    frozen_timestamp: str | None = None,
    entry_point: Mapping[str, Any] | None = None,
    redact: Iterable[str] = (),
    policy: Policy | PathLike[str] | str | None = None,
    store: TraceStore | str | None = None,
    durability: Durability = "process",
    clock: Clock = SYSTEM,
) -> Run:
    """A run to open with `with` or `async with`; every skill called inside is a step of it.

    Ids, seed (0..2^53−1) and correlation are fresh unless given; a run opened inside another, or
    under `extract_headers`, joins that correlation. `tenant_id` falls back to `ISOTRACE_TENANT`, then
    `default`; `store` (a `TraceStore` or its URL) to `ISOTRACE_STORE`, then `./.isotrace/traces.db`.
    `redact` names what must not be recorded (`"email"`, `"secrets"`, `"pattern:order"`), beside what
    `ISOTRACE_REDACT`, the project's configuration and the run around this one name.
    `durability="power"` makes each event survive a power cut, at the price of a disk flush.
    `policy` (an `isotrace.Policy`, or the file of its rules) is asked before each step; the run is held to
    those of the run around it and of `ISOTRACE_POLICY` as well. Entering raises `PolicyError` for rules
    that can't be applied, and a step that they stop raises `PolicyViolation`.

    Raises `UsageError` for a seed out of range, a durability that is neither `process` nor `power`, an id
    that is no text, a run id that is longer than 200 characters, starts with `@` or holds control
    characters, a plan that is no sequence of mappings, and redactors that there are not (`PluginError` where
    extensions were looked at too); `FieldError` for a malformed frozen_timestamp.
    """
    _check(seed, durability)
    _check_ids(agent_id=agent_id, run_id=run_id, correlation_id=correlation_id, tenant_id=tenant_id)
    steps = _plan(plan)
    frozen = None if frozen_timestamp is None else _frozen(frozen_timestamp)
    new_id = run_id or clock.new_id()
    opened_in, parent, joined = _surroundings()
    info = RunInfo(
        run_id=new_id,
        origin_run_id=new_id,
        correlation_id=correlation_id or joined or new_id,
        tenant_id=tenant_id or (opened_in.tenant_id if opened_in else default_tenant()),
        agent_id=agent_id,
        seed=int.from_bytes(clock.random_bytes(6), "big") if seed is None else seed,
        frozen_timestamp=frozen,
        entry_point=_entry_point(entry_point),
        parent=parent,
        plan=steps,
        input=input,
        metadata=dict(metadata or {}),
        environment=fingerprint(),
        redaction=_redaction(redact, opened_in),
        policy=policy,
    )
    return Run(info, store=store, durability=durability, clock=clock)


def _redaction(names: Iterable[str], around: RunInfo | None) -> Redaction | None:
    """What must not be recorded. Raises `UsageError` and `PluginError` for names that there are not."""
    if isinstance(names, str):
        raise UsageError("redact is a list of names", got=names, expected=f'["{names}"]')
    wanted = redactors_wanted(
        names, () if around is None or around.redaction is None else around.redaction.names
    )
    if not wanted:
        return None
    from isotrace.redact.redaction import redaction_of  # noqa: PLC0415 - start-up time: RE2 for those who redact

    return redaction_of(wanted)


def provisional_run(
    agent_id: str,
    *,
    input: Any,  # noqa: A002  # as run()'s
    entry_point: Mapping[str, Any] | None,
) -> Run:
    """A run that is kept only if it takes steps of its own. Those that open inside it are as if it were not
    there: no parent, no correlation, and of an agent's call it has a step."""
    opened = run(agent_id, input=input, entry_point=entry_point)
    opened._info.provisional = True
    return opened


def run_of(driver: Driver) -> Run:
    """A run to open whose driver is there already."""
    return Run(driver.info, store=None, durability="process", clock=SYSTEM, driver=driver)


def _entry_point(given: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """What was given, with the program beside it that is being run; else that program."""
    program = program_entry()
    if not given:
        return program
    if program is None or given.get("kind") == "program":
        return dict(given)
    return {**given, "program": program}


def _check(seed: Any, durability: Any) -> None:
    """Raises `UsageError` for a seed or a durability that there is not."""
    if seed is not None and (type(seed) is not int or not 0 <= seed <= MAX_SEED):
        raise UsageError("seed of a run", expected=f"0..{MAX_SEED}", got=seed)
    if durability not in _DURABILITIES:
        raise UsageError("durability of a run", expected=" or ".join(_DURABILITIES), got=repr(durability))


def _check_ids(*, run_id: str | None, **others: str | None) -> None:
    """Raises `UsageError` for an id that can't stand in a record."""
    for what, text in {**others, "run_id": run_id}.items():
        if text is not None:
            checked_text(f"{what} of a run", text)
    if run_id is not None and (problem := run_id_problem(run_id)) is not None:
        raise UsageError(problem, got=run_id[:MAX_RUN_ID])


def _plan(plan: Any) -> list[Mapping[str, Any]]:
    steps = list(plan) if isinstance(plan, Iterable) and not isinstance(plan, str | bytes | Mapping) else None
    if steps is None or not all(isinstance(step, Mapping) for step in steps):
        raise UsageError("the plan of a run is a sequence of mappings", got=type(plan).__qualname__)
    return steps


def _frozen(text: str) -> str:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise FieldError(
            "frozen_timestamp is no ISO 8601 time", got=text, expected="2026-01-31T12:00:00Z"
        ) from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def _surroundings() -> tuple[RunInfo | None, dict[str, Any] | None, str | None]:
    """What a new run finds itself in: the run around it, the place it is opened at (in that run, or in
    the one that another process named), and the correlation to join."""
    step, branch = current_step.get(), live_branch()
    around = step.branch if step is not None else branch
    if around is not None and not around.driver.info.provisional:
        info, lineage = around.driver.info, step.lineage if step is not None else around.path
        return info, {"run_id": info.run_id, "lineage": list(lineage)}, info.correlation_id
    remote = remote_parent.get()
    if remote is None:
        return None, None, None
    place = {"run_id": remote.run_id, "lineage": []} if remote.run_id else None
    return None, place, remote.correlation_id


def policies_around() -> tuple[Policy, ...]:
    """What the run around this place is held to."""
    step, branch = current_step.get(), live_branch()
    around = step.branch if step is not None else branch
    return () if around is None else around.driver.info.policies


def current_run() -> Run | None:
    """The innermost open run, None outside of any."""
    step, branch = current_step.get(), current_branch.get()
    if branch is None and step is not None:
        branch = step.branch
    if branch is None or branch.driver.closed:
        return None
    return branch.driver.run  # type: ignore[no-any-return]  # set by the run itself


@contextmanager
def branch(key: str) -> Iterator[None]:
    """Steps made inside belong to a branch of their own, told apart by `key`.

    For code whose parallel parts have names but no fixed order: each part's steps are matched among
    themselves. Outside a run it does nothing. Raises `UsageError` for a key that is no text.
    """
    checked_text("key of a branch", key)
    parent = live_branch()
    if parent is None:
        yield
        return
    tokens = set_all([(current_branch, parent.keyed(key))])
    try:
        yield
    finally:
        reset_all(tokens)


def cost(cents: float) -> None:
    """Adds to the cost of the step whose body is running. Outside a step it does nothing.

    Never raises. What is no number from 0 to 10^12 leaves the cost as it is: a `RecordingWarning` says so,
    and so do the step's marks and the run's grade.
    """
    step = current_step.get()
    if step is None:
        return
    try:
        amount = float(cents)
    except Exception:  # noqa: BLE001  # an object's own code can raise anything
        amount = math.nan
    if 0 <= amount <= _MAX_CENTS:
        step.cost_cents += amount
    elif _NO_COST not in step.marks:
        step.marks = (*step.marks, _NO_COST)
        warn(f"the cost of {step.spec.name} leaves something out, {_NO_COST}")


_MAX_CENTS = 1e12
_NO_COST = "cost: what was given is no number of cents from 0 to 10^12"


class _Program:
    """How this process was started, and how many runs it has opened."""

    def __init__(self) -> None:
        self.entry: dict[str, Any] | None = None
        self.runs = 0


_program = _Program()


def set_program(entry_point: Mapping[str, Any] | None) -> None:
    """States how this process was started: each run records it, beside an entry point of its own."""
    _program.entry = dict(entry_point) if entry_point else None
    _program.runs = 0


def program_entry() -> dict[str, Any] | None:
    """How to start this process again; `index` numbers the runs that were opened in it, from 0 and
    left out for the first."""
    if _program.entry is None:
        return None
    index, _program.runs = _program.runs, _program.runs + 1
    return {**_program.entry, "index": index} if index else dict(_program.entry)
