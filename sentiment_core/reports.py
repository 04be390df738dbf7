"""All of Evidently: it carries the decision. Its report shows the checks of a night, and its results say which failed.

Every check of `drift` becomes a metric of Evidently's with a test bound to it; the verdict is read from the status of
these tests and never worked out beside them, so what the report shows is what sets off a retrain. A result that lacks
a test is an error, not a quiet night. Besides, Evidently describes the columns, from a bounded sample.

Evidently takes seconds to import: import this module inside functions. It is used offline; nothing is sent anywhere.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from evidently import DataDefinition, Dataset, Report
from evidently.core.metric_types import MetricTest, MetricTestResult, SingleValueCalculation, SingleValueMetric, TestStatus
from evidently.legacy.renderers.html_widgets import CounterData, WidgetSize, counter
from evidently.presets import ValueStats

from sentiment_core import schema
from sentiment_core.domain import DriftVerdict
from sentiment_core.drift.charts import Point
from sentiment_core.drift.checks import COLUMN, EFFECT, Check, checks
from sentiment_core.drift.history import History, Night
from sentiment_core.drift.measure import Measurement, measure
from sentiment_core.drift.page import STYLE, Finding, Story, figure, render_head, render_page
from sentiment_core.drift.reference import Reference
from sentiment_core.drift.verdict import conclude
from sentiment_core.errors import Permanent
from sentiment_core.policy import Drift

_DESCRIBED = tuple(field.name for field in (*schema.DRIFT_NUMERIC, *schema.LENS_NUMERIC, *schema.DRIFT_CATEGORICAL))
"""Columns that Evidently describes: numbers, and the label. Never a text, an id or a product."""
_NIGHTS_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A night that was judged."""

    verdict: DriftVerdict
    measurement: Measurement
    page: bytes
    """The report as HTML."""


def judge(
    reference: Reference | None, night: Night, *, history: History, limits: Drift, title: str, model_version: int
) -> Judged:
    """Judge a night against the reference of its model version, by the results of Evidently's tests.

    Args:
        reference: None for a version that has none.
        night: its reviews.
        history: what is known as of the night.
        limits: section [drift] of the policy.
        title: first line of the page.
        model_version: version that scored the night.

    Raises:
        Permanent: Evidently's result lacks a test, or a test could not be carried out.
    """
    measured = measure(reference, night, history=history, limits=limits)
    found = checks(measured, limits)
    if reference is None or not found:
        verdict = conclude(measured, {}, limits)
        story = Story(title=title, verdict=verdict, model_version=model_version, history=_points(history, night, verdict))
        return Judged(verdict=verdict, measurement=measured, page=render_page(story).encode())
    report = carry_out(found, _described(reference.rows), _described(night.rows), sample_rows=limits.sample_rows)
    failed = read_failed(report.result, found)
    verdict = conclude(measured, failed, limits)
    story = _story(
        title, model_version, measured=measured, verdict=verdict, found=found, failed=failed, night=night, limits=limits
    )
    return Judged(verdict=verdict, measurement=measured, page=report.below(render_head(story), title))


def _story(
    title: str, model_version: int, *, measured: Measurement, verdict: DriftVerdict, found: Sequence[Check],
    failed: Mapping[str, bool], night: Night, limits: Drift,
) -> Story:  # fmt: skip
    limit_of = {COLUMN if check.name.startswith(COLUMN) else check.name: check.limit for check in found}
    return Story(
        title=title,
        verdict=verdict,
        model_version=model_version,
        findings=tuple(
            Finding(name=check.name, sentence=check.sentence, value=check.value, limit=check.limit, has_failed=failed[check.name])
            for check in found
            if not check.name.startswith(COLUMN)
        ),
        history=_points(measured.history, night, verdict),
        reference_accuracy=measured.reference_accuracy,
        column_limit=limit_of.get(COLUMN),
        p_limit=limits.warn_p,
        effect_limit=limit_of.get(EFFECT),
    )


def _points(history: History, night: Night, verdict: DriftVerdict) -> tuple[Point, ...]:
    """The nights to draw; of a file by itself there are none."""
    if night.window_date is None:
        return ()
    past = [
        Point(
            day=item.window_date, verdict=item.verdict, p_value=item.p_value, effect=item.effect,
            estimated=item.estimated_accuracy, measured=item.labels.n_right / item.labels.n if item.labels else None,
        )
        for item in history.nights[-_NIGHTS_SHOWN + 1 :]
    ]  # fmt: skip
    tonight = Point(
        day=night.window_date, verdict=verdict.verdict, p_value=verdict.p_value, effect=verdict.effect,
        estimated=verdict.estimated_accuracy, measured=verdict.labelled_accuracy,
    )  # fmt: skip
    return (*past, tonight)


def _described(rows: pa.Table) -> pa.Table:
    return rows.select([name for name in _DESCRIBED if name in rows.column_names])


class DriftStatistic(SingleValueMetric):  # type: ignore[misc]  # Evidently has no types
    """A figure of a night that the verdict depends on, as a metric of Evidently's."""

    name: str
    sentence: str
    measured: float


