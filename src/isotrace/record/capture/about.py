"""What a capture says of itself, for the page that lists what is captured and what is not."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class About:
    """One capture in words: the libraries as a person knows them, the versions it was tested with, its
    steps as rows of what is called, kind and effect, and what stays outside. Of a source, which makes no
    steps, a row is what is read, what happens while it is recorded, and in a replay."""

    libraries: str
    versions: str
    steps: tuple[tuple[str, str, str], ...]
    not_captured: tuple[str, ...]
