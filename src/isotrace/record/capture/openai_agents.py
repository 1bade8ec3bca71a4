"""The OpenAI Agents SDK (`agents`): every call of a function tool that a runner makes for a model.

What is wrapped is where a tool's own code is called: what the model is told of an error, guardrails,
hooks and time-outs are above it, and run in a replay as they did. Arguments are those of the model, as it
gave them. The SDK's export of traces is no part of what the agent does: it stays outside of the run.
"""

from __future__ import annotations

import copy
import functools
import json
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.capture.tools import Tool, acall, classes_of
from isotrace.record.context import calling_branch, current_branch, live_branch, run_opener
from isotrace.record.patches import patch

ABOUT = About(
    libraries="OpenAI Agents SDK (`openai-agents`, imported as `agents`)",
    versions="openai-agents 0.24",
    steps=(("a function tool, and an agent that is used as a tool", "tool", "write"),),
    not_captured=(
        "What a tool changes in its context: not changed in a replay; the grade says where it happened.",
        "The export of traces to OpenAI: it goes on beside a recording, and a replay exports nothing.",
        "Guardrails, hooks and handoffs: they run again.",
    ),
)


def install(module: ModuleType) -> list[Callable[[], None]]:
    """Wraps the calls of tools, or the export of traces; the ways back. A package of the same name that
    is not the SDK is left alone. Raises `AttributeError` for a version that is built otherwise."""
    found: Any = module
    if module.__name__ == "agents.tool":
        if not hasattr(module, "FunctionTool") or not hasattr(module, "function_tool"):
            return []
        return [
            patch(found._FailureHandlingFunctionToolInvoker, "__call__", _invoking),
            *_own_invokers(found),
        ]
    if not hasattr(module, "BackendSpanExporter"):
        return []
    processor = found.BatchTraceProcessor
    return [
        *(patch(processor, name, _not_in_a_replay) for name in ("on_trace_start", "on_span_end")),
        *(patch(processor, name, _outside) for name in ("_ensure_thread_started", "force_flush", "shutdown")),
    ]


# --- tools ------------------------------------------------------------------------------------


def _invoking(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    async def __call__(self: Any, ctx: Any, input: str) -> Any:  # noqa: A002, N807  # the SDK's names
        if live_branch() is None or self._function_tool is None:
            return await plain(self, ctx, input)
        # The same invoker around the step: how an error is told is the invoker's.
        stepping = copy.copy(self)
        stepping._invoke_tool_impl = _stepping(self._function_tool, self._invoke_tool_impl)
        return await plain(stepping, ctx, input)

    return __call__


def _stepping(tool: Any, invoker: Callable[..., Any]) -> Callable[..., Any]:
    """The invoker as a step."""

    @functools.wraps(invoker)
    async def step(ctx: Any, arguments: str) -> Any:
        branch = calling_branch()
        if branch is None:
            return await invoker(ctx, arguments)
        context = getattr(ctx, "context", None)
        called = Tool(
            "agents",
            str(tool.name),
            getattr(tool, "__wrapped__", None) or invoker,
            _known,
            None if context is None else lambda: context,
        )
        return await acall(branch, called, _params(arguments), lambda: invoker(ctx, arguments))

    return step


_INVOKE = "_invoke_function_tool_with_metadata"


def _own_invokers(module: Any) -> list[Callable[[], None]]:
    """For tools with an invoker of the program's own: wraps the function that calls one, also where it was
    imported to by now."""
    original, handling = getattr(module, _INVOKE), module._FailureHandlingFunctionToolInvoker

    def wrap(plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)
        async def invoke(*, function_tool: Any, context: Any, arguments: str) -> Any:
            invoker = function_tool.on_invoke_tool
            if live_branch() is not None and not isinstance(invoker, handling):
                # A copy, and not by its own `__copy__`, which would bind a method to it.
                function_tool, tool = object.__new__(type(function_tool)), function_tool
                vars(function_tool).update(vars(tool), on_invoke_tool=_stepping(tool, invoker))
            return await plain(function_tool=function_tool, context=context, arguments=arguments)

        return invoke

    owners = [found for name, found in list(sys.modules.items()) if name.startswith("agents.")]
    return [patch(owner, _INVOKE, wrap) for owner in owners if vars(owner).get(_INVOKE) is original]


def _params(arguments: str) -> dict[str, Any]:
    try:
        params = json.loads(arguments) if arguments else {}
    except ValueError:
        return {"arguments": arguments}
    return params if isinstance(params, dict) else {"arguments": params}


def _known() -> list[type]:
    return classes_of("agents.tool", "agents.exceptions", "agents.items")


# --- the export of traces ---------------------------------------------------------------------


def _outside(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def outside(*args: Any, **kwargs: Any) -> Any:
        token = current_branch.set(None)
        try:
            return plain(*args, **kwargs)
        finally:
            current_branch.reset(token)

    return outside


def _not_in_a_replay(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def unless_replayed(*args: Any, **kwargs: Any) -> Any:
        return plain(*args, **kwargs) if run_opener.get() is None else None

    return unless_replayed
