"""tau-bench results: a JSON array of runs, messages as OpenAI's chat protocol has them.

| record | source |
|---|---|
| task, trial, reward | `task_id` (as text), `trial`, `reward` |
| label | the file's name: the model and the agent's configuration stand nowhere else |
| input | `info.task`: the user's instruction and the expected actions |
| steps | `traj[]`: each assistant message an LLM step, each call a tool step |
| failed tool step | the result's text starts with `Error` |
| failed run | `info.error`: the run crashed, and its messages are lost |
| result | the text of the last assistant message |

There are no times (`time` is `absent`, the epoch stands in their place) and no cost of the agent;
`info.user_cost` is the user simulator's and becomes `user_cost_usd`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

from isotrace.contracts import ImportedRun
from isotrace.errors import ImportFormatError
from isotrace.formats.chat import (
    SUCCESS,
    TIME_ABSENT,
    TOOL_ERROR,
    ChatRun,
    Identity,
    call_of,
    known,
)
from isotrace.formats.node import Node
from isotrace.formats.scan import JsonText, runs_of
from isotrace.formats.source import DEFAULT_BOUNDS, Bounds, label_of, map_all
from isotrace.models import META_REWARD, META_TASK, META_TRIAL

_HEAD: Final = re.compile(rb"^(\xef\xbb\xbf)?\s*\[\s*\{")
_KEYS: Final = (b'"task_id"', b'"info"', b'"reward"')


class TauBenchImporter:
    """Reads tau-bench's results files."""

    name = "tau-bench"

    def __init__(self, bounds: Bounds = DEFAULT_BOUNDS) -> None:
        self._bounds = bounds

    def detect(self, head: bytes, where: str) -> bool:
        """Whether the file begins as an array of objects that have a task, a reward and info."""
        return bool(_HEAD.match(head)) and all(key in head for key in _KEYS) and b'"simulations"' not in head

    def read(
        self, stream: BinaryIO, *, where: str, tenant_id: str, as_tenant: bool = False
    ) -> Iterator[ImportedRun | ImportFormatError]:
        """The runs of one file, as `isotrace.contracts.Importer` has it."""
        data, failure = map_all(stream, where, self._bounds.total)
        text = JsonText(data, where)
        if text.kind() != "[":
            raise failure or text.unexpected("an array of tau-bench runs")
        label = label_of(where)
        yield from runs_of(
            text,
            text.begin,
            "",
            self._bounds.run,
            lambda node: self._run(node, tenant_id, label),
            failure=failure,
        )

    def _run(self, root: Node, tenant_id: str, label: str | None) -> ImportedRun:
        info = root["info"]
        task = root["task_id"].name_or_none()
        if task is None:
            raise root["task_id"].fail("a run names no task", expected="an integer or a string")
        metadata = known({META_TASK: task, META_TRIAL: root["trial"].whole_or_none(), "label": label})
        identity = Identity(
            format=self.name,
            tenant_id=tenant_id,
            source=root.value,
            context={"label": label},
            correlation=[task],
            agent_id=self.name,
            metadata=metadata | TIME_ABSENT,
            input=info["task"].object_or_none(),
        )
        run = ChatRun(root, identity, {}, self._bounds)
        last: Any = None
        for message in root["traj"].items():
            if message["role"].text() == "assistant":
                last = message["content"].value_or_none()
            _add_message(run, message)
        error = info["error"].text_or_none()
        ending = {
            META_REWARD: root["reward"].number_or_none(),
            "user_cost_usd": info["user_cost"].number_or_none(),
            "exit_status": None if error is None else "error",
        }
        return run.finish(
            "completed" if error is None else "failed",
            result=last,
            error=error,
            metadata=known(ending),
        )


def _add_message(run: ChatRun, message: Node) -> None:
    role = message["role"].text()
    if role == "assistant":
        calls = [call_of(call) for call in message["tool_calls"].items_or_none()]
        run.answer(message.object(), message.value)
        run.calls(calls)
        return
    if role == "tool":
        content = message["content"].value_or_none()
        failed = isinstance(content, str) and content.startswith("Error")
        run.result(
            message["tool_call_id"],
            message["tool_call_id"].text_or_none(),
            {"content": content},
            ended=TOOL_ERROR if failed else SUCCESS,
            error=content if failed else None,
        )
    run.message(message.object())
