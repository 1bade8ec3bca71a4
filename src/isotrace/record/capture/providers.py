"""Which HTTP calls are calls to a model, told by the shape of path and body, never by the host.

So a server that speaks a provider's protocol under any name is recognised, and a proxy in front of one too.
Operations have the names of OpenTelemetry's `gen_ai.operation.name`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

_Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ProviderCall:
    """A call to a model: the operation, and the request with the model that only the path names."""

    operation: str
    params: dict[str, Any]

    @property
    def model(self) -> str | None:
        """The model that was asked for, if the request names one."""
        model = self.params.get("model")
        return model if isinstance(model, str) else None


def _has_list(*names: str) -> Callable[[_Body], bool]:
    return lambda body: any(isinstance(body.get(name), list) for name in names)


def _has(*names: str) -> Callable[[_Body], bool]:
    return lambda body: any(body.get(name) is not None for name in names)


# The first that fits counts. A group `model` is the model's name; a path may stand behind any prefix.
_SHAPES: Final[tuple[tuple[str, re.Pattern[str], Callable[[_Body], bool]], ...]] = tuple(
    (operation, re.compile(pattern), fits)
    for operation, pattern, fits in (
        # OpenAI, Mistral, DeepSeek, and every server that is compatible with them
        ("chat", r"/(?:chat|agents)/completions/?$", _has_list("messages")),
        ("chat", r"/responses/?$", _has("input", "prompt", "conversation", "previous_response_id")),
        ("text_completion", r"(?:/fim)?/completions/?$", _has("prompt")),
        ("embeddings", r"/embeddings/?$", _has("input")),
        # Anthropic: its own, at Vertex AI, and its first API
        ("chat", r"/messages/?$", lambda body: _has_list("messages")(body) and _has("max_tokens")(body)),
        ("chat", r"/models/(?P<model>[^/:]+):(?:streamR|r)awPredict$", _has_list("messages")),
        ("text_completion", r"/v1/complete/?$", _has("prompt")),
        # Google
        (
            "generate_content",
            r"/(?P<model>[^/:]+):(?:generateContent|streamGenerateContent)$",
            _has("contents"),
        ),
        (
            "embeddings",
            r"/(?P<model>[^/:]+):(?:embedContent|batchEmbedContents)$",
            _has("content", "requests"),
        ),
        # Mistral's conversations, Bedrock
        ("chat", r"/conversations(?:/[^/]+)?/?$", _has("inputs")),
        (
            "chat",
            r"/model/(?P<model>[^/]+)/(?:converse|converse-stream|invoke|invoke-with-response-stream)$",
            _has_list("messages"),
        ),
        (
            "embeddings",
            r"/model/(?P<model>[^/]*embed[^/]*)/invoke$",
            _has("inputText", "texts", "inputImage", "inputs"),
        ),
        (
            "text_completion",
            r"/model/(?P<model>[^/]+)/invoke(?:-with-response-stream)?$",
            _has("prompt", "inputText"),
        ),
    )
)


def provider_call(method: str, url: str, body: Any) -> ProviderCall | None:
    """The call to a model that this request is, None if it is none.

    `body` is the request's JSON value. The params are the body, with `model` from the path where the
    body names none. Never raises for what it is given.
    """
    if method.upper() != "POST" or not isinstance(body, dict):
        return None
    try:
        path = urlsplit(url).path
    except ValueError:
        return None
    for operation, pattern, fits in _SHAPES:
        found = pattern.search(path)
        if found is None or not fits(body):
            continue
        model = found.groupdict().get("model")
        params = body if model is None or "model" in body else {"model": unquote(model), **body}
        return ProviderCall(operation, params)
    return None
