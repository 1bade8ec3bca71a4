"""Replay: the agent's own code runs again, its steps are served from the record."""

from isotrace.replay.entry import agent_of, named_function, recorded_call
from isotrace.replay.guard import guard_process
from isotrace.replay.plan import MODES, Plan
from isotrace.replay.result import Receipt, ReplayResult
from isotrace.replay.session import Replay

__all__ = [
    "MODES",
    "Plan",
    "Receipt",
    "Replay",
    "ReplayResult",
    "agent_of",
    "guard_process",
    "named_function",
    "recorded_call",
]
