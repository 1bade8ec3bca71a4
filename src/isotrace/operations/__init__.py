"""What the product does: the verbs that every face calls. They take and return data; nothing is
printed here.

Verbs are loaded when they are first used (PEP 562): listing runs needs neither importers nor replay.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isotrace.operations.backtesting import Backtest as Backtest
    from isotrace.operations.backtesting import backtest as backtest
    from isotrace.operations.backtesting import backtest_stored as backtest_stored
    from isotrace.operations.bisecting import Bisection as Bisection
    from isotrace.operations.bisecting import Tried as Tried
    from isotrace.operations.bisecting import bisect as bisect
    from isotrace.operations.changing import compare_behaviours as compare_behaviours
    from isotrace.operations.changing import stored_comparison as stored_comparison
    from isotrace.operations.checking import Checked as Checked
    from isotrace.operations.checking import CheckReport as CheckReport
    from isotrace.operations.checking import Waiting as Waiting
    from isotrace.operations.comparing import compare_stored as compare_stored
    from isotrace.operations.comparing import diff as diff
    from isotrace.operations.entries import Entries as Entries
    from isotrace.operations.entries import project_entries as project_entries
    from isotrace.operations.exchange import ImportReport as ImportReport
    from isotrace.operations.exchange import export_runs as export_runs
    from isotrace.operations.exchange import export_to_file as export_to_file
    from isotrace.operations.exchange import import_files as import_files
    from isotrace.operations.exchange import verify_file as verify_file
    from isotrace.operations.gating import assert_parity as assert_parity
    from isotrace.operations.goldens import candidate_of as candidate_of
    from isotrace.operations.goldens import golden_of as golden_of
    from isotrace.operations.goldens import goldens_in as goldens_in
    from isotrace.operations.goldens import read_golden as read_golden
    from isotrace.operations.goldens import same_behaviour as same_behaviour
    from isotrace.operations.goldens import write_golden as write_golden
    from isotrace.operations.grouping import behaviours as behaviours
    from isotrace.operations.grouping import stored_behaviours as stored_behaviours
    from isotrace.operations.groups import Behaviours as Behaviours
    from isotrace.operations.groups import Group as Group
    from isotrace.operations.health import Check as Check
    from isotrace.operations.health import examine as examine
    from isotrace.operations.held import Held as Held
    from isotrace.operations.held import hold as hold
    from isotrace.operations.integrity import Erasure as Erasure
    from isotrace.operations.integrity import Verified as Verified
    from isotrace.operations.integrity import erase as erase
    from isotrace.operations.integrity import find_text as find_text
    from isotrace.operations.integrity import prove as prove
    from isotrace.operations.integrity import read_proof as read_proof
    from isotrace.operations.integrity import step_values as step_values
    from isotrace.operations.integrity import verify_proof as verify_proof
    from isotrace.operations.integrity import verify_run as verify_run
    from isotrace.operations.isolated import Replayed as Replayed
    from isotrace.operations.isolated import replay_in_child as replay_in_child
    from isotrace.operations.opening import open_store as open_store
    from isotrace.operations.programs import RecordedHere as RecordedHere
    from isotrace.operations.programs import exit_code as exit_code
    from isotrace.operations.programs import program_entry as program_entry
    from isotrace.operations.programs import record_program as record_program
    from isotrace.operations.programs import recorded_here as recorded_here
    from isotrace.operations.programs import replay_again as replay_again
    from isotrace.operations.programs import use_redactors as use_redactors
    from isotrace.operations.queries import select as select
    from isotrace.operations.queries import split as split
    from isotrace.operations.replaying import areplay as areplay
    from isotrace.operations.replaying import fork as fork
    from isotrace.operations.replaying import replay as replay
    from isotrace.operations.runs import Selection as Selection
    from isotrace.operations.runs import find_run as find_run
    from isotrace.operations.runs import key_values as key_values
    from isotrace.operations.runs import list_all as list_all
    from isotrace.operations.runs import list_runs as list_runs
    from isotrace.operations.runs import moment as moment
    from isotrace.operations.runs import show as show
    from isotrace.operations.surroundings import replay_environment as replay_environment

_HOMES = {
    "backtesting": "Backtest backtest backtest_stored",
    "bisecting": "Bisection Tried bisect",
    "changing": "compare_behaviours stored_comparison",
    "checking": "CheckReport Checked Waiting",
    "comparing": "compare_stored diff",
    "entries": "Entries project_entries",
    "exchange": "ImportReport export_runs export_to_file import_files verify_file",
    "gating": "assert_parity",
    "grouping": "behaviours stored_behaviours",
    "groups": "Behaviours Group",
    "goldens": "candidate_of golden_of goldens_in read_golden same_behaviour write_golden",
    "health": "Check examine",
    "held": "Held hold",
    "integrity": "Erasure Verified erase find_text prove read_proof step_values verify_proof verify_run",
    "isolated": "Replayed replay_in_child",
    "opening": "open_store",
    "programs": (
        "RecordedHere exit_code program_entry record_program recorded_here replay_again use_redactors"
    ),
    "queries": "select split",
    "replaying": "areplay fork replay",
    "runs": "Selection find_run key_values list_all list_runs moment show",
    "surroundings": "replay_environment",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [*_HOME]  # noqa: PLE0604  # all are strings


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'isotrace.operations' has no attribute {name!r}")
    value = getattr(import_module(f"isotrace.operations.{home}"), name)
    globals()[name] = value
    return value
