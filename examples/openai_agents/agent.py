"""A helper for travellers with the OpenAI Agents SDK: it hands over to a clerk who books."""

import asyncio
import os
import sys

from agents import Agent, Runner, function_tool

TEMPERATURES = {"Paris": 21, "Rome": 27, "Oslo": 14}
MODEL = os.environ.get("MODEL", "gpt-4.1-mini")


@function_tool
def get_weather(city: str) -> dict:
    """The temperature in a city, in degrees Celsius."""
    return {"city": city, "degrees": TEMPERATURES[city]}


@function_tool
async def book(city: str) -> str:
    """Books a trip to a city."""
    await asyncio.sleep(0.01)
    return f"booked: {city}"


clerk = Agent(name="clerk", instructions="You book what you are told.", tools=[book], model=MODEL)
helper = Agent(
    name="helper",
    instructions="You help travellers. Look up temperatures, and hand over to the clerk who books.",
    tools=[get_weather],
    handoffs=[clerk],
    model=MODEL,
)


async def main(question: str) -> None:
    # Key and address of the provider: OPENAI_API_KEY, OPENAI_BASE_URL.
    result = Runner.run_streamed(helper, question)
    async for event in result.stream_events():
        if event.type == "run_item_stream_event":
            print(event.name)
    print(result.final_output)


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Book the warmer one of Paris and Rome."))
