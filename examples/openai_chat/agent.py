"""A helper for travellers: the OpenAI SDK and nothing else. The loop that calls tools is its own."""

import json
import os
import sys

from openai import OpenAI

TEMPERATURES = {"Paris": 21, "Rome": 27, "Oslo": 14}
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The temperature in a city, in degrees Celsius.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def get_weather(city: str) -> dict:
    return {"city": city, "degrees": TEMPERATURES.get(city)}


def main(question: str) -> None:
    # Key and address of the provider: OPENAI_API_KEY, OPENAI_BASE_URL.
    client = OpenAI()
    messages = [
        {"role": "system", "content": "You help travellers. Look up temperatures; answer in one sentence."},
        {"role": "user", "content": question},
    ]
    for _ in range(8):
        answer = client.chat.completions.create(
            model=os.environ.get("MODEL", "gpt-4.1-mini"), messages=messages, tools=[TOOL]
        )
        message = answer.choices[0].message
        if not message.tool_calls:
            print(message.content)
            return
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls:
            found = get_weather(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": json.dumps(found)})


main(sys.argv[1] if len(sys.argv) > 1 else "Is it warmer in Paris or in Rome?")
