"""SWE-agent trajectories (`.traj`): one file is one run.

| record | source |
|---|---|
| task | the file's name |
| trial | the name of the folder that the file lies in, or the one above where that is named for the task |
| model | `replay_config.agent.model.name`, else the part of the folder's name before `__` |
| params of LLM steps | the entry's `query`, else the messages of `history` before its answer |
| steps | each entry of `trajectory` an LLM step; its action, if there is one, a tool step |
| outcome of an LLM step | the answer as a chat message, with its `thought` and `action` |
| tool step | the one tool call of the answer, else `bash` with the action as its command |
| outcome of a tool step | `observation`, and `state` as an object |
| duration of a tool step | `execution_time` |
| status | completed: `submitted`; failed: every other exit |
| result | `info.submission` |

Nothing says whether a command failed, so every tool step whose observation is there is a success. There
are no times of day. A file with `history` alone has steps by its messages, without states and an ending.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.formats.chat import (
    NO_RAW_ANSWER,
    REBUILT,
    TIME_ABSENT,
    Call,
    ChatRun,
    Identity,
    call_of,
    digest_of,
    known,
)
from isotrace.formats.node import Node, as_import_error, foreign_json, plain_json
from isotrace.formats.scan import JsonText, text_start
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, read_all
from isotrace.formats.tree import NO_PROGRAM, UNFINISHED
from isotrace.jsondiff import MISSING
from isotrace.models import META_MODEL, META_REPLAYABILITY, META_TASK, META_TRIAL

SHELL: Final = "bash"
NO_TRAJECTORY: Final = "trajectory: there is only the history, so states and the run's end are not known"

_SUBMITTED: Final = "submitted"
_MARKS: Final = ((b'"trajectory"', b'"observation"'), (b'"history"', b'"message_type"'))
# What the agent keeps on a message for itself; a model is sent the rest.
_OWN_KEYS: Final = frozenset(
    ("agent", "message_type", "thought", "action", "is_demo", "tool_call_ids", "tags")
)


class SweAgentImporter:
    """Reads SWE-agent's `.traj` files."""

    name = "swe-agent"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a trajectory, or is an object whose name ends in `.traj`."""
        if not text_start(head).startswith(b"{"):
            return False
        named = Path(where).name.removesuffix(".gz").removesuffix(".zst").endswith(".traj")
        return named or any(all(mark in head for mark in marks) for marks in _MARKS)

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The one run of a file, as `isotrace.contracts.Importer` has it."""
        data, failure = read_all(stream, where, self._bounds.run)
        text = JsonText(data, where)
        if failure is not None or text.kind() != "{":
            raise failure or text.unexpected("an object with a trajectory")
        root = Node(plain_json(data[text.begin :], where, max_bytes=self._bounds.run), where)
        if root["trajectory"].absent and root["history"].absent:
            raise root.fail("unknown layout", expected="an object with a trajectory or a history")
        try:
            yield self._run(root, tenant_id)
        except CanonicalizationError as error:
            yield as_import_error(error, where, "")

    def _run(self, root: Node, tenant_id: str) -> ImportedRun:
        task, folder = label_of(root.where), _folder(root.where)
        config = _parsed(root["replay_config"])
        model = _model(config, folder)
        messages = list(root["history"].items_or_none())
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": task, "folder": folder},
            correlation=None if task is None else [task],
            agent_id=self.name,
            metadata=known({META_TASK: task, META_TRIAL: folder, META_MODEL: model}) | TIME_ABSENT,
            input=known({"instance_id": task, "prompt": _prompt(messages)}),
            environment=_environment(root, config),
        )
        run = ChatRun(root, identity, _settings(config, model), self._bounds)
        grade = dict.fromkeys((NO_PROGRAM, NO_RAW_ANSWER))
        if root["trajectory"].absent:
            grade[NO_TRAJECTORY] = None
        for turn in _turns(root, messages):
            _add_turn(run, turn, messages, grade)
        return _finished(run, root, list(grade))


# --- what is known of the run ---------------------------------------------------------


def _folder(where: str) -> str | None:
    """The name of the folder that names the trial, as `mini_swe_agent` finds it."""
    label = label_of(where)
    if label is None:
        return None
    path = Path(where)
    folder = (path.absolute() if path.exists() else path).parent
    return (folder.parent if folder.name == label else folder).name or None


def _parsed(place: Node) -> Node:
    """An object that may be written as its JSON text; nothing where it is neither."""
    value = place.value
    if isinstance(value, str):
        try:
            value = foreign_json(value)
        except CanonicalizationError:
            value = None
    return Node(value if isinstance(value, dict) else MISSING, place.where, place.pointer)


def _member(node: Node, *keys: str) -> Any:
    """What a settings object has at this place, None if it is of another shape: settings vary by version."""
    value = node.value
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _model(config: Node, folder: str | None) -> str | None:
    name = _member(config, "agent", "model", "name")
    if isinstance(name, str):
        return name
    first, mark, _ = (folder or "").partition("__")
    return first if mark and first else None


def _settings(config: Node, model: str | None) -> dict[str, Any]:
    kept = ("temperature", "top_p", "stop", "completion_kwargs")
    settings = known({key: _member(config, "agent", "model", key) for key in kept})
    return known({META_MODEL: model}) | settings


def _environment(root: Node, config: Node) -> dict[str, Any]:
    """Where the run took place. The configuration, kilobytes of templates, has a digest only."""
    return known(
        {
            "environment": root["environment"].value_or_none(),
            "image": _member(config, "env", "deployment", "image"),
            "repo": _member(config, "env", "repo"),
            "config_sha256": None if config.absent else digest_of(config.value),
        }
    )


