"""Policies: rules about runs, which flag a step or stop it before its effect, live and over what is on
record."""

from isotrace.policy.judging import Policy, judge_events
from isotrace.policy.reading import policy_of, read_policy
from isotrace.policy.rules import Limit, Loop, PolicyRule

__all__ = ["Limit", "Loop", "Policy", "PolicyRule", "judge_events", "policy_of", "read_policy"]
