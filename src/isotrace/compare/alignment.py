"""Which step of one run stands against which step of another.

The best alignment is the cheapest one: a pair of equal steps costs 0, a pair of one skill with
other params 1, a pair of two skills 2, a step without a partner 1. A pair of two skills costs as
much as two steps without a partner, so the cheapest alignment is the one that saves most:
2 for each equal pair, 1 for each pair of one skill. That is a longest common subsequence where
every step is spelled with two letters, its skill and then its digest: an equal pair shares both,
a pair of one skill the first. So the exact optimum comes at the price of
`subsequence.common_subsequence`, a second for 20,000 × 20,000 steps that have nothing in common.

What the cost leaves open is settled so that the result reads well: the leftmost alignment, and
where runs are short enough between two equal steps (`_READABLE`), equal steps of one branch
rather than changed ones. Beyond `EXACT` the runs are first cut at equal steps that
occur once in each (the anchors of patience diff), and what is then still too long is paired by position.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

from isotrace.compare.moves import find_moves
from isotrace.compare.subsequence import common_subsequence

EXACT = 10_000_000_000
"""Letters of one run times letters of the other up to which the alignment is the cheapest one."""

_READABLE = 40_000
_READABLE_TOTAL = 400_000
_SAVED = 1 << 20


class Place(NamedTuple):
    """What an alignment sees of a step. Equal digests mean equal steps, and equal skills.

    `branch` is the lineage without its last number.
    """

    skill: Hashable
    digest: Hashable
    lineage: tuple[int | str, ...] = ()

    @property
    def branch(self) -> tuple[int | str, ...]:
        return self.lineage[:-1]


class Row(NamedTuple):
    """One line of two runs side by side: positions, or None where one side has nothing.

    `moved`: the same step stands elsewhere in the other run; the row is at the first of both places.
    """

    original: int | None
    replay: int | None
    moved: bool = False


def align(original: Sequence[Place], replay: Sequence[Place]) -> list[Row]:
    """Every step of both runs exactly once, in rows.

    Up to the first place where the digests differ, row k pairs step k with step k; the
    first row that is no pair of equals is at that place. Swapping the arguments swaps the
    sides of every row.
    """
    # One fixed order of the arguments, or ties could fall differently when they are swapped.
    swapped = (len(original), _digests(original)) > (len(replay), _digests(replay))
    one, other = (replay, original) if swapped else (original, replay)
    pairs = _pairs(one, other)
    kept, moves = find_moves(one, other, pairs)
    rows = list(_rows(len(one), len(other), kept, moves))
    return [Row(row.replay, row.original, row.moved) for row in rows] if swapped else rows


def _digests(places: Sequence[Place]) -> list[str]:
    return [str(place.digest) for place in places]


def alignment_cost(
    original: Sequence[Place], replay: Sequence[Place], pairs: Sequence[tuple[int, int]]
) -> int:
    """What these pairs cost, with the steps that they leave over."""
    cost = len(original) + len(replay) - 2 * len(pairs)
    for i, j in pairs:
        if original[i].digest != replay[j].digest:
            cost += 1 if original[i].skill == replay[j].skill else 2
    return cost


def best_pairs(one: Sequence[Place], other: Sequence[Place]) -> list[tuple[int, int]]:
    """The pairs of equal digest or equal skill in the cheapest alignment, ascending on both sides."""
    return _pairs(one, other)


def _pairs(one: Sequence[Place], other: Sequence[Place]) -> list[tuple[int, int]]:
    shorter = min(len(one), len(other))
    head = 0
    while head < shorter and one[head].digest == other[head].digest:
        head += 1
    tail = 0
    while tail < shorter - head and one[-1 - tail].digest == other[-1 - tail].digest:
        tail += 1
    middle = _middle(one, other, range(head, len(one) - tail), range(head, len(other) - tail))
    ends = zip(range(len(one) - tail, len(one)), range(len(other) - tail, len(other)), strict=True)
    return [*((k, k) for k in range(head)), *middle, *ends]


def _middle(
    one: Sequence[Place], other: Sequence[Place], rows: range, columns: range
) -> list[tuple[int, int]]:
    """The pairs of what lies between the common ends."""
    if len(rows) * len(columns) <= _READABLE:
        return list(_readable(one, other, rows, columns))
    pairs: list[tuple[int, int]] = []
    cells = EXACT
    for rows_part, columns_part in _cut(one, other, rows, columns):
        cost = 4 * len(rows_part) * len(columns_part)
        if cost <= cells:
            cells -= cost
            pairs += _cheapest(one, other, rows_part, columns_part)
    return _made_readable(one, other, rows, columns, pairs)


def _cut(
    one: Sequence[Place], other: Sequence[Place], rows: range, columns: range
) -> Iterator[tuple[range, range]]:
    """The whole if it can be aligned exactly, else its pieces between anchors, each ending with one."""
    if 4 * len(rows) * len(columns) <= EXACT:
        yield rows, columns
        return
    i, j = rows.start, columns.start
    for anchor_i, anchor_j in _anchors(one, other, rows, columns):
        yield range(i, anchor_i), range(j, anchor_j)
        yield range(anchor_i, anchor_i + 1), range(anchor_j, anchor_j + 1)
        i, j = anchor_i + 1, anchor_j + 1
    yield range(i, rows.stop), range(j, columns.stop)


def _anchors(
    one: Sequence[Place], other: Sequence[Place], rows: range, columns: range
) -> list[tuple[int, int]]:
    """Equal steps that occur once on each side: the longest list of them that ascends on both."""
    counts = Counter(one[i].digest for i in rows)
    columns_of = {other[j].digest: j for j in columns}
    repeated = Counter(other[j].digest for j in columns)
    unique = [
        (i, columns_of[digest])
        for i in rows
        if counts[digest := one[i].digest] == 1 and repeated[digest] == 1
    ]
    # Longest increasing subsequence: tops[k] is the smallest end of one of length k + 1.
    tops: list[int] = []
    before: list[int] = []
    at: list[int] = []
    for number, (_, j) in enumerate(unique):
        length = bisect_left(tops, j)
        before.append(at[length - 1] if length else -1)
        tops[length : length + 1] = [j]
        at[length : length + 1] = [number]
    chain = []
    number = at[-1] if at else -1
    while number >= 0:
        chain.append(unique[number])
        number = before[number]
    return chain[::-1]


def _cheapest(
    one: Sequence[Place], other: Sequence[Place], rows: range, columns: range
) -> list[tuple[int, int]]:
    letters, columns_of = _letters(one, rows, other, columns), _letters(other, columns, one, rows)
    shared = common_subsequence([letter for _, letter in letters], [letter for _, letter in columns_of])
    equal: dict[int, int] = {}
    skill: list[tuple[int, int]] = []
    for place_one, place_other in shared:
        (i, letter), (j, _) = letters[place_one], columns_of[place_other]
        if letter[0]:
            equal[i] = j
        else:
            skill.append((i, j))
    # Where digests meet, the skills before them might as well meet too: at most one of those two
    # skills is paired with another step, and moving it over loses nothing.
    taken = set(equal.values())
    return sorted([*equal.items(), *((i, j) for i, j in skill if i not in equal and j not in taken)])


def _letters(
    places: Sequence[Place], part: range, others: Sequence[Place], other_part: range
) -> list[tuple[int, tuple[bool, Hashable]]]:
    """Each step's position with its two letters; letters that the other side lacks are left out."""
    skills = {others[j].skill for j in other_part}
    digests = {others[j].digest for j in other_part}
    letters: list[tuple[int, tuple[bool, Hashable]]] = []
    for i in part:
        place = places[i]
        if place.skill in skills:
            letters.append((i, (False, place.skill)))
            if place.digest in digests:
                letters.append((i, (True, place.digest)))
    return letters


