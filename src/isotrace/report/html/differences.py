"""Where two values part, marked: what a divergence says, as a page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from isotrace.compare import Divergence
from isotrace.jsondiff import MISSING
from isotrace.report.differences import shared_start, value_at, value_text
from isotrace.report.safe import summary, visible

MOST_CHANGES = 20
"""JSON differences of one divergence that a page lists."""

_BEFORE = 120
_AFTER = 600
_WORD = 20


@dataclass(frozen=True, slots=True)
class ChangeView:
    """One place where two values differ: its JSON Pointer, and both sides as HTML. What each has that the
    other has not is marked. Both are empty where neither has anything to show."""

    pointer: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class DivergenceView:
    """A divergence in words. `row` is where it stands in the alignment, None where it is about the run."""

    code: str
    severity: str
    place: str
    row: int | None
    message: str
    definition: str
    changes: tuple[ChangeView, ...]
    more: int
    nearest: str


def divergence_view(one: Divergence, rows: int) -> DivergenceView:
    """The divergence; `rows` is how many rows there are to link to."""
    return DivergenceView(
        code=one.code.value,
        severity=one.severity.value,
        place="the run" if one.index is None else f"step {one.index}",
        row=one.index if one.index is not None and one.index < rows else None,
        message=visible(one.message),
        definition=one.code.info.definition,
        changes=tuple(_changes(one)),
        more=max(len(one.pointers) - MOST_CHANGES, 0),
        nearest=summary(one.nearest, 300) if one.nearest else "",
    )


def _changes(one: Divergence) -> list[ChangeView]:
    if not one.pointers:
        if one.expected is None and one.actual is None:
            return []
        return [ChangeView("", *marked(value_text(one.expected), value_text(one.actual)))]
    found = []
    for pointer in one.pointers[:MOST_CHANGES]:
        left, right = value_at(one.expected, pointer), value_at(one.actual, pointer)
        # Of content that is gone on both sides there is nothing to show.
        gone = left is MISSING and right is MISSING
        texts = ("", "") if gone else marked(value_text(left), value_text(right))
        found.append(ChangeView(visible(pointer) or "the whole value", *texts))
    return found


def marked(left: str, right: str) -> tuple[str, str]:
    """Both texts as HTML, cut around the part in which they differ, with that part, in whole words, in
    `<mark>`."""
    if left == right:
        return _one(left, 0, len(left)), _one(right, 0, len(right))
    start = shared_start(left, right)
    room = min(len(left), len(right)) - start
    end = shared_start(left[::-1][:room], right[::-1][:room])
    start -= _inside_word(left[:start][::-1])
    end -= _inside_word(left[len(left) - end :])
    return _one(left, start, end), _one(right, start, end)


def _inside_word(text: str) -> int:
    """How many letters and digits a text begins with: so far a word goes on. Of a long one, none."""
    count = next((at for at, char in enumerate(text[:_WORD]) if not char.isalnum()), len(text[:_WORD]))
    return 0 if count == _WORD else count


def _one(text: str, start: int, end: int) -> str:
    stop = len(text) - end
    before = text[max(start - _BEFORE, 0) : start]
    inside = text[start : min(stop, start + _AFTER)]
    after = text[stop : stop + _BEFORE] if stop <= start + _AFTER else ""
    cut_before = "…" if start > _BEFORE else ""
    shown_to = start + len(inside) + len(after)
    cut_after = "…" if shown_to < len(text) else ""
    mark = f"<mark>{escape(inside, quote=False)}</mark>" if inside else ""
    return cut_before + escape(before, quote=False) + mark + escape(after, quote=False) + cut_after
