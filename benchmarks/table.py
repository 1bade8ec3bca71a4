"""Figures as one table, for people."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.measuring import Figure

_HEAD = ("", "measured", "target", "", "what")


def render(figures: Sequence[Figure]) -> str:
    """One row a figure, and below it what stands beside it."""
    rows = [_HEAD, *(_row(figure) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [_line(rows[0], widths)]
    for figure, row in zip(figures, rows[1:], strict=True):
        lines.append(_line(row, widths))
        note = figure.missing or " · ".join(
            f"{name} {_number(value)}" for name, value in figure.beside.items()
        )
        if note:
            lines.append(f"{'':{sum(widths) + 8}}{note}")
    return "\n".join([machine(), "", *lines])


def machine() -> str:
    """What the figures were taken on."""
    cpus = f"{_cpu()}, {platform.machine()}, Linux" if sys.platform == "linux" else platform.platform()
    return f"Python {platform.python_version()}, {cpus}"


def _cpu() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
        return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")


def _row(figure: Figure) -> tuple[str, ...]:
    bound = f"{'≥' if figure.at_least else '≤'} {_number(figure.target)} {figure.unit}".rstrip()
    if figure.measured is None:
        return (figure.name, "-", bound, "skipped", figure.what)
    measured = f"{_number(figure.measured)} {figure.unit}".rstrip()
    return (figure.name, measured, bound, "pass" if figure.passed else "FAIL", figure.what)


def _line(row: Iterable[str], widths: Sequence[int]) -> str:
    *cells, what = row
    return "  ".join(
        [f"{cell:<{width}}" for cell, width in zip(cells, widths, strict=True)] + [what]
    ).rstrip()


def _number(value: float) -> str:
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
