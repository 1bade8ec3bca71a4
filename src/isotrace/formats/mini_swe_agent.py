"""mini-swe-agent trajectories: one file is one run.

| record | source |
|---|---|
| task, model | `instance_id`, `info.config.model.model_name` |
| trial | the name of the folder that the file lies in |
| reward | 1.0 or 0.0 by `swebench_report.<folder>.json`, if it lies beside the folder |
| params of LLM steps | `info.config.model.model_kwargs`, and all messages so far without their `extra` |
| steps | each assistant message an LLM step, each of its calls a tool step |
| outcome of an LLM step | `extra.response`, the provider's raw answer |
| outcome of a tool step | the message's text and its `extra`; `raw_output` where the text does not hold it |
| failed tool step | `returncode` is not 0; the code is the exception's class or `EXIT_<returncode>` |
| status | completed: `Submitted`; failed: every other exit |
| result | the submitted patch |

`extra.timestamp` is the end of a step; the one before it began when that ended, the first one when the
provider says that it created the answer. The call that submits has no result message of its own: it
ended the run, and the submission is its outcome.

Older trajectories, also those that are a bare array of messages, have no tool calls: the command stands in a
fenced block of the text, and the next user message is its result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import CanonicalizationError, ImportFormatError
from isotrace.formats.chat import (
    SUCCESS,
    TIME_ABSENT,
    Call,
    ChatRun,
    Identity,
    Outcome,
    answered,
    call_of,
    digest_of,
    failed_with,
    known,
)
from isotrace.formats.node import Node, as_import_error, plain_json
from isotrace.formats.scan import JsonText, text_start
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, open_source, read_all
from isotrace.jsondiff import MISSING
from isotrace.models import META_MODEL, META_REWARD, META_TASK, META_TRIAL

SHELL: Final = "bash"
_SUBMITTED: Final = "Submitted"
_FENCES: Final = ("```mswea_bash_command\n", "```bash\n")
_RETURNCODE: Final = re.compile(r"<returncode>(-?[0-9]{1,6})</returncode>")
_REPORT_BYTES: Final = 16 * 1024 * 1024
_DAY_US: Final = 86_400_000_000
_CENTS: Final = 100
_MARKS: Final = (b'"mini_version"', b'"mini-swe-agent-', b"minisweagent")
_OLD_MARKS: Final = (b"mswea_bash_command", b"COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")


class MiniSweAgentImporter:
    """Reads mini-swe-agent's `.traj.json` files."""

    name = "mini-swe-agent"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as a trajectory, of this agent's version 1 or 2."""
        start = text_start(head)
        if start.startswith(b"{"):
            return any(mark in head for mark in _MARKS)
        return start.startswith(b"[") and b'"role"' in head and any(mark in head for mark in _OLD_MARKS)

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The one run of a file, as `isotrace.contracts.Importer` has it.

        A report that lies beside the file's folder and can't be read is an error of its own; the
        run is kept without a reward.
        """
        data, failure = read_all(stream, where, self._bounds.run)
        text = JsonText(data, where)
        if failure is not None or text.kind() not in ("{", "["):
            raise failure or text.unexpected("a trajectory, or an array of messages")
        root = Node(plain_json(data[text.begin :], where, max_bytes=self._bounds.run), where)
        if isinstance(root.value, list):
            root = Node({"messages": root.value}, where)
        folder = _folder(where, root["instance_id"].name_or_none())
        try:
            reward = None if folder is None else _graded(folder, root["instance_id"].name_or_none())
        except ImportFormatError as error:
            reward = None
            yield error
        try:
            yield self._run(root, tenant_id, folder, reward)
        except CanonicalizationError as error:
            yield as_import_error(error, where, "")

    def _run(self, root: Node, tenant_id: str, folder: Path | None, reward: float | None) -> ImportedRun:
        config = root["info"]["config"]
        task = root["instance_id"].name_or_none()
        model = config["model"]["model_name"].text_or_none()
        trial = None if folder is None else folder.name
        messages = list(root["messages"].items())
        started_us = _started_us(messages)
        metadata = known(
            {
                META_TASK: task,
                META_TRIAL: trial,
                META_MODEL: model,
                "label": label_of(root.where),
                "mini_version": root["info"]["mini_version"].text_or_none(),
            }
        )
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": metadata.get("label"), "trial": trial, "reward": reward},
            correlation=None if task is None else [task],
            agent_id=self.name,
            metadata=metadata if started_us is not None else metadata | TIME_ABSENT,
            started_us=started_us or 0,
            input=known({"instance_id": task, "prompt": _prompt(messages)}),
            environment=_environment(root["info"]),
        )
        settings = known({META_MODEL: model}) | (config["model"]["model_kwargs"].object_or_none() or {})
        run = ChatRun(root, identity, settings, self._bounds)
        for message in messages:
            _add_message(run, message)
        return _finished(run, root, messages, reward)


# --- what stands outside of the file ------------------------------------------------


def _folder(where: str, task: str | None) -> Path | None:
    """The folder that names the trial: the file's own, or the one above where that is named for the task."""
    if label_of(where) is None:
        return None
    path = Path(where)
    folder = (path.absolute() if path.exists() else path).parent
    if task is not None and folder.name == task:
        folder = folder.parent
    return folder if folder.name else None


