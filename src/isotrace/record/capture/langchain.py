"""LangChain's tools, and so those that LangGraph's `ToolNode` and agents call.

What is wrapped is a tool's own `_run` and `_arun`, where `BaseTool` calls them: validation, callbacks, the
handling of errors and the message that is made of the answer are above it, and run in a replay as they did.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.capture.tools import Tool, acall, call, classes_of
from isotrace.record.context import calling_branch, live_branch
from isotrace.record.patches import patch, swap_code
from isotrace.record.sources.uuids import fresh

ABOUT = About(
    libraries="LangChain and LangGraph (`langchain-core`, `langgraph`)",
    versions="langchain-core 1.0 and newer, langgraph 1.0 and newer",
    steps=(
        ("a tool (`BaseTool`, `@tool`), also when `ToolNode` or an agent calls it", "tool", "write"),
        ("a fresh id of a message or a run", "noted value", "read"),
    ),
    not_captured=(
        "What a tool changes in what it is given (state, store, stream writer): not changed in a replay.",
        "Nodes of a graph, chains, retrievers and prompts: they run again, and their HTTP is captured.",
    ),
)

_NEVER_ARGUMENTS = frozenset({"run_manager", "callbacks"})


def install(module: Any) -> list[Callable[[], None]]:
    """Wraps tools as they are first called, or what makes ids; the ways back.

    Raises `AttributeError` for a version that is built otherwise.
    """
    if module.__name__ == "langchain_core.utils.uuid":
        return [swap_code(module.uuid7, fresh)]
    classes = _Classes(module)
    undo = [patch(module.BaseTool, name, classes.covering) for name in ("run", "arun")]
    return [*undo, classes.uncover]


class _Classes:
    """The classes of tools whose `_run` or `_arun` is wrapped. A class is met when a tool of it is called."""

    def __init__(self, module: Any) -> None:
        self._base = module.BaseTool
        self._config_param: Callable[[Any], str | None] = getattr(
            module, "_get_runnable_config_param", lambda _: None
        )
        self._lock = threading.Lock()
        self._undo: dict[tuple[type, str], Callable[[], None]] = {}

    def uncover(self) -> None:
        with self._lock:
            while self._undo:
                self._undo.popitem()[1]()

    def covering(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        """`BaseTool.run` and `arun`."""

        @functools.wraps(plain)
        def run(tool: Any, *args: Any, **kwargs: Any) -> Any:
            if live_branch() is not None:
                self._cover(type(tool))
            return plain(tool, *args, **kwargs)

        return run

    def _cover(self, kind: type) -> None:
        for name, wrap in (("_run", self._running), ("_arun", self._arunning)):
            owner = next((base for base in kind.__mro__ if name in vars(base)), self._base)
            # The base's own `_arun` has `_run` called in a thread.
            if owner is self._base or (owner, name) in self._undo:
                continue
            with self._lock:
                if (owner, name) not in self._undo:
                    self._undo[owner, name] = patch(owner, name, wrap)

    def _running(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)
        def _run(tool: Any, *args: Any, **kwargs: Any) -> Any:
            branch = calling_branch()
            if branch is None:
                return plain(tool, *args, **kwargs)
            called = self._tool(tool, plain, "func")
            params = self._params(tool, plain, args, kwargs)
            return call(branch, called, params, lambda: plain(tool, *args, **kwargs))

        return _run

    def _arunning(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)
        async def _arun(tool: Any, *args: Any, **kwargs: Any) -> Any:
            branch = calling_branch()
            if branch is None:
                return await plain(tool, *args, **kwargs)
            called = self._tool(tool, plain, "coroutine")
            params = self._params(tool, plain, args, kwargs)
            return await acall(branch, called, params, lambda: plain(tool, *args, **kwargs))

        return _arun

    def _tool(self, tool: Any, plain: Any, function: str) -> Tool:
        own = getattr(tool, function, None) or getattr(tool, "func", None)
        return Tool("langchain", str(tool.name), own or plain, _known)

    def _params(self, tool: Any, plain: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The tool's arguments by name, without what the framework puts in."""
        config = self._config_param(plain)
        left = {key: value for key, value in kwargs.items() if key not in _NEVER_ARGUMENTS and key != config}
        try:
            named = tool._filter_injected_args(left)
            if args:
                named |= zip(tool.args, args, strict=True)
        except Exception:  # noqa: BLE001  # a tool's schema may refuse; the call is made all the same
            named = {"args": list(args), **left} if args else left
        return dict(named)


def _known() -> list[type]:
    return classes_of(
        "langchain_core.messages",
        "langchain_core.documents",
        "langchain_core.tools.base",
        "langgraph.types",
        "langgraph.errors",
    )
