"""All of Evidently: the comparison it carries out, its report, and what its own tests say.

`judge` is the one door. Which columns are compared on which scale comes from `drift.columns`; the verdict is read
from the status of the tests in Evidently's result and never worked out again, so what the report shows is what sets
off a retrain. A result that lacks a test is an error, not a quiet night.

Evidently takes seconds to import: import this module inside functions. It is used offline; nothing is sent anywhere.
"""

import math
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pyarrow as pa
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import DriftedColumnsCount, ValueDrift
from evidently.tests import lt

from sentiment_core.domain import DriftVerdict
from sentiment_core.drift.accuracy import estimate_accuracy, reference_accuracy
from sentiment_core.drift.columns import Comparison, prepare
from sentiment_core.drift.page import STYLE, render_head, render_page
from sentiment_core.drift.verdict import Accuracies, Findings, decide, too_few, why_too_few
from sentiment_core.errors import Permanent
from sentiment_core.policy import Drift


@dataclass(frozen=True, kw_only=True)
class EvidentlyReport:
    """A report that was run: Evidently's result, and its page."""

    result: dict[str, Any]
    """`metrics` and `tests` as Evidently gives them."""
    html: str


def judge(
    reference: pa.Table | None,
    current: pa.Table,
    *,
    n: int,
    labelled_accuracy: float | None,
    policy: Drift,
    title: str,
    model_version: int,
) -> tuple[DriftVerdict, bytes]:
    """Judge a night against the reference of its model version; returns the verdict and its page.

    Args:
        reference: Rows of `schema.REFERENCE`; None for a version that has none.
        current: The night's rows, or a uniform sample of them, with the drift columns (and product_id, confidence).
        n: Reviews of the night, of which `current` may be a sample.
        labelled_accuracy: Accuracy on those of them whose labels have arrived.
        policy: Section [drift].
        title: First line of the page.
        model_version: Version that scored the night.

    Raises:
        Permanent: Evidently's result lacks a test, or a test could not be carried out.
    """
    current = _sample(current, policy.sample_rows)
    if reason := why_too_few(reference, current, n=n, limits=policy):
        return _give_up(reason, n, labelled_accuracy, title, model_version)
    reference = _sample(reference, policy.sample_rows)
    comparison = prepare(reference, current, policy)
    if not comparison.tests:
        reasons = ", ".join(f"{name}: {why}" for name, why in comparison.left_out.items())
        return _give_up(f"No column can be judged ({reasons}).", n, labelled_accuracy, title, model_version)
    report = make_report(comparison, policy)
    accuracies = Accuracies(
        estimated=estimate_accuracy(reference, current), labelled=labelled_accuracy, reference=reference_accuracy(reference)
    )
    verdict = decide(comparison, read_findings(report.result, comparison), accuracies, n=n, limits=policy)
    return verdict, _put_on_top(render_head(verdict, title=title, model_version=model_version), report.html, title)


def make_report(comparison: Comparison, limits: Drift) -> EvidentlyReport:
    """Let Evidently carry out the tests of a comparison: each column against its limit, and the share that failed."""
    tests = comparison.tests
    share = DriftedColumnsCount(
        columns=[test.display for test in tests],
        drift_share=limits.retrain_share,
        per_column_method={test.display: test.method for test in tests},
        per_column_threshold={test.display: test.threshold for test in tests},
        share_tests=[lt(limits.retrain_share)],
    )
    columns = [ValueDrift(column=test.display, method=test.method, threshold=test.threshold) for test in tests]
    definition = DataDefinition(
        numerical_columns=[test.display for test in tests if test.is_numeric],
        categorical_columns=[test.display for test in tests if not test.is_numeric],
    )
    current, reference = (
        Dataset.from_pandas(table.to_pandas(), data_definition=definition) for table in (comparison.current, comparison.reference)
    )
    snapshot = Report([share, *columns], include_tests=True).run(current, reference)
    return EvidentlyReport(result=snapshot.dict(), html=snapshot.get_html_str(as_iframe=False))


def read_findings(result: dict[str, Any], comparison: Comparison) -> Findings:
    """What Evidently's tests said of each column and of all together.

    Raises:
        Permanent: a test of the comparison is missing from the result, or came out as neither passed nor failed.
    """
    scores: dict[str, float] = {}
    for test in comparison.tests:
        score = _only(result["metrics"], "config", "ValueDrift", test.display)["value"]
        if not math.isfinite(score):
            raise _broken(f"metric of {test.display}", expected="a finite value", found=repr(score))
        scores[test.name] = float(score)
    return Findings(
        is_dataset_drifted=_has_failed(result, "DriftedColumnsCount"),
        scores=scores,
        is_drifted={test.name: _has_failed(result, "ValueDrift", test.display) for test in comparison.tests},
    )


def _has_failed(result: dict[str, Any], kind: str, column: str | None = None) -> bool:
    test = _only(result["tests"], "metric_config", kind, column)
    status = getattr(test["status"], "value", test["status"])
    if status not in ("SUCCESS", "FAIL"):
        raise _broken(f"test of {kind}", expected="the status SUCCESS or FAIL", found=f"{status}: {test.get('description')}")
    return bool(status == "FAIL")


def _only(entries: list[dict[str, Any]], key: str, kind: str, column: str | None) -> dict[str, Any]:
    """The one entry of a list in Evidently's result that is about this kind of metric and this column."""
    found = []
    for entry in entries:
        config = entry[key].get("params", entry[key])
        if config["type"].endswith(f":{kind}") and config.get("column") == column:
            found.append(entry)
    if len(found) != 1:
        raise _broken(f"{kind} of {column or 'all columns'}", expected="one entry in the result", found=str(len(found)))
    return found[0]


def _broken(thing: str, *, expected: str, found: str) -> Permanent:
    return Permanent(
        f"Evidently's report, {thing}",
        expected=expected,
        found=found,
        remedy="the night is not judged; see that evidently has the version of requirements.txt",
    )


def _sample(table: pa.Table, size: int) -> pa.Table:
    """At most `size` rows, the same ones every time."""
    if len(table) <= size:
        return table
    return table.take(np.sort(np.random.default_rng(0).choice(len(table), size, replace=False)))


def _give_up(reason: str, n: int, labelled_accuracy: float | None, title: str, model_version: int) -> tuple[DriftVerdict, bytes]:
    verdict = too_few(reason, n=n, labelled_accuracy=labelled_accuracy)
    return verdict, render_page(verdict, title=title, model_version=model_version).encode()


def _put_on_top(head: str, html: str, title: str) -> bytes:
    """Evidently's page with a title, and with a section of ours above it."""
    for place, ours in (("</head>", f"<title>{escape(title)}</title><style>{STYLE}</style></head>"), ("<body>", f"<body>{head}")):
        if place not in html:
            raise _broken("page", expected=f"the tag {place}", found="none")
        html = html.replace(place, ours, 1)
    return html.encode()
