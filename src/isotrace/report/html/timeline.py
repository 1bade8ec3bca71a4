"""A run drawn over time: lanes of bars, to scale."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isotrace.models import TraceRecord
from isotrace.report.figures import duration
from isotrace.report.html.steps import StepView
from isotrace.report.reading import Scale, lanes_of, scale_of

MOST_LANES = 40
"""Lanes that are drawn; what goes on beyond them shares the last one."""

LANE = 16
"""Height of a lane, in pixels."""

_FINEST = 0.0008
"""Bars that begin closer together, in shares of the width, are drawn as one."""

_TICKS = 6


@dataclass(slots=True)
class Bar:
    """One or more steps that stand side by side; `last` is the last of them."""

    view: StepView
    lane: int
    begin: float
    share: float
    last: int

    @property
    def top(self) -> int:
        """Pixels from the upper edge."""
        return self.lane * LANE + 3


@dataclass(frozen=True, slots=True)
class Timeline:
    """`ticks` are (share of the width, label); without `scale` each step is as wide as any other."""

    bars: list[Bar]
    lanes: int
    hidden: int
    ticks: list[tuple[float, str]]
    scale: Scale | None

    @property
    def height(self) -> int:
        """Of all lanes, in pixels."""
        return self.lanes * LANE + 2


def timeline_of(record: TraceRecord, views: Sequence[StepView]) -> Timeline | None:
    """The drawing of a run, None for one without steps."""
    if not views:
        return None
    scale = scale_of(record)
    if scale is None:
        spans = [(at / len(views), 1 / len(views)) for at in range(len(views))]
        lanes = [0] * len(views)
    else:
        spans = [scale.span(view.step) for view in views]
        lanes = lanes_of(record.steps, scale)
    most = max(lanes) + 1
    bars = _bars(views, spans, [min(lane, MOST_LANES - 1) for lane in lanes])
    ticks = list(_ticks(scale.total_ms)) if scale else []
    return Timeline(bars, min(most, MOST_LANES), max(most - MOST_LANES, 0), ticks, scale)


def _bars(views: Sequence[StepView], spans: Sequence[tuple[float, float]], lanes: Sequence[int]) -> list[Bar]:
    """A bar for each step, but one for those that no screen would show apart."""
    bars: list[Bar] = []
    latest: dict[tuple[int, str], Bar] = {}
    for view, (begin, share), lane in zip(views, spans, lanes, strict=True):
        key = (lane, view.colour)
        bar = latest.get(key)
        if bar is not None and not (view.violations or view.retries) and 0 <= begin - bar.begin < _FINEST:
            bar.share = max(bar.share, begin + share - bar.begin)
            bar.last = view.index
            continue
        latest[key] = Bar(view, lane, begin, share, view.index)
        bars.append(latest[key])
    return bars


def _ticks(total_ms: float) -> Iterator[tuple[float, str]]:
    """Round times at even distances, the start among them."""
    step = _round_up(total_ms / _TICKS)
    at = 0.0
    while at <= total_ms * 0.96:
        yield at / total_ms, _round_text(duration(at)) if at else "0"
        at += step


def _round_text(text: str) -> str:
    """`2 min` for `2 min 00 s`."""
    for end, short in ((".00 s", " s"), (".0 ms", " ms"), (" 00 s", ""), (" 00 min", "")):
        text = text.removesuffix(end) + short if text.endswith(end) else text
    return text


def _round_up(ms: float) -> float:
    """The next of 1, 2, 5, 10, … milliseconds; of minutes and hours where it is that long."""
    for unit in (3_600_000, 60_000):
        if ms > unit / 2:
            for many in (1, 2, 5, 10, 15, 30):
                if ms <= unit * many:
                    return unit * many
    power = 10.0 ** (len(str(int(ms))) - 1) if ms >= 1 else 1e-3
    while True:
        for many in (1, 2, 5):
            if ms <= power * many:
                return power * many
        power *= 10
