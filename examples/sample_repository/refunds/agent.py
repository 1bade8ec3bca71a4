"""The agent: a model of the `openai` SDK, an order book that it reads, and one tool that pays."""

import json
import os
import sys
from pathlib import Path

from openai import OpenAI

import isotrace

MODEL = "gpt-5-mini"
PROMPT = """You answer customers who want their money back.
Look the order up first. Refund what was paid, never more, and only within 30 days.
Answer in one sentence."""
RULES = Path(__file__).parents[1] / "rules.yaml"
MAX_TURNS = 6

ORDERS = {
    "W-1042": {"item": "kettle", "paid_cents": 4990, "days_ago": 12},
    "W-0007": {"item": "toaster", "paid_cents": 2450, "days_ago": 95},
}


@isotrace.skill(effect="read")
def find_order(order_id: str) -> dict:
    """The order of this number: item, cents paid, days since."""
    return ORDERS.get(order_id, {"error": "no such order"})


@isotrace.skill(effect="write")
def refund(order_id: str, cents: int) -> str:
    """Pays money back for an order."""
    return f"refunded {cents} cents for {order_id}"  # the payment provider stands here


TOOLS = {"find_order": find_order, "refund": refund}
DESCRIBED = [
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "description": "The order of this number: item, cents paid, days since.",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}},
                "required": ["order_id"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "refund",
            "description": "Pays money back for an order.",
            "parameters": {
                "type": "object",
                "properties": {"order_id": {"type": "string"}, "cents": {"type": "integer"}},
                "required": ["order_id", "cents"],
            },
        },
    },
]


@isotrace.agent("refunds", policy=RULES)
def answer(question: str) -> str:
    """What the customer is told."""
    # The provider's address is OPENAI_BASE_URL, if it is not OpenAI.
    client = OpenAI(api_key=os.environ.get("OPENAI_API_KEY", "none: replayed"))
    messages = [{"role": "system", "content": PROMPT}, {"role": "user", "content": question}]
    for _ in range(MAX_TURNS):
        said = client.chat.completions.create(model=MODEL, messages=messages, tools=DESCRIBED)
        message = said.choices[0].message
        if not message.tool_calls:
            return message.content
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            result = TOOLS[call.function.name](**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)})
    return "I hand this over to a colleague."


if __name__ == "__main__":
    print(answer(sys.argv[1]))
