"""What the chat-based formats share: a conversation as the events of one run.

Each answer of the model is a step `llm.chat`; its params are the settings and all messages
that the model was sent, its outcome what the provider answered. Each tool call is a step named
after the tool; its params are the arguments, its outcome what came back. Messages of a user are no
steps: they stand in the params of the next LLM step.

Effects: a tool of a foreign run declared none, so it is a `write`, as an undeclared skill is. An LLM
call changes nothing in the world and is a `read`; where steps are served from a record, it is served
for its kind.

The seed of an imported run is derived from its source, so that the same import gives the same
root. Whoever has the source can therefore derive every salt of the run: erasing a value of an imported
run hides it from those who have the record alone, not from those who have the file.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, NamedTuple

from isotrace.canonical import canonical_bytes, value_bytes
from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError
from isotrace.events import Event, lineage_text
from isotrace.formats.node import Node, foreign_json
from isotrace.formats.source import Bounds
from isotrace.hashing import SCHEME, H, import_run_id
from isotrace.jsondiff import MISSING
from isotrace.minted import MintedIds
from isotrace.models import META_SOURCE, META_TIME
from isotrace.record.usage import usage_of

LLM_SKILL: Final = "llm.chat"
DEFAULT_SEED: Final = 42
SCRIPTED: Final = "scripted: no answer of a model stands behind this message"
BY_USER: Final = "called by the user simulator, not by the agent"
# Reasons in the grade of a run: what a replay would miss.
REBUILT: Final = "requests: what the model was sent is put together from the messages, not recorded"
NO_RAW_ANSWER: Final = "answers: they are as the agent kept them, not as the model's provider gave them"
TIME_ABSENT: Final = {META_TIME: "absent"}
TIME_ZONELESS: Final = {META_TIME: "zoneless"}


class Outcome(NamedTuple):
    """How a step ended, in the words that hashes see."""

    status: str
    category: str
    code: str | None


SUCCESS: Final = Outcome("success", "SUCCESS", None)
TOOL_ERROR: Final = Outcome("failure", "PERMANENT", "tool_error")

# By what an exception's class or an exit status is called; the first that fits counts.
_CATEGORIES: Final = (
    ("TRANSIENT", ("timeout", "connection", "unavailable", "overloaded", "ratelimit", "internalserver")),
    ("VALIDATION", ("validation", "badrequest", "formaterror")),
    ("PERMISSION", ("authentication", "permission")),
    ("RESOURCE", ("contextwindow", "quota", "budget", "limit")),
    ("CANCELLED", ("cancelled", "interrupt")),
)


def failed_with(name: str) -> Outcome:
    """The failure that an exception's name stands for; a module path before it is left out."""
    code = name.rpartition(".")[2] or name
    lower = code.lower()
    for category, words in _CATEGORIES:
        if any(word in lower for word in words):
            return Outcome("failure", category, code)
    return Outcome("failure", "PERMANENT", code)


def answered(finish_reason: Any) -> Outcome:
    """How an LLM step ended, by the provider's reason for stopping."""
    if finish_reason in ("length", "max_tokens"):
        return Outcome("success", "SUCCESS", "length")
    if finish_reason == "content_filter":
        return Outcome("failure", "POLICY", "content_filter")
    return SUCCESS


def call_arguments(raw: Any) -> dict[str, Any]:
    """A call's arguments by name. `raw` is their JSON text or the object itself.

    What is not an object, or not JSON, is kept as it came: `{"arguments": raw}`.
    """
    value = None if raw is MISSING else raw
    if isinstance(raw, str):
        try:
            value = foreign_json(raw)
        except CanonicalizationError:
            value = None
    return value if isinstance(value, dict) else {"arguments": None if raw is MISSING else raw}


NO_FACTS: Final[Mapping[str, Any]] = {}


def usage_facts(answer: Any, asked_model: Any = None) -> Mapping[str, Any]:
    """What an answer says that it used, as the fact of its step. Its cost stays the source's business: the
    same file gives the same run, whatever list of prices is installed."""
    usage = usage_of(answer, asked_model)
    if usage is None or (usage.input_tokens is None and usage.output_tokens is None):
        return NO_FACTS
    return {"usage": usage.to_dict()}


@dataclass(slots=True)
class Call:
    """A tool call whose result is still to come."""

    name: str
    params: dict[str, Any]
    call_id: str | None
    lineage: int = -1
    marks: tuple[str, ...] = ()


def call_of(call: Node, marks: tuple[str, ...] = ()) -> Call:
    """A call as chat protocols write it, its function apart or in one object with the id."""
    function = call if call["function"].absent else call["function"]
    return Call(
        name=function["name"].text(),
        params=call_arguments(function["arguments"].value),
        call_id=call["id"].text_or_none(),
        marks=marks,
    )


def known(pairs: Mapping[str, Any]) -> dict[str, Any]:
    """The pairs whose value the source has."""
    return {key: value for key, value in pairs.items() if value is not None}


