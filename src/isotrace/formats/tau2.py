"""tau2-bench results: one object with settings, tasks and simulations, or a bare array of simulations.

| record | source |
|---|---|
| task, trial, reward | `task_id`, `trial`, `reward_info.reward` |
| model, params of LLM steps | `info.agent_info.{llm,llm_args}`, for all simulations of the file |
| seed | `seed` |
| input | the task of this id in `tasks[]`, without its evaluation |
| steps | each assistant message an LLM step, each tool call a tool step, in the order of `messages[]` |
| failed tool step | `error` of the result |
| status | completed: the user or the agent stopped; aborted: `infrastructure_error`; failed: all else |
| result | the text of the last assistant message |

Params of an LLM step hold what the agent was shown: messages in chat form, without the calls that the
user simulator makes and their results. Those calls are tool steps too, with a mark that says whose they
are. The fixed greeting that opens a conversation is marked as scripted: no model gave it.

`timestamp` of a message is the end of its step. Times have no zone, are taken as UTC and marked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.chat import (
    BY_USER,
    DEFAULT_SEED,
    SCRIPTED,
    SUCCESS,
    TIME_ABSENT,
    TIME_ZONELESS,
    TOOL_ERROR,
    Call,
    ChatRun,
    Identity,
    answered,
    call_of,
    digest_of,
    known,
)
from isotrace.formats.node import Moment, Node, plain_json
from isotrace.formats.scan import JsonText, parts_of, runs_of
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, map_all
from isotrace.jsondiff import MISSING
from isotrace.models import META_MODEL, META_REWARD, META_TASK, META_TRIAL

_OBJECT: Final = re.compile(rb"^(\xef\xbb\xbf)?\s*\{")
_ARRAY: Final = re.compile(rb"^(\xef\xbb\xbf)?\s*\[\s*\{")
_CENTS: Final = 100


@dataclass(slots=True)
class _Shared:
    """What all simulations of a file have in common."""

    label: str | None
    info: Node
    tasks: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] | None = None
    agent_id: str = "tau2-bench"
    domain: str = ""

    def __post_init__(self) -> None:
        agent, world = self.info["agent_info"], self.info["environment_info"]
        self.agent_id = agent["implementation"].text_or_none() or self.agent_id
        self.domain = world["domain_name"].text_or_none() or ""
        self.settings = dict(agent["llm_args"].object_or_none() or {})
        model = agent["llm"].text_or_none()
        if model is not None:
            self.settings = {META_MODEL: model, **self.settings}
        if not self.info.absent:
            self.environment = {
                "benchmark": "tau2-bench",
                "git_commit": self.info["git_commit"].text_or_none(),
                "domain": self.domain,
                "policy_sha256": None if world["policy"].absent else digest_of(world["policy"].value),
                "tools_sha256": None if world["tool_defs"].absent else digest_of(world["tool_defs"].value),
                "user_model": self.info["user_info"]["llm"].text_or_none(),
            }


class Tau2Importer:
    """Reads tau2-bench's results files, whole or as a bare array of simulations."""

    name = "tau2-bench"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a results object, or as an array of simulations."""
        if _OBJECT.match(head):
            return b'"simulations"' in head or (b'"info"' in head and b'"num_trials"' in head)
        known = b'"reward_info"' in head or b'"turn_idx"' in head
        return bool(_ARRAY.match(head)) and known and b'"messages"' in head

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The runs of one file, as `isotrace.contracts.Importer` has it."""
        data, failure = map_all(stream, where, self._bounds.total)
        text = JsonText(data, where)
        shared = _Shared(label_of(where), Node(MISSING, where, "/info"))
        begin, pointer, broken = text.begin, "", None
        if text.kind() == "{":
            parts, broken = parts_of(text)
            if "simulations" not in parts:
                raise failure or broken or text.unexpected("an object with simulations")
            begin, pointer = parts["simulations"], "/simulations"
            shared = self._shared(text, parts)
        if text.kind(begin) != "[":
            raise failure or text.unexpected("an array of simulations")
        whole = yield from runs_of(
            text,
            begin,
            pointer,
            self._bounds.run,
            lambda node: self._run(node, tenant_id, shared),
            failure=failure,
        )
        if whole and broken is not None:
            yield broken

    def _shared(self, text: JsonText, parts: dict[str, int]) -> _Shared:
        shared = _Shared(label_of(text.where), self._part(text, parts, "info"))
        tasks = self._part(text, parts, "tasks")
        for task in tasks.items_or_none():
            name = task["id"].name_or_none()
            if name is not None:
                shared.tasks[name] = {
                    key: value for key, value in task.object().items() if key != "evaluation_criteria"
                }
        return shared

    def _part(self, text: JsonText, parts: dict[str, int], key: str) -> Node:
        pointer = f"/{key}"
        if key not in parts:
            return Node(MISSING, text.where, pointer)
        data = text.data[parts[key] : text.end_of(parts[key], pointer)]
        return Node(plain_json(data, text.where, pointer, max_bytes=self._bounds.run), text.where, pointer)

    def _run(self, root: Node, tenant_id: str, shared: _Shared) -> ImportedRun:
        task = root["task_id"].name_or_none()
        started = _started(root)
        metadata = {
            META_TASK: task,
            META_TRIAL: root["trial"].whole_or_none(),
            META_MODEL: shared.settings.get(META_MODEL),
            "label": shared.label,
            "source_id": root["id"].name_or_none(),
        }
        seed = root["seed"].whole_or_none()
        task_input = shared.tasks.get(task) if task is not None else None
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={
                "label": shared.label,
                "settings": shared.settings,
                "environment": shared.environment,
                "agent": shared.agent_id,
                "task": task_input,
            },
            correlation=None if task is None else [shared.domain, task],
            agent_id=shared.agent_id,
            metadata=known(metadata) | _time_mark(started),
            seed=DEFAULT_SEED if seed is None else seed,
            started_us=0 if started is None else started.us,
            input=task_input,
            environment=shared.environment,
        )
        run = ChatRun(root, identity, shared.settings, self._bounds)
        last = _add_messages(run, root["messages"])
        return self._finished(run, root, last)

    def _finished(self, run: ChatRun, root: Node, last: Any) -> ImportedRun:
        reason = root["termination_reason"].text_or_none()
        ended = root["end_time"].moment_or_none()
        ending = {
            META_REWARD: root["reward_info"]["reward"].number_or_none(),
            "exit_status": reason,
            "agent_cost_usd": root["agent_cost"].number_or_none(),
            "user_cost_usd": root["user_cost"].number_or_none(),
            "duration_s": root["duration"].number_or_none(),
        }
        status = _status(reason)
        return run.finish(
            status,
            result=last,
            error=None if status == "completed" else reason,
            metadata=known(ending),
            time_us=None if ended is None else ended.us,
        )


