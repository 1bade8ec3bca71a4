"""Numbers as a sentence has them: never more certain than they are."""

from __future__ import annotations

import math
from collections.abc import Callable

_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def percent(value: float) -> str:
    """A share in per cent, to the nearest; only 0 is "0 %", only 1 is "100 %"."""
    return _percent(value, round)


def at_least(value: float) -> str:
    """A share in per cent, rounded down: what is said of it stays true."""
    return _percent(value, math.floor)


def at_most(value: float) -> str:
    """A share in per cent, rounded up."""
    return _percent(value, math.ceil)


def _percent(value: float, rounding: Callable[[float], int]) -> str:
    if value in (0, 1):
        return f"{value * 100:.0f} %"
    for digits in range(4):
        # The nudge keeps 0.29 × 100 = 28.999999999999996 from being rounded down to 28.
        scaled = rounding(round(value * 100 * 10**digits, 9)) / 10**digits
        if 0 < scaled < 100:
            return f"{scaled:.{digits}f} %"
    return "under 0.001 %" if value < 0.5 else "over 99.999 %"


def probability(value: float) -> str:
    """A p-value: "p = 0.03", "p < 0.001"."""
    if value < 0.001:
        return "p < 0.001"
    text = f"{value:.2f}" if value >= 0.0095 else f"{value:.3f}"
    return f"p = {text}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """ "1 run", "2 runs", "1,225 pairs"."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def ordinal(number: int) -> str:
    """ "a fifth", "an 11th"."""
    if number <= len(_ORDINALS):
        word = _ORDINALS[number - 1]
    else:
        last = 0 if number % 100 in (11, 12, 13) else number % 10
        word = f"{number}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(last, 'th') }"
    vowel = word.startswith(("e", "8")) or word in ("11th", "18th")
    return f"{'an' if vowel else 'a'} {word}"


def listed(parts: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
