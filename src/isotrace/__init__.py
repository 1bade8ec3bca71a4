"""isotrace records what an AI agent did, re-runs it offline, and says whether two runs took the same path.

Names are loaded when they are first used (PEP 562): the models work with nothing but the
standard library installed, and a program that only records loads no store.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

# Type checkers know this name; importing `typing` for it would take longer than all the rest here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from isotrace import errors as errors
    from isotrace.compare import Code as Code
    from isotrace.compare import Divergence as Divergence
    from isotrace.compare import Level as Level
    from isotrace.compare import Rules as Rules
    from isotrace.compare import TraceDiff as TraceDiff
    from isotrace.compare import Verdict as Verdict
    from isotrace.compare import diff_traces as diff_traces
    from isotrace.models import META_MODEL as META_MODEL
    from isotrace.models import META_PARENT_RUN as META_PARENT_RUN
    from isotrace.models import META_REPLAY_OF as META_REPLAY_OF
    from isotrace.models import META_REPLAYABILITY as META_REPLAYABILITY
    from isotrace.models import META_REWARD as META_REWARD
    from isotrace.models import META_SOURCE as META_SOURCE
    from isotrace.models import META_TASK as META_TASK
    from isotrace.models import META_TIME as META_TIME
    from isotrace.models import META_TRIAL as META_TRIAL
    from isotrace.models import Erased as Erased
    from isotrace.models import Lineage as Lineage
    from isotrace.models import ParityResult as ParityResult
    from isotrace.models import RunContext as RunContext
    from isotrace.models import StepContext as StepContext
    from isotrace.models import TraceRecord as TraceRecord
    from isotrace.models import TraceStatus as TraceStatus
    from isotrace.models import TraceStep as TraceStep
    from isotrace.models import TraceSummary as TraceSummary
    from isotrace.models import Violation as Violation
    from isotrace.models import compare_traces as compare_traces
    from isotrace.operations import areplay as areplay
    from isotrace.operations import assert_parity as assert_parity
    from isotrace.operations import backtest as backtest
    from isotrace.operations import behaviours as behaviours
    from isotrace.operations import compare_behaviours as compare_behaviours
    from isotrace.operations import diff as diff
    from isotrace.operations import fork as fork
    from isotrace.operations import replay as replay
    from isotrace.plain import from_plain as from_plain
    from isotrace.plain import to_plain as to_plain
    from isotrace.policy import Limit as Limit
    from isotrace.policy import Loop as Loop
    from isotrace.policy import Policy as Policy
    from isotrace.policy import PolicyRule as PolicyRule
    from isotrace.record import Run as Run
    from isotrace.record import ThreadPool as ThreadPool
    from isotrace.record import agent as agent
    from isotrace.record import branch as branch
    from isotrace.record import cost as cost
    from isotrace.record import current_run as current_run
    from isotrace.record import extract_headers as extract_headers
    from isotrace.record import flush as flush
    from isotrace.record import inject_headers as inject_headers
    from isotrace.record import instrument as instrument
    from isotrace.record import run as run
    from isotrace.record import skill as skill
    from isotrace.registry import open_store as open_store
    from isotrace.report.html import render_behaviours as render_behaviours
    from isotrace.report.html import render_diff as render_diff
    from isotrace.report.html import render_run as render_run

__version__ = "0.1.0"

_HOMES = {
    "isotrace.compare": "Code Divergence Level Rules TraceDiff Verdict diff_traces",
    "isotrace.models": (
        "META_MODEL META_PARENT_RUN META_REPLAYABILITY META_REPLAY_OF META_REWARD META_SOURCE"
        " META_TASK META_TIME META_TRIAL Erased Lineage ParityResult RunContext StepContext TraceRecord"
        " TraceStatus TraceStep TraceSummary Violation compare_traces"
    ),
    "isotrace.operations": "areplay assert_parity backtest behaviours compare_behaviours diff fork replay",
    "isotrace.plain": "from_plain to_plain",
    "isotrace.policy": "Limit Loop Policy PolicyRule",
    "isotrace.record": (
        "Run ThreadPool agent branch cost current_run extract_headers flush inject_headers instrument run"
        " skill"
    ),
    "isotrace.registry": "open_store",
    "isotrace.report.html": "render_behaviours render_diff render_run",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = ["__version__", "errors", *_HOME]  # noqa: PLE0604  # all are strings


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("isotrace.errors")
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'isotrace' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """Keeps `isotrace.replay` the function, although a package of that name stands beside it.

    Importing a submodule sets it as an attribute of its package; a property takes precedence.
    """

    @property
    def replay(self) -> Any:
        return import_module("isotrace.operations").replay

    @replay.setter
    def replay(self, value: Any) -> None:
        pass


sys.modules[__name__].__class__ = _Package
