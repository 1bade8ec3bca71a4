"""`@skill` and `@agent`: what makes a function's calls steps, and a function's call a run."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, overload

from isotrace.errors import UsageError
from isotrace.record.binding import skill_signature
from isotrace.record.context import current_branch, outside_of_runs
from isotrace.record.runs import Run, run
from isotrace.record.spec import Effect, SkillSpec, check_options, place_of

if TYPE_CHECKING:
    from os import PathLike

    from isotrace.contracts import Policy

F = TypeVar("F", bound=Callable[..., Any])

ENTRY_ATTRIBUTE = "__isotrace_agent__"
"""Set on functions marked `@agent`: a recorded entry point is followed only to such a function."""


@overload
def skill(function: F, /) -> F: ...


@overload
def skill(
    *,
    name: str | None = None,
    kind: str = "tool",
    effect: Effect = "write",
    raises: tuple[type[BaseException], ...] = (),
    retries: int = 0,
    retry_on: tuple[type[BaseException], ...] = (Exception,),
    backoff_s: float = 0.0,
) -> Callable[[F], F]: ...


def skill(function: Any = None, /, **options: Any) -> Any:
    """Makes each call of a function a step of the run in which it is made.

    Works on functions, coroutine functions, generators and async generators (a stream is one step), and
    on methods, with `@staticmethod` and `@classmethod` above or below. Outside a run, and inside
    another skill, a call is a plain call.

    - `name`: the step's `skill_name`; the function's name unless given.
    - `kind`: `tool`, `llm`, `retrieval`, `code`, …; comparisons can be restricted to kinds.
    - `effect`: what a call may do to the world: `pure`, `read`, `idempotent_write`, `write`.
    - `raises`: exception classes that a replay may raise again by their own class.
    - `retries`, `retry_on`, `backoff_s`: calls again after these errors, as attempts of one step; the
      pause doubles each time, and a replay does not pause.

    Raises `UsageError` for an unknown option or effect, or negative retries.
    """
    if function is None:
        return lambda decorated: skill(decorated, **options)
    check_options(function, options)
    if isinstance(function, (staticmethod, classmethod)):
        is_class = isinstance(function, classmethod)
        inner = _wrap(SkillSpec(function.__func__, method=is_class, **options))
        return type(function)(inner)
    return _wrap(SkillSpec(function, method=_is_method(function), **options))


def _is_method(function: Callable[..., Any]) -> bool:
    """Whether a function that is being decorated stands in a class body, judged by its name and its
    first parameter: the class does not exist yet."""
    owner = getattr(function, "__qualname__", "").rpartition(".")[0]
    if not owner or owner.endswith("<locals>"):
        return False
    return next(iter(skill_signature(function).parameters), None) in ("self", "cls", "mcs")


def _wrap(spec: SkillSpec) -> Callable[..., Any]:
    wrapper: Callable[..., Any] = _WRAPPERS[spec.shape](spec, spec.function)
    wrapper.__isotrace_skill__ = spec  # type: ignore[attr-defined]  # for tools that look at skills
    return wrapper


def _wrap_call(spec: SkillSpec, function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        branch = current_branch.get()
        if branch is None or branch.driver.closed:
            outside_of_runs(spec)
            return function(*args, **kwargs)
        return branch.driver.call(spec, branch, args, kwargs)

    return call


def _wrap_acall(spec: SkillSpec, function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    async def acall(*args: Any, **kwargs: Any) -> Any:
        branch = current_branch.get()
        if branch is None or branch.driver.closed:
            outside_of_runs(spec)
            return await function(*args, **kwargs)
        return await branch.driver.acall(spec, branch, args, kwargs)

    return acall


def _wrap_stream(spec: SkillSpec, function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    def stream(*args: Any, **kwargs: Any) -> Any:
        branch = current_branch.get()
        if branch is None or branch.driver.closed:
            outside_of_runs(spec)
            return (yield from function(*args, **kwargs))
        return (yield from branch.driver.stream(spec, branch, args, kwargs))

    return stream


def _wrap_astream(spec: SkillSpec, function: Callable[..., Any]) -> Any:
    @functools.wraps(function)
    async def astream(*args: Any, **kwargs: Any) -> Any:
        branch = current_branch.get()
        if branch is None or branch.driver.closed:
            outside_of_runs(spec)
            source = function(*args, **kwargs)
        else:
            source = branch.driver.astream(spec, branch, args, kwargs)
        # What `yield from` does for plain generators.
        advance: Callable[[], Any] = source.__anext__
        while True:
            try:
                item = await advance()
            except StopAsyncIteration:
                return
            try:
                sent = yield item
                advance = source.__anext__ if sent is None else functools.partial(source.asend, sent)
            except GeneratorExit:
                await source.aclose()
                raise
            except BaseException as thrown:  # noqa: BLE001  # thrown into the stream, not caught from it
                advance = functools.partial(source.athrow, thrown)

    return astream


_WRAPPERS: dict[str, Callable[[SkillSpec, Callable[..., Any]], Any]] = {
    "call": _wrap_call,
    "acall": _wrap_acall,
    "stream": _wrap_stream,
    "astream": _wrap_astream,
}


@overload
def agent(function: F, /) -> F: ...


@overload
def agent(
    agent_id: str | None = None,
    /,
    *,
    tenant_id: str | None = None,
    redact: Iterable[str] = (),
    policy: Policy | PathLike[str] | str | None = None,
) -> Callable[[F], F]: ...


def agent(
    agent_id: Any = None,
    /,
    *,
    tenant_id: str | None = None,
    redact: Iterable[str] = (),
    policy: Any = None,
) -> Any:
    """Makes each call of a function a run, with its arguments as the run's input.

    `@agent`, or `@agent("support")` to name it. The function's place (module and name) is recorded as
    the run's entry point, so that `isotrace.replay(run_id)` finds it. Called inside another run,
    it is a run of its own with the same correlation id, and a step of kind `agent` there. `redact` and
    `policy` as in `run`.

    Raises `UsageError` for a generator: a run has one result.
    """
    if callable(agent_id):
        return _agent(agent_id, None, tenant_id, (), None)
    return lambda function: _agent(function, agent_id, tenant_id, redact, policy)


def _agent(
    function: Callable[..., Any],
    agent_id: str | None,
    tenant_id: str | None,
    redact: Iterable[str],
    policy: Any,
) -> Any:
    method = _is_method(function)
    spec = SkillSpec(function, name=agent_id, kind="agent", method=method)
    if spec.streams:
        raise UsageError(
            "an agent can't be a generator",
            where=place_of(function),
            got=spec.name,
            hint="let it return, and make a skill stream",
        )
    entry = None if method else entry_point_of(function)

    def opened(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Run:
        given = spec.params(args, kwargs)
        return run(
            spec.name, tenant_id=tenant_id, input=given, entry_point=entry, redact=redact, policy=policy
        )

    if spec.shape == "acall":

        @functools.wraps(function)
        async def body(*args: Any, **kwargs: Any) -> Any:
            async with opened(args, kwargs) as run_:
                result = await function(*args, **kwargs)
                run_.set_result(result)
                return result
    else:

        @functools.wraps(function)
        def body(*args: Any, **kwargs: Any) -> Any:
            with opened(args, kwargs) as run_:
                result = function(*args, **kwargs)
                run_.set_result(result)
                return result

    spec.function = body
    wrapper = _WRAPPERS[spec.shape](spec, body)
    setattr(wrapper, ENTRY_ATTRIBUTE, function)
    return wrapper


def entry_point_of(function: Callable[..., Any]) -> dict[str, Any] | None:
    """Where a function can be found again: module, qualified name, file. None for a local function,
    and for an object that only behaves like one."""
    if "<locals>" in getattr(function, "__qualname__", "<locals>"):
        return None
    module = sys.modules.get(function.__module__)
    return {
        "kind": "function",
        "module": function.__module__,
        "qualname": function.__qualname__,
        "file": getattr(module, "__file__", None),
    }
