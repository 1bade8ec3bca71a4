"""A helper for travellers with PydanticAI: typed tools, a typed answer, and a tool that asks for better."""

import os
import sys
from dataclasses import dataclass

from pydantic import BaseModel
from pydantic_ai import Agent, ModelRetry, RunContext
from pydantic_ai.models.openai import OpenAIChatModel

TEMPERATURES = {"Paris": 21, "Rome": 27, "Oslo": 14}


class Weather(BaseModel):
    city: str
    degrees: int


class Trip(BaseModel):
    city: str
    cents: int


@dataclass
class Traveller:
    budget_cents: int


# Key and address of the provider: OPENAI_API_KEY, OPENAI_BASE_URL.
helper = Agent(
    OpenAIChatModel(os.environ.get("MODEL", "gpt-4.1-mini")),
    deps_type=Traveller,
    output_type=Trip,
    instructions="You help travellers. Look up temperatures, then book within the budget.",
)


@helper.tool_plain
def get_weather(city: str) -> Weather:
    """The temperature in a city, in degrees Celsius."""
    return Weather(city=city, degrees=TEMPERATURES[city])


@helper.tool(retries=2)
async def book(ctx: RunContext[Traveller], city: str, nights: int) -> str:
    """Books a trip to a city for some nights."""
    cents = nights * 10_000
    if cents > ctx.deps.budget_cents:
        raise ModelRetry(f"{nights} nights are too many: the budget is {ctx.deps.budget_cents} cents")
    return f"booked: {city}, {cents} cents"


question = sys.argv[1] if len(sys.argv) > 1 else "Book the warmer one of Paris and Rome, for a week at most."
print(repr(helper.run_sync(question, deps=Traveller(budget_cents=30_000)).output))
