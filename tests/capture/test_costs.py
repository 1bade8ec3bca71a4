"""What calls of models cost: by the price list that is installed, and never by the network."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import genai_prices
import genai_prices.data_snapshot as price_data
import openai
import pytest

from isotrace.ledger import Ledger
from isotrace.models import TraceRecord, Usage
from isotrace.record.memory_journal import MemoryJournal
from isotrace.record.prices import price_of
from isotrace.record.sealing import seal_journal

if TYPE_CHECKING:
    from tests.capture.server import Server
    from tests.record.lab import Lab

pytestmark = pytest.mark.usefixtures("captured")

PRICES = f"genai-prices {genai_prices.__version__}"
MODEL = "gpt-4o-mini-2024-07-18"
WHEN = datetime(2026, 1, 2, tzinfo=UTC)
USAGE = {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200}
# $0.15 and $0.60 a million
CENTS: Any = pytest.approx((1000 * 0.15 + 200 * 0.60) / 1e6 * 100)


def agent_of(server: Server, *models: str, **more: Any) -> Any:
    def agent() -> list[Any]:
        client = openai.OpenAI(base_url=server.url, api_key="sk-secret", max_retries=0)
        messages: Any = [{"role": "user", "content": "hi"}]
        said = []
        for model in models:
            try:
                answer = client.chat.completions.create(model=model, messages=messages, **more)
                said.append(answer.usage.model_dump() if not more else [one.id for one in answer])
            except openai.APIStatusError as error:
                said.append(error.status_code)
        return said

    return agent


def accounts(record: TraceRecord) -> list[tuple[float, Usage | None]]:
    contexts = [(step.cost_cents, step.context) for step in record.steps]
    return [(cents, context.usage) for cents, context in contexts if context and context.kind == "llm"]


def test_each_call_has_its_model_its_tokens_and_its_price(lab: Lab, server: Server) -> None:
    taken = lab.record(agent_of(server, MODEL))
    cents, usage = accounts(taken.record)[0]
    assert cents == pytest.approx((3 * 0.15 + 2 * 0.60) / 1e6 * 100)
    assert usage == Usage(MODEL, 3, 2, prices=PRICES)
    assert taken.record.total_cost_cents == cents
    context = taken.record.steps[-1].context
    assert context
    assert context.transport
    assert context.transport["url"] == f"{server.url}/chat/completions"
    summary = lab.store.get(taken.record.run_id, tenant_id="default").summary
    assert summary.total_cost_cents == cents
    assert TraceRecord.from_dict(json.loads(json.dumps(taken.record.to_dict()))) == taken.record


def test_a_streamed_answer_has_them_too(lab: Lab, server: Server) -> None:
    choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 17, "model": MODEL}
    server.scripted = [[{**head, "choices": [choice]}, {**head, "choices": [], "usage": USAGE}, "[DONE]"]]
    taken = lab.record(agent_of(server, "gpt-4o-mini", stream=True))
    assert accounts(taken.record) == [(CENTS, Usage(MODEL, 1000, 200, prices=PRICES))]


def test_a_model_that_the_list_does_not_have_has_no_cost_and_a_reason(lab: Lab, server: Server) -> None:
    taken = lab.record(agent_of(server, "m-1"))
    reason = f"{PRICES}: the list has no model of this name"
    assert accounts(taken.record) == [(0.0, Usage("m-1", 3, 2, unpriced=reason))]
    assert taken.grade == "replayable"


def test_a_failed_call_costs_nothing(lab: Lab, server: Server) -> None:
    server.fail_next = 1
    taken = lab.record(agent_of(server, MODEL, MODEL))
    assert taken.value[0] == 429
    assert accounts(taken.record)[0] == (0.0, None)
    assert accounts(taken.record)[1][0] > 0


def test_the_hashes_do_not_see_it(lab: Lab, server: Server) -> None:
    """Whatever a call cost, and by whatever list: the same path."""
    one = lab.record(agent_of(server, MODEL)).record
    other = TraceRecord.from_dict(one.to_dict())
    context = other.steps[-1].context
    assert context
    context.usage, other.steps[-1].cost_cents = None, 7.0
    assert other.determinism_signature() == one.determinism_signature()


def test_sealing_twice_gives_the_same_bytes(lab: Lab, server: Server) -> None:
    kept: list[Any] = []
    plain = MemoryJournal.content

    def content(journal: MemoryJournal) -> Any:
        kept.append(plain(journal))
        return plain(journal)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MemoryJournal, "content", content)
        taken = lab.record(agent_of(server, MODEL))
    again: Ledger = seal_journal(kept[0]).ledger
    assert again.root_hash == taken.ledger.root_hash


def test_the_providers_address_tells_whose_price_it_is() -> None:
    usage = Usage("openai/gpt-oss-120b", 1_000_000, 0)
    groq = price_of(usage, WHEN, "https://api.groq.com/openai/v1/chat/completions")
    router = price_of(usage, WHEN, "https://openrouter.ai/api/v1/chat/completions")
    assert groq is not None
    assert router is not None
    assert groq.cents
    assert router.cents
    assert groq.cents != router.cents
    mine = price_of(Usage(MODEL, 1000, 200), WHEN, "http://127.0.0.1:8931/v1/chat/completions")
    assert mine is not None
    assert mine.cents == CENTS


def test_cached_tokens_have_their_own_price() -> None:
    full, cached = (price_of(Usage(MODEL, 1000, 0, count), WHEN) for count in (0, 800))
    assert full is not None
    assert cached is not None
    assert full.cents == pytest.approx(1000 * 0.15 / 1e4)
    assert cached.cents == pytest.approx((200 * 0.15 + 800 * 0.075) / 1e4)


def test_without_tokens_there_is_nothing_to_be_priced() -> None:
    assert price_of(Usage(MODEL), WHEN) is None
    assert price_of(Usage(None, 5, 5), WHEN) is None


def test_prices_that_the_program_has_updated_are_not_looked_at() -> None:
    before = price_of(Usage(MODEL, 1000, 200), WHEN)
    price_data.set_custom_snapshot(price_data.DataSnapshot(providers=[], from_auto_update=True))
    try:
        assert price_of(Usage(MODEL, 1000, 200), WHEN) == before
    finally:
        price_data.set_custom_snapshot(None)


_ALONE = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "genai_prices":
            raise ImportError(name)
sys.meta_path.insert(0, Absent())
from datetime import UTC, datetime
from isotrace.models import Usage
from isotrace.record.prices import price_of
print(price_of(Usage("gpt-4o-mini", 1000, 200), datetime.now(UTC)))
"""

