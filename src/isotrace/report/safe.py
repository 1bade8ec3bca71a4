"""Recorded text on a terminal: shown whole and harmless.

What an agent, a model or a tool said may hold terminal escape codes, controls that
reorder text (Unicode UTR 36, "Trojan Source"), or lone surrogates that no stream can encode. Here
each such character becomes a visible stand-in; everything else stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Soft hyphen; Arabic letter mark; zero-width space and direction marks; line and paragraph
# separators with the bidi embeddings; invisible operators and isolates; byte order mark; interlinear
# annotation; layout controls of hieroglyphs, shorthand and music; tags; surrogates. Zero-width
# joiners stay, because scripts and emoji need them, and so do format characters that can be seen.
_INVISIBLE = (
    "\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e007f\ud800-\udfff"
)
# C0, DEL and C1.
_HARMFUL = re.compile(f"[\x00-\x1f\x7f-\x9f{_INVISIBLE}]")
# In JSON text the C0 controls are escaped already; a line break there is layout.
_HARMFUL_IN_JSON = re.compile(f"[\x7f-\x9f{_INVISIBLE}]")
_PICTURES = {"\n": "↵", "\t": "⇥", "\r": "␍", "\x7f": "␡"}


def _stand_in(match: re.Match[str]) -> str:
    char = match[0]
    if char in _PICTURES:
        return _PICTURES[char]
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)
    return f"<U+{code:04X}>"


def visible(text: str) -> str:
    """The text on one line, each control character as a visible stand-in: ESC as `␛`, a line break
    as `↵`, a bidi control as `<U+202E>`."""
    return _HARMFUL.sub(_stand_in, text)


def visible_lines(text: str) -> list[str]:
    """As `visible`, but a line break starts a new line and a tab stays four spaces."""
    return [visible(line.replace("\t", "    ")) for line in text.replace("\r\n", "\n").split("\n")]


def _json_escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def json_text(value: Any, *, indent: bool = True) -> str:
    """JSON that reads back as the same value and can be printed on any terminal: what `visible`
    would replace is escaped."""
    if indent:
        text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return _HARMFUL_IN_JSON.sub(_json_escape, text)


def shortened(text: str, width: int) -> str:
    """The text cut to `width` characters, with `…` in place of what is left out."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + "…"


def summary(value: Any, width: int) -> str:
    """One line that says what a value is: compact JSON, whole if it fits. Else long parts are cut
    first, so that a message history shows its shape, then the line at `width`."""
    for share in _SHARES:
        text = visible(_compact(value, width, share, 0))
        if len(text) <= width:
            break
    return shortened(text, width)


def plain(value: Any, width: int) -> str:
    """As `summary`, but a text stands without quotes."""
    return shortened(visible(value), width) if isinstance(value, str) else summary(value, width)


_SHARES = (1.0, 1.25, 1.6, 2.0)
"""A part of a value gets one in so many of the characters that are left; the first that fits is taken."""
_LEAST = 12
_DEEP = 3


def _compact(value: Any, budget: int, share: float, depth: int) -> str:
    """JSON with bare keys, of about `budget` characters at most."""
    if isinstance(value, str):
        limit = budget if depth == 0 or share == 1.0 else max(int(budget / share), _LEAST)
        return json.dumps(shortened(value, limit + 1), ensure_ascii=False)
    if isinstance(value, dict):
        if depth >= _DEEP and value and share > 1:
            return f"{{…{len(value)}}}"
        return _joined([(f"{_key(key)}: ", item) for key, item in value.items()], "{}", budget, share, depth)
    if isinstance(value, list | tuple):
        if depth >= _DEEP and value and share > 1:
            return f"[…{len(value)}]"
        return _joined([("", item) for item in value], "[]", budget, share, depth)
    return json.dumps(value, ensure_ascii=False) if _is_json_scalar(value) else str(value)


def _is_json_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float)


def _key(key: Any) -> str:
    text = str(key)
    return text if text.isidentifier() else json.dumps(text, ensure_ascii=False)


def _joined(parts: list[tuple[str, Any]], ends: str, budget: int, share: float, depth: int) -> str:
    shown: list[str] = []
    used = 0
    for label, item in parts:
        if used > budget:
            shown.append(f"+{len(parts) - len(shown)}")
            break
        text = label + _compact(item, max(budget - used - len(label), _LEAST), share, depth + 1)
        shown.append(text)
        used += len(text) + 2
    return ends[0] + ", ".join(shown) + ends[1]
