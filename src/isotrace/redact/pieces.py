"""Redaction of what comes in pieces: a secret may be cut, so the pieces are looked at as the text that they
make."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from isotrace.redact.engine import Engine, Region, beside_escapes, recut
from isotrace.redact.values import BYTES, Path, Texts, coding_of

Walker = Callable[[Texts], Callable[[Any], Any]]
"""Makes what redacts a value, given what becomes of the text at a path."""

_NUMBERS: Final = ("index", "output_index", "content_index", "summary_index")
"""What providers number the parts of an answer with, whose pieces come mixed."""

_LEAST_CONSTANT: Final = 4


def redacted_pieces(engine: Engine, walker: Walker, pieces: Sequence[Any], *, joined: bool) -> list[Any]:
    """The pieces, redacted one by one and as what they make together.

    `joined`: they are known to make one text at each place, so a part that lies in several pieces is one.
    Else that is so for pieces that are texts themselves; of others each is looked at by itself first.
    """
    texts: list[tuple[tuple[Any, ...], str]] = []
    for piece in pieces:
        numbers = tuple(_numbers(piece))

        def collect(path: Path, text: str, numbers: tuple[Any, ...] = numbers) -> str:
            texts.append(((path, numbers), text))
            return text

        # The same walk twice: what it hands on first is what it is given back in that order.
        walker(collect)(piece)
    together = joined or all(isinstance(piece, str) for piece in pieces)
    new = iter(_as_one(engine, texts, together=together))
    return [walker(lambda _path, _text: next(new))(piece) for piece in pieces]


def _numbers(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, one in value.items():
            if key in _NUMBERS and isinstance(one, int):
                yield path, one
            else:
                yield from _numbers(one, (*path, key))
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _numbers(one, (*path, str(index)))


def _as_one(engine: Engine, texts: Sequence[tuple[tuple[Any, ...], str]], *, together: bool) -> list[str]:
    """The texts, redacted; those of one place are pieces of one text."""
    places: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for number, (place, _) in enumerate(texts):
        places[place].append(number)
    made = [text for _, text in texts]
    for numbers in places.values():
        parts = [made[number] for number in numbers]
        if texts[numbers[0]][0][0][-1:] == (BYTES,) and coding_of("".join(parts).encode("latin-1")) is None:
            continue  # an image, an archive
        if len(parts) == 1 or _is_constant(parts):
            new = [engine.text(part) for part in parts]
        else:
            new = recut(parts, _find(engine, parts, together=together))
        for number, part in zip(numbers, new, strict=True):
            made[number] = part
    return made


def _is_constant(parts: Sequence[str]) -> bool:
    """Whether this is said once more with every piece: an id, a model's name."""
    return len(parts[0]) >= _LEAST_CONSTANT and all(part == parts[0] for part in parts)


def _find(engine: Engine, parts: Sequence[str], *, together: bool) -> list[Region]:
    """What is to go of the text that these parts make. Nothing stays that a part by itself would lose."""
    text = "".join(parts)
    single, offset = list[Region](), 0
    for part in parts:
        for one in engine.regions(part):
            # Its escape may have begun in the piece before.
            start, end = beside_escapes(text, one.start + offset, one.end + offset)
            single.append(Region(start, end, one.text))
        offset += len(part)
    if together:
        whole = engine.regions(text)
        # One that ends within another that a part has by itself: these are two texts, one after the other.
        whole = [one for one in whole if not any(_cuts(one, other) for other in single)]
        single = [one for one in single if not any(_within(one, other) for other in whole)]
        single = sorted([*whole, *single])
    return engine.regions(text, single)


def _cuts(one: Region, other: Region) -> bool:
    return one.start < other.end and other.start < one.end and not _within(other, one)


def _within(one: Region, other: Region) -> bool:
    return other.start <= one.start and one.end <= other.end
