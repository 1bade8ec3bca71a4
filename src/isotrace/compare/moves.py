"""Steps that stand in both runs, within one branch, but in another order."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isotrace.compare.alignment import Place

Pairs = list[tuple[int, int]]


def find_moves(
    one: Sequence[Place], other: Sequence[Place], pairs: Sequence[tuple[int, int]]
) -> tuple[Pairs, Pairs]:
    """The pairs that stay, and the moves: positions `(in one, in other)` of the same step.

    A step without an equal partner has moved if the other run has, in the same branch, an equal
    step without one. A pair of one skill with other params is taken apart only if both of its
    steps turn up elsewhere: otherwise one changed step would become two puzzles.
    """
    changed = {i: j for i, j in pairs if one[i].digest != other[j].digest}
    if len(pairs) == len(one) == len(other) and not changed:
        return list(pairs), []
    equal_one = {i for i, _ in pairs if i not in changed}
    equal_other = {j for i, j in pairs if i not in changed}
    moves = _matches(one, other, equal_one, equal_other)
    _give_back(moves, changed)
    return [(i, j) for i, j in pairs if i not in changed or i not in moves], sorted(moves.items())


def _matches(
    one: Sequence[Place], other: Sequence[Place], equal_one: set[int], equal_other: set[int]
) -> dict[int, int]:
    """Equal steps of one branch among those without an equal partner, first with first."""
    waiting: dict[tuple[Hashable, Hashable], deque[int]] = defaultdict(deque)
    for j, place in enumerate(other):
        if j not in equal_other:
            waiting[place.branch, place.digest].append(j)
    matches: dict[int, int] = {}
    for i, place in enumerate(one):
        if i not in equal_one and (queue := waiting.get((place.branch, place.digest))):
            matches[i] = queue.popleft()
    return matches


def _give_back(moves: dict[int, int], changed: dict[int, int]) -> None:
    """Drops every move that would take a changed pair apart and leave its other half alone."""
    changed_back = {j: i for i, j in changed.items()}
    origin = {j: i for i, j in moves.items()}
    doubtful = [i for i, j in changed.items() if (i in moves) != (j in origin)]
    while doubtful:
        i = doubtful.pop()
        j = changed[i]
        for start in (i, origin.get(j)):
            if start is None or start not in moves:
                continue
            end = moves.pop(start)
            del origin[end]
            # Its two ends may belong to other changed pairs, which are now half claimed.
            touched = (start if start in changed else None, changed_back.get(end))
            doubtful += [
                pair for pair in touched if pair is not None and (pair in moves) != (changed[pair] in origin)
            ]
