"""A helper for travellers as a graph: a model and its tools in turns."""

import os
import sys

from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

TEMPERATURES = {"Paris": 21, "Rome": 27, "Oslo": 14}


@tool
def get_weather(city: str) -> dict:
    """The temperature in a city, in degrees Celsius."""
    return {"city": city, "degrees": TEMPERATURES[city]}


@tool
def book(city: str) -> str:
    """Books a trip to a city."""
    return f"booked: {city}"


TOOLS = [get_weather, book]
# Key and address of the provider: OPENAI_API_KEY, OPENAI_BASE_URL.
MODEL = ChatOpenAI(
    model=os.environ.get("MODEL", "gpt-4.1-mini"), base_url=os.environ.get("OPENAI_BASE_URL")
).bind_tools(TOOLS)


def think(state: MessagesState) -> dict:
    return {"messages": [MODEL.invoke(state["messages"])]}


graph = StateGraph(MessagesState)
graph.add_node("think", think)
graph.add_node("tools", ToolNode(TOOLS, handle_tool_errors=True))
graph.add_edge(START, "think")
graph.add_conditional_edges("think", tools_condition)
graph.add_edge("tools", "think")

question = sys.argv[1] if len(sys.argv) > 1 else "Book the warmer one of Paris and Rome."
for step in graph.compile().stream({"messages": [("user", question)]}, stream_mode="values"):
    last = step["messages"][-1]
    print(f"{last.type}: {last.content or [call['name'] for call in getattr(last, 'tool_calls', [])]}")
