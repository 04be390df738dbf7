"""Batch review sentiment: everything that is ours and knows nothing of Airflow.

What may import what is written in pyproject.toml (import-linter) and checked by `make lint`.
"""

__version__ = "0.1.0"