def digest_of(value: Any) -> str:
    """64 hex digits that stand for a value of many kilobytes which all runs of a file share."""
    return sha256(canonical_bytes(value)).hexdigest()


@dataclass(slots=True)
class Identity:
    """Which run this is, and what is known of it before its first step.

    `source` is the run as it stands in its file; `context` is all that the record takes from
    outside of it (the file's name, settings that several runs share). Both together decide the
    run id, so one id always means one root. Runs of one `correlation` are attempts at one task.
    """

    format: str
    tenant_id: str
    source: Any
    context: dict[str, Any]
    correlation: list[str] | None
    agent_id: str | None
    metadata: dict[str, Any]
    seed: int = DEFAULT_SEED
    started_us: int = 0
    input: Any = None
    environment: Any = None
    digest: str = field(init=False)
    run_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.digest = digest_of({"context": self.context, "run": self.source})
        self.run_id = import_run_id(self.format, self.tenant_id, self.digest)

    def ledger_seed(self) -> bytes:
        """The 32 bytes that the run's salts come from."""
        return self._derived("seed", self.digest)

    def correlation_id(self) -> str:
        return self._derived("correlation", *self.correlation).hex() if self.correlation else self.run_id

    def _derived(self, purpose: str, *parts: str) -> bytes:
        # Four parts or more: never the list of three that `import_run_id` hashes.
        return H("isotrace/v1/import", canonical_bytes([purpose, self.format, self.tenant_id, *parts]))