_PLAIN = """
import sys
from isotrace.record import flush, run, skill
from isotrace.stores.memory import MemoryStore
@skill(kind="llm")
def ask(): return {"model": "gpt-4o-mini", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
with run(store=MemoryStore()): ask()
flush()
print(sorted(name for name in sys.modules if name.startswith("genai_prices")))
"""


@pytest.mark.parametrize(("code", "said"), [(_ALONE, "None"), (_PLAIN, "[]")])
def test_without_a_list_nothing_is_priced_and_plain_skills_load_none(code: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == (said, "")


def test_pricing_asks_nothing_of_the_network() -> None:
    code = """
import sys
sys.addaudithook(lambda name, args: name.startswith("socket.") and sys.exit(f"network: {name} {args}"))
from datetime import UTC, datetime
from isotrace.models import Usage
from isotrace.record.prices import price_of
print(price_of(Usage("gpt-4o-mini", 1000, 200), datetime.now(UTC)).cents > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("True", "")


def test_what_the_provider_says_that_it_cost_counts(lab: Lab, server: Server) -> None:
    usage = {**USAGE, "cost": 0.0125}
    choice = {"index": 0, "delta": {"content": "hi"}, "finish_reason": "stop"}
    head = {"id": "gen-1", "object": "chat.completion.chunk", "created": 17, "model": "openai/gpt-4o-mini"}
    server.scripted = [[{**head, "choices": [choice], "usage": usage}, "[DONE]"]]
    taken = lab.record(agent_of(server, "gpt-4o-mini", stream=True))
    assert accounts(taken.record) == [(1.25, Usage("openai/gpt-4o-mini", 1000, 200))]
