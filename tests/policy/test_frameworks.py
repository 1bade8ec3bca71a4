"""A tool that a framework calls for a model is stopped like any other step, and the framework does not hand
the stop to the model as text."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from tests.record.lab import Lab

import isotrace
from isotrace.errors import PolicyViolation
from isotrace.policy import Policy, PolicyRule

wiped: list[str] = []


@tool
def wipe(path: str) -> str:
    """Removes what is there."""
    wiped.append(path)
    return "done"


def agent() -> Any:
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode([wipe]))
    graph.add_edge(START, "tools")
    graph.add_edge("tools", END)
    call = {"name": "wipe", "args": {"path": "/"}, "id": "1", "type": "tool_call"}
    return graph.compile().invoke({"messages": [AIMessage("", tool_calls=[call])]})


def test_a_denied_tool_of_a_graph_is_not_called(lab: Lab) -> None:
    policy = Policy([PolicyRule(id="no-wiping", action="stop", skills=("wipe",), deny=True)])
    undo = isotrace.instrument()
    try:
        taken = lab.record(agent, policy=policy)
        assert isinstance(taken.error, PolicyViolation)
        assert wiped == []
        assert [(one.skill_name, one.status.value) for one in taken.record.steps] == [("wipe", "skipped")]
        result = lab.replay(taken, agent)
        assert (result.verdict, type(result.error)) == ("MATCH", PolicyViolation)
    finally:
        undo()