def _graded(folder: Path, task: str | None) -> float | None:
    """The task's reward by the report beside the folder; None if there is none, or it does not say."""
    path = folder.parent / f"swebench_report.{folder.name}.json"
    if task is None or not path.is_file():
        return None
    where = str(path)
    with open_source(path, Bounds(total=_REPORT_BYTES)) as stream:
        data, failure = read_all(stream, where, _REPORT_BYTES)
    if failure is not None:
        raise failure
    report = Node(plain_json(data, where, max_bytes=_REPORT_BYTES), where)
    if any(one.value == task for one in report["resolved_ids"].items()):
        return 1.0
    lists = ("unresolved_ids", "empty_patch_ids", "error_ids", "incomplete_ids")
    if any(one.value == task for name in lists for one in report[name].items_or_none()):
        return 0.0
    return None


# --- the conversation ---------------------------------------------------------------


def _prompt(messages: list[Node]) -> Any:
    return next((one["content"].value_or_none() for one in messages if one["role"].value == "user"), None)


def _environment(info: Node) -> dict[str, Any] | None:
    """Where the run took place. Its prompts' templates, kilobytes that all runs share, have a digest only."""
    config = info["config"].object_or_none()
    if config is None:
        return None
    kept = ("agent_type", "model_type", "environment_type", "environment")
    return known({key: config.get(key) for key in kept}) | {"config_sha256": digest_of(config)}


def _started_us(messages: list[Node]) -> int | None:
    """When the first step began; None if the file has no times."""
    for message in messages:
        ended_us = message["extra"]["timestamp"].unix_us_or_none()
        if ended_us is not None:
            created = _dig(message["extra"]["response"].value, "created")
            began_us = created * 1_000_000 if type(created) is int else ended_us
            return began_us if ended_us - _DAY_US < began_us <= ended_us else ended_us
    return None


def _dig(value: Any, *path: str | int) -> Any:
    """What a provider's raw answer has at this place, None if it is of another shape."""
    for part in path:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def _add_message(run: ChatRun, message: Node) -> None:
    role = message["role"].text()
    time_us = message["extra"]["timestamp"].unix_us_or_none()
    chat = {key: value for key, value in message.object().items() if key != "extra"}
    if role == "assistant":
        _add_answer(run, message, chat, time_us)
    elif role == "exit":
        _add_exit(run, message)
    elif role == "tool":
        _add_result(run, message, message["tool_call_id"], time_us)
        run.message(chat)
    else:
        interrupt = message["extra"]["interrupt_type"]
        if role == "user" and run.waits_for_text() and interrupt.absent:
            _add_result(run, message, Node(MISSING, message.where, message.pointer), time_us)
        run.at(time_us)
        run.message(chat)


