"""Our part of a report: every word of it escaped, every chart without scripts, the verdict in words."""

import re
from datetime import date, timedelta
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment_core.domain import DriftVerdict
from sentiment_core.drift.charts import NARROW, WIDE, Point, draw_accuracy, draw_columns, draw_history
from sentiment_core.drift.page import STYLE, Finding, Story, figure, render_head, render_page

DAY = date(2026, 11, 20)
COLUMNS = {
    "n_chars": {"score": -6.2, "is_drifted": True},
    "surprise": {"score": 1.1, "is_drifted": False},
    "label<b>": {"score": None, "is_drifted": None, "left_out": "constant <i>"},
}
FINDINGS = (
    Finding(name="surprise", sentence="How likely <b>this</b> is.", value=1e-9, limit=0.001, has_failed=True),
    Finding(name="effect", sentence="How large it is.", value=0.01, limit=0.05, has_failed=False),
)


def verdict(word="warn", **more):
    figures = {"n": 2000, "p_value": 1e-9, "effect": 0.12, "estimated_accuracy": 0.84, "labelled_accuracy": None}
    return DriftVerdict(verdict=word, columns=COLUMNS, sentence="Topics <script> moved.", **{**figures, **more})


def points(n):
    return tuple(
        Point(
            day=DAY - timedelta(days=n - 1 - place), verdict="quiet" if place % 5 else "warn", p_value=0.5 / (1 + place), effect=0.01,
            estimated=0.85, measured=0.84 if place % 2 else None,
        )
        for place in range(n)
    )  # fmt: skip


def story(**more):
    told = {
        "title": "Drift check <of>", "verdict": verdict(), "model_version": 3, "findings": FINDINGS, "history": points(9),
        "reference_accuracy": 0.87, "column_limit": 3.9, "p_limit": 0.001, "effect_limit": 0.05,
    } | more  # fmt: skip
    return Story(**told)


class Elements(HTMLParser):
    """Every element with its attributes; fails where one is closed that is not open."""

    def __init__(self, html):
        super().__init__()
        self.found, self._open = [], []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in ("meta", "br"):
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag


def test_the_page_escapes_what_it_shows_and_is_well_formed():
    page = render_page(story())
    elements = Elements(page)
    assert "<script" not in page
    assert "Topics &lt;script&gt; moved." in page
    assert "How likely &lt;b&gt;this&lt;/b&gt; is." in page
    assert not [one for one in elements.found if one[0] in ("b", "i", "of", "script", "link", "img")]


def test_a_page_may_forbid_scripts_style_attributes_and_anything_from_elsewhere():
    for _, attributes in Elements(render_page(story())).found:
        assert not [name for name in attributes if name == "style" or name.startswith("on") or name in ("src", "href")]
    assert "url(" not in STYLE
    assert "@import" not in STYLE


def test_the_head_tells_the_verdict_its_tests_and_what_moved():
    head = render_head(story())
    assert head.count('class="failed"') == 1
    assert head.count('class="bar moved"') == 2  # once wide, once narrow
    assert "Left out: label&lt;b&gt; (constant &lt;i&gt;)." in head
    assert all(words in head for words in ("2,000", "below 0.0001", "84.0%", "87.0%", "1e-09"))


@pytest.mark.parametrize("word", ["quiet", "warn", "retrain", "quarantine", "too_few"])
def test_every_verdict_has_a_word_and_a_mark(word):
    head = render_head(story(verdict=verdict(word)))
    assert re.search(rf'<span class="badge {word}"><svg .*?<path d="M', head)


def test_a_night_of_which_nothing_is_known_has_a_page_without_charts():
    nothing = DriftVerdict(
        verdict="too_few", n=1, p_value=None, effect=None, estimated_accuracy=None, labelled_accuracy=None, sentence="One."
    )
    page = render_page(Story(title="A night", verdict=nothing, model_version=1))
    Elements(page)
    assert "<table" not in page
    assert 'class="wide"' not in page
    assert "too few to judge" in page


@given(
    st.lists(
        st.tuples(
            st.integers(0, 400), st.none() | st.floats(0, 1), st.none() | st.floats(0, 1e6),
            st.none() | st.floats(0, 1), st.none() | st.floats(0, 1),
        ),
        min_size=1, max_size=40, unique_by=lambda item: item[0],
    ),
    st.sampled_from([WIDE, NARROW]),
)  # fmt: skip
def test_every_history_is_drawn_within_its_chart(nights, width):
    drawn = [
        Point(day=DAY + timedelta(days=later), verdict="quiet", p_value=p, effect=effect, estimated=estimated, measured=measured)
        for later, p, effect, estimated, measured in sorted(nights)
    ]
    for chart in (
        draw_history(drawn, p_limit=0.001, effect_limit=0.05, width=width),
        draw_accuracy(drawn, reference=0.9, width=width),
    ):
        if not chart:
            continue
        Elements(chart)
        height = float(re.search(r'viewBox="0 0 \S+ (\S+)"', chart)[1])
        assert "nan" not in chart
        assert "inf" not in chart
        for x, y in re.findall(r'<path class="mark \w+" d="M(-?[\d.]+) (-?[\d.]+)', chart):
            assert 0 <= float(x) <= width
            assert 0 <= float(y) <= height


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-1e9, 1e9), min_size=1))
def test_every_shift_is_drawn_within_its_chart(scores):
    chart = draw_columns({name: {"score": z, "is_drifted": False} for name, z in scores.items()}, limit=3.9, width=WIDE)
    for x, width in re.findall(r'<rect class="bar" x="(-?[\d.]+)" y="\S+" width="(\S+)"', chart):
        assert 0 <= float(x) <= float(x) + float(width) <= WIDE


@given(st.floats(-1e12, 1e12))
def test_a_figure_reads_as_what_it_is(value):
    assert float(figure(value).replace(",", "")) == pytest.approx(value, rel=0.06, abs=1e-4)
