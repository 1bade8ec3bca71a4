"""Changes of behaviour that a replay can't see: the body of a tool whose call is a step is not run, and
what is printed is no step. They pass; a test of the tool itself has to find them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unseen:
    example: str
    what: str
    old: str
    new: str
    file: str = "agent.py"


UNSEEN = [
    Unseen(
        "langgraph_agent",
        "a tool answers otherwise",
        'return f"booked: {city}"',
        'return f"paid: {city}"',
    ),
    Unseen(
        "pydantic_ai_agent",
        "a tool has another price",
        "nights * 10_000",
        "nights * 12_000",
    ),
    Unseen(
        "openai_chat",
        "something else is printed",
        "print(message.content)",
        "print(message.content.upper())",
    ),
]
