"""Thirty small changes of what the agents in `examples/` do, and how each of them must show.

One row is one change: `old` stands exactly once in the file of the example, `new` takes its place. `code` and
`index` are the first divergence from a run of the unchanged agent; `says` stands in its sentence.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    example: str
    what: str
    old: str
    new: str
    code: str
    index: int | None
    says: str
    file: str = "agent.py"


CHANGES = [
    # openai_chat: step 0 is refused (429), 1 asks for two temperatures, 2 answers.
    Change(
        "openai_chat",
        "another prompt",
        "answer in one sentence.",
        "answer in two sentences.",
        "PARAMS_CHANGED",
        0,
        'answer in one sentence." → "…eratures; answer in two sentences.")',
    ),
    Change(
        "openai_chat",
        "a temperature",
        "messages=messages, tools=[TOOL]",
        "messages=messages, tools=[TOOL], temperature=0.2",
        "PARAMS_CHANGED",
        0,
        "params differ at /temperature (absent → 0.2)",
    ),
    Change(
        "openai_chat",
        "no retry after a refusal",
        "client = OpenAI()",
        "client = OpenAI(max_retries=0)",
        "EARLY_END",
        1,
        "step count: 3 → 1",
    ),
    Change(
        "openai_chat",
        "a truncated history",
        "messages=messages,",
        "messages=messages[-4:],",
        "PARAMS_CHANGED",
        2,
        "params differ at /messages/",
    ),
    Change(
        "openai_chat",
        "a tool's result told in another form",
        '"content": json.dumps(found)',
        '"content": str(found)',
        "PARAMS_CHANGED",
        2,
        "params differ at /messages/3/content",
    ),
    # anthropic_messages: step 0 asks for two temperatures, 1 answers.
    Change(
        "anthropic_messages",
        "another model",
        '"claude-haiku-4-5"',
        '"claude-sonnet-4-5"',
        "PARAMS_CHANGED",
        0,
        'params differ at /model ("claude-haiku-4-5" → "claude-sonnet-4-5")',
    ),
    Change(
        "anthropic_messages",
        "the results of two tools in the other order",
        "            for call in calls\n",
        "            for call in reversed(calls)\n",
        "PARAMS_CHANGED",
        1,
        "params differ at /messages/2/content/0/",
    ),
    Change(
        "anthropic_messages",
        "what the model said beside its calls is forgotten",
        '"content": answer.content}',
        '"content": calls}',
        "PARAMS_CHANGED",
        1,
        "params differ at /messages/1/content",
    ),
    Change(
        "anthropic_messages",
        "it gives up after one turn",
        "for _ in range(8):",
        "for _ in range(1):",
        "EARLY_END",
        1,
        "step count: 2 → 1",
    ),
    # langgraph_agent: 0 model, 1 to 3 temperatures (the third fails), 4 model, 5 booking, 6 model.
    Change(
        "langgraph_agent",
        "a tool's error ends it",
        "handle_tool_errors=True",
        "handle_tool_errors=False",
        "EARLY_END",
        4,
        "step count: 7 → 4",
    ),
    Change(
        "langgraph_agent",
        "a tool's error is told in other words",
        "handle_tool_errors=True",
        'handle_tool_errors="There is no such city."',
        "PARAMS_CHANGED",
        4,
        "There is no such city.",
    ),
    Change(
        "langgraph_agent",
        "the answer of a tool is the last word",
        'graph.add_edge("tools", "think")',
        'graph.add_edge("tools", "__end__")',
        "EARLY_END",
        4,
        "step count: 7 → 4",
    ),
    Change(
        "langgraph_agent",
        "a tool is called that the model did not ask for",
        'return {"messages": [MODEL.invoke(state["messages"])]}',
        """\
answer = MODEL.invoke(state["messages"])
    if len(answer.tool_calls) > 1:
        answer.tool_calls.append({**answer.tool_calls[0], "args": {"city": "Oslo"}})
    return {"messages": [answer]}""",
        "EXTRA_STEP",
        4,
        "get_weather",
    ),
    Change(
        "langgraph_agent",
        "it books once more in the end",
        """\
    print(f"{last.type}: {last.content or [call['name'] for call in getattr(last, 'tool_calls', [])]}")
""",
        """\
    print(f"{last.type}: {last.content or [call['name'] for call in getattr(last, 'tool_calls', [])]}")
