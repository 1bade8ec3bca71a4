"""What a call of a model used, as each provider says it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isotrace.models import StepContext, Usage
from isotrace.record.usage import usage_of

CHAT = {
    "prompt_tokens": 53,
    "completion_tokens": 15,
    "total_tokens": 68,
    "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 9},
}
RESPONSES = {
    "input_tokens": 8234,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 79,
    "output_tokens_details": {"reasoning_tokens": 34},
    "total_tokens": 8313,
}
ANTHROPIC = {
    "input_tokens": 9,
    "output_tokens": 30,
    "cache_read_input_tokens": 400,
    "cache_creation_input_tokens": 50,
    "service_tier": "standard",
}
GOOGLE = {
    "promptTokenCount": 10,
    "toolUsePromptTokenCount": 5,
    "cachedContentTokenCount": 4,
    "candidatesTokenCount": 20,
    "thoughtsTokenCount": 100,
    "totalTokenCount": 135,
}
BEDROCK = {"inputTokens": 30, "outputTokens": 5, "totalTokens": 36, "cacheReadInputTokens": 1}
DEEPSEEK = {"prompt_tokens": 9, "completion_tokens": 3, "prompt_cache_hit_tokens": 8}
INSPECT = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 18, "input_tokens_cache_read": 10}
LITELLM = {"prompt_tokens": 100, "completion_tokens": 3, "cache_read_input_tokens": 60}


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"model": "gpt-x", "usage": CHAT}, Usage("gpt-x", 53, 15, 40, None, 9)),
        ({"model": "gpt-x", "usage": RESPONSES}, Usage("gpt-x", 8234, 79, 0, None, 34)),
        ({"model": "claude-x", "usage": ANTHROPIC}, Usage("claude-x", 459, 30, 400, 50, None)),
        ({"modelVersion": "gemini-x", "usageMetadata": GOOGLE}, Usage("gemini-x", 15, 120, 4, None, 100)),
        ({"output": {}, "usage": BEDROCK}, Usage("asked", 31, 5, 1, None, None)),
        ({"model": "deepseek-x", "usage": DEEPSEEK}, Usage("deepseek-x", 9, 3, 8, None, None)),
        ({"model": "m", "usage": INSPECT}, Usage("m", 15, 3, 10, None, None)),
        ({"model": "m", "usage": LITELLM}, Usage("m", 100, 3, 60, None, None)),
        ({"model": "e", "usage": {"prompt_tokens": 7, "total_tokens": 7}}, Usage("e", 7)),
        ({"model": "m", "choices": []}, Usage("m")),
        ({"model": "m", "usage": None}, Usage("m")),
        ({"usage": {"prompt_tokens": "many", "completion_tokens": -1}}, Usage("asked")),
        ({"error": {"message": "no"}}, None),
        ([], None),
        (None, None),
    ],
)
def test_usage_is_told_by_shape(answer: Any, usage: Usage | None) -> None:
    assert usage_of(answer, "asked") == usage


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from([*CHAT, *ANTHROPIC, *GOOGLE, "usage", "usageMetadata", "model"]),
            inner,
            max_size=4,
        )
    ),
)


@given(_ANY, _ANY)
def test_no_answer_breaks_it_and_what_it_gives_can_be_kept(answer: Any, asked: Any) -> None:
    usage = usage_of(answer, asked)
    if usage is not None:
        assert Usage.from_dict(usage.to_dict()) == usage
        context = StepContext(usage=usage)
        assert StepContext.from_dict(context.to_dict()) == context
