"""A small customer-service agent: real tools over a SQLite file, a model over HTTP.

Run it with `isotrace run support_agent.py "TASK"`. MODEL_URL names the chat-completions endpoint,
SHOP_DB the database.
"""

import json
import os
import sqlite3
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import isotrace

PROMPT = "You are the support agent of a small shop. Be brief."

TOOLS = {
    "find_customer": "Find a customer by e-mail address.",
    "list_orders": "List a customer's orders.",
    "get_order": "Look up one order by its id.",
    "refund": "Pay an order back, in cents.",
}


def shop(statement: str, *values: object) -> list[dict[str, Any]]:
    """Runs one SQL statement on the shop's database."""
    connection = sqlite3.connect(os.environ.get("SHOP_DB", "shop.db"))
    connection.row_factory = sqlite3.Row
    try:
        with connection:
            return [dict(row) for row in connection.execute(statement, values)]
    finally:
        connection.close()


@isotrace.skill(effect="read")
def find_customer(email: str) -> dict[str, Any]:
    found = shop("SELECT id, name, email FROM customers WHERE email = ?", email)
    if not found:
        raise LookupError(f"no customer has the address {email}")
    return found[0]


@isotrace.skill(effect="read")
def list_orders(customer_id: int) -> list[dict[str, Any]]:
    return shop("SELECT id, item, cents FROM orders WHERE customer_id = ? ORDER BY id", customer_id)


@isotrace.skill(effect="read")
def get_order(order_id: str) -> dict[str, Any]:
    found = shop("SELECT id, item, cents, status FROM orders WHERE id = ?", order_id)
    if not found:
        raise LookupError(f"there is no order {order_id}")
    return found[0]


@isotrace.skill(effect="write")
def refund(order_id: str, cents: int) -> dict[str, Any]:
    shop("UPDATE orders SET status = 'refunded' WHERE id = ?", order_id)
    shop("INSERT INTO refunds (order_id, cents) VALUES (?, ?)", order_id, cents)
    return {"order_id": order_id, "refunded_cents": cents}


@isotrace.skill(kind="llm", effect="read")
def chat(messages: list[dict[str, Any]], tools: list[dict[str, Any]]) -> dict[str, Any]:
    """One call of the model, as the chat-completions protocol has it."""
    body = {"model": "scripted-stand-in", "messages": messages, "tools": tools, "temperature": 1.0}
    request = urllib.request.Request(
        os.environ["MODEL_URL"] + "/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


@isotrace.agent("support")
def support(task: str) -> str:
    """Talks with the model until it has nothing more to call."""
    calls: dict[str, Callable[..., Any]] = {
        "find_customer": find_customer,
        "list_orders": list_orders,
        "get_order": get_order,
        "refund": refund,
    }
    tools = [
        {"type": "function", "function": {"name": name, "description": text}} for name, text in TOOLS.items()
    ]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": PROMPT},
        {"role": "user", "content": task},
    ]
    for _ in range(10):
        message = chat(messages, tools)["choices"][0]["message"]
        messages.append(message)
        if not message.get("tool_calls"):
            return str(message["content"])
        for call in message["tool_calls"]:
            arguments = json.loads(call["function"]["arguments"])
            result = calls[call["function"]["name"]](**arguments)
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": json.dumps(result)})
    return "I could not finish this."


if __name__ == "__main__":
    print(support(sys.argv[1]))