class DriftStatisticCalculation(SingleValueCalculation[DriftStatistic]):  # type: ignore[misc]
    """How Evidently comes by the figure: it was measured on all rows of the night, of which Evidently sees a sample."""

    def calculate(self, context: Any, current_data: Any, reference_data: Any) -> Any:  # noqa: ARG002  # Evidently's signature
        """The figure, with a card for the report."""
        result = self.result(self.metric.measured)
        value = figure(self.metric.measured)
        result.widget = [
            counter(title=self.metric.name, size=WidgetSize.HALF, counters=[CounterData(label=self.metric.sentence, value=value)])
        ]
        return result

    def display_name(self) -> str:
        """What the report calls it."""
        return str(self.metric.name)


class WithinLimit(MetricTest):  # type: ignore[misc]
    """The test bound to such a figure: it fails at the limit and beyond."""

    __alias_type__: ClassVar[str] = "within_limit"
    limit: float
    side: str
    """`below` or `above` the limit: where the figure should lie."""
    sentence: str

    def to_test(self) -> Any:
        """The test as Evidently runs it."""

        def run(context: Any, metric: Any, value: Any) -> MetricTestResult:  # noqa: ARG001  # Evidently's signature
            passed = value.value < self.limit if self.side == "below" else value.value > self.limit
            return MetricTestResult(
                id="within_limit",
                name=value.display_name,
                description=f"{self.sentence} {figure(value.value)}, expected {self.side} {figure(self.limit)}.",
                metric_config=metric.to_metric_config(),
                test_config=self.dict(),
                status=TestStatus.SUCCESS if passed else TestStatus.FAIL,
            )

        return run


@dataclass(frozen=True, kw_only=True)
class EvidentlyReport:
    """A report that was run: Evidently's result, and its page."""

    result: dict[str, Any]
    """`metrics` and `tests` as Evidently gives them."""
    html: str

    def below(self, head: str, title: str) -> bytes:
        """Evidently's page with a title, and with a section of ours above it."""
        ours = {
            "</head>": f'<title>{escape(title)}</title><meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<style>{STYLE}</style></head>",
            "<body>": f"<body>{head}",
        }
        html = self.html
        for place, content in ours.items():
            if place not in html:
                raise _broken("page", expected=f"the tag {place}", found="none")
            html = html.replace(place, content, 1)
        return html.encode()


def carry_out(checks: Sequence[Check], reference: pa.Table, current: pa.Table, *, sample_rows: int) -> EvidentlyReport:
    """Let Evidently carry out the checks of a night, and describe its columns beside those of the reference.

    Args:
        checks: what the verdict is to be read from.
        reference: columns to describe: numbers, and the label. No text.
        current: the same of the night.
        sample_rows: of each at most so many rows are shown.
    """
    both = [_presentable(_sample(table, sample_rows)) for table in (reference, current)]
    names = [name for name in both[0].column_names if name in both[1].column_names]
    if not (names and len(both[0]) and len(both[1])):  # Evidently wants a column, also where none can be shown
        names, both = ["n"], [pa.table({"n": [1.0]})] * 2
    is_numeric = {name: pa.types.is_floating(both[0].schema.field(name).type) for name in names}
    definition = DataDefinition(
        numerical_columns=[name for name in names if is_numeric[name]],
        categorical_columns=[name for name in names if not is_numeric[name]],
    )
    base, night = (Dataset.from_pandas(table.select(names).to_pandas(), data_definition=definition) for table in both)
    metrics = [*map(_as_metric, checks), *(ValueStats(column=name) for name in names if name != "n")]
    snapshot = Report(metrics, include_tests=False).run(night, base)
    return EvidentlyReport(result=snapshot.dict(), html=snapshot.get_html_str(as_iframe=False))


def read_failed(result: Mapping[str, Any], checks: Sequence[Check]) -> dict[str, bool]:
    """Which checks failed, by name, as Evidently's results say.

    Raises:
        Permanent: a check is missing from the result, or came out as neither passed nor failed.
    """
    return {check.name: _has_failed(result, check.name) for check in checks}


def _as_metric(check: Check) -> DriftStatistic:
    if not math.isfinite(check.value):
        raise Permanent(
            f"drift check {check.name}",
            expected="a finite number",
            found=repr(check.value),
            remedy="this is a fault of ours: report it",
        )
    test = WithinLimit(limit=check.limit, side=check.direction, sentence=check.sentence)
    return DriftStatistic(name=check.name, sentence=check.sentence, measured=check.value, tests=[test])


def _has_failed(result: Mapping[str, Any], name: str) -> bool:
    found = [test for test in result["tests"] if _is_about(test["metric_config"]["params"], name)]
    if len(found) != 1:
        raise _broken(f"test of {name}", expected="one entry in the result", found=str(len(found)))
    status = getattr(found[0]["status"], "value", found[0]["status"])
    if status not in ("SUCCESS", "FAIL"):
        raise _broken(f"test of {name}", expected="the status SUCCESS or FAIL", found=f"{status}: {found[0].get('description')}")
    return bool(status == "FAIL")


def _is_about(config: Mapping[str, Any], name: str) -> bool:
    return str(config["type"]).endswith(f":{DriftStatistic.__name__}") and config.get("name") == name


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


def _presentable(table: pa.Table) -> pa.Table:
    """Numbers as doubles and words as they are; rows with a gap are left out, columns of gaps alone before them."""
    table = pa.table({name: _finite(table[name]) for name in table.column_names})
    table = table.select([name for name in table.column_names if table[name].null_count < len(table)])
    for name in table.column_names:
        table = table.filter(table[name].is_valid())
    return table


def _finite(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return column
    numbers = column.cast(pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, None)
