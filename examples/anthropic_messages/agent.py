"""A helper for travellers: the Anthropic SDK and nothing else. The last answer is printed as it comes."""

import json
import os
import sys

from anthropic import Anthropic

TEMPERATURES = {"Paris": 21, "Rome": 27, "Oslo": 14}
TOOL = {
    "name": "get_weather",
    "description": "The temperature in a city, in degrees Celsius.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
    },
}


def get_weather(city: str) -> dict:
    return {"city": city, "degrees": TEMPERATURES.get(city)}


def main(question: str) -> None:
    # Key and address of the provider: ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL.
    client = Anthropic()
    messages = [{"role": "user", "content": question}]
    for _ in range(8):
        with client.messages.stream(
            model=os.environ.get("MODEL", "claude-haiku-4-5"),
            max_tokens=500,
            system="You help travellers. Look up temperatures; answer in one sentence.",
            messages=messages,
            tools=[TOOL],
        ) as stream:
            for text in stream.text_stream:
                print(text, end="", flush=True)
            answer = stream.get_final_message()
        print()
        calls = [block for block in answer.content if block.type == "tool_use"]
        if not calls:
            return
        results = [
            {"type": "tool_result", "tool_use_id": call.id, "content": json.dumps(get_weather(**call.input))}
            for call in calls
        ]
        messages += [{"role": "assistant", "content": answer.content}, {"role": "user", "content": results}]


main(sys.argv[1] if len(sys.argv) > 1 else "Is it warmer in Paris or in Rome?")
