"""OpenTelemetry: spans and logs that a program exports are no part of what its agent does."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any

from isotrace.record.capture.about import About
from isotrace.record.patches import patch_all
from isotrace.record.telemetry import in_a_replay, outside

ABOUT = About(
    libraries="OpenTelemetry, and the threads of Langfuse, LangSmith, Logfire, Sentry and other telemetry",
    versions="opentelemetry-sdk 1.28 and newer",
    steps=(),
    not_captured=(
        "What a program exports of its spans and logs: it goes on beside a recording, not in a replay.",
    ),
)


def install(module: ModuleType) -> list[Callable[[], None]]:
    """Keeps exports out of runs; the ways back."""
    found: Any = module
    if module.__name__ == "opentelemetry.sdk._shared_internal":
        return patch_all([(found.BatchProcessor, "_export", _exporting("_exporter"))])
    return patch_all([(found.SimpleSpanProcessor, "on_end", _exporting("span_exporter"))])


def _exporting(exporter: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrap(plain: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(plain)
        def export(self: Any, *args: Any, **kwargs: Any) -> Any:
            # The SDK's own exporters print, or keep in memory.
            if in_a_replay() and not type(getattr(self, exporter)).__module__.startswith(_SDK):
                getattr(self, "_queue", []).clear()
                return None
            with outside():
                return plain(self, *args, **kwargs)

        return export

    return wrap


_SDK = "opentelemetry.sdk."
