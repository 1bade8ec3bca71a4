"""What the product does: the verbs that every face calls. They take and return data; nothing is
printed here."""

from __future__ import annotations

from isotrace.operations.comparing import diff
from isotrace.operations.exchange import (
    ImportReport,
    export_runs,
    export_to_file,
    import_files,
    verify_file,
)
from isotrace.operations.grouping import Behaviours, Group, behaviours
from isotrace.operations.health import Check, examine
from isotrace.operations.integrity import (
    Erasure,
    Verified,
    erase,
    find_text,
    prove,
    read_proof,
    step_values,
    verify_proof,
    verify_run,
)
from isotrace.operations.opening import open_store
from isotrace.operations.programs import program_entry, record_program, recorded_here, replay_again
from isotrace.operations.replaying import areplay, replay
from isotrace.operations.runs import Selection, find_run, key_values, list_all, list_runs, moment, show

__all__ = [
    "Behaviours",
    "Check",
    "Erasure",
    "Group",
    "ImportReport",
    "Selection",
    "Verified",
    "areplay",
    "behaviours",
    "diff",
    "erase",
    "examine",
    "export_runs",
    "export_to_file",
    "find_run",
    "find_text",
    "import_files",
    "key_values",
    "list_all",
    "list_runs",
    "moment",
    "open_store",
    "program_entry",
    "prove",
    "read_proof",
    "record_program",
    "recorded_here",
    "replay",
    "replay_again",
    "show",
    "step_values",
    "verify_file",
    "verify_proof",
    "verify_run",
]
