"""Numbers, times and ids as people read them, and the signs of kinds and statuses."""

from __future__ import annotations

from datetime import UTC, datetime

from isotrace.models import Usage
from isotrace.report.safe import shortened, visible

# The first sign of each pair is for Unicode, the second for ASCII; each is one column wide.
KIND_SIGNS = {
    "llm": ("◆", "*"),
    "tool": ("▸", ">"),
    "retrieval": ("◇", "?"),
    "code": ("λ", "="),
    "agent": ("»", "@"),
    "timer": ("◷", "o"),
    "http": ("⇄", "~"),
    "mcp": ("⌁", "&"),
    "process": ("$", "$"),
}
STATUS_SIGNS = {"success": ("✓", "+"), "failure": ("✗", "x"), "retry": ("↻", "r"), "skipped": ("⊘", "-")}


def duration(ms: float) -> str:
    """`850 µs`, `12.5 ms`, `3.20 s`, `4 min 05 s`, `2 h 03 min`."""
    if ms < 1:
        return f"{ms * 1000:.0f} µs"
    if ms < 1000:
        return f"{ms:.1f} ms" if ms < 100 else f"{ms:.0f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def cost(cents: float) -> str:
    """`0.42 ¢`, or `$1.27` from a dollar on; empty for nothing."""
    if not cents:
        return ""
    return f"${cents / 100:,.2f}" if cents >= 100 else f"{cents:.2g} ¢"


def tokens(usage: Usage | None) -> str:
    """`gpt-x, 1,200 in, 35 out`: the model that answered and its tokens, as far as they are known."""
    if usage is None:
        return ""
    counts = ((usage.input_tokens, "in"), (usage.output_tokens, "out"))
    return ", ".join([*filter(None, [usage.model]), *(f"{n:,} {way}" for n, way in counts if n is not None)])


def moment(when: datetime | None) -> str:
    """UTC to the second."""
    return "" if when is None else when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def short_id(text: str | None, digits: int = 12) -> str:
    """The first digits of an id or hash."""
    return shortened(visible(text), digits + 1).removesuffix("…")[:digits] if text else ""