book.invoke({"city": "Rome"})
""",
        "LATE_END",
        7,
        "book",
    ),
    # openai_agents: 0 model, 1 and 2 temperatures, 3 model, 4 model (clerk), 5 booking, 6 model.
    Change(
        "openai_agents",
        "other instructions for the second agent",
        "You book what you are told.",
        "You book what you are told, and say so.",
        "PARAMS_CHANGED",
        4,
        'params differ at /instructions ("You book what you are told." →',
    ),
    Change(
        "openai_agents",
        "nobody to hand over to",
        "    handoffs=[clerk],\n",
        "",
        "PARAMS_CHANGED",
        0,
        "params differ at /tools/1",
    ),
    Change(
        "openai_agents",
        "fewer turns",
        "Runner.run_streamed(helper, question)",
        "Runner.run_streamed(helper, question, max_turns=2)",
        "EARLY_END",
        4,
        "step count: 7 → 4",
    ),
    Change(
        "openai_agents",
        "a tool's result is the answer",
        "tools=[book], model=MODEL)",
        'tools=[book], model=MODEL, tool_use_behavior="stop_on_first_tool")',
        "EARLY_END",
        6,
        "step count: 7 → 6",
    ),
    # pydantic_ai_agent: 0 model, 1 and 2 temperatures, 3 model, 4 booking (too dear), 5 model, 6 booking,
    # 7 model.
    Change(
        "pydantic_ai_agent",
        "a tool that may not be tried again",
        "@helper.tool(retries=2)",
        "@helper.tool(retries=0)",
        "EARLY_END",
        5,
        "step count: 8 → 5",
    ),
    Change(
        "pydantic_ai_agent",
        "an argument with a default",
        "city: str, nights: int)",
        "city: str, nights: int = 1)",
        "PARAMS_CHANGED",
        0,
        "params differ at /tools/1/function/parameters/",
    ),
    Change(
        "pydantic_ai_agent",
        "another question by default",
        "for a week at most.",
        "for two weeks at most.",
        "PARAMS_CHANGED",
        0,
        "params differ at /messages/1/content",
    ),
    # coding_agent: 0 model, 1 tests, 2 to 4 grep, 5 model, 6 model, 7 git apply (fails), 8 model,
    # 9 git apply, 10 model, 11 tests, 12 git diff, 13 model.
    Change(
        "coding_agent",
        "a program with another option",
        '["grep", "-rn", ',
        '["grep", "-rnw", ',
        "PARAMS_CHANGED",
        2,
        'params differ at /argv/1 ("-rn" → "-rnw")',
    ),
    Change(
        "coding_agent",
        "another program",
        '["git", "apply", "-"]',
        '["patch", "-p1"]',
        "SKILL_CHANGED",
        7,
        "skill: git → patch",
    ),
    Change(
        "coding_agent",
        "a swallowed error",
        'return done.stderr or "applied"',
        'return "applied"',
        "PARAMS_CHANGED",
        8,
        '→ "applied")',
    ),
    Change(
        "coding_agent",
        "a patch that fails is tried again",
        'return done.stderr or "applied"',
        """\
if done.returncode:
        done = subprocess.run(["git", "apply", "-"], input=patch, capture_output=True, text=True)
    return done.stderr or "applied\"""",
        "KIND_CHANGED",
        8,
        "kind: llm → process",
    ),
    Change(
        "coding_agent",
        "only the first of several calls is made",
        "for call in answer.tool_calls:",
        "for call in answer.tool_calls[:1]:",
        "KIND_CHANGED",
        2,
        "kind: process → llm",
    ),
    # mcp_agent: 0 connect, 1 initialize, 2 tools/list, 3 model, 4 list_notes, 5 model, 6 read_note,
    # 7 append_to_note, 8 model.
    Change(
        "mcp_agent",
        "another argument for a tool",
        "json.loads(call.function.arguments)",
        'json.loads(call.function.arguments.replace("milk", "Milk"))',
        "PARAMS_CHANGED",
        7,
        'params differ at /text ("milk" → "Milk")',
    ),
    Change(
        "mcp_agent",
        "two tools in the other order",
        "for call in message.tool_calls:",
        "for call in reversed(message.tool_calls):",
        "REORDERED",
        6,
        "append_to_note",
    ),
    Change(
        "mcp_agent",
        "another tool than the model asked for",
        "session.call_tool(call.function.name, ",
        'session.call_tool("list_notes", ',
        "SKILL_CHANGED",
        6,
        "skill: read_note → list_notes",
    ),
    Change(
        "mcp_agent",
        "the first of two calls is left out",
        "for call in message.tool_calls:",
        "for call in message.tool_calls[-1:]:",
        "MISSING_STEP",
        6,
        "read_note is not in the replay",
    ),
]