def _prompt(messages: list[Node]) -> Any:
    """The words of the first user's message that is no demonstration."""
    for message in messages:
        if message["role"].value == "user" and not message["is_demo"].value:
            return message["content"].value_or_none()
    return None


# --- the conversation -----------------------------------------------------------------


@dataclass(slots=True)
class _Turn:
    """One answer and what came of it. `begin:at` are the messages of the history that are new to it,
    `answer` is its message there, None if it was not kept, and `before` the last turn's observation."""

    place: Node
    begin: int
    at: int
    answer: Node | None
    observation: Node
    before: Any = MISSING


def _turns(root: Node, messages: list[Node]) -> Iterator[_Turn]:
    return _by_history(root, messages) if root["trajectory"].absent else _by_trajectory(root, messages)


def _answers(messages: list[Node]) -> list[int]:
    return [
        index
        for index, message in enumerate(messages)
        if message["role"].value == "assistant" and not message["is_demo"].value
    ]


def _by_history(root: Node, messages: list[Node]) -> Iterator[_Turn]:
    """An answer's observation is the message after it, unless that is an answer too."""
    begin = 0
    for index in _answers(messages):
        after = messages[index + 1] if index + 1 < len(messages) else root["none"]
        shown = after["role"].value in ("user", "tool")
        yield _Turn(
            messages[index], begin, index, messages[index], after["content"] if shown else root["none"]
        )
        begin = index + 1


def _by_trajectory(root: Node, messages: list[Node]) -> Iterator[_Turn]:
    """Each entry with the next message of the history that is its answer; not every answer is kept there."""
    answers = _answers(messages)
    places: dict[str, list[int]] = {}
    for index in answers:
        places.setdefault(_words(messages[index]["content"].value), []).append(index)
    begin, before = 0, MISSING
    for entry in root["trajectory"].items():
        fits = places.get(_words(entry["response"].value), [])
        found = bisect_left(fits, begin)
        if found < len(fits):
            at = fits[found]
            yield _Turn(entry, begin, at, messages[at], entry["observation"], before)
            begin = at + 1
        else:
            # What stands before the next answer that was kept is what this one was sent.
            following = bisect_left(answers, begin)
            at = answers[following] if following < len(answers) else len(messages)
            yield _Turn(entry, begin, at, None, entry["observation"], before)
            begin = at
        before = entry["observation"].value


def _words(content: Any) -> str:
    """A message's text, also of one that is written in parts."""
    if isinstance(content, list):
        texts = (part.get("text") for part in content if isinstance(part, dict))
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def _add_turn(run: ChatRun, turn: _Turn, messages: list[Node], grade: dict[str, None]) -> None:
    query = turn.place["query"]
    sent = messages[turn.begin : turn.at]
    if isinstance(query.value, list):
        run.forget_messages()
        sent = list(query.items())
    else:
        grade[REBUILT] = None
    for message in sent:
        run.message(_chat_form(message))
    if not sent and isinstance(turn.before, str):
        run.message({"role": "user", "content": turn.before})
    answer = _answer(turn)
    run.answer(answer, known(answer | _own(turn.place)))
    calls = _calls(turn)
    run.calls(calls)
    if not calls:
        return
    if turn.observation.absent:
        grade[UNFINISHED] = None
        return
    state = _parsed(turn.place["state"])
    seconds = turn.place["execution_time"].number_or_none()
    outcome = {
        "observation": turn.observation.value,
        "state": turn.place["state"].value_or_none() if state.absent else state.value,
    }
    run.result(
        turn.observation,
        None,
        known(outcome),
        duration_ms=None if seconds is None else max(0.0, seconds) * 1000,
    )


def _chat_form(message: Node) -> dict[str, Any]:
    """The message as a model is sent it."""
    chat = {
        key: value for key, value in message.object().items() if key not in _OWN_KEYS and value is not None
    }
    ids = message["tool_call_ids"].value
    if isinstance(ids, list) and ids and message["role"].value == "tool":
        chat["tool_call_id"] = ids[0]
    return chat


def _answer(turn: _Turn) -> dict[str, Any]:
    if turn.answer is not None:
        return _chat_form(turn.answer)
    return {"role": "assistant", "content": turn.place["response"].value_or_none()}


def _own(place: Node) -> dict[str, Any]:
    return {key: place[key].value_or_none() for key in ("thought", "action")}


def _calls(turn: _Turn) -> list[Call]:
    """The one call of an answer; the agent runs no others."""
    if turn.answer is not None:
        calls = list(turn.answer["tool_calls"].items_or_none())
        if len(calls) == 1:
            return [call_of(calls[0])]
    action = turn.place["action"].text_or_none()
    return [Call(SHELL, {"command": action}, None)] if action and action.strip() else []


def _finished(run: ChatRun, root: Node, grade: list[str]) -> ImportedRun:
    info = root["info"]
    exit_status = info["exit_status"].text_or_none()
    stats = info["model_stats"]
    ending = {
        "exit_status": exit_status,
        "agent_cost_usd": stats["instance_cost"].number_or_none(),
        "api_calls": stats["api_calls"].whole_or_none(),
        "tokens_sent": stats["tokens_sent"].whole_or_none(),
        "tokens_received": stats["tokens_received"].whole_or_none(),
        META_REPLAYABILITY: grade,
    }
    failed = exit_status not in (None, _SUBMITTED)
    return run.finish(
        "failed" if failed else "completed",
        result=info["submission"].text_or_none(),
        error=exit_status if failed else None,
        metadata=known(ending),
    )
