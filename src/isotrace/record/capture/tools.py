"""The tools of a framework: local functions that it calls for a model. Each call is a step.

A capture says which tool is called, with which arguments, and makes the call. In a replay the call
gives what it gave on record: an equal value of the same type, or the same error.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

import orjson

from isotrace.errors import IsotraceError, RestoreError
from isotrace.plain import from_plain
from isotrace.record.capture.forms import Reach, apart, name_of, reach_of, together
from isotrace.record.context import Branch, current_step
from isotrace.record.edge import Exchange, edge
from isotrace.record.snapshot import JSON, json_form, snapshot
from isotrace.record.spec import Effect, SkillSpec


class Tool(NamedTuple):
    """A tool: `function` is its own code, `known` gives the classes of the framework that it may return or
    raise. `shared` is what the framework lends it, which it may change under the program's eyes."""

    library: str
    name: str
    function: Any
    known: Callable[[], Iterable[Any]]
    shared: Callable[[], Any] | None = None

    @property
    def effect(self) -> Effect:
        """What the function says of itself, where it is a skill; else the tool may write."""
        spec = getattr(self.function, "__isotrace_skill__", None)
        return spec.effect if isinstance(spec, SkillSpec) else "write"  # type: ignore[return-value]  # checked

    @property
    def reach(self) -> Reach:
        """The classes that its values may be of."""
        return reach_of(self.function, self.known)


def call(branch: Branch, tool: Tool, params: dict[str, Any], real: Callable[[], Any]) -> Any:
    """One step: what `real()` gives, or gave on record."""
    live = _Live(tool)

    def made(exchange: Exchange) -> Any:
        try:
            value = real()
        except BaseException as error:
            live.failed(exchange, error)
            raise
        return live.returned(exchange, value)

    exchange = Exchange(params, made)
    spec = edge(tool.library, tool.name, "tool", tool.effect, "call")
    try:
        outcome = branch.driver.call(spec, branch, (exchange,), {})
    except BaseException as error:
        raised = live.error(exchange, error)
        if raised is error:
            raise
        raise raised from None
    return live.value(branch, exchange, outcome)


async def acall(
    branch: Branch, tool: Tool, params: dict[str, Any], real: Callable[[], Awaitable[Any]]
) -> Any:
    """The same for a tool that is awaited."""
    live = _Live(tool)

    async def made(exchange: Exchange) -> Any:
        try:
            value = await real()
        except BaseException as error:
            live.failed(exchange, error)
            raise
        return live.returned(exchange, value)

    exchange = Exchange(params, made)
    spec = edge(tool.library, tool.name, "tool", tool.effect, "acall")
    try:
        outcome = await branch.driver.acall(spec, branch, (exchange,), {})
    except BaseException as error:
        raised = live.error(exchange, error)
        if raised is error:
            raise
        raise raised from None
    return live.value(branch, exchange, outcome)


