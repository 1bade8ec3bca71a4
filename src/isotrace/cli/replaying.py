"""What `replay` and `fork` share: a stored run, run again in a process of its own."""

from __future__ import annotations

from pathlib import Path

from isotrace.cli.face import Face
from isotrace.errors import UsageError
from isotrace.models import TraceRecord
from isotrace.operations import replay_environment, show
from isotrace.operations.isolated import Replayed, replay_in_child
from isotrace.replay import Plan

_MAX_PROMPT = 4 * 1024 * 1024


def replayed(face: Face, run: str, plan: Plan, entry: str | None) -> tuple[TraceRecord, Replayed]:
    """The recorded run, and what came of running it again."""
    with face.store() as store:
        record = show(store, run, tenant_id=face.tenant)
        environment = replay_environment(store, record.run_id, tenant_id=face.tenant)
    result = replay_in_child(
        record.run_id,
        plan,
        store_url=face.store_url,
        tenant=face.tenant,
        entry=entry,
        environment=environment,
    )
    return record, result


def prompt_of(file: Path | None) -> str | None:
    """The prompt in a file. Raises `UsageError` for what is no text, or more than 4 MiB of it."""
    if file is None:
        return None
    with file.open("rb") as stream:
        data = stream.read(_MAX_PROMPT + 1)
    if len(data) > _MAX_PROMPT:
        raise UsageError("the prompt is too long", where=str(file), expected=f"at most {_MAX_PROMPT} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise UsageError("the prompt is no text in UTF-8", where=str(file), got=str(error)) from error
