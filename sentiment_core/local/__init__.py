"""The embedded stack: PostgreSQL, S3, MLflow and Airflow of this clone, on loopback, from wheels alone.

`stack.LocalStack` is the way in (up, down, status); one detached supervisor keeps the components alive. Nothing
outside this package and `cli` may depend on it: stages see addresses in a Settings and nothing else. It runs
Airflow as a program and talks REST to it; it never imports it.
"""

import json
from pathlib import Path

from sentiment_core.errors import Permanent
from sentiment_core.settings import LOCAL_DIR


def environment(state_dir: Path = LOCAL_DIR) -> dict[str, str]:
    """The variables of `settings` that lead to the embedded stack; empty where it has never been started."""
    path = state_dir / "environment.json"
    try:
        values: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise Permanent(
            f"file {path}", expected="readable JSON", found=str(error), remedy="run `sentiment up`, which writes it anew"
        ) from error
    return values
