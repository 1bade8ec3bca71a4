"""`python -m isotrace.cli`, for where no `isotrace` is on the path."""

import sys

from isotrace.cli import main

sys.exit(main())
