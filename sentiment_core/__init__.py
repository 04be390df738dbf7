"""Batch review sentiment: everything that is ours and knows nothing of Airflow.

What may import what is written in pyproject.toml (import-linter) and checked by `make lint`.
"""

import os
import sys

__version__ = "0.1.0"

if sys.platform == "linux" and "pyarrow" not in sys.modules:
    # Read once, when Arrow is imported; the reason stands in `memory`. A choice of the user's stays.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
