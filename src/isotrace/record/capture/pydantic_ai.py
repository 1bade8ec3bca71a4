"""PydanticAI: every call of a function tool that an agent makes for a model.

What is wrapped is where a `FunctionToolset` calls the function: arguments are validated above it, and
retries and what the model is told of an error are decided there, which runs in a replay as it did.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.capture.tools import Tool, acall, classes_of
from isotrace.record.context import calling_branch
from isotrace.record.patches import patch, swap_code
from isotrace.record.sources.uuids import fresh

ABOUT = About(
    libraries="PydanticAI (`pydantic-ai-slim`)",
    versions="pydantic-ai-slim 2",
    steps=(
        ("a function tool of an agent or a `FunctionToolset`", "tool", "write"),
        ("a fresh id", "noted value", "read"),
    ),
    not_captured=(
        "What a tool changes in `ctx.deps`: not changed in a replay; the grade says where it happened.",
        "Output functions and validators, and functions that prepare tools or instructions: they run again.",
    ),
)


def install(module: Any) -> list[Callable[[], None]]:
    """Wraps the function toolset, or what makes ids; the ways back.

    Raises `AttributeError` for a version that is built otherwise.
    """
    if module.__name__ == "pydantic_ai._uuid":
        return [swap_code(module.uuid7, fresh)]
    return [patch(module.FunctionToolset, "call_tool", _calling)]


def _calling(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    async def call_tool(
        self: Any, name: str, tool_args: dict[str, Any], ctx: Any, tool: Any, *args: Any, **kwargs: Any
    ) -> Any:
        branch = calling_branch()
        if branch is None:
            return await plain(self, name, tool_args, ctx, tool, *args, **kwargs)
        deps = getattr(ctx, "deps", None)
        called = Tool(
            "pydantic_ai", name, _function(self, name, tool), _known, None if deps is None else lambda: deps
        )
        return await acall(
            branch, called, dict(tool_args), lambda: plain(self, name, tool_args, ctx, tool, *args, **kwargs)
        )

    return call_tool


def _function(toolset: Any, name: str, tool: Any) -> Any:
    """The tool's own function, None where it can't be told."""
    return getattr(toolset.tools.get(getattr(tool, "original_name", name)), "function", None)


def _known() -> list[type]:
    return classes_of("pydantic_ai.messages", "pydantic_ai.exceptions", "pydantic_ai.tools")