class ChatRun:
    """Builds the events of one run, message by message.

    Every message is encoded once; the params of the n-th LLM step are the n-th prefix of what was
    encoded. `root` is where the run stands in its file, for errors about the whole of it.
    """

    def __init__(self, root: Node, identity: Identity, settings: Mapping[str, Any], bounds: Bounds) -> None:
        self._root = root
        self._identity = identity
        self._bounds = bounds
        self._events: list[Event] = []
        self._size = 0
        self._steps = 0
        self._minted = MintedIds()
        self._raw_ids: dict[str, str] = {}
        self._waiting: deque[Call] = deque()
        head = {key: value for key, value in settings.items() if key != "messages"}
        text = value_bytes(head)[:-1]
        # Last, so that the params of two steps differ only at their end.
        self._head = text + (b',"messages":[' if head else b'"messages":[')
        self.forget_messages()
        self.now_us = identity.started_us
        self._start()

    def _start(self) -> None:
        one = self._identity
        facts = {
            "scheme": SCHEME,
            "run_id": one.run_id,
            "origin_run_id": one.run_id,
            "correlation_id": one.correlation_id(),
            "tenant_id": one.tenant_id,
            "agent_id": one.agent_id,
            "seed": one.seed,
            "frozen_timestamp": None,
        }
        metadata = {META_SOURCE: one.format, **one.metadata}
        values = known({"input": one.input, "metadata": metadata, "environment": one.environment})
        self._add("run_started", facts, {name: value_bytes(value) for name, value in values.items()})

    def _add(self, type_: str, facts: dict[str, Any], values: dict[str, bytes]) -> None:
        self._size += sum(map(len, values.values()))
        if self._size > self._bounds.ledger:
            raise self._root.fail(
                "a run is too large: its LLM steps, each with all messages so far, add up to too much",
                expected=f"at most {self._bounds.ledger} bytes",
            )
        self._events.append(Event(len(self._events), type_, self.now_us, facts, dict(values)))

    def at(self, time_us: int | None) -> float:
        """Moves the run's clock to this time, if there is one; how many milliseconds it moved on."""
        if time_us is None:
            return 0.0
        before, self.now_us = self.now_us, time_us
        return max(0, time_us - before) / 1000

    def message(self, message: dict[str, Any]) -> None:
        """A message that the next LLM step is sent: a prompt, a user's words, a tool's result."""
        plain, raw_ids = self._minted.replace(message)
        self._raw_ids.update(raw_ids)
        if self._count:
            self._messages += b","
        self._messages += value_bytes(plain)
        self._count += 1

    def forget_messages(self) -> None:
        """The next LLM step is sent only what is added from here on."""
        self._messages = bytearray(self._head)
        self._count = 0

    def sent_anything(self) -> bool:
        """Whether there is a message that an LLM step would be sent."""
        return self._count > 0

    def answer(
        self,
        message: dict[str, Any],
        outcome: Any,
        *,
        ended: Outcome = SUCCESS,
        time_us: int | None = None,
        cost_cents: float = 0.0,
        duration_ms: float | None = None,
        marks: tuple[str, ...] = (),
    ) -> None:
        """An LLM step: the model was sent all messages so far, and `outcome` came back at `time_us`.

        `message` is the outcome in chat form, as later requests repeat it. Without `duration_ms`
        the step began when the one before it ended.
        """
        self.drop_calls()
        number = self._next_lineage()
        values = {"params": bytes(self._messages) + b"]}"}
        if self._raw_ids:
            values["raw_ids"] = value_bytes(self._raw_ids)
        self._started(number, "llm", LLM_SKILL, "read", values)
        passed_ms = self.at(time_us)
        self._finished(
            number,
            ended,
            {"outcome_data": value_bytes(outcome)},
            cost_cents=cost_cents,
            duration_ms=passed_ms if duration_ms is None else duration_ms,
            marks=marks,
            more=usage_facts(outcome),
        )
        self._minted.learn(lineage_text((number,)), outcome)
        self.message(message)

    def calls(self, calls: list[Call]) -> None:
        """Tool calls that were asked for, in order; each becomes a step once it is known how it ended."""
        self.drop_calls()
        for call in calls:
            call.lineage = self._next_lineage()
            self._waiting.append(call)

    def waiting(self) -> int:
        """How many calls still wait for their result."""
        return len(self._waiting)

    def waits_for_text(self) -> bool:
        """Whether a call waits that has no id, so that its result is an ordinary message."""
        return bool(self._waiting) and self._waiting[0].call_id is None

    def result(
        self,
        place: Node,
        call_id: str | None,
        outcome: dict[str, Any],
        *,
        ended: Outcome = SUCCESS,
        error: str | None = None,
        time_us: int | None = None,
        duration_ms: float | None = None,
    ) -> None:
        """The result of the next waiting call, at `time_us`.

        Results come in the order of the calls; ids need not be unique, so they only confirm it. A result
        that names another of the waiting calls belongs to that one. Raises `ImportFormatError`
        about `place` if no call waits, or none of this id.
        """
        call = self._called(place, call_id)
        self._call_started(call)
        values = {"outcome_data": value_bytes(outcome)}
        if error is not None:
            values["error"] = value_bytes(error)
        passed_ms = self.at(time_us)
        self._finished(
            call.lineage,
            ended,
            values,
            duration_ms=passed_ms if duration_ms is None else duration_ms,
            marks=call.marks,
        )

    def _called(self, place: Node, call_id: str | None) -> Call:
        if not self._waiting:
            raise place.fail("a tool's result follows no call")
        index = 0
        if call_id is not None:
            fits = [i for i, call in enumerate(self._waiting) if call.call_id in (None, call_id)]
            if not fits:
                raise place.fail(
                    "a tool's result names another call than those that wait for one",
                    expected=", ".join(repr(call.call_id) for call in self._waiting),
                )
            index = fits[0]
        call = self._waiting[index]
        del self._waiting[index]
        return call

    def drop_calls(self) -> None:
        """Calls whose result never came: their steps have begun and not ended."""
        while self._waiting:
            self._call_started(self._waiting.popleft())

    def _next_lineage(self) -> int:
        self._steps += 1
        return self._steps - 1

    def _call_started(self, call: Call) -> None:
        plain, raw_ids = self._minted.replace(call.params)
        values = {"params": value_bytes(plain)}
        if raw_ids:
            values["raw_ids"] = value_bytes(raw_ids)
        self._started(call.lineage, "tool", call.name, "write", values)

    def _started(self, number: int, kind: str, skill: str, effect: str, values: dict[str, bytes]) -> None:
        facts = {"lineage": [number], "kind": kind, "skill_name": skill, "effect": effect}
        self._add("step_started", facts, values)

    def _finished(
        self,
        number: int,
        ended: Outcome,
        values: dict[str, bytes],
        *,
        duration_ms: float,
        cost_cents: float = 0.0,
        marks: tuple[str, ...] = (),
        more: Mapping[str, Any] = NO_FACTS,
    ) -> None:
        facts: dict[str, Any] = {
            "lineage": [number],
            "status": ended.status,
            "outcome_category": ended.category,
            "outcome_code": ended.code,
            "cost_cents": cost_cents,
            "duration_ms": duration_ms,
            "retry_count": 0,
            **more,
        }
        if marks:
            facts["marks"] = list(marks)
        self._add("step_finished", facts, values)

    def finish(
        self,
        status: str,
        *,
        result: Any = None,
        error: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        time_us: int | None = None,
    ) -> ImportedRun:
        """The run, ended: completed, failed or aborted. `error` of the last is its reason, kept in clear."""
        self.drop_calls()
        self.at(time_us)
        facts: dict[str, Any]
        values: dict[str, Any] = {"metadata": dict(metadata or {})}
        if status == "aborted":
            facts = {"reason": error or "aborted"}
        else:
            facts = {"status": status, "step_count": self._steps}
            values |= known({"result": result, "error": error})
        type_ = "run_aborted" if status == "aborted" else "run_finished"
        self._add(type_, facts, {name: value_bytes(value) for name, value in values.items()})
        one = self._identity
        return ImportedRun(one.run_id, one.tenant_id, self._events, seed=one.ledger_seed())
