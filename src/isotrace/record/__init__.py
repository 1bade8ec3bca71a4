"""Recording: what is called in a run becomes events in a journal, and a sealed run in a store."""

from isotrace.record.capture import instrument
from isotrace.record.propagation import extract_headers, inject_headers, read_headers
from isotrace.record.runs import Run, branch, cost, current_run, run
from isotrace.record.sealer import adopt_journals, flush
from isotrace.record.skills import agent, skill
from isotrace.record.threads import ThreadPool

__all__ = [
    "Run",
    "ThreadPool",
    "adopt_journals",
    "agent",
    "branch",
    "cost",
    "current_run",
    "extract_headers",
    "flush",
    "inject_headers",
    "instrument",
    "read_headers",
    "run",
    "skill",
]
