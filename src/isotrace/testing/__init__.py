"""What tests of isotrace, and of what is built on it, are made with. Needs pytest and hypothesis.

`runs` makes sealed runs; `store_contract` is the suite that every store inherits, `stateful` the machine that
holds it against memory, `mutants` the stores that the suite must fail.
"""

from __future__ import annotations

import sys

if "pytest" in sys.modules:
    # Before the modules are loaded, so that a failed assert in them shows both sides.
    sys.modules["pytest"].register_assert_rewrite(
        "isotrace.testing.contract_erasing",
        "isotrace.testing.contract_finding",
        "isotrace.testing.contract_keeping",
        "isotrace.testing.store_contract",
    )