def _made_readable(
    one: Sequence[Place], other: Sequence[Place], rows: range, columns: range, pairs: list[tuple[int, int]]
) -> list[tuple[int, int]]:
    """The same cost, with ties settled anew between each two equal pairs."""
    better: list[tuple[int, int]] = []
    inside: list[tuple[int, int]] = []
    cells = _READABLE_TOTAL
    i, j = rows.start, columns.start
    for end_i, end_j in [*pairs, (rows.stop, columns.stop)]:
        at_end = end_i == rows.stop
        if not at_end and one[end_i].digest != other[end_j].digest:
            inside.append((end_i, end_j))
            continue
        cost = (end_i - i) * (end_j - j)
        if cost <= min(_READABLE, cells):
            cells -= cost
            inside = list(_readable(one, other, range(i, end_i), range(j, end_j)))
        better += inside
        if not at_end:
            better.append((end_i, end_j))
        inside, i, j = [], end_i + 1, end_j + 1
    return better


def _readable(
    one: Sequence[Place], other: Sequence[Place], rows: range, columns: range
) -> Iterator[tuple[int, int]]:
    """The cheapest alignment by the plain table, ties settled by `_worth`."""
    table = [[0] * (len(columns) + 1)]
    for i in rows:
        above, line = table[-1], [0]
        mine = one[i]
        for column, j in enumerate(columns):
            best = max(above[column + 1], line[column])
            if mine.skill == other[j].skill:
                best = max(best, above[column] + _worth(mine, other[j]))
            line.append(best)
        table.append(line)
    found: list[tuple[int, int]] = []
    row, column = len(rows), len(columns)
    while row and column:
        if table[row][column] == table[row][column - 1]:
            column -= 1
        elif table[row][column] == table[row - 1][column]:
            row -= 1
        else:
            row, column = row - 1, column - 1
            found.append((rows[row], columns[column]))
    return reversed(found)


def _worth(mine: Place, theirs: Place) -> int:
    """What a pair saves; the small part only decides between alignments of one cost.

    An equal step of the same branch says more than two changed ones; but two steps that changed
    at their own lineage say more than one that happens to equal a step of another branch.
    """
    if mine.digest == theirs.digest:
        return 2 * _SAVED + (4 if mine.branch == theirs.branch else 1)
    return _SAVED + (1 if mine.lineage == theirs.lineage else 0)


def _rows(
    length: int, other_length: int, kept: Sequence[tuple[int, int]], moves: Sequence[tuple[int, int]]
) -> Iterator[Row]:
    there = dict(moves)
    here = {j: i for i, j in moves}
    shown: set[int] = set()
    i = j = 0
    for end_i, end_j in [*kept, (length, other_length)]:
        while i < end_i or j < end_j:
            if i < end_i and i in there:
                if i not in shown:
                    yield Row(i, there[i], moved=True)
                shown.add(i)
                i += 1
            elif j < end_j and j in here:
                if here[j] not in shown:
                    yield Row(here[j], j, moved=True)
                shown.add(here[j])
                j += 1
            else:
                # Two steps that nothing else claims stand against each other: the same place, another skill.
                yield Row(i if i < end_i else None, j if j < end_j else None)
                i, j = min(i + 1, end_i), min(j + 1, end_j)
        if end_i < length:
            yield Row(end_i, end_j)
        i, j = end_i + 1, end_j + 1
