"""The process of one contender: reads what it is to be from a line of JSON, prepares, then goes once a line.

`python -m tests.benchmarks.worker`, started by `measuring`. Its standard output carries the answers and nothing else:
what libraries print goes to the log.
"""

import json
import os
import sys
from typing import Any

from tests.benchmarks.measuring import Stopwatch, own_peak


def main() -> None:
    """Serve turns until the input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    spec = json.loads(sys.stdin.readline())
    go = _prepared(spec)
    print(json.dumps({}), file=answers, flush=True)
    for line in sys.stdin:
        orders = json.loads(line)
        with Stopwatch() as watch:
            done = go(**orders)
        repeats = done.pop("repeats", 1)
        turn = {"cpu_s": watch.cpu_s / repeats, "wall_s": watch.wall_s / repeats, "peak_bytes": own_peak(), **done}
        print(json.dumps(turn), file=answers, flush=True)


def _prepared(spec: dict[str, Any]) -> Any:
    if "peer" in spec:
        from tests.benchmarks import peer_turns

        return peer_turns.prepare(spec)
    import pyarrow as pa

    if threads := spec.get("threads", 1):  # 0: as many as there are
        pa.set_cpu_count(threads)
        pa.set_io_thread_count(threads)
    if spec["contender"].startswith("night"):
        from tests.benchmarks import nights

        return nights.prepare(spec)
    from tests.benchmarks import contenders

    return contenders.prepare(spec)


if __name__ == "__main__":
    main()