class _Live:
    """What a call gave while it was recorded: that, and no copy, is what the program gets."""

    def __init__(self, tool: Tool) -> None:
        self._tool = tool
        self._made = False
        self._value: Any = None
        self._shared = None if tool.shared is None else snapshot(tool.shared()).data

    def returned(self, exchange: Exchange, value: Any) -> Any:
        """Takes in what the call returned; gives it in plain values."""
        self._made, self._value = True, value
        try:
            return self._plain(exchange, value)
        except Exception as error:  # noqa: BLE001  # the program must not suffer from what can't be recorded
            _mark(f"what it returned was not taken apart: {type(error).__name__}: {error}")
            return value

    def _plain(self, exchange: Exchange, value: Any) -> Any:
        self._look_at_shared()
        if json_form(value) == JSON:
            return value
        plain, forms = apart(value, self._tool.reach)
        if forms:
            exchange.transport = {"forms": forms}
            self._check(partial(together, forms=forms, reach=self._tool.reach), plain, value)
        return plain

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """Takes in what the call raised."""
        self._made = True
        try:
            self._keep(exchange, error)
        except Exception as problem:  # noqa: BLE001  # as above
            _mark(f"what it raised was not taken apart: {type(problem).__name__}: {problem}")

    def _keep(self, exchange: Exchange, error: BaseException) -> None:
        self._look_at_shared()
        kind, tool = type(error), self._tool
        if getattr(builtins, kind.__name__, None) is kind:
            return
        if not tool.reach.holds(kind):
            _mark(f"{name_of(kind)} comes back as a RecordedError: the tool's module does not name it")
            return
        attributes = {name: value for name, value in vars(error).items() if name != "__notes__"}
        content = {"args": list(error.args), "attributes": attributes}
        plain, forms = apart(content, tool.reach)
        kept = snapshot(plain)
        transport = {"raised": name_of(kind), "content": orjson.loads(kept.data), "forms": forms}
        if kept.losses:
            _mark(f"{name_of(kind)} comes back without all that it holds: {kept.losses[0]}")
        elif _raised_again(transport, tool.reach) is None:
            _mark(f"{name_of(kind)} comes back as a RecordedError: it can't be made again")
        else:
            exchange.transport = transport

    def _look_at_shared(self) -> None:
        if self._tool.shared is not None and snapshot(self._tool.shared()).data != self._shared:
            _mark("the tool changed what the framework lent it, which a replay does not repeat")

    def _check(self, again: Callable[[Any], Any], plain: Any, value: Any) -> None:
        """Notes where a replay would not give an equal value."""
        try:
            made = again(_copied(plain))
            if snapshot(made).data == snapshot(value).data and type(made) is type(value):
                return
            why = "with other content"
        except Exception as error:  # noqa: BLE001  # classes of the caller's are asked about themselves
            why = f"not at all: {type(error).__name__}: {error}"
        _mark(f"{name_of(type(value))} comes back {why}")

    def value(self, branch: Branch, exchange: Exchange, outcome: Any) -> Any:
        """What the framework gets."""
        if self._made:
            return self._value
        forms = (exchange.transport or {}).get("forms", ())
        try:
            return together(outcome, forms, self._tool.reach)
        except Exception as error:
            problem = RestoreError(f"the outcome of {self._tool.name} can't be put together: {error}")
            # A framework would take it for an error of the tool, and tell the model.
            fail: Callable[[IsotraceError], Any] | None = getattr(branch.driver, "fail", None)
            if fail is not None:
                fail(problem)
            raise problem from error

    def error(self, exchange: Exchange, error: BaseException) -> BaseException:
        """What the framework sees raised."""
        transport = exchange.transport or {}
        if self._made or "raised" not in transport:
            return error
        return _raised_again(transport, self._tool.reach) or error


def _raised_again(transport: dict[str, Any], reach: Reach) -> BaseException | None:
    """The error that was raised on record; None where its class refuses."""
    kind: Any = reach.find(transport["raised"])
    if kind is None or not issubclass(kind, BaseException):
        return None
    try:
        content = together(from_plain(_copied(transport["content"])), transport["forms"], reach)
        made: BaseException = kind.__new__(kind, *content["args"])
        made.args = tuple(content["args"])
        vars(made).update(content["attributes"])
    except Exception:  # noqa: BLE001  # a caller's class can refuse in any way
        return None
    return made


def classes_of(*modules: str) -> list[type]:
    """The classes in these modules, and in those below them, as far as they are loaded."""
    names = [name for name in list(sys.modules) if name.startswith(modules)]
    found = [vars(sys.modules[name]) for name in names if isinstance(sys.modules[name], ModuleType)]
    return [value for one in found for value in list(one.values()) if isinstance(value, type)]


def _mark(reason: str) -> None:
    """A reason why this step may not replay: it stands in its marks and in the run's grade."""
    step = current_step.get()
    if step is not None and reason not in step.marks:
        step.marks = (*step.marks, reason)


def _copied(node: Any) -> Any:
    """The containers anew: putting together changes them."""
    if type(node) is dict:
        return {key: _copied(child) for key, child in node.items()}
    if type(node) is list:
        return [_copied(child) for child in node]
    return node