def _add_answer(run: ChatRun, message: Node, chat: dict[str, Any], time_us: int | None) -> None:
    raw = message["extra"]["response"]
    outcome = chat if raw.absent else raw.object()
    run.answer(
        chat,
        outcome,
        ended=answered(_dig(outcome, "choices", 0, "finish_reason")),
        time_us=time_us,
        cost_cents=(message["extra"]["cost"].number_or_none() or 0.0) * _CENTS,
    )
    calls = [call_of(call) for call in message["tool_calls"].items_or_none()]
    run.calls(calls or _commands(message))


def _commands(message: Node) -> list[Call]:
    """The commands of an answer without tool calls: as the agent parsed them, else the one fenced block."""
    actions = message["extra"]["actions"]
    if not actions.absent:
        return [Call(SHELL, {"command": one["command"].text()}, None) for one in actions.items()]
    content = message["content"].value
    if not isinstance(content, str):
        return []
    for fence in _FENCES:
        blocks = _fenced(content, fence)
        if blocks:
            # The agent refuses an answer with any other number of commands.
            return [Call(SHELL, {"command": blocks[0]}, None)] if len(blocks) == 1 else []
    return []


def _fenced(text: str, fence: str) -> list[str]:
    """The insides of the fenced blocks, in one pass."""
    blocks = []
    begin = text.find(fence)
    while begin >= 0:
        begin += len(fence)
        end = text.find("\n```", begin)
        if end < 0:
            break
        blocks.append(text[begin:end].strip())
        begin = text.find(fence, end)
    return blocks


def _add_result(run: ChatRun, message: Node, call_id: Node, time_us: int | None) -> None:
    content = message["content"].value_or_none()
    extra = message["extra"].object_or_none() or {}
    outcome = {"content": content}
    for key, value in extra.items():
        shown = (
            key == "raw_output" and isinstance(value, str) and isinstance(content, str) and value in content
        )
        if key != "timestamp" and not shown:
            outcome[key] = value
    error = message["extra"]["exception_info"].text_or_none() or None
    run.result(
        call_id, call_id.text_or_none(), outcome, ended=_ended(message, content), error=error, time_us=time_us
    )


def _ended(message: Node, content: Any) -> Outcome:
    returncode = message["extra"]["returncode"].whole_or_none()
    if returncode is None and isinstance(content, str) and (match := _RETURNCODE.match(content)):
        returncode = int(match[1])
    if not returncode:
        return SUCCESS
    exception = message["extra"]["exception_type"].text_or_none()
    return failed_with(exception) if exception else Outcome("failure", "PERMANENT", f"EXIT_{returncode}")


def _add_exit(run: ChatRun, message: Node) -> None:
    # Of several calls at once nothing says which one submitted: they stay unfinished.
    if message["extra"]["exit_status"].text_or_none() == _SUBMITTED and run.waiting() == 1:
        outcome = {"content": message["content"].value_or_none(), "exit_status": _SUBMITTED}
        run.result(message, None, outcome)


def _finished(run: ChatRun, root: Node, messages: list[Node], reward: float | None) -> ImportedRun:
    info = root["info"]
    leaving = messages[-1]["extra"] if messages else root["none"]
    exit_status = info["exit_status"].text_or_none() or leaving["exit_status"].text_or_none()
    submission = info["submission"].text_or_none() or leaving["submission"].text_or_none()
    failed = exit_status not in (None, _SUBMITTED)
    error = info["exception_str"].text_or_none() or leaving["exception_str"].text_or_none() or exit_status
    ending = {
        META_REWARD: reward,
        "exit_status": exit_status,
        "agent_cost_usd": info["model_stats"]["instance_cost"].number_or_none(),
        "api_calls": info["model_stats"]["api_calls"].whole_or_none(),
    }
    return run.finish(
        "failed" if failed else "completed",
        result=submission,
        error=error if failed else None,
        metadata=known(ending),
    )
