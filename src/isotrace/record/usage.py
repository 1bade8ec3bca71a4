"""Which model answered, and how many tokens its provider counted: read out of the answer, by its shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from isotrace.models.usage import Usage

_MAX_TOKENS: Final = 10**12
_MAX_NAME: Final = 200
_HOLDERS: Final = ("usage", "usageMetadata", "usage_metadata")
_MODELS: Final = ("model", "modelVersion", "model_version")
# What providers, and those who record their answers, call the same thing; `/` goes into an object.
_INPUT: Final = (
    "prompt_tokens",
    "input_tokens",
    "inputTokens",
    "promptTokenCount",
    "prompt_token_count",
    "input",
)
_OUTPUT: Final = (
    "completion_tokens",
    "output_tokens",
    "outputTokens",
    "candidatesTokenCount",
    "candidates_token_count",
    "output",
)
_TOTAL: Final = ("total_tokens", "totalTokens", "totalTokenCount", "total_token_count", "total")
_CACHED: Final = (
    "prompt_tokens_details/cached_tokens",
    "input_tokens_details/cached_tokens",
    "cache_read_input_tokens",
    "cacheReadInputTokens",
    "cachedContentTokenCount",
    "cached_content_token_count",
    "prompt_cache_hit_tokens",
    "input_tokens_cache_read",
    "input_cached_tokens",
)
_WRITTEN: Final = (
    "cache_creation_input_tokens",
    "cacheWriteInputTokens",
    "prompt_tokens_details/cache_write_tokens",
    "input_tokens_cache_write",
)
_REASONING: Final = (
    "completion_tokens_details/reasoning_tokens",
    "output_tokens_details/reasoning_tokens",
    "reasoning_tokens",
)
# Google counts these apart from what it calls the prompt's and the candidates' tokens.
_THOUGHTS: Final = ("thoughtsTokenCount", "thoughts_token_count")
_TOOL_PROMPT: Final = ("toolUsePromptTokenCount", "tool_use_prompt_token_count")
# Anthropic and Bedrock count what came from a cache, or went there, apart from the input.
_APART: Final = frozenset(
    {
        "cache_read_input_tokens",
        "cache_creation_input_tokens",
        "cacheReadInputTokens",
        "cacheWriteInputTokens",
    }
)


def usage_of(answer: Any, asked_model: Any = None) -> Usage | None:
    """What this answer says that it used, None where it says nothing of it. `asked_model` is the model that
    the request named, for answers that name none. Never raises for what is in the answer."""
    if not isinstance(answer, Mapping):
        return None
    counts = next((answer[name] for name in _HOLDERS if isinstance(answer.get(name), Mapping)), None)
    model = next((name for key in _MODELS if (name := _name(answer.get(key)))), None)
    if counts is None:
        return None if model is None else Usage(model)
    thoughts = _count(counts, _THOUGHTS)
    sent, given = _count(counts, _INPUT), _count(counts, _OUTPUT)
    cached, written = _count(counts, _CACHED), _count(counts, _WRITTEN)
    if sent is not None:
        beside = (cached or 0) + (written or 0)
        if _counts_apart(counts, sent, given or 0, beside):
            sent += beside
        sent += _count(counts, _TOOL_PROMPT) or 0
    if thoughts is not None:
        given = (given or 0) + thoughts
    reasoning = _count(counts, _REASONING) if thoughts is None else thoughts
    return Usage(model or _name(asked_model), sent, given, cached, written, reasoning)


def _name(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _MAX_NAME else None


def _count(counts: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        holder: Any = counts
        *outer, last = name.split("/")
        for part in outer:
            holder = holder.get(part)
            if not isinstance(holder, Mapping):
                holder = {}
        count = holder.get(last)
        if type(count) is int and 0 <= count <= _MAX_TOKENS:
            return count
    return None


def _counts_apart(counts: Mapping[str, Any], sent: int, given: int, beside: int) -> bool:
    """Whether what has to do with a cache is not among the input's tokens."""
    total = _count(counts, _TOTAL)
    if total is not None and total in (sent + given, sent + given + beside):
        return total != sent + given
    return beside > sent or (not _APART.isdisjoint(counts) and "prompt_tokens" not in counts)