def _started(root: Node) -> Moment | None:
    """When the run began; where nothing says so, when its first message was there."""
    started = root["start_time"].moment_or_none()
    if started is not None:
        return started
    for message in root["messages"].items():
        if (moment := message["timestamp"].moment_or_none()) is not None:
            return moment
    return root["timestamp"].moment_or_none()


def _time_mark(started: Moment | None) -> dict[str, str]:
    if started is None:
        return TIME_ABSENT
    return {} if started.zoned else TIME_ZONELESS


def _status(reason: str | None) -> str:
    if reason is None or reason.endswith("_stop"):
        return "completed"
    return "aborted" if reason == "infrastructure_error" else "failed"


def _add_messages(run: ChatRun, messages: Node) -> Any:
    """Adds all messages of a simulation; the text of the assistant's last one."""
    last: Any = None
    for message in messages.items():
        role = message["role"].text()
        moment = message["timestamp"].moment_or_none()
        time_us = None if moment is None else moment.us
        if role == "assistant":
            last = message["content"].value_or_none()
            _add_answer(run, message, time_us)
        elif role == "tool":
            _add_result(run, message, time_us)
        elif role == "user" and not message["tool_calls"].absent and message["tool_calls"].value:
            run.at(time_us)
            run.calls([call_of(call, (BY_USER,)) for call in message["tool_calls"].items()])
        else:
            run.at(time_us)
            run.message({"role": role, "content": message["content"].value_or_none()})
    return last


def _add_answer(run: ChatRun, message: Node, time_us: int | None) -> None:
    calls = [call_of(call) for call in message["tool_calls"].items_or_none()]
    chat = _chat_form(message, calls)
    raw = message["raw_data"]
    scripted = raw.value is None and message["usage"].value is None and not run.sent_anything()
    seconds = message["generation_time_seconds"].number_or_none()
    run.answer(
        chat,
        chat if raw.absent else raw.object(),
        ended=answered(None if raw.absent else raw.object().get("finish_reason")),
        time_us=time_us,
        cost_cents=(message["cost"].number_or_none() or 0.0) * _CENTS,
        duration_ms=None if seconds is None else max(0.0, seconds) * 1000,
        marks=(SCRIPTED,) if scripted else (),
    )
    run.calls(calls)


def _chat_form(message: Node, calls: list[Call]) -> dict[str, Any]:
    """The message as the benchmark sends it back to a model: arguments are written anew as JSON text."""
    chat: dict[str, Any] = {"role": "assistant", "content": message["content"].value_or_none()}
    if calls:
        chat["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments_text(call.params)},
            }
            for call in calls
        ]
    return chat


def _arguments_text(params: dict[str, Any]) -> str:
    raw = params.get("arguments")
    return raw if isinstance(raw, str) and len(params) == 1 else json.dumps(params)


def _add_result(run: ChatRun, message: Node, time_us: int | None) -> None:
    content = message["content"].value_or_none()
    failed = message["error"].flag_or_none() or False
    by_user = message["requestor"].text_or_none() == "user"
    call_id = message["id"].text_or_none()
    run.result(
        message["id"],
        call_id,
        {"content": content},
        ended=TOOL_ERROR if failed else SUCCESS,
        error=content if failed and isinstance(content, str) else None,
        time_us=time_us,
    )
    if not by_user:
        run.message({"role": "tool", "content": content, "tool_call_id": call_id})
